"""Which proxy a URL or an environment names, and for which gateways (lesson 28)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.endpoint import parse_url
from butter_proto.errors import InvalidSettings
from butter_proto.proxy_address import (
    ProxyAddress,
    ProxyScheme,
    parse_proxy,
    proxy_from_environment,
)
from butter_proto.secret import Secret

HTTP = ProxyScheme.HTTP
SOCKS5 = ProxyScheme.SOCKS5
PROXY = {"https_proxy": "http://proxy:3128"}


# --- URLs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://proxy:3128", ProxyAddress(HTTP, "proxy", 3128)),
        ("http://proxy:3128/", ProxyAddress(HTTP, "proxy", 3128)),
        (" HTTP://Proxy:3128\n", ProxyAddress(HTTP, "Proxy", 3128)),
        ("proxy:3128", ProxyAddress(HTTP, "proxy", 3128)),
        ("user:pw@proxy:3128", ProxyAddress(HTTP, "proxy", 3128, "user", Secret("pw"))),
        ("http://proxy", ProxyAddress(HTTP, "proxy", 80)),
        ("http://proxy:", ProxyAddress(HTTP, "proxy", 80)),
        ("socks5://proxy", ProxyAddress(SOCKS5, "proxy", 1080)),
        ("socks5h://proxy:9050", ProxyAddress(SOCKS5, "proxy", 9050)),
        ("http://[::1]:3128", ProxyAddress(HTTP, "::1", 3128)),
        ("http://10.0.0.1:65535", ProxyAddress(HTTP, "10.0.0.1", 65535)),
        ("http://user@proxy", ProxyAddress(HTTP, "proxy", 80, "user")),
        ("http://user:@proxy", ProxyAddress(HTTP, "proxy", 80, "user")),
        ("http://:pw@proxy", ProxyAddress(HTTP, "proxy", 80, "", Secret("pw"))),
        ("http://@proxy", ProxyAddress(HTTP, "proxy", 80, "")),
        ("http://u%40h:p%3A%2F%20@proxy", ProxyAddress(HTTP, "proxy", 80, "u@h", Secret("p:/ "))),
        ("http://u:p@ss:w@proxy", ProxyAddress(HTTP, "proxy", 80, "u", Secret("p@ss:w"))),
        ("http://%C3%A9:%C3%A8@proxy", ProxyAddress(HTTP, "proxy", 80, "é", Secret("è"))),
        ("socks5://user:pw@proxy:1", ProxyAddress(SOCKS5, "proxy", 1, "user", Secret("pw"))),
    ],
)
def test_a_url_names_a_proxy(url: str, address: ProxyAddress) -> None:
    assert parse_proxy(url) == address


@pytest.mark.parametrize(
    "scheme", ["https", "socks4", "socks4a", "socks", "ftp", "ws", "", "user:hidden@x"]
)
def test_another_scheme_is_an_error_that_lists_the_allowed_ones(scheme: str) -> None:
    with pytest.raises(InvalidSettings, match="allowed: http, socks5, socks5h") as caught:
        parse_proxy(f"{scheme}://user:hidden@proxy:3128")
    assert "hidden" not in str(caught.value)
    assert "user" not in str(caught.value)
    assert scheme in str(caught.value) or "@" in scheme


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http://:3128",
        "http://user:hidden@",
        "http://user:hidden@proxy:0",
        "http://user:hidden@proxy:65536",
        "http://user:hidden@proxy:123456",
        "http://user:hidden@proxy:port",
        "http://user:hidden@proxy:1:2",
        "http://user:hidden@pro xy",
        "http://user:hidden@[::1",
        "http://user:hidden@[proxy]",
        "http://user:hidden@[::g]",
        "http://user:hidden@proxy/path",
        "http://user:hidden@proxy/?hidden",
        "http://user:hidden@proxy#hidden",
        "http://user:hidd/en@proxy",
        "http://user:hidd?en@proxy",
        "http://user:hidd#en@proxy",
        "http://us%3Aer:hidden@proxy",
        "http://user:hidden%0A@proxy",
        "http://us%0Aer:hidden@proxy",
        "http://user:hidden%FF@proxy",
        "http://user:hidden\udcff@proxy",
        "http://us\udcffer@proxy",
        "http://pro\udcffxy",
        "http://proxy.example.com:3128:alice:hidden",
        "proxy.example.com:3128:alice:hidden",
        "http://alice:hidden",
        "alice:hidden:proxy:3128",
        "socks5://alice:hidden;proxy:1080",
        "http://alice:hidden%40proxy:3128",
        "http://alice%3Ahidden%40proxy:3128",
        "socks5://user@proxy",
        "socks5://:hidden@proxy",
        "socks5://user:hidden%C3%A9@proxy",
        f"socks5://user:{'hidden' * 50}@proxy",
    ],
)
def test_what_is_no_proxy_is_refused_without_its_credentials(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse_proxy(url)
    assert "hid" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_proxy_or_invalid(text: str) -> None:
    for url in (text, f"http://{text}", f"socks5://{text}", f"http://user:{text}@proxy"):
        try:
            address = parse_proxy(url)
        except InvalidSettings:
            continue
        bare = attrs.evolve(address, username=None, password=None)
        assert parse_proxy(str(address)) == bare


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("http", "proxy", 1), "ProxyScheme"),
        ((HTTP, None, 1), "host"),
        ((HTTP, "", 1), "host"),
        ((HTTP, "proxy", 0), r"1\.\.65535"),
        ((HTTP, "proxy", True), r"1\.\.65535"),
        ((HTTP, "proxy", "80"), r"1\.\.65535"),
        ((HTTP, "proxy", 1, 7), "user name"),
        ((HTTP, "proxy", 1, None, "pw"), "user name"),
        ((SOCKS5, "proxy", 1, 7, "pw"), "user name"),
        ((HTTP, "proxy", 1, "user", ""), "secret"),
    ],
)
def test_an_address_is_checked_when_it_is_made(arguments: Any, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        ProxyAddress(*arguments)


def test_no_text_form_of_an_address_shows_credentials() -> None:
    address = parse_proxy("http://api-key:hidden@[fe80::1]:3128")
    assert str(address) == "http://[fe80::1]:3128"
    assert repr(address) == (
        "ProxyAddress(scheme=<ProxyScheme.HTTP: 'http'>, host='fe80::1', port=3128, password=***)"
    )
    assert str(parse_proxy("socks5h://proxy")) == "socks5://proxy:1080"


def test_what_goes_over_the_wire_is_secret_too() -> None:
    assert parse_proxy("http://proxy").secrets == ()
    assert parse_proxy("http://key@proxy").secrets == (Secret("a2V5Og=="),)
    assert Secret("api-key-1") in parse_proxy("http://api-key-1@proxy").secrets
    assert Secret("api-key-1") in parse_proxy("socks5://api-key-1:pw@proxy").secrets
    both = parse_proxy("http://user:pw@proxy")
    assert both.basic_credentials == Secret("dXNlcjpwdw==")
    assert both.secrets == (Secret("pw"), Secret("dXNlcjpwdw=="))
    assert parse_proxy("http://é:è@proxy").basic_credentials == Secret("w6k6w6g=")
    assert parse_proxy("socks5://user:pw@proxy").secrets == (Secret("pw"),)


# --- the environment ------------------------------------------------------------------------


def named(environ: dict[str, str], url: str = "wss://gateway.example.com:18789") -> str | None:
    proxy = proxy_from_environment(parse_url(url)[0], environ)
    return None if proxy is None else proxy.host


def test_the_https_proxy_goes_first_for_ws_and_wss_alike() -> None:
    """RFC 6455, 4.1."""
    environ = {
        "https_proxy": "lower",
        "HTTPS_PROXY": "upper",
        "all_proxy": "lower-all",
        "ALL_PROXY": "upper-all",
        "http_proxy": "never",
        "HTTP_PROXY": "never",
    }
    for expected in ("lower", "upper", "lower-all", "upper-all"):
        assert named(environ) == expected
        assert named(environ, "ws://gateway.example.com") == expected
        del environ[next(iter(environ))]
    assert named(environ) is None
    assert named({}) is None


def test_an_empty_name_counts_as_not_set() -> None:
    assert named({"https_proxy": "", "HTTPS_PROXY": " ", "ALL_PROXY": "socks5://all"}) == "all"
    assert named(PROXY | {"no_proxy": "", "NO_PROXY": "*"}) is None


def test_a_proxy_that_cannot_work_is_told_with_its_name() -> None:
    with pytest.raises(InvalidSettings, match=r"^ALL_PROXY: .*not known: https; allowed"):
        named({"ALL_PROXY": "https://proxy"})


@pytest.mark.parametrize(
    "url",
    ["ws://localhost", "wss://a.localhost.", "ws://127.0.0.1:1", "ws://[::1]", "ws://127.9.9.9"],
)
def test_loopback_is_never_proxied(url: str) -> None:
    assert named(PROXY, url) is None
    assert named({"https_proxy": "ftp://not-even-looked-at"}, url) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "exempt"),
    [
        ("*", "wss://gateway.example.com", True),
        ("other, *", "wss://gateway.example.com", True),
        ("*:443", "wss://gateway.example.com", True),
        ("*:443", "ws://10.0.0.1", False),
        ("*:80", "ws://10.0.0.1", True),
        ("bücher.example", "wss://a.bücher.example", True),
        (".BÜCHER.example", "wss://xn--bcher-kva.example", True),
        (f"{'ü' * 99}.example", "wss://example", False),
        ("10.0.0.0/8", "ws://[::ffff:10.0.0.1]", True),
        ("::ffff:10.0.0.1", "ws://[::ffff:10.0.0.1]", True),
        ("11.0.0.0/8:80", "ws://[::ffff:10.0.0.1]", False),
        ("example.com", "wss://example.com", True),
        ("example.com", "wss://gateway.example.com", True),
        (".example.com", "wss://gateway.example.com", True),
        (".example.com", "wss://example.com", True),
        ("*.example.com", "wss://gateway.example.com", True),
        ("Example.COM.", "wss://gateway.EXAMPLE.com.", True),
        ("example.com", "wss://notexample.com", False),
        ("gateway.example.com", "wss://example.com", False),
        ("com.", "wss://example.org", False),
        ("a,b c;d", "wss://d", False),
        (" a ,, example.com", "wss://example.com", True),
        ("a example.com", "wss://example.com", True),
        (".", "wss://example.com", False),
        (":443", "wss://example.com", False),
        ("example.com:443", "wss://example.com", True),
        ("example.com:443", "ws://example.com", False),
        ("example.com:18789", "ws://gateway.example.com:18789", True),
        ("example.com:x", "ws://example.com", False),
        ("10.0.0.1", "ws://10.0.0.1", True),
        ("10.0.0.1:80", "ws://10.0.0.1", True),
        ("10.0.0.1:81", "ws://10.0.0.1", False),
        ("10.0.0.1", "ws://10.0.0.11", False),
        ("0.0.1", "ws://10.0.0.1", False),
        ("10.0.0.0/8", "ws://10.200.0.1", True),
        ("10.1.2.3/8", "ws://10.200.0.1", True),
        ("10.0.0.0/8", "ws://11.0.0.1", False),
        ("10.0.0.0/8", "ws://host", False),
        ("10.0.0.0/8:80", "ws://10.0.0.1", True),
        ("10.0.0.0/99", "ws://10.0.0.1", False),
        ("fd00::/8", "ws://[fd00::1]", True),
        ("fd00::/8", "ws://10.0.0.1", False),
        ("fe80::/10", "ws://[fe80::1%25eth0]", True),
        ("FD00:0::1", "ws://[fd00::1]", True),
        ("[fd00::1]", "ws://[fd00::1]", True),
        ("[fd00::1]:80", "ws://[fd00::1]", True),
        ("[fd00::1]:81", "ws://[fd00::1]", False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_blocks(
    no_proxy: str, url: str, exempt: bool
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert (named(PROXY | {name: no_proxy}, url) is None) is exempt
