"""A file imports only files above it, and the core imports nothing that is not pure.

Every file's AST is read, so that an import inside a function or under TYPE_CHECKING counts too.
A new file gets its line in `ORDER`, below all that it imports; a new module of the standard
library gets its word in `PURE` if it has no clock, no randomness and no I/O.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).parents[1]
PACKAGES: Final = ("butter_proto", "butter_trio", "butter_threads")

ORDER: Final = (
    "butter_proto/errors.py",
    "butter_proto/printable.py",
    "butter_proto/faults.py",
    "butter_proto/endpoint.py",
    "butter_proto/secret.py",
    "butter_proto/shared_names.py",
    "butter_proto/setup_code.py",
    "butter_proto/device_auth.py",
    "butter_proto/device.py",
    "butter_proto/credentials.py",
    "butter_proto/proxy_address.py",
    "butter_proto/identity.py",
    "butter_proto/pins.py",
    "butter_proto/headers.py",
    "butter_proto/settings.py",
    "butter_proto/policy.py",
    "butter_proto/events.py",
    "butter_proto/redaction.py",
    "butter_proto/timers.py",
    "butter_proto/codec.py",
    "butter_proto/frames.py",
    "butter_proto/machine.py",
    "butter_proto/counters.py",
    "butter_proto/outbox.py",
    "butter_proto/standing.py",
    "butter_proto/event_queue.py",
    "butter_proto/link.py",
    "butter_proto/fast_lane.py",
    "butter_proto/event_lane.py",
    "butter_proto/websocket.py",
    "butter_proto/message_link.py",
    "butter_proto/trace.py",
    "butter_proto/traced_link.py",
    "butter_proto/proxy.py",
    "butter_proto/handshake.py",
    "butter_proto/request_options.py",
    "butter_proto/admission.py",
    "butter_proto/pending.py",
    "butter_proto/window.py",
    "butter_proto/requests.py",
    "butter_proto/backlog.py",
    "butter_proto/intake.py",
    "butter_proto/keepalive.py",
    "butter_proto/probes.py",
    "butter_proto/reconnect.py",
    "butter_proto/supervisor.py",
    "butter_proto/attempt.py",
    "butter_proto/connection.py",
    "butter_proto/authenticator.py",
    "butter_proto/recovery.py",
    "butter_proto/connector.py",
    "butter_proto/connector_factory.py",
    "butter_proto/pool_gateway.py",
    "butter_proto/membership.py",
    "butter_proto/election.py",
    "butter_proto/routing.py",
    "butter_proto/pool.py",
    "butter_proto/subscriptions.py",
    "butter_proto/client.py",
    "butter_proto/emitter.py",
    "butter_proto/journal.py",
    "butter_proto/token_keeper.py",
    "butter_proto/view.py",
    "butter_proto/__init__.py",
    "butter_proto/private_file.py",  # not pure: nothing above may import it
    "butter_proto/testing/",  # one layer: its files may import each other
    "butter_proto/storage/",  # so is this; it needs an extra, so nothing above may import it
    "butter_trio/background.py",
    "butter_trio/socks.py",
    "butter_trio/tunnel.py",
    "butter_trio/dial.py",
    "butter_trio/plain_socket.py",
    "butter_trio/driver.py",
    "butter_trio/streams.py",
    "butter_trio/keeping.py",
    "butter_trio/client.py",
    "butter_trio/pool.py",
    "butter_trio/serve.py",
    "butter_trio/testing.py",
    "butter_trio/__init__.py",
    "butter_trio/interrupt.py",
    "butter_trio/words.py",
    "butter_trio/output.py",
    "butter_trio/access.py",
    "butter_trio/options.py",
    "butter_trio/check.py",
    "butter_trio/check_pool.py",
    "butter_trio/findings.py",
    "butter_trio/reachability.py",
    "butter_trio/progress.py",
    "butter_trio/doctor.py",
    "butter_trio/show.py",
    "butter_trio/device_command.py",
    "butter_trio/doctor_command.py",
    "butter_trio/hidden.py",
    "butter_trio/record_option.py",
    "butter_trio/replay_command.py",
    "butter_trio/commands.py",
    "butter_trio/cli.py",
    "butter_threads/socks.py",
    "butter_threads/tunnel.py",
    "butter_threads/dial.py",
    "butter_threads/transport.py",
    "butter_threads/waker.py",
    "butter_threads/driver.py",
    "butter_threads/callbacks.py",
    "butter_threads/calls.py",
    "butter_threads/hook.py",
    "butter_threads/keeping.py",
    "butter_threads/streams.py",
    "butter_threads/client.py",
    "butter_threads/pool.py",
    "butter_threads/serve.py",
    "butter_threads/__init__.py",
)
"""Every file, top to bottom (design.md, Layers and files); not all of them need to exist yet."""

# fmt: off
PURE: Final = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "codecs", "collections", "contextlib",
    "copy", "dataclasses", "enum", "errno", "functools", "hashlib", "heapq", "hmac", "ipaddress",
    "itertools", "json", "math", "operator", "re", "string", "struct", "sys", "types", "typing",
    "urllib.parse",
})
# fmt: on
"""What the core may import of the standard library."""

NOT_PURE: Final = (
    "butter_proto/private_file.py",
    "butter_proto/testing/",
    "butter_proto/storage/",
)
"""What in ``butter_proto`` is no part of the core and may import what they need."""

IMPORTERS: Final = {
    "attrs": "butter_proto/",
    "wsproto": "butter_proto/websocket.py",
    "h11": "butter_proto/websocket.py butter_proto/proxy.py",
    "msgspec": "butter_proto/codec.py",
}
"""What else the core may import, and where."""

KEPT_OUT: Final = {
    "butter_trio": {"butter_threads", "wsproto", "h11"},
    "butter_threads": {"butter_trio", "wsproto", "h11", "trio"},
}
"""What an adapter never imports."""


def existing_files() -> list[str]:
    return sorted(
        path.relative_to(TOP).as_posix()
        for package in PACKAGES
        for path in (TOP / package).rglob("*.py")
    )


def layer_of(file: str) -> int | None:
    """Return a file's place in `ORDER`; a folder stands for all files in it."""
    for place, entry in enumerate(ORDER):
        if file == entry or (entry.endswith("/") and file.startswith(entry)):
            return place
    return None


