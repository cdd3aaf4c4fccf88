"""The identity in its file: made once, never shown, never lost to a fault."""

from __future__ import annotations

import copy
import pickle
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from butter_proto.device_auth import SignedPayload, Signer, device_id, prove
from butter_proto.errors import StoreError
from butter_proto.storage.files import PrivateFolder
from butter_proto.storage.key import KEY_FILE, Ed25519Key, kept_key, kept_or_new_key, new_key
from tests.storage.scenario import files_in, line_of, mode_of, needs_modes, process, tell

SEED = bytes(range(32))
ID = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)


def pem(
    key: Ed25519PrivateKey | X25519PrivateKey = PRIVATE,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


PEM = pem()
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
EC_PEM = ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def folder_with(path: Path, content: bytes) -> PrivateFolder:
    folder = PrivateFolder(path / "device")
    with folder.locked() as files:
        files.replace(KEY_FILE, content)
    return folder


def test_the_vector_that_the_gateway_accepted_comes_out_of_a_file(tmp_path: Path) -> None:
    """wire.md 4, test vector 1."""
    signer: Signer | None = kept_key(folder_with(tmp_path, PEM))
    assert signer is not None
    params = {
        "client": {"id": "cli", "mode": "cli", "platform": "linux"},
        "role": "operator",
        "scopes": ["operator.read", "operator.write"],
        "auth": {"token": "secret-a"},
    }
    nonce, ts = "5e644c2f-0b91-4836-bc79-84d468aaf7a6", 1795397965416
    assert prove(signer, SignedPayload.V3, params, nonce, ts) == {
        "id": ID,
        "publicKey": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
        "signature": (
            "RTCT2lCtmaIzikXZD2SB70XbPDRK6RojSxv3S6s5B2tiSfV2cU996rCUuvGe934NsTA-3FfLZkB5rYnohMeeDw"
        ),
        "signedAt": ts,
        "nonce": nonce,
    }


@needs_modes
def test_a_key_is_made_at_the_first_use_and_found_at_the_next(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path / "device")
    assert kept_key(folder) is None
    made = kept_or_new_key(folder)
    found = kept_or_new_key(folder)
    assert found.public_key == made.public_key
    assert found.sign(b"text") == made.sign(b"text")  # Ed25519 is deterministic
    assert mode_of(folder.path / KEY_FILE) == 0o600
    assert (folder.path / KEY_FILE).read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_each_folder_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = {kept_or_new_key(PrivateFolder(tmp_path / name)).public_key for name in "ab"}
    assert len(keys) == 2


def test_a_new_key_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, PEM)
    with folder.locked() as files:
        made = new_key(files)
    kept = kept_key(folder)
    assert kept is not None
    assert kept.public_key == made.public_key != PRIVATE.public_key().public_bytes_raw()


FIRST_USE = """
import sys
from pathlib import Path
from butter_proto.device_auth import device_id
from butter_proto.storage import open_device
print("ready", flush=True)
sys.stdin.readline()
print(device_id(open_device(sys.argv[1]).signer.public_key), flush=True)
"""


def test_processes_that_start_at_once_get_one_identity(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt) / "device"
        with ExitStack() as running:
            processes = [running.enter_context(process(FIRST_USE, folder)) for _ in range(4)]
            assert [line_of(each) for each in processes] == ["ready"] * 4
            for each in processes:
                tell(each)
            identities = {line_of(each) for each in processes}
        kept = kept_key(PrivateFolder(folder))
        assert kept is not None
        assert identities == {device_id(kept.public_key)}
        assert files_in(folder) == ["device.lock", KEY_FILE]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no private key in PEM"),
        (b"\x00" * 100, "is no private key in PEM"),
        (PEM.replace(b"MC4C", b"MC4D"), "is no private key in PEM"),
        (PUBLIC_PEM, "is no private key in PEM"),
        (pem(X25519PrivateKey.generate()), "is no Ed25519 key"),
        (EC_PEM, "is no Ed25519 key"),
        (pem(encryption=BestAvailableEncryption(b"password")), "is encrypted"),
        (PEM + b" " * 16_384, "more than 16,384 bytes"),
    ],
    ids=["empty", "zeros", "corrupt", "public", "x25519", "ec", "encrypted", "large"],
)
def test_a_key_that_cannot_be_used_is_told_and_left_as_it_is(
    tmp_path: Path, content: bytes, told: str
) -> None:
    folder = folder_with(tmp_path, content)
    for use in (kept_key, kept_or_new_key):
        with pytest.raises(StoreError, match=told) as raised:
            use(folder)
        assert str(folder.path / KEY_FILE) in str(raised.value)
        assert "MC4C" not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert (folder.path / KEY_FILE).read_bytes() == content


def test_a_key_cut_anywhere_is_refused_or_still_the_same(tmp_path: Path) -> None:
    refused = 0
    for length in range(len(PEM)):
        folder = folder_with(tmp_path / str(length), PEM[:length])
        try:
            key = kept_key(folder)
        except StoreError:
            refused += 1
        else:
            assert key is not None
            assert key.public_key == PRIVATE.public_key().public_bytes_raw()
    assert refused >= len(PEM) - 1  # without its last newline it is whole


def test_a_key_shows_its_id_alone() -> None:
    key = Ed25519Key(PRIVATE)
    assert f"{key!r} {key}" == " ".join([f"<Ed25519Key of device {ID}>"] * 2)
    assert not hasattr(key, "__dict__")


def test_a_key_is_neither_pickled_nor_copied() -> None:
    key = Ed25519Key(PRIVATE)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copied(key)
