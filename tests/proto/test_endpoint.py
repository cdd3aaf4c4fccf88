"""A gateway's URL: what passes, what is refused, and what is never shown."""

from __future__ import annotations

import re
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.endpoint import Endpoint, Reach, parse_url
from butter_proto.errors import InvalidSettings

TOKEN = "QQtokenQQ"  # no host can hold it: hosts are lower-case

hosts = st.sampled_from(
    ["localhost", "10.0.0.7", "[::1]", "[fe80::1%25eth0]", "gw.example.com", "bücher.example"]
)
bad_hosts = st.sampled_from(["", "a b", "[::1]x", "[::1", "[v1.x]", "-a", "a..b", "\u2100", "\x00"])
ports = st.sampled_from(["", ":", ":1", ":18789", ":65535"])
bad_ports = st.sampled_from([":0", ":65536", ":x", ":-1", ":٣", ":1:2"])
paths = st.sampled_from(["", "/", "/a/b", "/ü /%41", "//x", "/a;b=c"])
queries = st.lists(st.sampled_from(["a", "a=1", "b=%20", "=", "é=ü", "x==y", ""]), max_size=4)
token_parts = st.sampled_from([f"token={TOKEN}", f"%74oken={TOKEN}", "token=", f"token=x{TOKEN}@y"])
anything = st.text(st.characters(codec=None))  # lone surrogates too


@st.composite
def good_urls(draw: st.DrawFn) -> str:
    """Draw a URL that passes, with or without a token in its query."""
    scheme = draw(st.sampled_from(["ws", "wss", "WS", "wSs"]))
    parts = draw(st.permutations(draw(queries) + draw(st.lists(token_parts, max_size=2))))
    return f"{scheme}://{draw(hosts)}{draw(ports)}{draw(paths)}?{'&'.join(parts)}"


@st.composite
def urls_with_one_fault(draw: st.DrawFn) -> str:
    """Draw a URL with a token and exactly one thing that makes it unusable."""
    fault = draw(st.sampled_from(["scheme", "user", "host", "port", "fragment", "text"]))
    scheme = draw(st.sampled_from(["http", "", "wsx"])) if fault == "scheme" else "wss"
    user = draw(st.sampled_from([f"{TOKEN}@", f"u:{TOKEN}@", f"u:{TOKEN}?@", f"u:{TOKEN}#@"]))
    host = draw(bad_hosts if fault == "host" else hosts)
    port = draw(bad_ports if fault == "port" else ports)
    query = "&".join(draw(st.permutations([*draw(queries), draw(token_parts)])))
    return (
        f"{scheme}://{user if fault == 'user' else ''}{host}{port}/?{query}"
        f"{f'#token={TOKEN}' if fault == 'fragment' else ''}{chr(0xD800) * (fault == 'text')}"
    )


def parsed(url: str) -> Endpoint:
    return parse_url(url)[0]


