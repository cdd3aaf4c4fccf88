"""A recorded connector for tests: against the stand-in on a virtual clock, or driven by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from butter_proto import (
    Connector,
    KeepaliveSettings,
    Secret,
    Settings,
)
from butter_proto.testing import StandInGateway, VirtualNetwork
from butter_proto.testing.recording import (
    Cut,
    Recorder,
    Step,
    difference,
    load,
    replay,
)
from butter_proto.testing.recording.fillers import Fillers
from butter_proto.testing.recording.messages import Messages
from tests.proto.operations import World

URL: Final = "ws://gateway.local:18789/"
TOKEN: Final = "a-token-of-the-tests"
SAID: Final = "what users say"
SECRET: Final = "a-long-secret"
SHORT: Final = "abc"


class Recorded:
    """A recorded connector that is run against the stand-in on a virtual clock."""

    def __init__(
        self,
        token: str = TOKEN,
        keepalive: KeepaliveSettings = KeepaliveSettings(),  # noqa: B008 - frozen
        *,
        is_recorded: bool = True,
        **bounds: Any,
    ) -> None:
        self.stand_in = StandInGateway(token=TOKEN)
        self.network = VirtualNetwork({("gateway.local", 18789): self.stand_in})
        self.recorder = Recorder(**bounds)
        settings = Settings(token=token, keepalive=keepalive)
        self.machine = connector(self.recorder.connector if is_recorded else Connector, settings)
        self.network.add(self.machine)
        self.machine.start(self.network.now)

    def run(self, seconds: float) -> None:
        self.network.run(for_=seconds)
        self.network.events[self.machine].clear()

    def request(self, method: str = "health", **options: Any) -> str:
        return self.machine.request(method, now=self.network.now, **options)

    def cuts(self) -> list[Cut]:
        return [one for one in self.recorder.recording().entries if isinstance(one, Cut)]

    def played(self) -> list[Step]:
        return [*replay(load(self.recorder.dump()))]

    def unexplained(self) -> Step | None:
        return difference(load(self.recorder.dump()))


def connector(make: Callable[..., Connector], settings: Settings) -> Connector:
    return make(URL, settings, random=lambda: 0.5, entropy=partial(bytes))


def waiting(recorder: Recorder, settings: Settings | None = None) -> World:
    world = World(settings or Settings(), make=recorder.connector)
    world.online()
    return world


def cleaner(*, bodies: bool = False) -> Messages:
    fillers = Fillers()
    fillers.learn([Secret(SECRET), Secret(SHORT)])
    return Messages(fillers, bodies=bodies)


def event(payload: Any = SAID, **fields: Any) -> bytes:
    return json.dumps({"type": "event", "event": "chat", "payload": payload, **fields}).encode()


def answer(**fields: Any) -> bytes:
    return json.dumps({"type": "res", "id": "1", **fields}).encode()


def play(recorder: Recorder) -> None:
    text = recorder.dump()
    step = difference(load(text))
    assert step is None, step.differences
    assert "said" not in text
