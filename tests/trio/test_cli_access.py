"""The options by which ``butter`` gets to a gateway: devices, credentials, trust, proxies."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from butter_proto.storage import FOLDER_VARIABLE, describe_device
from butter_proto.storage.key import KEY_FILE
from butter_proto.storage.tokens import TOKENS_FILE
from butter_proto.testing import StandInGateway
from butter_trio.commands import run
from butter_trio.words import PASSWORD_VARIABLE, TOKEN_VARIABLE
from tests.adapters.gateway_side import Relay, relayed
from tests.adapters.worlds import TrioWorld
from tests.local_proxies import HOST, http_proxy
from tests.proto.certificates import certificate_digest
from tests.tls import presenting
from tests.trio.command_line import served

TOKEN = "QQ-a-secret-QQ"
PASSWORD = "QQ-a-password-QQ"
BOOTSTRAP = "QQ-a-bootstrap-token-QQ"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this machine's device; no credentials are in the environment."""
    for name in (TOKEN_VARIABLE, PASSWORD_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "device"))
    return tmp_path / "device"


def setup_code(url: str, token: str = BOOTSTRAP) -> str:
    text = json.dumps({"url": url, "bootstrapToken": token, "expiresAtMs": 1})
    return base64.urlsafe_b64encode(text.encode()).decode()


# --- devices --------------------------------------------------------------------------------