def refusal_of(url: str) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        parse_url(url)
    return caught.value


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://127.0.0.1:18789", Endpoint("127.0.0.1", 18789, False, "/")),
        ("wss://gw.example.com/ws", Endpoint("gw.example.com", 443, True, "/ws")),
        ("ws://gw", Endpoint("gw", 80, False, "/")),
        ("ws://gw:/", Endpoint("gw", 80, False, "/")),
        ("WSS://GW.Example.Com:8443", Endpoint("gw.example.com", 8443, True, "/")),
        ("ws://[::1]:7/x", Endpoint("::1", 7, False, "/x")),
        ("ws://[0:0:0:0:0:0:0:1]", Endpoint("::1", 80, False, "/")),
        ("ws://[fe80::1%25eth0]", Endpoint("fe80::1%eth0", 80, False, "/")),
        ("ws://[fe80::1%eth0]", Endpoint("fe80::1%eth0", 80, False, "/")),
        ("ws://[fe80::1%25]", Endpoint("fe80::1%25", 80, False, "/")),
        ("ws://bücher.example", Endpoint("xn--bcher-kva.example", 80, False, "/")),
        ("ws://gw.example.com./", Endpoint("gw.example.com.", 80, False, "/")),
        ("ws://gw/ü x", Endpoint("gw", 80, False, "/%C3%BC%20x")),
        ("ws://gw/%41?q=%20+&sig=a%2Fb", Endpoint("gw", 80, False, "/%41?q=%20+&sig=a%2Fb")),
    ],
)
def test_a_url_says_where_to_dial_and_what_to_ask_for(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == (endpoint, None)


@pytest.mark.parametrize(
    ("query", "target", "token"),
    [
        ("?token=abc", "/", "abc"),
        ("?token=", "/", None),
        ("?token", "/", None),
        ("?token=a&token=b", "/", "b"),
        ("?token=a&token=", "/", "a"),
        ("?%74oken=a%2Bb%3D", "/", "a+b="),
        ("?x=1&token=abc&y=2", "/?x=1&y=2", "abc"),
        ("?Token=abc", "/?Token=abc", None),
        ("?a&&b=&", "/?a&b=", None),
        ("?a=ü b", "/?a=%C3%BC%20b", None),
        ("?", "/", None),
    ],
)
def test_only_the_token_leaves_the_query(query: str, target: str, token: str | None) -> None:
    endpoint, found = parse_url("ws://gw" + query)
    assert (endpoint.target, found) == (target, token)


@pytest.mark.parametrize(
    ("endpoint", "host_header"),
    [
        (Endpoint("gw", 80, False), "gw"),
        (Endpoint("gw", 443, False), "gw:443"),
        (Endpoint("gw", 443, True), "gw"),
        (Endpoint("gw", 80, True), "gw:80"),
        (Endpoint("::1", 80, False), "[::1]"),
        (Endpoint("::1", 18789, False), "[::1]:18789"),
        (Endpoint("GW.localhost", 80, False), "GW.localhost"),
    ],
)
def test_the_host_header_leaves_the_default_port_out(endpoint: Endpoint, host_header: str) -> None:
    assert endpoint.host_header == host_header
    assert endpoint.url == f"{endpoint.scheme}://{host_header}/"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://gw:18789/", "'http://gw:18789/': a gateway URL starts with ws:// or wss://"),
        ("gw:18789", "a gateway URL starts with"),
        ("", "a gateway URL starts with"),
        ("ws://", "names no host"),
        ("ws:///path", "names no host"),
        ("ws://:80/", "names no host"),
        ("ws://me:pw@gw/", "'gw/': the gateway takes no user name"),
        ("ws://me@gw/", "'gw/': the gateway takes no user name"),
        ("ws://gw/#top", "'ws://gw/': a WebSocket URL has no fragment"),
        ("ws://gw:0/", "a port is a number in 1..65535"),
        ("ws://gw:65536/", "a port is a number in 1..65535"),
        ("ws://gw:http/", "a port is a number in 1..65535"),
        ("ws://[::1/", "is not a URL"),
        ("ws://[::1]x/", "is not a URL"),
        ("ws://[v1.x]/", "is not a URL"),
        ("ws://gw:1:2/", "is not a URL"),
        ("ws://gw/\ud800", "is not a URL"),
        ("ws://[1::2::3]/", "is not a"),  # the words depend on Python's patch version
        ("ws://[fe80::1%]/", "is not a"),
        ("ws://[v1.a:b]/", "is not an IPv6 address"),
        ("ws://[fe80::1%a b]/", "is not an IPv6 address"),
        ("ws://[fe80::1%é]/", "is not an IPv6 address"),
        ("ws://a..b/", "'a..b' is not a host name"),
        ("ws://-a/", "is not a host name"),
        ("ws://a-/", "is not a host name"),
        ("ws://a b/", "is not a host name"),
        ("ws://a%20b/", "is not a host name"),
        (f"ws://{'a' * 64}/", "is not a host name"),
        (f"ws://{'.'.join(['a' * 50] * 5)}/", "is not a host name"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_the_reason(url: str, words: str) -> None:
    assert words in str(refusal_of(url))


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.9.8.7", Reach.LOOPBACK),
        ("[::1]", Reach.LOOPBACK),
        ("127.255.255.255", Reach.LOOPBACK),
        ("[::ffff:127.0.0.1]", Reach.LOOPBACK),
        ("[::FFFF:7F00:1]", Reach.LOOPBACK),
        ("[::1%25lo]", Reach.LOOPBACK),
        ("localhost", Reach.LOOPBACK),
        ("LOCALHOST.", Reach.LOOPBACK),
        ("gw.localhost", Reach.LOOPBACK),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("172.31.255.255", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("169.254.0.9", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("100.127.255.254", Reach.PRIVATE),
        ("[fe80::1]", Reach.PRIVATE),
        ("[fe80::1%25eth0]", Reach.PRIVATE),
        ("[FEBF::1]", Reach.PRIVATE),
        ("[fd00::1]", Reach.PRIVATE),
        ("[fc00::1]", Reach.PRIVATE),
        ("[::ffff:100.64.0.1]", Reach.PRIVATE),
        ("[::ffff:169.254.1.1]", Reach.PRIVATE),
        ("nas.local", Reach.PRIVATE),
        ("NAS.Local.", Reach.PRIVATE),
        ("nas。local", Reach.PRIVATE),
        ("gw.tail1234.ts.net", Reach.PRIVATE),
        ("8.8.8.8", Reach.PUBLIC),
        ("100.63.255.255", Reach.PUBLIC),
        ("100.128.0.1", Reach.PUBLIC),
        ("[2606:4700::1]", Reach.PUBLIC),
        ("[::ffff:8.8.8.8]", Reach.PUBLIC),
        ("9.255.255.255", Reach.PUBLIC),
        ("172.15.255.255", Reach.PUBLIC),
        ("172.32.0.1", Reach.PUBLIC),
        ("169.253.0.1", Reach.PUBLIC),
        ("0.0.0.0", Reach.PUBLIC),
        ("192.0.2.1", Reach.PUBLIC),  # from here on Python says "private"
        ("198.18.0.1", Reach.PUBLIC),
        ("203.0.113.1", Reach.PUBLIC),
        ("240.0.0.1", Reach.PUBLIC),
        ("255.255.255.255", Reach.PUBLIC),
        ("[::]", Reach.PUBLIC),
        ("[2001:db8::1]", Reach.PUBLIC),
        ("[2001::1]", Reach.PUBLIC),
        ("[fec0::1]", Reach.PUBLIC),
        ("[64:ff9b::10.0.0.1]", Reach.PUBLIC),
        ("[2002:7f00:1::]", Reach.PUBLIC),
        ("[::127.0.0.1]", Reach.PUBLIC),
        ("127.1", Reach.PUBLIC),  # no address here, whatever a resolver makes of it
        ("2130706433", Reach.PUBLIC),
        ("gateway", Reach.PUBLIC),
        ("local", Reach.PUBLIC),
        ("ts.net", Reach.PUBLIC),
        ("gw.example.com", Reach.PUBLIC),
        ("localhost.example.com", Reach.PUBLIC),
        ("notlocalhost", Reach.PUBLIC),
        ("notlocal", Reach.PUBLIC),
        ("127.0.0.1.example.com", Reach.PUBLIC),
        ("evilts.net", Reach.PUBLIC),
    ],
)
def test_how_far_a_connection_travels_is_judged_by_the_hosts_text(host: str, reach: Reach) -> None:
    assert parsed(f"wss://{host}/").reach is reach


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://gw:18789/a", "ws://gw:18789/a"),
        ("wss://gw/?key=value&b=&token=t", "wss://gw/?key=***&b=***"),
        ("wss://gw/?capability-without-a-name&b=1", "wss://gw/?***&b=***"),
        ("wss://gw/?a%0Ab=1", "wss://gw/?a%0Ab=***"),
    ],
)
def test_the_text_form_hides_every_value_of_the_query(url: str, shown: str) -> None:
    assert str(parsed(url)) == shown


