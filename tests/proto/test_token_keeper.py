"""What an adapter's worker does about a device's tokens."""

from __future__ import annotations

from random import Random
from typing import Final

from butter_proto import (
    Connector,
    Device,
    DeviceToken,
    Ending,
    EndKind,
    MemoryStore,
    Pool,
    Secret,
    TokenKey,
    events,
)
from butter_proto.pool_gateway import PoolGateway, prepared
from butter_proto.token_keeper import (
    Keepable,
    TokenKeeper,
    complaint,
    keeper_for,
    pool_keeper_for,
    pool_keepers_for,
    task_for,
)
from tests.proto.operations import Hashing

KEY: Final = TokenKey("ws://127.0.0.1:18789", "d" * 64, "cli", "operator")
OWN: Final = DeviceToken(Secret("the-operators"), ("operator.read",))
NODES: Final = DeviceToken(Secret("the-nodes"), ())
ENDING: Final = Ending(EndKind.CONNECT_REFUSED)


def connector(signer: Hashing | None) -> Connector:
    source = Random(7)
    return Connector(
        "ws://127.0.0.1:18789", random=source.random, entropy=source.randbytes, signer=signer
    )


def test_every_token_is_kept_under_its_own_role() -> None:
    store = MemoryStore()
    keeper = TokenKeeper(store, KEY)
    assert keeper.load() is None
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN), ("node", NODES))))
    assert keeper.load() == OWN
    assert store.load(TokenKey(KEY.origin, KEY.device_id, KEY.client_id, "node")) == NODES


def test_a_refused_token_is_forgotten_and_nothing_else() -> None:
    store = MemoryStore()
    keeper = TokenKeeper(store, KEY)
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN), ("node", NODES))))
    older = events.DeviceTokenRejected(1, "operator", Secret("an older one"), ENDING)
    assert keeper.keep(older) == OWN
    assert keeper.load() == OWN
    assert keeper.keep(events.DeviceTokenRejected(1, "operator", OWN.token, ENDING)) is None
    assert keeper.load() is None

    class Stubborn(MemoryStore):
        def forget(self, key: TokenKey, token: Secret) -> None:
            pass

    stubborn = TokenKeeper(Stubborn(), KEY)
    stubborn.keep(events.DeviceTokenIssued(1, (("operator", OWN),)))
    assert stubborn.keep(events.DeviceTokenRejected(1, "operator", OWN.token, ENDING)) is None
    assert store.load(TokenKey(KEY.origin, KEY.device_id, KEY.client_id, "node")) == NODES


def test_the_gateways_clock_decides_only_between_two_programs() -> None:
    store = MemoryStore()
    keeper, other = TokenKeeper(store, KEY), TokenKeeper(store, KEY)
    later = DeviceToken(Secret("a-later-one"), (), 2000)
    earlier = DeviceToken(Secret("an-earlier-one"), (), 1000)
    keeper.keep(events.DeviceTokenIssued(1, (("operator", later),)))
    other.keep(events.DeviceTokenIssued(1, (("operator", earlier),)))
    assert keeper.load() == later
    keeper.keep(events.DeviceTokenIssued(2, (("operator", earlier),)))
    assert keeper.load() == earlier


def test_a_keeper_is_made_for_a_device_at_its_connectors_gateway() -> None:
    store = MemoryStore()
    device = Device(Hashing(), store)
    keeper = keeper_for(device, connector(Hashing()))
    assert keeper is not None
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN),)))
    [key] = store._tokens
    assert (key.origin, key.client_id, key.role) == ("ws://127.0.0.1:18789", "cli", "operator")
    assert keeper_for(None, connector(None)) is None


def test_memory_is_asked_at_once_and_any_other_store_in_a_thread() -> None:
    class Slow(MemoryStore):
        """It may do anything."""

    class Foreign:
        load = save = forget = None

    assert not TokenKeeper(MemoryStore(), KEY).may_block
    assert TokenKeeper(Slow(), KEY).may_block
    assert TokenKeeper(Foreign(), KEY).may_block  # type: ignore[arg-type]


def test_it_is_known_what_there_is_something_to_do_about() -> None:
    assert isinstance(events.DeviceTokenRejected(1, "operator", OWN.token, ENDING), Keepable)
    assert isinstance(events.DeviceTokenIssued(1, ()), Keepable)
    assert not isinstance(events.Stopped(), Keepable)


def test_a_refused_token_that_a_store_cannot_forget_is_not_tried_again() -> None:
    class ReadOnly(MemoryStore):
        def forget(self, key: TokenKey, token: Secret) -> None:
            """Keep it."""

    keeper = TokenKeeper(ReadOnly(), KEY)
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN),)))
    rejected = events.DeviceTokenRejected(1, "operator", OWN.token, ENDING)
    assert keeper.keep(rejected) is None
    keeper.keep(events.DeviceTokenIssued(1, (("operator", NODES),)))
    assert keeper.keep(rejected) == NODES


def test_a_complaint_is_one_line_without_the_tokens() -> None:
    issued = events.DeviceTokenIssued(1, (("operator", OWN), ("node", NODES)))
    words = OSError(f"not {OWN.token.reveal()},\nnot {NODES.token.reveal()}")
    assert complaint(issued, words) == (
        "a device token could not be kept: OSError: not ***,\\nnot ***"
    )
    rejected = events.DeviceTokenRejected(1, "operator", OWN.token, ENDING)
    assert complaint(rejected, KeyError(OWN.token.reveal())) == (
        "a device token could not be forgotten: KeyError: '***'"
    )


def test_a_pools_gateway_with_a_device_has_a_keeper_of_its_own() -> None:
    store = MemoryStore()
    url = "ws://127.0.0.1:18789"
    with_device = prepared(PoolGateway(url, device=Device(Hashing(), store)), None, None, None)
    keeper = pool_keeper_for(with_device)
    assert keeper is not None
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN),)))
    assert list(store._tokens) == [connector(Hashing()).token_key]
    assert pool_keeper_for(prepared(url, None, None, None)) is None


def test_the_keepers_of_a_pool_have_the_names_of_its_gateways() -> None:
    source = Random(7)
    gateways = [
        prepared(one, None, None, None)
        for one in (
            "ws://127.0.0.1:1",
            PoolGateway("ws://127.0.0.1:2", device=Device(Hashing(), MemoryStore())),
        )
    ]
    machine = Pool(gateways, random=source.random, entropy=source.randbytes)
    [(name, keeper)] = pool_keepers_for(gateways, machine)
    assert name == "127.0.0.1:2"
    keeper.keep(events.DeviceTokenIssued(1, (("operator", OWN),)))
    assert keeper.load() == OWN


def test_what_is_to_be_kept_goes_to_the_keeper_of_its_gateway() -> None:
    names: tuple[str | None, ...] = ("a", "b")
    keepers = {name: TokenKeeper(MemoryStore(), KEY) for name in names}
    issued = events.DeviceTokenIssued(1, (("operator", OWN),))
    assert task_for(keepers, events.FromGateway("b", issued)) == (keepers["b"], issued)
    assert task_for(keepers, events.FromGateway("c", issued)) is None
    assert task_for(keepers, events.FromGateway("b", events.Stopped())) is None
    assert task_for({None: keepers["a"]}, issued) == (keepers["a"], issued)