def test_a_device_is_made_at_its_first_use_and_its_id_told(folder: Path, capfd: Capture) -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        assert run(["call", url, "health", "--token", TOKEN, "--device"]) == 0
        made = f"made a device for this machine: {describe_device(folder).device_id}\n"
        assert capfd.readouterr().err == made
        assert run(["call", url, "health", "--token", TOKEN, "--device"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["call", "check", "watch", "doctor"])
def test_no_device_is_made_for_a_url_that_is_refused(name: str, folder: Path) -> None:
    method = ["health"] if name == "call" else []
    assert run([name, "ws://gateway.example.com", *method, "--token", TOKEN, "--device"]) == 1
    assert not folder.exists()


def test_without_device_none_is_made(folder: Path) -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        assert run(["call", url, "health", "--token", TOKEN]) == 0
    assert not folder.exists()


def test_the_token_that_the_gateway_gave_the_device_is_enough_from_then_on() -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        assert run(["call", url, "health", "--device"]) == 1
        assert run(["call", url, "health", "--token", TOKEN, "--device"]) == 0
        assert run(["call", url, "health", "--device"]) == 0


def test_another_folder_is_another_device(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "other"
    assert run(["check", "--duration", "1", "--device", "--device-folder", str(other)]) == 0
    assert describe_device(other).device_id
    assert not folder.exists()


def test_the_embedded_stand_in_approves_the_device_and_none_of_its_tokens_is_kept(
    folder: Path, capfd: Capture
) -> None:
    assert run(["check", "--duration", "1", "--device"]) == 0
    assert "made a device" in capfd.readouterr().err
    assert (folder / KEY_FILE).exists()
    assert not (folder / TOKENS_FILE).exists()


@pytest.mark.parametrize("name", ["call", "check", "watch"])
def test_a_device_that_waits_for_approval_is_told_with_what_to_do(
    name: str, folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("butter_trio.check.HANDSHAKE_LIMIT", 1.0)
    how = {"call": ["health", "--timeout", "1"], "check": [], "watch": ["--timeout", "1"]}[name]
    stand_in = StandInGateway(token=TOKEN, remote=True)
    with served(stand_in) as url:
        assert run([name, url, *how, "--token", TOKEN, "--device"]) == 1
    errors = capfd.readouterr().err
    [request_id] = stand_in.pending
    waiting = f"the device {describe_device(folder).device_id} waits for approval (not-paired)."
    assert f"{waiting} On the gateway: openclaw devices approve {request_id}\n" in errors


def test_a_stored_token_that_is_refused_is_told(folder: Path, capfd: Capture) -> None:
    stand_in = StandInGateway(token=TOKEN)
    with served(stand_in) as url:
        assert run(["call", url, "health", "--token", TOKEN, "--device"]) == 0
        stand_in.rotate(describe_device(folder).device_id)
        capfd.readouterr()
        assert run(["call", url, "health", "--device"]) == 1
    errors = capfd.readouterr().err
    assert "the stored device token is no longer valid and was forgotten" in errors
    assert describe_device(folder).tokens == ()


def test_tokens_that_cannot_be_read_are_one_line(folder: Path, capfd: Capture) -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        assert run(["call", url, "health", "--token", TOKEN, "--device"]) == 0
        (folder / TOKENS_FILE).write_text("{")
        capfd.readouterr()
        for command in (["call", url, "health"], ["watch", url], ["check", url]):
            assert run([*command, "--token", TOKEN, "--device"]) == 1
            errors = capfd.readouterr().err
            assert errors.startswith(f"butter: {folder / TOKENS_FILE} is no JSON; mend it")
            assert errors.count("\n") == 1


def test_without_the_extra_one_line_says_what_to_install(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("butter_proto.storage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for command in (["check", "--device"], ["device", "show"], ["device", "new"]):
        assert run(command) == 1
        errors = capfd.readouterr().err
        assert errors.count("\n") == 1
        assert errors.endswith("needs cryptography: pip install 'openbutter[device]'\n")


# --- credentials ----------------------------------------------------------------------------


def test_a_password_comes_from_the_option_or_the_environment(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(StandInGateway(password=PASSWORD)) as url:
        assert run(["call", url, "health"]) == 1
        capfd.readouterr()
        assert run(["call", url, "echo", f'"{PASSWORD}"', "--password", PASSWORD]) == 0
        assert capfd.readouterr().out == '"***"\n'
        monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
        assert run(["call", url, "health"]) == 0
        assert run(["call", url, "health", "--password", "wrong"]) == 1


def test_the_embedded_stand_in_takes_the_password() -> None:
    assert run(["check", "--duration", "1", "--password", PASSWORD]) == 0


def test_a_token_in_the_url_goes_before_the_environment_and_is_masked(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    with served(StandInGateway(token=TOKEN)) as url:
        assert run(["call", f"{url}?token={TOKEN}", "echo", f'"{TOKEN}"']) == 0
        assert capfd.readouterr().out == '"***"\n'
        assert run(["call", f"{url}?token=wrong", "health", "--token", TOKEN]) == 0


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_setup_code_says_where_to_go_and_pairs_the_device(
    as_json: list[str], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "of another gateway")
    with served(StandInGateway(token=TOKEN, bootstrap_token=BOOTSTRAP, remote=True)) as url:
        pair = ["check", "--duration", "1", "--device", "--setup-code", setup_code(url), *as_json]
        assert run(pair) == 0
        out, errors = capfd.readouterr()
        assert f"no URL: checking {url}/, as the setup code says" in (errors if as_json else out)
        monkeypatch.delenv(TOKEN_VARIABLE)
        assert run(["call", url, "health", "--device"]) == 0


def test_a_bootstrap_token_alone_pairs_the_device_where_a_url_is_named(capfd: Capture) -> None:
    with served(StandInGateway(token=TOKEN, bootstrap_token=BOOTSTRAP, remote=True)) as url:
        assert run(["call", url, "health", "--device", "--setup-code", BOOTSTRAP]) == 0
    assert run(["check", "--device", "--setup-code", BOOTSTRAP]) == 2
    assert "a bootstrap token says no URL" in capfd.readouterr().err


# --- trust ----------------------------------------------------------------------------------


@pytest.fixture
def relay(leaf: trustme.LeafCert) -> Iterator[Relay]:
    """A stand-in behind TLS, by a certificate of ``authority``."""
    context = presenting(leaf)
    world = TrioWorld()
    with (
        served(StandInGateway(token=TOKEN)) as url,
        world.running(),
        relayed(world, url, context) as relay,
    ):
        yield relay


def test_a_cafile_is_trusted_and_a_pin_is_compared_too(
    relay: Relay, authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path, capfd: Capture
) -> None:
    cafile = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(cafile))
    shown = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    call = ["call", relay.url, "health", "--token", TOKEN]
    assert run(call) == 1
    assert "certificate" in capfd.readouterr().err
    assert run([*call, "--cafile", str(cafile)]) == 0
    right, wrong = certificate_digest(shown).hex(), "ab" * 32
    assert run([*call, "--cafile", str(cafile), "--pin", wrong, "--pin", right]) == 0
    capfd.readouterr()
    assert run([*call, "--cafile", str(cafile), "--pin", wrong]) == 1
    assert "the certificate is not a pinned one" in capfd.readouterr().err


def test_headers_go_over_tls_with_the_upgrade(
    relay: Relay, authority: trustme.CA, tmp_path: Path
) -> None:
    cafile = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(cafile))
    headers = ["--header", "CF-Access-Client-Id:  one ", "--header", "X-Two: a: b"]
    call = ["call", relay.url, "health", "--token", TOKEN, "--cafile", str(cafile)]
    assert run([*call, *headers]) == 0
    assert b"\r\nCF-Access-Client-Id: one\r\n" in relay.head
    assert b"\r\nX-Two: a: b\r\n" in relay.head


def test_clear_text_goes_to_a_public_host_only_if_it_is_allowed(capfd: Capture) -> None:
    call = ["call", "ws://gateway.invalid", "health", "--timeout", "0.3"]
    assert run(call) == 1
    assert "would send the token in clear text" in capfd.readouterr().err
    assert run([*call, "--allow-plaintext"]) == 1
    assert "not online after 0.3 s" in capfd.readouterr().err


# --- proxies --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["--proxy", "--trust-env"])
def test_a_proxy_is_named_by_the_option_or_asked_of_the_environment(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(StandInGateway(token=TOKEN)) as url, http_proxy(("me", PASSWORD)) as proxy:
        port = url.rpartition(":")[2]
        call = ["call", f"ws://{HOST}:{port}", "health", "--token", TOKEN]
        named = proxy.url_for(f"me:{PASSWORD}")
        if how == "--proxy":
            assert run([*call, "--proxy", named]) == 0
        else:
            monkeypatch.setenv("HTTPS_PROXY", named)
            assert run([*call, "--trust-env"]) == 0
        assert proxy.asked == [(HOST, int(port))]


# --- wrong usage ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--setup-code", BOOTSTRAP], "add --device"),
        (["--device-folder", "x"], "add --device"),
        (["--device", "--setup-code", BOOTSTRAP, "--token", TOKEN], "in place of --token"),
        (["--device", "--setup-code", BOOTSTRAP, "--password", TOKEN], "in place of --token"),
        (["--device", "--setup-code", setup_code("ws://h")[:-9]], "is damaged"),
        (["--pin", "ab"], "'--pin': a pin is a SHA-256"),
        (["--cafile", "no-such-file"], "cannot read no-such-file: "),
        (["--cafile", __file__], "has no certificates in PEM"),
        (["--header", TOKEN], "a header is 'Name: value'"),
        (["--header", f"Host: {TOKEN}"], "belongs to the upgrade"),
        (["--proxy", f"https://me:{TOKEN}@proxy"], "this scheme of a proxy is not known"),
    ],
)
def test_options_that_cannot_work_are_wrong_usage_and_show_no_secret(
    options: list[str], said: str, folder: Path, capfd: Capture
) -> None:
    for command in (["check"], ["call", "ws://127.0.0.1:1", "health"], ["watch", "ws://h"]):
        assert run([*command, *options]) == 2
        out, errors = capfd.readouterr()
        assert said in errors
        assert out == ""
        assert TOKEN not in errors
        assert BOOTSTRAP not in errors
    assert not folder.exists()
