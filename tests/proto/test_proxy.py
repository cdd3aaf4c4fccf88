"""HTTP CONNECT fed whole and byte by byte, and how the refusals of proxies are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.errors import FaultKind, InvalidSettings
from butter_proto.faults import fault_of
from butter_proto.proxy import (
    MAX_HEAD,
    ProxyFailed,
    ProxyRefused,
    Tunnel,
    socks_fault,
    unreachable,
)
from butter_proto.proxy_address import ProxyAddress, parse_proxy

PROXY = parse_proxy("http://proxy:3128")
WITH_PASSWORD = parse_proxy("http://user:hidden@proxy:3128")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def tunnel_to(host: str = "gateway.example.com", proxy: ProxyAddress = PROXY) -> Tunnel:
    tunnel = Tunnel(proxy, host, 443)
    assert tunnel.data_to_send() != b""
    return tunnel


def fed(*chunks: bytes, proxy: ProxyAddress = PROXY) -> Tunnel:
    tunnel = tunnel_to(proxy=proxy)
    for chunk in chunks:
        tunnel.receive_data(chunk)
    return tunnel


def both_ways(data: bytes, proxy: ProxyAddress = PROXY) -> Tunnel:
    """Feed an answer whole and byte by byte; the same must come of it."""
    whole = fed(data, proxy=proxy)
    bytewise = fed(*(data[i : i + 1] for i in range(len(data))), proxy=proxy)
    assert (whole.open, repr(whole.fault)) == (bytewise.open, repr(bytewise.fault))
    return whole


def assert_failed(tunnel: Tunnel, text: str, kind: type[ProxyFailed] = ProxyFailed) -> None:
    assert not tunnel.open
    assert type(tunnel.fault) is kind
    assert str(tunnel.fault) == f"http://proxy:3128: {text}"


# --- the request ----------------------------------------------------------------------------


def test_the_request_names_host_and_port_and_is_given_once() -> None:
    tunnel = Tunnel(PROXY, "gateway.example.com", 443)
    assert tunnel.data_to_send() == (
        b"CONNECT gateway.example.com:443 HTTP/1.1\r\nHost: gateway.example.com:443\r\n\r\n"
    )
    assert tunnel.data_to_send() == b""
    assert not tunnel.open
    assert tunnel.fault is None


def test_an_ipv6_address_stands_in_brackets() -> None:
    request = Tunnel(PROXY, "fd00::1", 18789).data_to_send()
    assert request.startswith(b"CONNECT [fd00::1]:18789 HTTP/1.1\r\nHost: [fd00::1]:18789\r\n")


def test_the_zone_of_an_address_is_not_told_to_the_proxy() -> None:
    request = Tunnel(PROXY, "fe80::1%eth0", 18789).data_to_send()
    assert request.startswith(b"CONNECT [fe80::1]:18789 HTTP/1.1\r\nHost: [fe80::1]:18789\r\n")


def test_credentials_are_sent_unasked() -> None:
    request = Tunnel(WITH_PASSWORD, "gateway", 443).data_to_send()
    assert b"\r\nProxy-Authorization: Basic dXNlcjpoaWRkZW4=\r\n" in request


def test_a_proxy_that_is_no_http_proxy_or_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="no HTTP proxy"):
        Tunnel(parse_proxy("socks5://proxy"), "gateway", 443)
    with pytest.raises(InvalidSettings, match="not a host name"):
        Tunnel(PROXY, "gateway\r\nX-Injected", 443)


# --- the answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ESTABLISHED,
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 299 Fine\nVia: old\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",  # RFC 9110, 9.3.6: ignored
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ESTABLISHED,
    ],
)
def test_any_2xx_opens_the_tunnel(answer: bytes) -> None:
    tunnel = both_ways(answer)
    assert tunnel.open
    assert tunnel.fault is None


def test_half_an_answer_is_waited_for() -> None:
    tunnel = fed(ESTABLISHED[:-1])
    assert not tunnel.open
    assert tunnel.fault is None


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refusal_is_told_with_status_and_reason(status: int) -> None:
    answer = f"HTTP/1.1 {status} Not you\r\nContent-Length: 5\r\n\r\nsorry".encode()
    assert_failed(both_ways(answer), f"HTTP {status} Not you", ProxyRefused)


@pytest.mark.parametrize("status", [301, 400, 404, 405, 502, 503, 504, 999])
def test_any_other_answer_is_a_failure(status: int) -> None:
    answer = f"HTTP/1.1 {status} No\r\n\r\n".encode()
    assert_failed(both_ways(answer), f"HTTP {status} No")


def test_a_refusal_needs_no_reason() -> None:
    assert_failed(both_ways(b"HTTP/1.1 407\r\n\r\n"), "HTTP 407", ProxyRefused)


def test_a_reason_is_told_printable_and_short() -> None:
    answer = b"HTTP/1.1 502 \xe9\t" + b"x" * 1000 + b"\r\n\r\n"
    assert_failed(both_ways(answer), "HTTP 502 ??" + "x" * 89)


def test_a_reason_that_echoes_the_credentials_is_told_without_them() -> None:
    answer = b"HTTP/1.1 407 Basic dXNlcjpoaWRkZW4= hidden\r\n\r\n"
    assert_failed(both_ways(answer, WITH_PASSWORD), "HTTP 407 Basic *** ***", ProxyRefused)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_reason_is_told_without_credentials_that_are_not_ascii(encoding: str) -> None:
    proxy = parse_proxy("http://long-user:p%C3%A4ssword@proxy:3128")
    answer = "HTTP/1.1 407 not long-user, pässword\r\n\r\n".encode(encoding)
    assert_failed(both_ways(answer, proxy), "HTTP 407 not ***, ***", ProxyRefused)


def test_what_socks_says_is_told_without_the_user_name_too() -> None:
    told = socks_fault(parse_proxy("socks5://long-user:pw@proxy"), "no long-user", None)
    assert str(told) == "socks5://proxy:1080: no ***"


def test_a_secret_that_the_limit_would_cut_is_taken_out_first() -> None:
    answer = b"HTTP/1.1 407 " + b"x" * 89 + b"hidden\r\n\r\n"
    told = "HTTP 407 " + "x" * 89 + "**"
    assert_failed(both_ways(answer, WITH_PASSWORD), told, ProxyRefused)


@pytest.mark.parametrize("more", [b"x", b"\x16\x03\x03", b"x" * 2 * MAX_HEAD])
def test_whoever_speaks_right_after_the_answer_spoke_out_of_turn(more: bytes) -> None:
    assert_failed(both_ways(ESTABLISHED + more), "more came than the answer")


def test_an_answer_that_just_fits_must_be_the_last_thing_too() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: "
    fitting = head + b"x" * (MAX_HEAD - len(head) - 4) + b"\r\n\r\n"
    assert len(fitting) == MAX_HEAD
    assert both_ways(fitting).open
    assert_failed(both_ways(fitting + b"x"), "more came than the answer")


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD,
        b"HTTP/1.1 " + b"2" * MAX_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 4000,
    ],
)
def test_an_answer_has_a_limit_informational_ones_included(flood: bytes) -> None:
    assert_failed(both_ways(flood), f"the answer has over {MAX_HEAD} bytes")


@pytest.mark.parametrize("noise", [b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0-x\r\n", b"\x05\xff"])
def test_another_protocol_is_found_at_its_first_byte(noise: bytes) -> None:
    assert_failed(fed(noise[:1]), "the answer is no HTTP")
    assert_failed(both_ways(noise), "the answer is no HTTP")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 407 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_bad_http_is_told_without_quoting_it(answer: bytes) -> None:
    assert_failed(both_ways(answer), "the answer is no valid HTTP")


@pytest.mark.parametrize("before", [b"", b"HT", ESTABLISHED[:-1], b"HTTP/1.1 100 Go\r\n\r\n"])
def test_the_end_before_the_answer_is_a_failure(before: bytes) -> None:
    tunnel = tunnel_to()
    if before:
        tunnel.receive_data(before)
    tunnel.receive_data(b"")
    assert_failed(tunnel, "the stream ended before the answer")


def test_the_end_right_after_the_answer_is_a_failure() -> None:
    assert_failed(fed(ESTABLISHED, b""), "the stream ended")


def test_after_a_failure_nothing_changes() -> None:
    assert_failed(fed(b"x", ESTABLISHED, b""), "the answer is no HTTP")


@given(
    st.lists(
        st.binary(max_size=50)
        | st.sampled_from(
            [
                *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"407", b"100", b"101", b" OK", b"\r\n"),
                *(b"\r\n\r\n", b"\n\n", b":", b" ", b"Content-Length: ", b"9" * 5000, b"chunked"),
                *(b"Transfer-Encoding: ", b"Upgrade: websocket\r\n", b"Connection: close\r\n"),
            ]
        ),
        max_size=12,
    )
)
def test_no_bytes_raise_and_cutting_them_changes_nothing(parts: list[bytes]) -> None:
    tunnel = both_ways(b"".join(parts) or b"x")
    tunnel.receive_data(b"")
    assert tunnel.fault is not None
    assert not tunnel.open


# --- what else is told ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ProxyFailed("no"), FaultKind.PROXY), (ProxyRefused("no"), FaultKind.PROXY_REFUSED)],
)
def test_a_driver_knows_both_whatever_caused_them(error: ProxyFailed, kind: FaultKind) -> None:
    error.__cause__ = ConnectionRefusedError("refused")
    assert fault_of(error).kind is kind
    assert fault_of(error).text == "no"


def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    error = OSError("all attempts failed")
    error.__cause__ = ExceptionGroup("", [ConnectionRefusedError(111, "Connection refused")])
    told = unreachable(WITH_PASSWORD, error)
    assert str(told) == ("http://proxy:3128: connection refused: [Errno 111] Connection refused")
    assert fault_of(told).kind is FaultKind.PROXY


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("Connection not allowed by ruleset", 2, ProxyRefused),
        ("No acceptable authentication methods were offered", None, ProxyRefused),
        ("Unexpected SOCKS authentication method: 2", None, ProxyRefused),
        ("Username and password authentication failure", None, ProxyRefused),
        ("Host unreachable", 4, ProxyFailed),
        ("Connection closed unexpectedly", None, ProxyFailed),
    ],
)
def test_socks_tells_refusals_from_failures(
    words: str, code: int | None, kind: type[ProxyFailed]
) -> None:
    told = socks_fault(parse_proxy("socks5://user:hidden@proxy"), words, code)
    assert type(told) is kind
    assert str(told) == f"socks5://proxy:1080: {words}"
