"""What a test may do in the owner's place: approve, reject, rotate, revoke, remove (wire.md 4).

Rules kept here:

* As with every scripting call it is done when the gateway's next input begins; ``pending`` and
  ``devices`` show it from then on. Both may be read from another thread.
* A name that is unknown at the call raises KeyError. One that is gone when its turn comes is let
  be.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from butter_proto.testing.admission import Admission
from butter_proto.testing.devices import IssuedToken, PairedDevice, PairingRequest, Withdrawal
from butter_proto.testing.script import Disown, Resolve, Script


@attrs.define(eq=False, kw_only=True)
class DeviceScript(Script):
    """The owner's half of `Script`."""

    seed: int = 0
    """Gateways with different seeds have different boot ids, nonces, connection ids, pairing
    request ids and device tokens."""
    _admission: Admission = attrs.field(
        default=attrs.Factory(lambda self: Admission(self.seed), takes_self=True),
        init=False,
        repr=False,
    )

    @property
    def pending(self) -> Mapping[str, PairingRequest]:
        """The requests that wait for the owner, by request id, oldest first."""
        return self._admission.devices.pending

    @property
    def devices(self) -> Mapping[str, PairedDevice]:
        """The paired devices, by device id."""
        return self._admission.devices.paired

    def approve(self, request_id: str) -> None:
        """Approve a pairing request: the device's next connect succeeds.

        Raises KeyError where no such request is pending.
        """
        self._act(Resolve(self.pending[request_id], approved=True))

    def reject(self, request_id: str) -> None:
        """Reject a pairing request: the device's next connect opens a new one.

        Raises KeyError where no such request is pending.
        """
        self._act(Resolve(self.pending[request_id], approved=False))

    def rotate(self, device_id: str, role: str = "operator") -> None:
        """Replace a device's token: the old one is dead, the shared secret gets the new one.

        Every live connection of the device gets Close 4001 "device removed". Raises KeyError where
        the device has no such role.
        """
        self._token_of(device_id, role)
        self._act(Disown(device_id, Withdrawal.ROTATE, role))

    def revoke(self, device_id: str, role: str = "operator") -> None:
        """Take a role back: the token is dead, and a remote device must ask for a role-upgrade.

        Connections and errors as with ``rotate``.
        """
        self._token_of(device_id, role)
        self._act(Disown(device_id, Withdrawal.REVOKE, role))

    def remove(self, device_id: str) -> None:
        """Forget a device and what it asked for: it is as new.

        Every live connection of it gets Close 4001 "device removed". Raises KeyError where it is
        not paired.
        """
        self._act(Disown(self.devices[device_id].device_id, Withdrawal.REMOVE))

    def _token_of(self, device_id: str, role: str) -> IssuedToken:
        return self.devices[device_id].tokens[role]
