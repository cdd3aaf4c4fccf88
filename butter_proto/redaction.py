"""Taking the known secrets out of everything that one connection tells (G11).

Rules kept here:

* Decisions are taken on what the peer said, before this: a secret may be part of a code.
* What the application gave (settings) and what hello issued are both known secrets.
* A refusal's body and an error's texts are cut before they are told, and a close reason by the
  peer, which has 123 bytes for it: each may end inside a secret.
* A payload is the application's own and is told as it came; only its repr is silent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import attrs

from butter_proto.errors import MAX_REFUSAL_BODY, Ending, GatewayError
from butter_proto.events import Hello
from butter_proto.secret import LONG_ENOUGH, MASK, Secret, long_enough, redact, without_cut_secret

_REMEMBERED_NAMES: Final = 1000
_LONGEST_REMEMBERED: Final = 100


class Redaction:
    """The secrets that a connection knows, and what it tells without them."""

    __slots__ = ("_names", "_secrets", "plain_names")

    def __init__(self, secrets: tuple[Secret, ...]) -> None:
        self._secrets = secrets
        self._names: dict[str, str] = {}
        self.plain_names: set[str] = set()
        """Names of events that came before, and are told as they are."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All that are known by now."""
        return self._secrets

    def add(self, texts: Iterable[str]) -> None:
        """Learn more secrets."""
        self._secrets = (*self._secrets, *map(Secret, texts))
        self._names.clear()
        self.plain_names.clear()

    def text(self, text: str) -> str:
        """Take the secrets out of a text."""
        return redact(text, self._secrets)

    def name(self, name: str) -> str:
        """Take the secrets out of an event's name, quickly for one that came before.

        Short ones stay: programs wait for names, as they are.
        """
        told = self._names.get(name)
        if told is None:
            told = redact(name, long_enough(self._secrets))
            if len(self._names) < _REMEMBERED_NAMES and len(name) <= _LONGEST_REMEMBERED:
                self._names[name] = told
                if told == name:
                    self.plain_names.add(name)
        return told

    def error(self, error: GatewayError) -> GatewayError:
        """Take the secrets out of a gateway's error."""
        return attrs.evolve(
            error,
            code=self._cut(error.code),
            message=self._cut(error.message),
            details=redact(error.details, self._secrets),
        )

    def hello(self, hello: Hello, asked: Collection[str] = ()) -> Hello:
        """Take the secrets out of what a hello's repr shows.

        Role and scopes that were ``asked`` for stay as they are, whatever word a secret is:
        programs look for them.
        """
        role = hello.role if hello.role in asked else self._text_or_none(hello.role)
        return attrs.evolve(
            hello,
            server_version=self._text_or_none(hello.server_version),
            boot_id=self._text_or_none(hello.boot_id),
            connection_id=self._text_or_none(hello.connection_id),
            role=role,
            scopes=None
            if hello.scopes is None
            else tuple(one if one in asked else self.text(one) for one in hello.scopes),
            auth_method=self._text_or_none(hello.auth_method),
        )

    def ending(self, ending: Ending) -> Ending:
        """Take the secrets out of an ending."""
        fault = ending.fault
        if fault is not None:
            fault = attrs.evolve(fault, text=self.text(fault.text))
        return attrs.evolve(
            ending,
            text=self.text(ending.text),
            error=None if ending.error is None else self.error(ending.error),
            fault=fault,
            close_reason=self._cut(ending.close_reason),
            http_body=self._body(ending.http_body),
        )

    def _cut(self, text: str) -> str:
        """Take the secrets out of a text that may have been cut."""
        texts = [secret.reveal() for secret in self._secrets]
        return without_cut_secret(self.text(text), texts, MASK)

    def _body(self, body: bytes) -> bytes:
        cut = len(body) >= MAX_REFUSAL_BODY  # then its end is by chance anyway
        texts = {secret.reveal().encode(errors="surrogatepass") for secret in self._secrets}
        for text in sorted(texts, key=len, reverse=True):  # one may be part of another
            body = body.replace(text, MASK.encode())
        return without_cut_secret(body, texts, MASK.encode(), 1 if cut else LONG_ENOUGH)

    def _text_or_none(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)
