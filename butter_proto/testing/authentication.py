"""Which credential opens: the shared secret, a device's token, or a bootstrap token (wire.md 4, 5).

Rules kept here:

* The right one opens, whatever wrong ones come beside it: shared secret, then device token, then
  bootstrap token. Where none is right, the refusal names one that was shown.
* The shared secret counts in either field; where both are given, the mode's own (wire.md 5).
* Device and bootstrap tokens are nothing without a device that signed.
* Only a remote client is ever locked out. The late answers on loopback are not played.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from butter_proto.testing.attempt import Attempt, AuthConfig
from butter_proto.testing.devices import Devices
from butter_proto.testing.lockout import CredentialClass, Lockout
from butter_proto.testing.verdicts import (
    Refusal,
    auth_refused,
    identity_required,
    rate_limited,
)


class Method(Enum):
    """What opened: hello's ``auth.method``."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105 - a name, not a token
    PASSWORD = "password"  # noqa: S105
    DEVICE_TOKEN = "device-token"  # noqa: S105
    BOOTSTRAP_TOKEN = "bootstrap-token"  # noqa: S105


_SHARED: Final = CredentialClass.SHARED
_DEVICE_TOKEN: Final = CredentialClass.DEVICE_TOKEN
_BOOTSTRAP: Final = CredentialClass.BOOTSTRAP_TOKEN


def authenticate(
    attempt: Attempt, config: AuthConfig, devices: Devices, lockout: Lockout
) -> Method | Refusal:
    """Return what opened, or the refusal of what was shown."""
    mode = _mode(config)
    needs_device = attempt.role == "node" or (mode is Method.NONE and attempt.identity[0] == "cli")
    if attempt.device is None and needs_device:
        return identity_required()
    if mode is Method.NONE:
        return mode
    return _Showing(attempt, config, devices, lockout, mode).judge()


def _mode(config: AuthConfig) -> Method:
    if config.token is not None:
        return Method.TOKEN
    return Method.NONE if config.password is None else Method.PASSWORD


@attrs.frozen
class _Showing:
    """What one attempt shows to a gateway with a shared secret."""

    attempt: Attempt
    config: AuthConfig
    devices: Devices
    lockout: Lockout
    mode: Method

    def judge(self) -> Method | Refusal:
        if self._shared is not None and self._shared == self._secret and self._open(_SHARED):
            return self.mode
        if self.attempt.device is None:
            return self._refuse_shared() if self._shared is not None else identity_required()
        opened = self._by_device_token() or self._by_bootstrap_token()
        return self._refuse() if opened is None else opened

    @property
    def _shared(self) -> str | None:
        other = "password" if self.mode is Method.TOKEN else "token"
        return self.attempt.auth(self.mode.value, other)

    @property
    def _secret(self) -> str | None:
        config = self.config
        return config.token if self.mode is Method.TOKEN else config.password

    def _by_device_token(self) -> Method | Refusal | None:
        assert self.attempt.device is not None
        shown = self.attempt.auth("deviceToken", "token")
        live = self.devices.token(self.attempt.device["id"], self.attempt.role)
        if live is None or shown != live.token or not self._open(_DEVICE_TOKEN):
            return None
        if not set(self.attempt.scopes) <= set(live.scopes):
            return auth_refused("scope_mismatch", "review_auth_configuration")
        return Method.DEVICE_TOKEN

    def _by_bootstrap_token(self) -> Method | None:
        """Take the bootstrap token: it opens once."""
        shown, spent = self.attempt.auth("bootstrapToken"), self.devices.spent
        right = shown is not None and shown == self.config.bootstrap_token and shown not in spent
        if shown is None or not right or not self._open(_BOOTSTRAP):
            return None
        self.devices.spent = spent | {shown}
        return Method.BOOTSTRAP_TOKEN

    def _refuse(self) -> Refusal:
        """Name what was wrong with what a device showed."""
        if self.attempt.auth("deviceToken"):
            wrong = auth_refused("device_token_mismatch", "update_auth_credentials")
            return self._failed(_DEVICE_TOKEN, wrong)
        if self.attempt.auth("bootstrapToken"):
            wrong = auth_refused("bootstrap_token_invalid", "review_auth_configuration")
            return self._failed(_BOOTSTRAP, wrong)
        if self._shared is not None:
            return self._refuse_shared()
        return auth_refused(f"{self.mode.value}_missing", "update_auth_configuration")

    def _refuse_shared(self) -> Refusal:
        can_retry = self.mode is Method.TOKEN and self.attempt.device is not None
        step = "retry_with_device_token" if can_retry else "update_auth_credentials"
        wrong = auth_refused(f"{self.mode.value}_mismatch", step, can_retry=can_retry)
        return self._failed(_SHARED, wrong)

    def _open(self, kind: CredentialClass) -> bool:
        return self.lockout.left(kind, self.attempt.now) <= 0

    def _failed(self, kind: CredentialClass, wrong: Refusal) -> Refusal:
        if not self._open(kind):
            return rate_limited(self.lockout.left(kind, self.attempt.now))
        if self.config.remote:
            self.lockout.fail(kind, self.attempt.now)
        return wrong
