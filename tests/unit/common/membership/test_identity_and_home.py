"""Key files and the folder of state: read back as they were written, private, and refused where they are not that."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from common.discovery.addresses import BrokerAddress
from common.errors import IntegrityError, RefusedError, TesseraError, UsageError
from common.home import configured, home
from common.membership.identity import (
    KeyPair,
    client_identity,
    load_brokers,
    load_key_pair,
    save_brokers,
    save_key_pair,
)
from common.protocol.identifiers import device_id, owner_id

SECRET = bytes(range(32))
BROKERS = [BrokerAddress("broker.lan", 5570, 5571, b"a" * 32), BrokerAddress("fe80::1", 1, 65535, bytes(32))]
KNOWN_BROKER = {"host": "broker.lan", "client_port": 5570, "worker_port": 5571, "public_key": "61" * 32}
KEY_FILE = {"tessera": "curve-key", "version": 1, "secret": z85.encode(SECRET).decode()}
ARRAYS_WITHIN_ARRAYS = "[" * 4000


@pytest.fixture(autouse=True)
def tessera_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TESSERA_HOME", str(folder))
    return folder


def assert_private(path: Path) -> None:
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- key pairs


@given(st.binary(min_size=32, max_size=32))
def test_the_public_key_is_the_x25519_one(secret: bytes) -> None:
    expected = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    assert KeyPair.from_secret(secret).public == expected


def test_generated_keys_are_pairs_and_differ() -> None:
    pairs = [KeyPair.generate() for _ in range(20)]
    assert all(KeyPair.from_secret(pair.secret) == pair for pair in pairs)
    assert len({pair.secret for pair in pairs}) == 20


def test_ids_are_derived_one_way_and_for_one_purpose() -> None:
    pair = KeyPair.from_secret(SECRET)
    assert pair.device_id == device_id(pair.public)
    assert len(pair.device_id) == len(owner_id(pair.public)) == 16
    assert device_id(pair.public) != owner_id(pair.public)
    assert device_id(b"a" * 32) != device_id(b"b" * 32)


def test_a_saved_key_is_loaded_again_and_private(tmp_path: Path) -> None:
    path, pair = tmp_path / "folder" / "client.key", KeyPair.generate()
    save_key_pair(path, pair)
    assert load_key_pair(path) == pair
    assert_private(path)


def test_a_saved_key_is_never_replaced(tmp_path: Path) -> None:
    path, first = tmp_path / "client.key", KeyPair.generate()
    save_key_pair(path, first)
    with pytest.raises(FileExistsError):
        save_key_pair(path, KeyPair.generate())
    assert load_key_pair(path) == first
    assert list(path.parent.glob("*client.key*")) == [path]


def test_a_key_file_that_is_not_there_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_key_pair(tmp_path / "client.key")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut short"),
        pytest.param("[]", id="a list"),
        pytest.param("5", id="a number"),
        pytest.param(ARRAYS_WITHIN_ARRAYS, id="arrays within arrays"),
        pytest.param(json.dumps({**KEY_FILE, "tessera": "vault-key"}), id="a file of another kind"),
        pytest.param(json.dumps({**KEY_FILE, "version": 2}), id="a later version"),
        pytest.param(json.dumps({"tessera": "curve-key", "version": 1}), id="no secret"),
        pytest.param(json.dumps({**KEY_FILE, "secret": None}), id="null"),
        pytest.param(json.dumps({**KEY_FILE, "secret": 5}), id="a number for the secret"),
        pytest.param(json.dumps({**KEY_FILE, "secret": ""}), id="empty secret"),
        pytest.param(json.dumps({**KEY_FILE, "secret": KEY_FILE["secret"][:-1]}), id="a character less"),  # type: ignore[index]
        pytest.param(json.dumps({**KEY_FILE, "secret": KEY_FILE["secret"][:-5]}), id="four bytes less"),  # type: ignore[index]
        pytest.param(json.dumps({**KEY_FILE, "secret": "é" * 40}), id="not ASCII"),
        pytest.param(json.dumps({**KEY_FILE, "secret": '"' * 40}), id="not z85"),
        pytest.param(json.dumps({**KEY_FILE, "secret": "#" * 40}), id="z85 over 32 bits"),
    ],
)
def test_what_is_no_key_file_is_refused_by_its_name_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "client.key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(IntegrityError) as refusal:
        load_key_pair(path)
    assert str(refusal.value) == f"{path} is not a Tessera key file"


@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_key_file_with_one_byte_changed_gives_no_wrong_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.key"
    content = bytearray(json.dumps(KEY_FILE).encode())
    content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        pair = load_key_pair(path)
    except IntegrityError as error:
        assert str(KEY_FILE["secret"]) not in str(error)
        return
    assert len(pair.secret) == 32


def test_a_file_larger_than_any_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "client.key"
    path.write_text(json.dumps(KEY_FILE) + " " * 4096)
    with pytest.raises(TesseraError, match="larger than 4096 bytes"):
        load_key_pair(path)


# --- the folder


def test_home_is_what_the_environment_says(tessera_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == tessera_home
    monkeypatch.setenv("TESSERA_HOME", str(Path("~") / "tessera"))
    assert home() == Path.home() / "tessera"


@pytest.mark.parametrize("empty", [True, False])
def test_home_is_else_the_data_folder_of_the_platform(empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if empty:
        monkeypatch.setenv("TESSERA_HOME", "")
    else:
        monkeypatch.delenv("TESSERA_HOME")
    assert home() == Path(platformdirs.user_data_dir("tessera", appauthor=False))


def test_no_config_file_gives_no_defaults() -> None:
    assert configured("producer") == {}


def test_each_program_has_its_table_with_its_options_names(tessera_home: Path) -> None:
    text = '[producer]\nk = 4\n"images-only" = true\n[consumer]\noutput = "ö"\n'
    (tessera_home / "config.toml").write_text(text, encoding="utf-8")
    assert configured("producer") == {"k": 4, "images_only": True}
    assert configured("consumer") == {"output": "ö"}
    assert configured("worker") == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_file_of_notepad_or_powershell_is_read(tessera_home: Path, encoding: str) -> None:
    (tessera_home / "config.toml").write_bytes('[consumer]\r\noutput = "ö"\r\n'.encode(encoding))
    assert configured("consumer") == {"output": "ö"}


@pytest.mark.parametrize(
    "content",
    [b"[producer", b"producer = 4\n", b"k = 4\n", b"[prodcer]\nk = 4\n", b'[producer]\nk = "\xff"\n', b"k = = 4"],
)
def test_a_config_file_with_a_fault_is_a_usage_error_that_names_it(tessera_home: Path, content: bytes) -> None:
    (tessera_home / "config.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.toml"):
        configured("producer")


# --- known brokers, and the client that they admitted


def test_saved_brokers_are_loaded_again_in_order_and_private(tmp_path: Path) -> None:
    path = tmp_path / "client" / "brokers.json"
    save_brokers(path, BROKERS)
    assert load_brokers(path) == BROKERS
    assert_private(path)
    save_brokers(path, BROKERS[:1])
    assert load_brokers(path) == BROKERS[:1]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{}", id="no list"),
        pytest.param("[]", id="no broker"),
        pytest.param("[5]", id="a list of numbers"),
        pytest.param(json.dumps([{**KNOWN_BROKER, "client_port": "5570"}]), id="text for a port"),
        pytest.param(json.dumps([{"host": "broker.lan"}]), id="no key"),
        pytest.param(json.dumps([{**KNOWN_BROKER, "public_key": "61" * 31}]), id="key too short"),
        pytest.param(json.dumps([{**KNOWN_BROKER, "public_key": "61" * 33}]), id="key too long"),
        pytest.param(json.dumps([{**KNOWN_BROKER, "public_key": "xy" * 32}]), id="not hexadecimal"),
        pytest.param('[{"x": ' + ARRAYS_WITHIN_ARRAYS, id="arrays within arrays"),
    ],
)
def test_what_is_no_list_of_brokers_is_a_usage_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "brokers.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"brokers\.json is not a list of brokers"):
        load_brokers(path)


def test_a_client_that_was_admitted_has_its_key_and_its_brokers(tessera_home: Path) -> None:
    pair = KeyPair.generate()
    save_key_pair(tessera_home / "client" / "client.key", pair)
    save_brokers(tessera_home / "client" / "brokers.json", BROKERS)
    identity = client_identity()
    assert (identity.key_pair, identity.brokers) == (pair, BROKERS)


@pytest.mark.parametrize("present", [[], ["client.key"], ["brokers.json"]])
def test_a_client_that_was_not_is_refused_and_told_the_way_in(tessera_home: Path, present: list[str]) -> None:
    kept: dict[str, Any] = {
        "client.key": lambda path: save_key_pair(path, KeyPair.generate()),
        "brokers.json": lambda path: save_brokers(path, BROKERS),
    }
    for name in present:
        kept[name](tessera_home / "client" / name)
    with pytest.raises(RefusedError, match="not admitted") as refusal:
        client_identity()
    assert refusal.value.exit_code == 6
    assert "invite client" in str(refusal.value.advice)
    assert "admin.py join" in str(refusal.value.advice)
