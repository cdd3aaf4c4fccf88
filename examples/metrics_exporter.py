"""Keeps a gateway connected and exports the connector's counters to Prometheus.

    OPENCLAW_GATEWAY_TOKEN=... python examples/metrics_exporter.py ws://127.0.0.1:18789 --port 9464
    curl http://127.0.0.1:9464/metrics

Rules kept here:

* The values are read when they are asked for; between scrapes nothing is done.
* `METRICS` is the one list of metrics. A counter that is not in it fails a test.
* It serves while the gateway is away, too: that is when the figures are needed.
* What has no value yet (a round trip before the first probe) has no sample.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import attrs

import butter_threads
from butter_threads import Gateway, State, Stats

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class Metric:
    """One metric: of which field of `Stats` it is, and what Prometheus is told about it."""

    field: str
    name: str
    help: str
    value: Callable[[Stats, float], float | None] | None = None
    """How to get it, where it is not the field as it stands; with the present time."""

    @property
    def kind(self) -> str:
        """The metric's type."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def lines(self, stats: Stats, now: float) -> Iterator[str]:
        """Yield the metric in the text format."""
        value = self.value(stats, now) if self.value else getattr(stats, self.field)
        yield from _head(self.name, self.kind, self.help)
        if value is not None:
            yield f"{self.name} {value}"


METRICS: Final = (
    Metric("attempts", "openbutter_attempts_total", "Connections begun."),
    Metric("online", "openbutter_hellos_total", "Hellos accepted."),
    Metric("reconnects", "openbutter_reconnects_total", "Hellos accepted after the first one."),
    Metric("disconnects", "openbutter_disconnects_total", "Connections lost after their hello."),
    Metric("messages_received", "openbutter_received_messages_total", "WebSocket messages read."),
    Metric("messages_sent", "openbutter_sent_messages_total", "WebSocket messages sent."),
    Metric(
        "bytes_received", "openbutter_received_bytes_total", "Bytes read, those of TLS left out."
    ),
    Metric("bytes_sent", "openbutter_sent_bytes_total", "Bytes sent, those of TLS left out."),
    Metric("events", "openbutter_events_total", "Gateway events received, ticks included."),
    Metric("gaps", "openbutter_event_gaps_total", "Gaps seen in the events' seq."),
    Metric("missed_events", "openbutter_missed_events_total", "Events lost in those gaps."),
    Metric("dropped_events", "openbutter_dropped_events_total", "Events not taken in time."),
    Metric("ignored_frames", "openbutter_ignored_frames_total", "Messages of no known kind."),
    Metric("probes", "openbutter_probes_total", "Probes of the connection asked."),
    Metric("misses", "openbutter_missed_probes_total", "Probes not answered in time."),
    Metric("round_trip", "openbutter_round_trip_seconds", "The last round trip of a probe."),
    Metric(
        "smoothed_round_trip",
        "openbutter_smoothed_round_trip_seconds",
        "The round trips, smoothed with a weight of 1/8.",
    ),
    Metric(
        "last_received_at",
        "openbutter_last_received_age_seconds",
        "Time since the last inbound byte.",
        Stats.age,
    ),
)


def render(stats: Stats, state: State, now: float) -> str:
    """Return all metrics in the text format; ``now`` is `time.monotonic`."""
    lines = [line for metric in METRICS for line in metric.lines(stats, now)]
    lines += _head("openbutter_state", "gauge", "1 for the state of the connector, else 0.")
    lines += [f'openbutter_state{{state="{one.value}"}} {int(one is state)}' for one in State]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


@contextmanager
def exporter(gateway: Gateway, host: str, port: int) -> Iterator[str]:
    """Serve ``/metrics`` for as long as the ``with`` lasts; yields its URL. Port 0: any."""

    class Scrape(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = render(gateway.stats, gateway.state, time.monotonic()).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Print nothing: scrapes come all the time."""

    with ThreadingHTTPServer((host, port), Scrape) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics")
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Read the command line; connect and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Export a connector's counters to Prometheus.")
    parser.add_argument("url")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9464)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    token = os.environ.get("OPENCLAW_GATEWAY_TOKEN")
    with (
        butter_threads.connect(args.url, token=token, wait=False) as gateway,
        exporter(gateway, args.host, args.port) as url,
    ):
        print(url, flush=True)
        deque(gateway.states(), maxlen=0)  # until Stopped; what they tell is logged


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, OSError, butter_threads.ButterError) as error:
        raise SystemExit(str(error)) from None
