"""The real OpenClaw Gateway for live tests: started on loopback, and hurt there.

Rules kept here:

* Two gateways share nothing but the installation: each has its own port, state folder, home,
  token and process group, and an environment that holds only what is written here.
* The secret stands in the state folder's config (mode 0600), not in process arguments, environment
  or errors.
* `RealGateway.stop` leaves no process and no file behind, whatever state the gateway is in.

``openclaw.mjs gateway run`` forks no second launcher: the process started here is the gateway and
takes the signals. Its children are a database reader in its process group and a spawn broker in a
session of its own; both end by themselves when it dies.

POSIX only. Processes outside of the group are found through /proc, so on Linux.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .certificates import Certificate
from .fake_model import provider
from .gateway_config import environment, read_config, write_config
from .install import install, installation, node, openclaw, tail
from .ports import free_port

READY_TIMEOUT: Final = 90.0
"""Seconds; a cold start takes about 15 on two idle cores."""


class GatewayFailed(RuntimeError):
    """The gateway did not do what was asked for; the text ends with the tail of its log."""


class RealGateway:
    """One real gateway on loopback; its `with` begins when it is ready.

    `model_url` is the base URL of an OpenAI-compatible provider (FakeModel.url); without it no
    model is configured. With `trusted_proxies` the X-Forwarded-For of a client on loopback is
    believed, which makes it a remote one (`remote_relay`). It wants `token`, in `password_mode`
    `password`. With a `certificate` it speaks TLS alone. Its wall clock is `clock_ahead` seconds
    ahead of ours. `cache` as in `install`. Entering raises InstallFailed or GatewayFailed.
    """

    def __init__(
        self,
        *,
        model_url: str | None = None,
        trusted_proxies: bool = False,
        password_mode: bool = False,
        certificate: Certificate | None = None,
        clock_ahead: float = 0.0,
        cache: Path | None = None,
    ) -> None:
        self._cache = cache
        self._model_url = model_url
        self._trusted_proxies = trusted_proxies
        self._mode = "password" if password_mode else "token"
        self._clock_ahead = clock_ahead
        self._process: subprocess.Popen[bytes] | None = None
        self._booted_after = 0.0  # monotonic seconds; an older boot is not the one we wait for
        self.installation = installation(cache)
        self.certificate = certificate
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.password = secrets.token_hex(16)
        self.state = Path(tempfile.gettempdir()).absolute() / f"real-gateway-{secrets.token_hex(6)}"

    @property
    def url(self) -> str:
        """Where a client connects; without the secret."""
        return f"{'ws' if self.certificate is None else 'wss'}://127.0.0.1:{self.port}"

    @property
    def auth(self) -> dict[str, str]:
        """The secret it wants, under its mode's name: for a config or a connect request."""
        return {self._mode: self.token if self._mode == "token" else self.password}

    @property
    def pid(self) -> int:
        """The gateway's process id, also its group's; of the last process if it has ended."""
        if self._process is None:
            raise GatewayFailed("the gateway was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process exists: starting, ready, draining or suspended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """What the gateway printed, over all its starts."""
        return self.state / "gateway.log"

    def __enter__(self) -> Self:
        install(self._cache)
        self.state.mkdir(mode=0o700)
        try:
            self._configure()
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, again on the same port and state; does not wait until it is ready."""
        if self.running:
            raise self._failure("the gateway is still running")
        self._booted_after = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [node(self.installation), openclaw(self.installation), "gateway", "run"],
                cwd=self.state,
                env=environment(self.state, self.installation, self._clock_ahead),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return when the boot that the last start() or restart_in_process() asked for is ready.

        Raises GatewayFailed when the process ends or `timeout` seconds are over.
        """
        deadline = time.monotonic() + timeout
        while (booted := self._ready_since()) is None or booted < self._booted_after:
            if not self.running:
                raise self._failure("the gateway is not running")
            if time.monotonic() >= deadline:
                raise self._failure(f"the gateway was not ready within {timeout:g} s")
            time.sleep(0.05)

    def wait_exit(self, timeout: float) -> int:
        """Wait for the process to end; return its exit code, negative for a signal."""
        if self._process is None:
            raise GatewayFailed("the gateway was never started")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failure(f"the gateway did not end within {timeout:g} s") from None

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """SIGSTOP for as long as the `with` lasts, then SIGCONT."""
        self.suspend()
        try:
            yield
        finally:
            self.resume()

    def suspend(self) -> None:
        """SIGSTOP the process group: the kernel still accepts and acknowledges, nothing answers."""
        os.killpg(self._live().pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT the process group."""
        os.killpg(self._live().pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: an idle gateway ends with 0 in a second or two, a busy one drains first."""
        self._live().send_signal(signal.SIGTERM)

    def restart_in_process(self) -> None:
        """SIGUSR2 to a ready gateway: same pid, new bootId, after its runs are over."""
        process = self._live()
        self._booted_after = time.monotonic()
        process.send_signal(signal.SIGUSR2)

    def change_secret(self) -> None:
        """Make another secret and have the running gateway read it again.

        Some 0.7 s later it closes every connection with 4001 "gateway auth changed".
        """
        if self._mode == "token":
            self.token = secrets.token_hex(16)
        else:
            self.password = secrets.token_hex(16)
        config = read_config(self.state)
        config["gateway"]["auth"] |= self.auth
        write_config(self.state, config)

    def redacted(self, printed: str) -> str:
        """Return what a process printed without the secrets."""
        return printed.replace(self.token, "***").replace(self.password, "***")

    def kill(self) -> None:
        """SIGKILL all its processes, suspended or not, and wait until they are gone."""
        if self._process is None:
            return
        if self._process.poll() is None:  # not yet reaped, so the group is still ours
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + 10.0
        while survivors := _processes_of(self.state):
            if time.monotonic() >= deadline:
                raise self._failure(f"processes survive SIGKILL: {survivors}")
            for pid in survivors:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def stop(self) -> None:
        """End it for sure and remove the state folder. May be called twice, and is the end."""
        try:
            self.kill()
        finally:
            for lock in _lock_files(self.state):
                lock.unlink(missing_ok=True)
            shutil.rmtree(self.state, ignore_errors=True)

    def _configure(self) -> None:
        """Write the config of wire.md 11, with all logs in `state` and no outgoing traffic."""
        gateway: dict[str, Any] = {
            "mode": "local",
            "port": self.port,
            "bind": "loopback",
            "auth": {"mode": self._mode, **self.auth},
        }
        if self._trusted_proxies:
            gateway["trustedProxies"] = ["127.0.0.1"]
        if self.certificate is not None:
            gateway["tls"] = {
                "enabled": True,
                "autoGenerate": True,  # where the files do not exist yet
                "certPath": str(self.certificate.chain),
                "keyPath": str(self.certificate.key),
            }
        config: dict[str, Any] = {
            "gateway": gateway,
            "logging": {"file": str(self.state / "details.log")},
            "models": {"catalogRefresh": {"enabled": False}},
            "update": {"checkOnStart": False},
        }
        if self._model_url is not None:
            config["agents"] = {"defaults": {"model": {"primary": "fake/fake-1"}}}
            config["models"] |= {"mode": "merge", "providers": {"fake": provider(self._model_url)}}
        write_config(self.state, config)

    def _ready_since(self) -> float | None:
        """Return when the boot that now says 'ready' began, in monotonic seconds, or None."""
        connection = self._http()
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            answer = json.loads(response.read())
            return (
                time.monotonic() - answer["uptimeMs"] / 1000.0 if response.status == 200 else None
            )
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return None
        finally:
            connection.close()

    def _http(self) -> http.client.HTTPConnection:
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        context = ssl.create_default_context()  # our own process: there is nothing to verify
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=1.0, context=context)

    def _live(self) -> subprocess.Popen[bytes]:
        """Return the process, for a signal: a reaped one's pid may be somebody else's by now."""
        if self._process is None or self._process.poll() is not None:
            raise self._failure("the gateway is not running")
        return self._process

    def _failure(self, what: str) -> GatewayFailed:
        code = None if self._process is None else self._process.poll()
        ending = "" if code is None else f" (exit code {code})"
        return GatewayFailed(f"{what}{ending}\n{self.redacted(tail(self.log))}".rstrip())


def _processes_of(state: Path) -> list[int]:
    """Find every live process with this state folder in its environment, in whatever session."""
    mark = b"OPENCLAW_STATE_DIR=" + os.fsencode(state)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to read
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _lock_files(state: Path) -> Iterator[Path]:
    """Find its empty lock files: in /tmp whatever TMPDIR says, named after the databases' paths."""
    for database in state.resolve().rglob("*.sqlite"):
        name = hashlib.sha256(os.fsencode(database)).hexdigest()[:8]
        yield from Path("/tmp").glob(f"openclaw-state-locks-*/*.{name}.lock.sqlite")