def test_the_repr_shows_no_query_at_all() -> None:
    assert repr(parsed("ws://gw/a?b=c")) == "Endpoint(host='gw', port=80, tls=False)"


@given(
    url=st.builds("{}{}".format, st.sampled_from(["", "ws://", "ws://h/", "ws://h/?"]), anything)
)
def test_any_text_is_an_endpoint_or_invalid_settings(url: str) -> None:
    try:
        endpoint, _ = parse_url(url)
    except InvalidSettings:
        return
    # an endpoint is fit for a request line and for a log, whatever it was made from
    assert re.fullmatch(r"/[!-~]*", endpoint.target)
    assert "#" not in endpoint.target
    assert re.fullmatch(r"[!-~]+", endpoint.host_header)
    assert re.fullmatch(r"wss?://[!-~]+", str(endpoint))
    assert 1 <= endpoint.port <= 65535


@given(url=good_urls())
def test_a_token_in_the_url_is_in_no_text_form_of_the_endpoint(url: str) -> None:
    endpoint, token = parse_url(url)
    assert (token is not None) == (TOKEN in url)
    for text in (str(endpoint), repr(endpoint), endpoint.url, endpoint.target):
        assert TOKEN not in text


@given(url=good_urls())
def test_the_url_of_an_endpoint_means_the_same_endpoint_without_a_token(url: str) -> None:
    endpoint, _ = parse_url(url)
    assert parse_url(endpoint.url) == (endpoint, None)