def imported_names(source: str, file: str) -> set[str]:
    """Return the dotted name of everything that a file imports, wherever in it."""
    package = Path(file).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *filter(None, [node.module])])
            names.update(f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Name) and node.id == "__import__":
            names.add("importlib")  # the same thing by another way
    return names


def entry_of(name: str) -> str | None:
    """Return the entry of `ORDER` that a dotted name imports, or None where it is not ours."""
    if name.partition(".")[0] not in PACKAGES:
        return None
    parts = name.split(".")
    for end in range(len(parts), 0, -1):  # the last part may be a name in a module
        path = "/".join(parts[:end])
        for entry in (f"{path}.py", f"{path}/"):
            if entry in ORDER:
                return entry
    return f"{parts[0]}/__init__.py"


def is_one_of(name: str, modules: frozenset[str] | set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in modules for end in range(1, len(parts) + 1))


def faults_of(source: str, file: str) -> list[str]:
    """Return each import of a file that breaks a rule, with the rule."""
    here = layer_of(file)
    if here is None:
        return [f"{file}: not in ORDER"]
    faults = []
    package = file.partition("/")[0]
    core = package == "butter_proto" and not file.startswith(NOT_PURE)
    for name in sorted(imported_names(source, file)):
        top = name.partition(".")[0]
        target = entry_of(name)
        if is_one_of(name, KEPT_OUT.get(package, set())):
            faults.append(f"{name}: never in {package}")
        elif target is not None:
            there = ORDER.index(target)
            if there > here or (there == here and not target.endswith("/")):
                faults.append(f"{name}: stands below {file}")
        elif top in IMPORTERS and package == "butter_proto":
            if core and not any(file.startswith(place) for place in IMPORTERS[top].split()):
                faults.append(f"{name}: only in {IMPORTERS[top]}")
        elif core and not is_one_of(name, PURE):
            faults.append(f"{name}: not pure")
    return faults


def test_the_order_names_every_file_that_exists() -> None:
    assert [file for file in existing_files() if layer_of(file) is None] == []
    assert len(set(ORDER)) == len(ORDER)


def test_the_files_that_are_read_are_the_real_ones() -> None:
    assert {"butter_proto/errors.py", "butter_proto/machine.py"} <= set(existing_files())


