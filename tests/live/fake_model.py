"""A model provider on loopback that streams one fixed reply, for runs that need no real model."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

_LABEL: Final = {
    "id": "fake",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "fake-1",
}


class FakeModel:
    """A provider with the OpenAI chat completions API on loopback. A context manager.

    `reply` leaves in `chunks` pieces with `delay` seconds before each; a test may assign these
    between runs. `requests` holds the parsed body of every call, in order of arrival.
    """

    def __init__(
        self, reply: str = "A reply in pieces.", chunks: int = 6, delay: float = 0.1
    ) -> None:
        self.reply = reply
        self.chunks = chunks
        self.delay = delay
        self.requests: list[dict[str, Any]] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _completions_of(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fake-model"
        )

    @property
    def url(self) -> str:
        """The provider's base URL, for `RealGateway(model_url=...)`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def pieces(self) -> Iterator[str]:
        """Yield the parts of the reply, each after its delay; end early when the server closes."""
        reply, chunks, delay = self.reply, self.chunks, self.delay
        for index in range(chunks):
            if self._closing.wait(delay):
                return
            yield reply[index * len(reply) // chunks : (index + 1) * len(reply) // chunks]


def provider(base_url: str) -> dict[str, Any]:
    """Return the gateway's configuration of a provider (wire.md 11)."""
    model = {
        "id": "fake-1",
        "name": "Fake",
        "reasoning": False,
        "input": ["text"],
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "contextWindow": 120_000,
        "maxTokens": 8192,
    }
    return {
        "baseUrl": base_url,
        "apiKey": "sk-local",
        "api": "openai-completions",
        "timeoutSeconds": 120,
        "models": [model],
    }


def _completions_of(model: FakeModel) -> type[BaseHTTPRequestHandler]:
    """Make the HTTP side of `model`: each POST is answered with server-sent events."""

    class Completions(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            # A ConnectionError means that the run was aborted or the gateway was killed.
            with contextlib.suppress(ConnectionError):
                size = int(self.headers["Content-Length"])
                model.requests.append(json.loads(self.rfile.read(size)))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for piece in model.pieces():
                    self._send_choice({"role": "assistant", "content": piece}, None)
                self._send_choice({}, "stop")
                usage = {"prompt_tokens": 1, "completion_tokens": model.chunks}
                self._send({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")

        def _send_choice(self, delta: dict[str, str], finish: str | None) -> None:
            self._send({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        def _send(self, content: dict[str, Any]) -> None:
            chunk = _LABEL | content
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Print nothing: what was asked stands in `requests`."""

    return Completions
