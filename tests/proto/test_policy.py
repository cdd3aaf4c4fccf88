"""What may be said to whom: judged when a Connector is made."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from butter_proto import Connector, Endpoint, Framing, InvalidSettings, Settings
from butter_proto.settings import adapter_settings

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
    assert "allow_plaintext (--allow-plaintext)" in text
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


PUBLIC_PROXIES = ["http://user:QQ-pw-QQ@proxy.example:3128", "socks5://8.8.8.8", "http://proxy"]
NEAR_PROXIES = ["http://127.0.0.1:3128", "http://[fd00::1]:3128", "socks5://proxy.local:1080"]


@pytest.mark.parametrize("proxy", PUBLIC_PROXIES)
@pytest.mark.parametrize("host", ["192.168.1.2", "nas.local", "gw.tail1234.ts.net"])
def test_clear_text_to_a_private_host_does_not_go_by_a_public_proxy(host: str, proxy: str) -> None:
    with pytest.raises(InvalidSettings, match="clear text to") as caught:
        connector(f"ws://{host}", proxy=proxy)
    assert str(caught.value).startswith(f"ws://{host}/ would send")
    assert "QQ" not in str(caught.value)
    connector(f"ws://{host}", proxy=proxy, allow_plaintext=True)
    connector(f"wss://{host}", proxy=proxy)


@pytest.mark.parametrize("proxy", NEAR_PROXIES)
def test_clear_text_to_a_private_host_goes_by_a_proxy_that_is_near(proxy: str) -> None:
    connector("ws://192.168.1.2", proxy=proxy)


@pytest.mark.parametrize("proxy", NEAR_PROXIES)
def test_a_near_proxy_makes_no_public_host_private(proxy: str) -> None:
    with pytest.raises(InvalidSettings, match="clear text: "):
        connector("ws://8.8.8.8", proxy=proxy)


def test_loopback_is_never_proxied_so_any_proxy_may_be_set() -> None:
    connector("ws://localhost", proxy=PUBLIC_PROXIES[0])


def test_a_public_proxy_of_the_environment_is_judged_alike() -> None:
    url = "ws://192.168.1.2"
    environ = {"all_proxy": PUBLIC_PROXIES[0]}
    settings = adapter_settings(None, None, url=url, environ=environ)
    with pytest.raises(InvalidSettings, match="clear text to"):
        Connector(url, settings, random=lambda: 1.0, entropy=Random(1).randbytes)
