"""What the owner of a connector says of it: whether it stands alone or is one of a pool.

Rules kept here:

* One object per connector. A connector alone is its own primary and never loses that place; in a
  pool only the pool writes ``primary``.
* One that ``is_leaving`` gets nothing more of what waits; what it has not sent goes to another one.
* ``held`` is the gate of ``hold_queue``: what waited for a connection waits for its resync too. It
  is the primary's alone, for only the primary is read from, so only there is a state to read again.
"""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Standing:
    """The place of one connector among those of its pool."""

    name: str | None = None
    """Its name in the pool; None: it stands alone."""
    hold_queue: bool = False
    """Whether queue and replays wait for ``resynced`` each time it begins to deliver."""
    primary: bool = True
    """Whether its gateway events are told, and requests for no gateway by name go to it."""
    held: bool = False
    """Whether they wait for it now."""
    is_leaving: bool = False
    """Whether it is on its way out of its pool."""

    def step_down(self) -> None:
        """Be warm from now on: another one delivers."""
        self.primary = self.held = False

    def hold(self) -> None:
        """Close the gate, where there is one: it begins to deliver."""
        self.held = self.primary and self.hold_queue
