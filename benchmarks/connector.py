"""A connector: requests by how many are pending, and a thousand that are idle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from benchmarks.canned import answer, feed, online
from benchmarks.timing import Case, Group, run_as_script
from butter_proto import Connector
from butter_proto.settings import Json, Limits, Settings

_PARAMS = {"text": "how much is the fish", "number": 7}
_MINUTE = 60


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    pending = (1, 100, 1_000) if quick else (1, 1_000, 10_000, 100_000)
    idle = 20 if quick else 1_000
    times = 200 if quick else 5_000
    return [
        Group(
            "a request and its answer (per request)",
            [
                Case("json.dumps and json.loads", times, lambda: _only_json(times)),
                Case("stdlib json", times, _requests(0, times, Json.STDLIB)),
                Case("msgspec", times, _requests(0, times, Json.MSGSPEC)),
            ],
        ),
        Group(
            "a request and its answer, by how many others are pending (per request)",
            [Case(f"{count:,}", times, _requests(count, times, Json.STDLIB)) for count in pending],
        ),
        Group(
            "requests made at once, then all answered (per request)",
            [Case(f"{count:,}", count, _at_once(count)) for count in reversed(pending[1:])],
        ),
        Group(
            "an idle minute, 6 probes answered (per probe)",
            [
                Case("10 connectors", 60, lambda: _minute(10)),
                Case(f"{idle:,} connectors", 6 * idle, lambda: _minute(idle)),
            ],
        ),
    ]


def _wide(choice: Json) -> Settings:
    limits = Limits(max_pending=200_000, max_in_flight=200_000)
    return Settings(json=choice, limits=limits)


def _only_json(times: int) -> Callable[[], object]:
    message = {"type": "req", "id": "1", "method": "bench.echo", "params": _PARAMS}
    text = json.dumps({"type": "res", "id": "1", "ok": True, "payload": _PARAMS})

    def run() -> int:
        for _ in range(times):
            json.dumps(message)
            json.loads(text)
        return times

    return run


def _ask(machine: Connector, transport_id: int) -> str:
    request_id = machine.request("bench.echo", _PARAMS, now=0.0)
    machine.data_to_send(transport_id)
    return request_id


def _requests(pending: int, times: int, choice: Json) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        machine, transport_id = online(_wide(choice))
        for _ in range(pending):
            _ask(machine, transport_id)
        first = pending + 2  # connect had the first id
        answers = [answer(str(number), _PARAMS) for number in range(first, first + times)]

        def run() -> int:
            told = 0
            for data in answers:
                _ask(machine, transport_id)
                told += feed(machine, transport_id, data)
            return told

        return run

    return prepare


def _at_once(count: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        machine, transport_id = online(_wide(Json.STDLIB))
        answers = b"".join(answer(str(number), _PARAMS) for number in range(2, count + 2))

        def run() -> int:
            for _ in range(count):
                machine.request("bench.echo", _PARAMS, now=0.0)
            while machine.data_to_send(transport_id):
                pass
            return feed(machine, transport_id, answers)

        return run

    return prepare


def _minute(connectors: int) -> Callable[[], object]:
    """Let a minute pass; each probe of each is answered with a pong."""
    online_ones = [online() for _ in range(connectors)]

    def run() -> int:
        probes = 0
        for machine, transport_id in online_ones:
            while (due := machine.next_timeout()) is not None and due <= _MINUTE:
                machine.handle_timeout(due)
                if ping := machine.data_to_send(transport_id):
                    probes += 1
                    machine.receive_data(transport_id, _pong(ping), due)
                while machine.next_event() is not None:
                    pass
        return probes

    return run


def _pong(ping: bytes) -> bytes:
    """Answer a masked ping (RFC 6455, 5.3 and 5.5.3)."""
    key, payload = ping[2:6], ping[6:]
    unmasked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes((0x8A, len(payload))) + unmasked


if __name__ == "__main__":
    run_as_script(groups)
