"""The two packages have the same names and the same options; what differs is listed here."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any, Final

import butter_threads
import butter_trio

ONLY_THREADS: Final = {"close", "off", "on", "submit"}
"""trio has cancellation and tasks instead; the emitter is the original's."""


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def options(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "dial")
    }


def test_both_packages_export_the_same_names() -> None:
    assert butter_trio.__all__ == butter_threads.__all__


def test_a_gateway_can_do_the_same_in_both() -> None:
    assert public(butter_threads.Gateway) - public(butter_trio.Gateway) == ONLY_THREADS
    assert public(butter_trio.Gateway) <= public(butter_threads.Gateway)


def test_a_pool_can_do_the_same_in_both_and_what_a_gateway_can() -> None:
    assert public(butter_threads.Pool) - public(butter_trio.Pool) == ONLY_THREADS
    for package in (butter_threads, butter_trio):
        more = public(package.Pool) - public(package.Gateway)
        assert more == {"add", "from_gateways", "health", "primary", "remove"}
    for name in ("add", "remove", "request", "probe", "reconnect_now", "use_credentials"):
        ours, theirs = (getattr(package.Pool, name) for package in (butter_threads, butter_trio))
        assert options(ours) == options(theirs), name
    assert options(butter_threads.connect_pool) == options(butter_trio.connect_pool)


def test_connect_and_requests_have_the_same_options() -> None:
    def connect_of(package: ModuleType) -> Any:
        return package.connect

    assert options(connect_of(butter_trio)) == options(connect_of(butter_threads))
    assert options(connect_of(butter_trio))["device"] is None
    for name in ("request", "wait_online", "probe", "reconnect_now", "use_credentials"):
        ours, theirs = (getattr(package.Gateway, name) for package in (butter_threads, butter_trio))
        assert options(ours) == options(theirs), name
    for name in ("events", "states", "notices"):
        ours, theirs = (getattr(package.Gateway, name) for package in (butter_threads, butter_trio))
        extra = {"timeout": None}  # what trio's cancel scopes do
        assert options(ours) == options(theirs) | extra, name
