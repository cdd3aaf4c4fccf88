"""What the generated parts of docs/ say: one function each, their names in `PARTS`.

Rules kept here:

* A sentence comes from a docstring, a number from a default or a constant, a frame from running
  the code. Nothing here says what the code says elsewhere.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import attrs

from butter_proto import (
    connection,
    credentials,
    election,
    emitter,
    errors,
    events,
    frames,
    handshake,
    identity,
    machine,
    pool_gateway,
    reconnect,
    settings,
)
from butter_proto.testing import admission, attempt, hello, server_frames, verdicts
from tests.mutants.chaos_table import CHAOS_MUTANTS
from tests.mutants.table import MUTANTS, Mutant

TOP: Final = Path(__file__).parents[1]
GUARANTEES: Final = range(1, 13)

# --- reading the code -----------------------------------------------------------------------


@cache
def sentences(file: str) -> Mapping[str, str]:
    """Return the docstring under each name of a file; a member's name is ``Class.member``."""
    found: dict[str, str] = {}
    tree = ast.parse((TOP / "butter_proto" / file).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for prefix, body in [("", tree.body), *((f"{node.name}.", node.body) for node in classes)]:
        for node, after in pairwise(body):
            name = assigned_name(node)
            if name and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[prefix + name] = " ".join(str(after.value.value).split())
    return found


def assigned_name(node: ast.stmt) -> str | None:
    """Return the name that a statement gives a value to."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


@cache
def guarantee_tests() -> Mapping[int, list[str]]:
    """Return the tests of each guarantee, in their files' order."""
    found: dict[int, list[str]] = {number: [] for number in GUARANTEES}
    for file in sorted((TOP / "tests" / "proto").glob("test_guarantees*.py")):
        nodes = ast.walk(ast.parse(file.read_text()))
        for name in (node.name for node in nodes if isinstance(node, ast.FunctionDef)):
            if match := re.match(r"test_g(\d+)_", name):
                found[int(match[1])].append(name)
    return found


# --- writing Markdown -----------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def fence(language: str, text: str) -> str:
    """Write a code block."""
    return f"```{language}\n{text.strip()}\n```"


def pretty(text: str | bytes) -> str:
    """Write JSON over several lines."""
    return fence("json", json.dumps(json.loads(text), indent=2, ensure_ascii=False))


def enum_table(kind: type[Enum], file: str, head: Sequence[str]) -> str:
    """Write the members of an enum: name, value and, where there is a third head, sentence."""
    told = sentences(file)
    rows = (
        (f"`{member.name}`", member.value, told.get(f"{kind.__name__}.{member.name}", ""))
        for member in kind
    )
    return table(head, (row[: len(head)] for row in rows))


def first_sentence(kind: type) -> str:
    """Return the first sentence of a class's docstring."""
    return " ".join((inspect.getdoc(kind) or "").split()).split(". ")[0].rstrip(".") + "."


# --- states.md ------------------------------------------------------------------------------


def name_of(event: type[events.StateEvent] | None) -> str:
    """Return how a state event is shown; None is the beginning."""
    return "(the beginning)" if event is None else f"`{event.__name__}`"


def states_diagram() -> str:
    """Draw the states, each arrow with the event that takes it."""
    lines = ["stateDiagram-v2", f"    [*] --> {machine.STATE_AFTER[None].name}"]
    for before, followers in events.FOLLOWERS.items():
        for event in followers:
            source, target = machine.STATE_AFTER[before], machine.STATE_AFTER[event]
            arrow = f"    {source.name} --> {target.name}: {event.__name__}"
            if arrow not in lines:
                lines.append(arrow)
    lines.append(f"    {machine.STATE_AFTER[events.Stopped].name} --> [*]")
    return fence("mermaid", "\n".join(lines))


def states_table(law: events.Followers = events.FOLLOWERS) -> str:
    """List the state events, the state after each, and what may follow."""
    rows = (
        (
            name_of(event),
            f"`{machine.STATE_AFTER[event].name}`",
            ", ".join(map(name_of, followers)) or "nothing",
            first_sentence(event) if event else "",
        )
        for event, followers in law.items()
    )
    return table(("last state event", "state", "may be followed by", "what it says"), rows)


PHASE_LIMITS: Final = {
    "OPENING": "open",
    "CHALLENGE": "challenge",
    "HELLO": "hello",
    "CLOSING": "close",
}


def phases() -> str:
    """List a connection's phases, each with the setting that limits it."""
    limits = settings.Timeouts()

    def limit(phase: connection.Phase) -> str:
        name = PHASE_LIMITS.get(phase.name)
        return f"`timeouts.{name}`, {getattr(limits, name):g} s" if name else ""

    rows = ((f"`{phase.name}`", phase.value, limit(phase)) for phase in connection.Phase)
    return table(("phase", "meaning", "limit"), rows)


# --- reconnect.md ---------------------------------------------------------------------------


def reconnect_rows() -> str:
    """Write the table of decisions, first match first."""
    rows = (
        (str(number), row.when, row.action.value, row.advice, "yes" if row.hint_binds else "")
        for number, row in enumerate(reconnect.ROWS, 1)
    )
    return table(("", "when", "action", "advice", "hint binds"), rows)


def backoff() -> str:
    """Tell the defaults, and the ceilings of the first delays that follow from them."""
    numbers = settings.ReconnectSettings()
    ceilings = [min(numbers.cap, numbers.base * numbers.factor**n) for n in range(7)]
    defaults = ", ".join(
        f"`{name}` {getattr(numbers, name):g} s"
        for name in ("base", "cap", "minimum", "stable_after")
    )
    steps = table(
        ("n", *(str(n) for n in range(len(ceilings)))),
        [("ceiling, s", *(f"{seconds:g}" for seconds in ceilings))],
    )
    return f"Defaults: {defaults}, `factor` {numbers.factor:g}.\n\n{steps}"


def repair_delay() -> str:
    """Tell the delay of a repair, by deciding one."""
    error = errors.GatewayError("INVALID_REQUEST", "", {"code": "AUTH_TOKEN_MISMATCH"})
    decision = reconnect.decide(
        errors.Ending(errors.EndKind.CONNECT_REFUSED, error=error),
        reconnect.Attempts(can_repair=True),
        settings.ReconnectSettings(),
        lambda: 1.0,
    )
    assert decision.action is reconnect.Action.REPAIR
    return f"A repair waits {decision.delay:g} s."


# --- dialects.md ----------------------------------------------------------------------------

_SHOWN: Final = "***"
_NONCE: Final = "8b512dbe-6153-4d2f-9bab-8d568c471bfa"
_TS: Final = 1_795_397_784_915


def settings_of(dialect: settings.Dialect) -> settings.Settings:
    """Make the settings whose connect request is shown: the same on every platform."""
    made = settings.Settings(dialect=dialect, token=_SHOWN)
    if dialect is settings.Dialect.GATEWAY_V4:
        identity = attrs.evolve(made.identity_for(device=False), platform="linux")
        made = attrs.evolve(made, identity=identity)
    return made


def params_of(dialect: settings.Dialect) -> dict[str, Any]:
    """Make the params of a connect request without a device."""
    made = settings_of(dialect)
    identity = made.identity_for(device=False)
    auth = credentials.Keyring(made.credentials).choose(identity.scopes)
    return handshake.connect_params(dialect, identity, auth)


def connect_frame(dialect: settings.Dialect) -> str:
    """Write a connect request."""
    params = params_of(dialect)
    return pretty(frames.encode_request("1", frames.METHOD_CONNECT, params))


def v4_frames() -> str:
    """Write the other frames of today's gateway, one a line, as they are on the wire."""
    challenge = hello.challenge(_NONCE, _TS)
    refusal = errors.GatewayError(
        "FORBIDDEN",
        "missing scope: operator.write",
        {"code": "MISSING_SCOPE", "missingScope": "operator.write"},
    )
    request = server_frames.Request("3", "chat.send", None)
    return frame_lines(
        server_frames.encode_event(frames.EVENT_CHALLENGE, challenge),
        frames.encode_request("2", frames.METHOD_HEALTH, {}),
        server_frames.encode_answer(
            server_frames.Request("2", frames.METHOD_HEALTH, {}), server_frames.Answer({"ok": True})
        ),
        server_frames.encode_answer(request, server_frames.Answer(error=refusal)),
        server_frames.encode_event(frames.EVENT_TICK, {"ts": _TS}, 1),
    )


def json_rpc_frames() -> str:
    """Write the JSON-RPC 2.0 form of a request, its answers and an event."""
    request = server_frames.Request("2", frames.METHOD_HEALTH, {}, json_rpc=True)
    refusal = errors.GatewayError("UNAVAILABLE", "The server is busy.")
    return frame_lines(
        frames.encode_request("2", frames.METHOD_HEALTH, {}, json_rpc=True),
        server_frames.encode_answer(request, server_frames.Answer({"ok": True})),
        server_frames.encode_answer(request, server_frames.Answer(error=refusal)),
        server_frames.encode_notification(frames.EVENT_TICK, {"ts": _TS}),
    )


def frame_lines(*messages: str | bytes) -> str:
    """Write frames, one a line."""
    return fence(
        "json", "\n".join(str(m, "utf-8") if isinstance(m, bytes) else m for m in messages)
    )


def hello_fields() -> str:
    """List what is known after the hello of each dialect."""
    scopes = identity.OPERATOR_SCOPES
    full = hello.hello_ok(
        verdicts.Grant("operator", scopes, "token"),
        events.Policy(settings.Limits().max_message, 50 * settings.MIB, 30.0),
        hello.Boot("57020320-e545", _TS),
        "b1d13b15-3fb5",
        ("health", "status", "..."),
        _TS,
    )
    known = handshake.read_hello(full, settings.Dialect.GATEWAY_V4)
    bare = handshake.read_hello({}, settings.Dialect.OPENBUTTER_V1)
    assert known is not None
    assert bare is not None
    told = sentences("events.py")
    rows = (
        (f"`{path}`", told.get(f"{owner}.{path.rpartition('.')[2]}", ""), *map(shown, values))
        for owner, path, values in hello_values(known, bare)
    )
    return table(("field", "", "gateway-v4", "openbutter-v1, nothing told"), rows)


def hello_values(
    known: events.Hello, bare: events.Hello
) -> Iterator[tuple[str, str, tuple[object, object]]]:
    """Yield what two hellos say, the policy's inside it."""
    for field in attrs.fields(events.Hello):
        if field.name == "policy":
            for inner in attrs.fields(events.Policy):
                pair = getattr(known.policy, inner.name), getattr(bare.policy, inner.name)
                yield "Policy", f"policy.{inner.name}", pair
        elif field.name != "payload":
            yield "Hello", field.name, (getattr(known, field.name), getattr(bare, field.name))
    yield "Hello", "methods", (known.methods, bare.methods)
    yield "Hello", "events", (known.events, bare.events)


def shown(value: object) -> str:
    """Write one value of a hello."""
    if value is None or value == frozenset():
        return "unknown"
    if isinstance(value, frozenset):
        return "the list"
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def original_refused() -> str:
    """Write what today's gateway answers to the original request, and what then happens."""
    verdict = admission.Admission(seed=0).admit(
        params_of(settings.Dialect.OPENBUTTER_V1),
        attempt.Challenge(_NONCE),
        attempt.AuthConfig(_SHOWN),
        now=0.0,
        now_ms=_TS,
    )
    assert isinstance(verdict, verdicts.Refusal)
    request = server_frames.Request("1", frames.METHOD_CONNECT, None)
    answer = server_frames.encode_answer(request, server_frames.Answer(error=verdict.error))
    decision = reconnect.decide(
        errors.Ending(errors.EndKind.CONNECT_REFUSED, error=verdict.error),
        reconnect.Attempts(),
        settings.ReconnectSettings(),
        lambda: 1.0,
    )
    then = (
        f"and closes with code {verdict.close_code}. "
        f"The connector's action is then *{decision.action.value}*. Its advice:"
    )
    return "\n\n".join((pretty(answer), then, f"> {decision.advice}"))


# --- settings.md ----------------------------------------------------------------------------

_SIZES: Final = frozenset({"max_message", "max_pending_bytes", "max_event_bytes"})
_RATIOS: Final = frozenset({"factor"})


def settings_table(kind: type, file: str = "settings.py") -> str:
    """List the fields of a settings class: name, default, range and unit, sentence."""
    told = sentences(file)
    rows = (
        (
            f"`{field.name}`",
            default_of(field),
            range_of(field),
            told.get(f"{kind.__name__}.{field.name}", ""),
        )
        for field in attrs.fields(kind)
    )
    return table(("setting", "default", "range", "meaning, and where the default comes from"), rows)


def default_of(field: attrs.Attribute[Any]) -> str:
    """Write a field's default."""
    if field.default is attrs.NOTHING:
        return "required"
    if field.name == "platform":
        return "`sys.platform`"
    if field.name == "identity":
        every = ((one, with_device) for one in settings.Dialect for with_device in (False, True))
        owners = (settings.Settings(dialect=one).identity_for(device=two) for one, two in every)
        return ", ".join(dict.fromkeys(f"`{own.id}`/`{own.mode}`" for own in owners))
    default: Any = field.default
    return spelled(field.name, default.factory() if hasattr(default, "factory") else default)


def spelled(name: str, value: object) -> str:
    """Write a setting's value."""
    if attrs.has(type(value)):
        own = type(value).__name__
        return f"[`{own}()`](#{own.lower()})"
    if isinstance(value, Enum):
        return f"`{type(value).__name__}.{value.name}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return number(name, value)
    return f"`{value}`"


def range_of(field: attrs.Attribute[Any]) -> str:
    """Write a field's range with its unit, as its validator has it."""
    if field.validator is None:
        return ""
    bounds = inspect.getclosurevars(field.validator).nonlocals
    if "low" not in bounds:
        return f"`{bounds['kind'].__name__}`"
    seconds = not bounds["whole"] and field.name not in _RATIOS
    low, high = (number(field.name, bounds[name]) for name in ("low", "high"))
    return f"{low} to {high}{' s' if seconds else ''}{', or None' if bounds['optional'] else ''}"


def number(name: str, value: float) -> str:
    """Write a number, sizes with their unit."""
    if name not in _SIZES:
        return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
    for size, unit in ((1024 * settings.MIB, "GiB"), (settings.MIB, "MiB"), (1024, "KiB")):
        if value >= size and not value % size:
            return f"{value // size:,} {unit}"
    return f"{value} byte{'' if value == 1 else 's'}"


def fixed_numbers() -> str:
    """List the numbers of the core that are no settings."""
    rows = []
    for file in sorted((TOP / "butter_proto").glob("*.py")):
        module = importlib.import_module(f"butter_proto.{file.stem}")
        for name, sentence in sentences(file.name).items():
            value = getattr(module, name, None)
            if name.isupper() and not name.startswith("_") and isinstance(value, int | float):
                rows.append((f"`{file.stem}.{name}`", number(name, value), sentence))
    return table(("name", "value", "meaning"), rows)


# --- contract.md and embedding.md -----------------------------------------------------------


def tests_of(guarantee: int) -> str:
    """Name the tests that hold a guarantee."""
    names = guarantee_tests()[guarantee]
    return "Held by " + (", ".join(f"`{name}`" for name in names) or "no test yet") + "."


def driver() -> str:
    """Include the complete driver as it is."""
    return fence("python", (TOP / "examples" / "minimal_driver.py").read_text())


def machine_calls() -> str:
    """List what a driver may call."""
    rows = []
    for name, member in vars(machine.Machine).items():
        target = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(target):
            arguments = list(inspect.signature(target).parameters)[1:]
            call = name if isinstance(member, property) else f"{name}({', '.join(arguments)})"
            rows.append((f"`{call}`", " ".join((inspect.getdoc(target) or "").split())))
    return table(("name", "what it does"), rows)


def fields_of(kind: type, file: str, head: str = "field") -> str:
    """List the fields of a class with their sentences: what a machine counts, and others."""
    told = sentences(file)
    names = [field.name for field in attrs.fields(kind)]
    return table(
        (head, "meaning"), ((f"`{n}`", told.get(f"{kind.__name__}.{n}", "")) for n in names)
    )


def emitter_names() -> str:
    """List the original's event names, each with its payload."""
    rows = ((f"`{name}`", payload) for name, payload in emitter.NAMES.items())
    return table(("name", "payload"), rows)


# --- testing.md -----------------------------------------------------------------------------


def mistakes(made: Sequence[Mutant], *, with_case: bool = False) -> str:
    """List the mistakes that are made on purpose, each with the test that says so."""
    rows = []
    for one in made:
        file, _, test = one.test.partition("::")
        name = test if with_case else test.partition("[")[0]
        rows.append((f"`{one.file}`", one.broken, f"`{name}` in `tests/{file}`"))
    counted = f"{len(rows)} mistakes in {len({one.file for one in made})} files."
    return f"{counted}\n\n" + table(("file", "what was broken", "the test that says so"), rows)


# --- all of them ----------------------------------------------------------------------------

PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "driver": driver,
    "machine": machine_calls,
    "counters": partial(fields_of, machine.Stats, "machine.py", "counter"),
    "emitter": emitter_names,
    **{f"g{guarantee}": partial(tests_of, guarantee) for guarantee in GUARANTEES},
    "states-diagram": states_diagram,
    "states": states_table,
    "pool-states": partial(states_table, election.POOL_FOLLOWERS),
    "pool-gateway": partial(fields_of, pool_gateway.PoolGateway, "pool_gateway.py"),
    "gateway-health": partial(fields_of, pool_gateway.GatewayHealth, "pool_gateway.py"),
    "phases": phases,
    "endings": partial(enum_table, errors.EndKind, "errors.py", ("ending", "in words", "meaning")),
    "faults": partial(enum_table, errors.FaultKind, "errors.py", ("fault", "in words")),
    "deliveries": partial(
        enum_table, errors.Delivery, "errors.py", ("delivery", "in words", "meaning")
    ),
    "actions": partial(enum_table, reconnect.Action, "reconnect.py", ("name", "action", "meaning")),
    "reconnect": reconnect_rows,
    "backoff": backoff,
    "repair": repair_delay,
    "reconnect-settings": partial(settings_table, settings.ReconnectSettings),
    "connect-gateway-v4": partial(connect_frame, settings.Dialect.GATEWAY_V4),
    "connect-openbutter-v1": partial(connect_frame, settings.Dialect.OPENBUTTER_V1),
    "frames-gateway-v4": v4_frames,
    "frames-json-rpc": json_rpc_frames,
    "hello": hello_fields,
    "original-refused": original_refused,
    "settings": partial(settings_table, settings.Settings),
    "identity": partial(settings_table, identity.Identity, "identity.py"),
    "timeouts": partial(settings_table, settings.Timeouts),
    "keepalive": partial(settings_table, settings.KeepaliveSettings),
    "probes": partial(enum_table, settings.Probe, "settings.py", ("name", "value", "meaning")),
    "limits": partial(settings_table, settings.Limits),
    "fixed-numbers": fixed_numbers,
    "mistakes": partial(mistakes, MUTANTS),
    "chaos-mistakes": partial(mistakes, CHAOS_MUTANTS, with_case=True),
}
