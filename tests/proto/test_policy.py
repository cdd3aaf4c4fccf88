"""What may be said to whom: judged when a Connector is made."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from butter_proto import Connector, Endpoint, Framing, InvalidSettings, Settings

PIN = "00" * 32
PUBLIC = ["gateway.example.com", "8.8.8.8", "[2606:4700::1]", "192.0.2.1", "0.0.0.0", "gateway"]
NEAR = ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "10.0.0.7", "192.168.1.2", "100.64.0.1"]
NEAR += ["169.254.1.1", "[fe80::1%25eth0]", "[fd00::1]", "nas.local", "gw.tail1234.ts.net"]


def connector(url: str | Endpoint, **settings: Any) -> Connector:
    return Connector(url, Settings(**settings), random=lambda: 1.0, entropy=Random(1).randbytes)


@pytest.mark.parametrize("host", PUBLIC)
def test_clear_text_to_a_public_host_is_refused_when_the_connector_is_made(host: str) -> None:
    with pytest.raises(InvalidSettings, match="clear text") as caught:
        connector(f"ws://{host}:18789/?token=QQ-token-QQ&key=QQ-key-QQ")
    text = str(caught.value)
    assert text.startswith(f"ws://{host}:18789/?key=*** would send")
    assert "wss://" in text
    assert "allow_plaintext=True" in text
    assert "QQ" not in text


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("host", PUBLIC)
def test_an_endpoint_and_a_host_that_owns_the_websocket_make_no_difference(
    host: str, framing: Framing
) -> None:
    with pytest.raises(InvalidSettings, match="clear text"):
        connector(Endpoint(host.strip("[]"), 80, tls=False), framing=framing)


@pytest.mark.parametrize("host", PUBLIC)
def test_clear_text_goes_to_a_public_host_where_it_is_allowed(host: str) -> None:
    machine = connector(f"ws://{host}", allow_plaintext=True)
    machine.start(0.0)
    assert machine.next_command() is not None


@pytest.mark.parametrize("host", NEAR)
def test_clear_text_goes_to_what_is_near(host: str) -> None:
    connector(f"ws://{host}")


@pytest.mark.parametrize("host", [*PUBLIC, *NEAR])
def test_tls_goes_everywhere(host: str) -> None:
    connector(f"wss://{host}", pins=PIN, headers={"X-Key": "value"})


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pins": [PIN]}, "pins need wss://"),
        ({"headers": {"X-Key": "QQ-value-QQ"}}, "headers are sent over wss:// only"),
    ],
)
def test_pins_and_headers_need_tls_even_on_loopback(
    settings: dict[str, Any], words: str, allowed: bool
) -> None:
    with pytest.raises(InvalidSettings, match=words) as caught:
        connector("ws://127.0.0.1:18789", allow_plaintext=allowed, **settings)
    assert "QQ" not in str(caught.value)
