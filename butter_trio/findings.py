"""What an examination finds, step by step, and the report that it comes to.

Rules kept here:

* Steps come in the order of `Step`; the first that fails is the last. Only then something is wrong.
* A note is worth knowing and no failure.
* No finding has a secret or a payload: endings are redacted before they are told (G11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn

import attrs
import trio

from butter_proto.errors import Ending, EndKind, GatewayError
from butter_proto.faults import fault_of
from butter_proto.reconnect import advice
from butter_trio.words import LOOK, milliseconds


class Step(Enum):
    """What is looked at, first to last."""

    URL = "url"
    """The URL and the settings: what they ask for is possible, and safe."""
    DNS = "dns"
    """The name of the gateway, or of the proxy, has addresses."""
    TCP = "tcp"
    """Something listens there."""
    PROXY = "proxy"
    """The proxy leads to the gateway."""
    TLS = "tls"
    """Its certificate is accepted."""
    PIN = "pin"
    """The certificate is a pinned one."""
    UPGRADE = "upgrade"
    """It speaks WebSocket."""
    CHALLENGE = "challenge"
    """It is a gateway."""
    CONNECT = "connect"
    """It lets us in."""
    SCOPES = "scopes"
    """With all the scopes that were asked for."""
    HEALTH = "health"
    """It answers a request, and calls itself well."""


class Result(Enum):
    """What came of a step."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was nothing to look at."""


@attrs.frozen
class Finding:
    """What was found at one step. ``advice`` says what to do where it failed."""

    step: Step
    result: Result
    seen: str
    ms: float | None = None
    advice: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """The same as values, for programs."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "step": self.step.value,
            "result": self.result.value,
            "seen": self.seen,
            "ms": self.ms,
            "advice": self.advice or None,
            "notes": list(self.notes),
            **self.facts,
        }


class Failed(Exception):
    """A step failed, and was told: the examination is over."""


class Findings:
    """What was found so far. ``tell`` gets each finding as it comes."""

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self.all: list[Finding] = []
        self._tell = tell

    @property
    def failed(self) -> Step | None:
        """The step that failed."""
        return next((one.step for one in self.all if one.result is Result.FAILED), None)

    @property
    def ok(self) -> bool:
        """Whether everything was looked at, and well."""
        return self.failed is None and len(self.all) == len(Step)

    def well(
        self,
        step: Step,
        seen: str,
        seconds: float | None = None,
        notes: tuple[str, ...] = (),
        **facts: Any,
    ) -> None:
        """Take down a step that went well."""
        ms = None if seconds is None else milliseconds(seconds)
        self._add(Finding(step, Result.OK, seen, ms, notes=notes, facts=facts))

    def nothing(self, step: Step, why: str) -> None:
        """Take down a step at which there was nothing to look at."""
        self._add(Finding(step, Result.SKIPPED, why))

    def fail(
        self,
        step: Step,
        seen: str,
        advice: str,
        notes: tuple[str, ...] = (),
        **facts: Any,
    ) -> NoReturn:
        """Take down the step that failed, and raise `Failed`."""
        self._add(Finding(step, Result.FAILED, seen, None, advice, notes, facts))
        raise Failed

    def fail_by(
        self, step: Step, ending: Ending, hint: str = "", notes: tuple[str, ...] = (), **facts: Any
    ) -> NoReturn:
        """Take down a step that failed by an ending; ``hint`` knows better than its advice."""
        known = {"ending": ending.kind.name, "fault": ending.fault and ending.fault.kind.name}
        known |= known_of(ending.error)
        self.fail(step, str(ending), hint or advice(ending) or LOOK, notes, **known, **facts)

    def fail_to_open(self, step: Step, error: Exception, late: str, hint: str = "") -> NoReturn:
        """Take down what was raised on the way to an open transport; ``late`` by a time limit."""
        if isinstance(error, trio.TooSlowError):
            self.fail(step, "no answer in time", late, ending=EndKind.OPEN_TIMEOUT.name)
        self.fail_by(step, Ending(EndKind.TRANSPORT_FAILED, fault=fault_of(error)), hint)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "ok": self.ok,
            "failed": None if self.failed is None else self.failed.value,
            "steps": [finding.as_json() for finding in self.all],
        }

    def _add(self, finding: Finding) -> None:
        self.all.append(finding)
        self._tell(finding)


def known_of(error: GatewayError | None) -> dict[str, Any]:
    """Return the codes of a refusal, if there is one, as values for programs."""
    return {} if error is None else {"code": error.code, "detail_code": error.detail_code}
