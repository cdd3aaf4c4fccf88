"""Recorder: keeps what a connector was given and what it did, to do it again.

    recorder = Recorder("butter.jsonl")
    with butter_threads.connect(url, token=..., recorder=recorder) as gateway: ...

Rules kept here:

* The recorded connector is a `Connector` in everything; recording changes no decision. Without a
  recorder none of this is there.
* The last minutes are kept, inside a bound of bytes (reel.py). They are written when the connector
  gives up, when ``save`` or ``dump`` is called, and when an input raises what it never should.
* The connector's own calls only take down what is kept; a thread writes it (writer.py).
* Secrets and bodies are in memory, and in no dump (lines.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from butter_proto.connector import Connector
from butter_proto.device_auth import Signer, public_key_of
from butter_proto.endpoint import Endpoint
from butter_proto.errors import InvalidSettings, LocalProtocolError
from butter_proto.private_file import replace_file
from butter_proto.settings import Settings, with_token_of
from butter_proto.testing.recording.construction import Construction
from butter_proto.testing.recording.lines import Recording, to_lines
from butter_proto.testing.recording.recorded import RecordedConnector, RecordedSigner
from butter_proto.testing.recording.reel import Reel
from butter_proto.testing.recording.tape import Tape
from butter_proto.testing.recording.turn import Draw
from butter_proto.testing.recording.writer import Writer
from butter_proto.trace import Trace


class Recorder:
    """Records one connector at a time; what ``connect(recorder=...)`` takes.

    At most the last ``minutes`` are kept, in about ``max_bytes`` of memory. ``path`` is where
    they are written when the connector gives up; None: nowhere by itself. ``bodies`` keeps what
    requests, replies and events carry; without it only their sizes are written.

    A file that is there is replaced. Raises `InvalidSettings` for bounds that are no positive
    numbers, and for a path that is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        minutes: float = 10.0,
        max_bytes: int = 8 * 1024 * 1024,
        bodies: bool = False,
    ) -> None:
        if not _is_positive(minutes) or not _is_positive(max_bytes):
            raise InvalidSettings("a recorder keeps some minutes and some bytes")
        if not (path is None or (isinstance(path, str | os.PathLike) and os.fspath(path))):
            raise InvalidSettings("a recorder's path is the name of a file")
        self.path = None if path is None else Path(path)
        self._seconds = minutes * 60
        self._max_bytes = max_bytes
        self._bodies = bodies
        self._tape: Tape | None = None
        self._writing = threading.Lock()
        self._writer = Writer()

    def connector(
        self,
        url: str | Endpoint,
        settings: Settings | None = None,
        *,
        random: Callable[[], float],
        entropy: Callable[[int], bytes],
        next_transport_id: Callable[[], int] | None = None,
        next_request_id: Callable[[], str] | None = None,
        signer: Signer | None = None,
        trace: Trace | None = None,
        hold_queue: bool = False,
    ) -> Connector:
        """Make a connector that is recorded from now on; the one before it is forgotten.

        The arguments, and what is raised, are those of `Connector`.
        """
        endpoint, settings = with_token_of(url, settings)
        key = None if signer is None else public_key_of(signer)
        construction = Construction(endpoint, settings, key, hold_queue)
        reel = Reel(self._seconds, self._max_bytes)
        tape = Tape(construction, reel, self._put, bodies=self._bodies)
        connector = RecordedConnector(
            endpoint,
            settings,
            random=tape.drawing(Draw.RANDOM, random),
            entropy=tape.entropy(entropy),
            next_transport_id=tape.drawing(
                Draw.TRANSPORT_ID, next_transport_id or count(1).__next__
            ),
            next_request_id=tape.drawing(
                Draw.REQUEST_ID, next_request_id or map(str, count(1)).__next__
            ),
            signer=None if signer is None else RecordedSigner(signer, tape),
            trace=trace,
            hold_queue=hold_queue,
        )
        connector.tape = tape
        self._tape = tape
        return connector

    @property
    def size(self) -> int:
        """About how much memory the recording takes now, in bytes."""
        return 0 if self._tape is None else self._tape.size

    def recording(self) -> Recording:
        """Return what is kept now, secrets included. Raises `LocalProtocolError` where nothing is.

        ``dump`` is what may leave the process.
        """
        if self._tape is None:
            raise LocalProtocolError("nothing was recorded yet")
        return self._tape.recording()

    def dump(self) -> str:
        """Return the recording as JSON lines, without secrets. Any thread may call this.

        Raises `LocalProtocolError` where nothing was recorded.
        """
        return self._dumped(self.recording())

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the recording to a file that only its owner may read, and return its path.

        The file is whole, or as it was. Any thread may call this. Raises OSError, and
        `LocalProtocolError` where nothing was recorded or no path is known.
        """
        where = self.path if path is None else Path(path)
        if where is None:
            raise LocalProtocolError("a recorder without a path is given one to save to")
        self.wait()  # what was handed over before is older
        self._write(self.recording(), where)
        return where

    def wait(self) -> None:
        """Wait until the file is there that was begun when the connector gave up, if one was."""
        self._writer.wait()

    def _put(self, recording: Recording) -> None:
        """Have it written because of what happened: that must not disturb what goes on."""
        if self.path is not None:
            self._writer.put(partial(self._write, recording, self.path))

    def _write(self, recording: Recording, path: Path) -> None:
        with self._writing:
            replace_file(path, self._dumped(recording).encode())

    def _dumped(self, recording: Recording) -> str:
        return "".join(f"{line}\n" for line in to_lines(recording, bodies=self._bodies))


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
