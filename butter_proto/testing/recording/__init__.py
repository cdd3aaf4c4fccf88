"""The flight recorder: what a connector was given and did, kept, written down, and done again.

`Recorder` makes the connector that is recorded. `load` and `load_file` read what it wrote,
``replay`` does that again, and ``difference`` says where a connector of today decides otherwise: a
recording of a bug is a test of it. A recording has no secrets, and no bodies unless they were asked
for.
"""

from butter_proto.testing.recording.data import BadRecording
from butter_proto.testing.recording.differences import Difference
from butter_proto.testing.recording.lines import Recording
from butter_proto.testing.recording.player import Step, difference, replay
from butter_proto.testing.recording.reading import from_file as load_file
from butter_proto.testing.recording.reading import from_text as load
from butter_proto.testing.recording.recorder import Recorder
from butter_proto.testing.recording.turn import Cut, Decision, Missing, Turn

__all__ = [
    "BadRecording",
    "Cut",
    "Decision",
    "Difference",
    "Missing",
    "Recorder",
    "Recording",
    "Step",
    "Turn",
    "difference",
    "load",
    "load_file",
    "replay",
]
