"""What a pool is told of one gateway, and what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from butter_proto import Endpoint, InvalidSettings, Pool, PoolGateway, Secret, Settings
from butter_proto.pool_gateway import listed, named, prepared
from tests.proto.pool_scenario import PoolScenario, limited, url_of

POOL = Settings(token="of the pool", password="too")


def token_in(settings: Settings) -> str | None:
    return None if settings.token is None else settings.token.reveal()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://a"},
        {"url": 7},
        {"url": "ws://a", "name": ""},
        {"url": "ws://a", "name": 7},
        {"url": "ws://a", "priority": True},
        {"url": "ws://a", "priority": 1.5},
    ],
)
def test_what_cannot_work_is_refused_where_it_is_said(wrong: dict[str, Any]) -> None:
    url = wrong.pop("url")
    with pytest.raises(InvalidSettings):
        PoolGateway(url, **wrong)


def test_one_url_is_no_list_of_gateways() -> None:
    assert listed(["ws://a"]) == ["ws://a"]
    with pytest.raises(InvalidSettings, match="a list of gateways"):
        listed("ws://a")


def test_its_proxy_is_that_of_its_own_settings_and_loopback_has_none() -> None:
    settings = Settings(proxy="http://proxy:3128")
    assert PoolGateway("ws://10.0.0.1").proxy is None
    assert PoolGateway("ws://10.0.0.1", settings=settings).proxy == settings.proxy
    assert PoolGateway("ws://127.0.0.1", settings=settings).proxy is None


@pytest.mark.parametrize(
    ("gateway", "token"),
    [
        (PoolGateway("ws://a"), "of the pool"),
        (PoolGateway("ws://a", settings=Settings()), None),
        (PoolGateway("ws://a?token=url"), "url"),
        (PoolGateway("ws://a?token=url", settings=Settings()), "url"),
        (PoolGateway("ws://a?token=url", settings=Settings(token="own settings")), "own settings"),
        (PoolGateway("ws://a?token=url", token="own", settings=Settings(token="no")), "own"),
        (PoolGateway(Endpoint("a", 1, False), token="own"), "own"),
        (PoolGateway(Endpoint("a", 1, False)), "of the pool"),
    ],
)
def test_the_nearest_token_is_a_gateways_own(gateway: PoolGateway, token: str | None) -> None:
    settings = gateway.settings_in(POOL)
    assert token_in(settings) == token
    assert (settings.password is None) == (gateway.settings is not None)
    settled = prepared(gateway, None, "of the pool", None)
    assert settled.settings is not None
    assert token_in(settled.settings) == token or (token is None and gateway.settings is not None)


def test_a_url_is_prepared_as_the_gateway_that_it_names() -> None:
    settled = prepared("ws://a.local", POOL, None, {})
    assert settled.endpoint.host == "a.local"
    assert settled.settings == POOL


def test_a_name_is_its_own_or_its_address_with_a_number_where_that_is_taken() -> None:
    assert named(PoolGateway("ws://a"), ()) == "a:80"
    assert named(PoolGateway("ws://a"), {"a:80", "a:80#2"}) == "a:80#3"
    assert named(PoolGateway("ws://a", name="own"), {"a:80"}) == "own"
    with pytest.raises(InvalidSettings, match="'own'"):
        named(PoolGateway("ws://a", name="own"), {"own"})


def test_the_same_gateway_is_the_same_origin_and_path() -> None:
    same = PoolGateway("ws://A.local:80/x?key=1&token=t").place
    assert same == PoolGateway(Endpoint("a.local", 80, False, "/x")).place
    assert same != PoolGateway("ws://a.local:80/y").place
    assert same != PoolGateway("wss://a.local:80/x").place


def test_neither_a_token_nor_a_query_is_shown() -> None:
    gateway = PoolGateway("ws://a.local?token=QQ-1&key=QQ-2", token=Secret("QQ-3"))
    assert "a.local" in repr(gateway)
    assert "QQ-" not in repr(gateway)
    pool = Pool([gateway], random=lambda: 0.0, entropy=bytes)
    assert "a.local" in pool.health()[0].url
    assert "QQ-" not in repr(pool.health())


def test_connections_to_one_gateway_share_its_places_in_flight() -> None:
    scenario = PoolScenario("a a2 b", limited(max_in_flight=3))
    scenario.slow()
    for _ in range(3):
        scenario.request("slow", gateway="a")
        scenario.request("slow", gateway="a2")
    assert len(scenario.seen("a", "slow")) == 3
    for _ in range(3):
        scenario.request("slow", gateway="b")
    assert len(scenario.seen("b", "slow")) == 3
    scenario.run(5.0)
    assert len(scenario.seen("a", "slow")) == 6


def test_limits_of_requests_are_the_pools_and_not_a_gateways_own() -> None:
    narrow = limited(max_in_flight=1, max_pending=1, max_queued=1, max_events=1)
    scenario = PoolScenario("")
    url = url_of("a")
    scenario.machine.add(PoolGateway(url, settings=narrow), scenario.now)
    scenario.run()
    scenario.slow()
    for _ in range(3):
        scenario.request("slow")
    assert len(scenario.seen("a", "slow")) == 3


def test_a_pool_speaks_json_rpc_or_does_not() -> None:
    with pytest.raises(InvalidSettings, match="JSON-RPC"):
        Pool(
            [PoolGateway("ws://a.local", settings=Settings(json_rpc=True))],
            random=lambda: 0.0,
            entropy=bytes,
        )
