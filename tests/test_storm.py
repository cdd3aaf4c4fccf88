"""The storm's policies and its gateway; the figures themselves are in docs/storm.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.storm import POLICIES, main, storm
from benchmarks.storm_connectors import cost_of_connectors
from benchmarks.storm_gateway import ENOUGH, Gateway

MANY = 5_000


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_storm(policy: str) -> None:
    assert storm(policy, 300, Gateway(), seed=3) == storm(policy, 300, Gateway(), seed=3)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_client_comes_back_or_gives_up_or_is_still_trying(policy: str) -> None:
    one = storm(policy, MANY, Gateway(rate=100), seed=1)
    assert one.attempts.total() == one.online.total() + one.refused
    assert one.online.total() + one.given_up <= MANY
    if one.recovered_at is not None:
        assert one.online.total() >= ENOUGH * MANY


def test_a_gateway_takes_no_more_handshakes_than_it_can() -> None:
    gateway = Gateway(rate=200)
    one = storm("openbutter", MANY, gateway, seed=1)
    assert max(one.online.values()) <= gateway.rate + 1
    assert min(one.online) >= gateway.down


def test_jitter_brings_everybody_back_where_a_herd_does_not() -> None:
    ours, herd, five = (
        storm(policy, MANY, Gateway(), seed=1)
        for policy in ("openbutter", "reference client", "the original")
    )
    assert ours.recovered_at is not None
    assert herd.recovered_at is not None
    assert ours.recovered_at < herd.recovered_at
    assert ours.given_up == herd.given_up == 0
    assert five.given_up > 0


def test_whole_connectors_take_about_as_long_as_their_policy() -> None:
    cost = cost_of_connectors(300, Gateway(rate=100), seed=1)
    model = storm("openbutter", 300, Gateway(rate=100), seed=1)
    assert model.recovered_at is not None
    assert cost.recovered_at == pytest.approx(model.recovered_at, rel=0.5)
    assert cost.connects >= 0.99 * 300
    assert cost.microseconds > 0


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clients", "50", "--connectors", "10"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n| 50 |") == len(POLICIES)
    assert "| 10 |" in out


def test_the_chart_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "storm.png"
    main(["--clients", "50", "--connectors", "--plot", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