@pytest.mark.parametrize("file", existing_files())
def test_a_file_imports_only_what_it_may(file: str) -> None:
    assert faults_of((TOP / file).read_text(), file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("butter_proto/errors.py", "from butter_proto.settings import Secret"),
        ("butter_proto/errors.py", "from butter_proto import settings"),
        ("butter_proto/errors.py", "import butter_proto.settings"),
        ("butter_proto/errors.py", "from .settings import Secret"),
        ("butter_proto/errors.py", "from . import settings"),
        ("butter_proto/errors.py", "from butter_proto.errors import EndKind"),
        ("butter_proto/client.py", "from butter_proto import Connector"),
        ("butter_proto/client.py", "import butter_proto"),
        ("butter_proto/client.py", "from butter_proto import testing"),
        ("butter_proto/client.py", "from butter_proto.testing.link import Link"),
        ("butter_proto/client.py", "from butter_proto import *"),
        ("butter_proto/client.py", "import butter_trio"),
        ("butter_proto/client.py", "from butter_threads.driver import Driver"),
        ("butter_proto/client.py", "from butter_proto.storage import open_device"),
        ("butter_proto/client.py", "import cryptography"),
        ("butter_proto/testing/link.py", "from butter_trio.driver import Driver"),
        ("butter_proto/testing/link.py", "from butter_proto.storage import open_device"),
        ("butter_proto/storage/key.py", "from butter_trio.driver import Driver"),
        ("butter_proto/__init__.py", "from butter_proto.testing import StandInGateway"),
        ("butter_proto/connector.py", "def f():\n    import socket"),
        ("butter_proto/connector.py", "if TYPE_CHECKING:\n    import trio"),
        ("butter_proto/connector.py", "__import__('socket')"),
        ("butter_proto/connector.py", "import importlib"),
        ("butter_proto/connector.py", "from wsproto import WSConnection"),
        ("butter_proto/connector.py", "import h11"),
        ("butter_proto/proxy.py", "import wsproto.events"),
        ("butter_proto/connector.py", "import msgspec"),
        ("butter_proto/connector.py", "import urllib.request"),
        ("butter_proto/connector.py", "import urllib"),
        ("butter_proto/connector.py", "from urllib import request"),
        *[
            ("butter_proto/connector.py", f"import {name}")
            for name in (
                *("socket", "ssl", "select", "selectors", "threading", "asyncio", "trio", "time"),
                *("random", "os", "os.path", "logging", "secrets", "uuid", "datetime", "pathlib"),
            )
        ],
        ("butter_trio/cli.py", "from butter_threads import connect"),
        ("butter_trio/driver.py", "from butter_trio.client import connect"),
        ("butter_trio/driver.py", "from butter_trio import client"),
        ("butter_trio/driver.py", "from wsproto import WSConnection"),
        ("butter_trio/client.py", "import h11"),
        ("butter_threads/client.py", "from butter_trio.client import connect"),
        ("butter_threads/driver.py", "import trio"),
        ("butter_threads/driver.py", "from trio import socket"),
        ("butter_threads/serve.py", "import wsproto"),
    ],
)
def test_a_forbidden_import_is_found(file: str, source: str) -> None:
    assert len(faults_of(source, file)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("butter_proto/settings.py", "from butter_proto.errors import InvalidSettings"),
        ("butter_proto/settings.py", "from butter_proto import errors"),
        ("butter_proto/settings.py", "from .errors import InvalidSettings"),
        ("butter_proto/settings.py", "import attrs, collections.abc, urllib.parse"),
        ("butter_proto/settings.py", "from urllib import parse"),
        ("butter_proto/websocket.py", "import h11, wsproto.events"),
        ("butter_proto/proxy.py", "import h11"),
        ("butter_proto/__init__.py", "from butter_proto.client import Client"),
        ("butter_proto/testing/link.py", "import time, wsproto, butter_proto"),
        ("butter_proto/testing/link.py", "from butter_proto.testing.hello import health"),
        ("butter_proto/testing/link.py", "from .hello import health"),
        ("butter_proto/testing/link.py", "from butter_proto.connector import Connector"),
        ("butter_proto/storage/key.py", "import os, cryptography, filelock"),
        ("butter_proto/storage/key.py", "from butter_proto.storage.files import PrivateFolder"),
        ("butter_trio/cli.py", "from butter_proto.storage import open_device"),
        ("butter_trio/client.py", "import trio, ssl\nfrom butter_trio.driver import Driver"),
        ("butter_trio/client.py", "from butter_proto import Connector"),
        ("butter_trio/cli.py", "import butter_trio"),
        ("butter_trio/testing.py", "from butter_proto.testing import StandInGateway"),
        ("butter_threads/client.py", "import threading\nfrom butter_proto.client import Waiter"),
    ],
)
def test_an_allowed_import_is_let_through(file: str, source: str) -> None:
    assert faults_of(source, file) == []


def loaded_by(imports: str) -> set[str]:
    """Return what a fresh interpreter loads for an import."""
    script = (
        f"import sys; before = set(sys.modules); {imports}; print(*(set(sys.modules) - before))"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, check=True
    )
    return set(fresh.stdout.split())


def test_importing_the_core_loads_no_stranger_either() -> None:
    strangers = {"trio", "asyncio", "socket", "ssl", "selectors", "logging", "random"}
    assert strangers & loaded_by("import butter_proto") == set()


def test_nothing_but_the_storage_itself_loads_the_extra_that_it_needs() -> None:
    extra = {"butter_proto.storage", "cryptography", "filelock", "platformdirs"}
    everything = "import butter_proto.testing, butter_trio.serve, butter_threads.serve"
    assert extra & loaded_by(everything) == set()
    assert extra <= loaded_by("import butter_proto.storage")