@given(token=st.text(min_size=1))
def test_any_token_survives_its_way_through_a_url(token: str) -> None:
    assert parse_url(f"ws://gw/?a=1&token={quote(token, safe='')}")[1] == token


@given(url=urls_with_one_fault())
def test_no_refusal_shows_a_token_or_a_password(url: str) -> None:
    refusal = refusal_of(url)
    for text in (str(refusal), repr(refusal), "".join(traceback.format_exception(refusal))):
        assert TOKEN not in text


def test_a_target_that_no_head_can_hold_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="8192"):
        parse_url("ws://host/" + "x" * 9000)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://Gateway.local/", "ws://gateway.local:80"),
        ("wss://gateway.local.:18789/a?b=c", "wss://gateway.local:18789"),
        ("ws://[::1]", "ws://[::1]:80"),
    ],
)
def test_an_origin_names_scheme_host_and_port(url: str, origin: str) -> None:
    assert parse_url(url)[0].origin == origin


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("[::ffff:10.0.0.1]", "ws://10.0.0.1:80"),
        ("[::FFFF:a00:1]", "ws://10.0.0.1:80"),
        ("[::ffff:10.0.0.1%25eth0]", "ws://10.0.0.1:80"),
        ("[fe80::1%25eth0]", "ws://[fe80::1%eth0]:80"),
    ],
)
def test_an_origin_is_the_same_text_on_every_python(host: str, origin: str) -> None:
    assert parsed(f"ws://{host}").origin == origin


@pytest.mark.parametrize(
    "host",
    ["gw\r\nX-Injected: 1\r\nA: b", "gw\n", "a b", "gw/", "u@gw", "gw:80", "[::1]", "", None, 5],
)
def test_an_endpoint_that_a_caller_makes_has_a_host(host: Any) -> None:
    with pytest.raises(InvalidSettings, match=r"host|IPv6"):
        Endpoint(host, 443, tls=True)


def test_the_host_of_an_endpoint_is_ascii() -> None:
    assert Endpoint("bücher.example", 443, tls=True).host == "xn--bcher-kva.example"
    assert Endpoint("0:0::1", 443, tls=True).host == "::1"


@pytest.mark.parametrize("port", [0, -1, 65536, True, "80", None, 80.0])
def test_an_endpoint_that_a_caller_makes_has_a_port(port: Any) -> None:
    with pytest.raises(InvalidSettings, match=r"1\.\.65535"):
        Endpoint("gw", port, tls=True)


@pytest.mark.parametrize("target", ["", "x", "@evil/", "/a b", "/\r\nX: y", "/\n", "/é", "/\x7f"])
def test_an_endpoint_that_a_caller_makes_has_a_target_that_a_line_can_hold(target: str) -> None:
    with pytest.raises(InvalidSettings, match="request target"):
        Endpoint("gw", 443, tls=True, target=target)


def test_what_looks_like_an_option_is_not_repeated() -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse_url("--token=QQ-s3cret-QQ")
    assert str(caught.value) == "'--token': a gateway URL starts with ws:// or wss://"
