"""The vault key file: opens with its passphrase, and fails in the promised way with anything else."""

from __future__ import annotations

import functools
import hashlib
import threading
import traceback
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import errors
from common.errors import IntegrityError, RefusedError, TesseraError, UsageError
from common.vault import key_file
from common.vault.key_file import (
    COST,
    KEY_FILE_SIZE,
    PassphraseCost,
    _create_at_cost,
    create_key_file,
    open_key_file,
)
from common.vault.keys import VaultKey
from tests.support.passphrases import LEAST_COST, cheap_passphrases
from tests.vectors.vault import read_vectors
from tests.vectors.vault.reference import PASSPHRASE

RAW_KEY = bytes(range(32))

passphrases = st.text(min_size=1, max_size=40)


@pytest.fixture(scope="module")
def file() -> bytes:
    return _create_at_cost(VaultKey(RAW_KEY), PASSPHRASE, LEAST_COST)


@pytest.fixture
def derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id runs once for each passphrase, salt and cost, so that every bit of a file can be tried."""
    monkeypatch.setattr(key_file, "_derive", functools.cache(key_file._derive))


@pytest.fixture
def no_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    def derive(**parameters: int) -> None:
        pytest.fail(f"Argon2id was reached with {parameters}")

    monkeypatch.setattr(key_file, "Argon2id", derive)


@pytest.mark.parametrize("vector", read_vectors("key_file"), ids=lambda vector: str(vector["name"]))
def test_known_key_files_open_or_fail_as_frozen(vector: dict[str, Any]) -> None:
    if vector["expect"] == "ok":
        key = open_key_file(vector["file_hex"], vector["passphrase"])
        assert key.reveal() == vector["vault_key_hex"]
        return
    with pytest.raises(TesseraError) as raised:
        open_key_file(vector["file_hex"], vector["passphrase"])
    assert raised.type is getattr(errors, vector["expect"])


def test_a_key_file_opens_with_its_passphrase() -> None:
    key = VaultKey.generate()
    data = create_key_file(key, PASSPHRASE)
    assert len(data) == KEY_FILE_SIZE == 130
    assert open_key_file(data, PASSPHRASE) == key


def test_a_new_key_file_has_the_promised_cost_written_in_it() -> None:
    data = create_key_file(VaultKey(RAW_KEY), PASSPHRASE)
    numbers = [int.from_bytes(data[start : start + 4], "big") for start in (26, 30, 34)]
    assert numbers == [3, 64 * 1024, 4] == [COST.passes, COST.memory_kib, COST.lanes]


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), passphrases)
@example(bytes(32), " ")
@example(bytes(32), "\0")
def test_any_key_comes_back_under_any_passphrase(raw: bytes, passphrase: str) -> None:
    key = VaultKey(raw)
    assert open_key_file(_create_at_cost(key, passphrase, LEAST_COST), passphrase) == key


def test_the_same_key_and_passphrase_never_make_the_same_file_twice(file: bytes) -> None:
    again = _create_at_cost(VaultKey(RAW_KEY), PASSPHRASE, LEAST_COST)
    for start, end in ((10, 26), (38, 50), (50, 82), (82, 130)):  # salt, nonce, commitment, wrapped key
        assert file[start:end] != again[start:end]


@pytest.mark.parametrize("wrong", ["correct horse battery stapl", "x", PASSPHRASE.upper(), PASSPHRASE * 2])
def test_a_wrong_passphrase_is_refused(file: bytes, wrong: str) -> None:
    with pytest.raises(RefusedError, match="passphrase"):
        open_key_file(file, wrong)


MARKED = "\ufeff" + PASSPHRASE


@pytest.mark.parametrize("given", [MARKED, PASSPHRASE + "\r", PASSPHRASE + "\n", MARKED + "\r\n"])
def test_a_key_file_made_from_a_file_or_a_shell_opens_by_keyboard_and_by_that(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap_passphrases(monkeypatch)
    data = create_key_file(VaultKey(RAW_KEY), given)
    assert open_key_file(data, PASSPHRASE) == open_key_file(data, given) == VaultKey(RAW_KEY)


@pytest.mark.parametrize("given", [MARKED, PASSPHRASE + "\r", PASSPHRASE + "\n"])
def test_a_key_file_made_with_the_mark_or_a_line_end_opens_with_it_and_says_so(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = _create_at_cost(VaultKey(RAW_KEY), given, LEAST_COST)
    assert open_key_file(data, given) == VaultKey(RAW_KEY)
    (record,) = caplog.records
    assert "vault passphrase" in record.getMessage()
    assert PASSPHRASE not in record.getMessage()


def test_a_key_file_that_was_made_with_the_mark_opens_by_keyboard() -> None:
    data = _create_at_cost(VaultKey(RAW_KEY), MARKED, LEAST_COST)
    assert open_key_file(data, PASSPHRASE) == VaultKey(RAW_KEY)


def test_the_right_passphrase_is_derived_once_and_a_wrong_one_twice(
    file: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    derived: list[str] = []
    derive = key_file._derive

    def count(passphrase: str, salt: bytes, cost: PassphraseCost) -> tuple[bytes, bytes]:
        derived.append(passphrase)
        return derive(passphrase, salt, cost)

    monkeypatch.setattr(key_file, "_derive", count)
    open_key_file(file, PASSPHRASE)
    open_key_file(file, MARKED)  # as it comes from a file with a mark
    assert derived == [PASSPHRASE, PASSPHRASE]
    assert not caplog.records
    with pytest.raises(RefusedError):
        open_key_file(file, "a wrong one")
    assert derived[2:] == ["a wrong one", "\ufeffa wrong one"]


def test_an_empty_passphrase_is_a_usage_error(file: bytes, no_derivation: None) -> None:
    with pytest.raises(UsageError, match="empty"):
        create_key_file(VaultKey(RAW_KEY), "")
    with pytest.raises(UsageError, match="empty"):
        open_key_file(file, "")


@pytest.mark.parametrize(
    ("passes", "memory_kib", "lanes"),
    [
        (0, 19 * 1024, 1),
        (11, 19 * 1024, 1),
        (2**32 - 1, 19 * 1024, 1),
        (1, 0, 1),
        (1, 19 * 1024 - 1, 1),
        (1, 1024 * 1024 + 1, 1),
        (1, 2**32 - 1, 1),
        (1, 19 * 1024, 0),
        (1, 19 * 1024, 9),
        (1, 19 * 1024, 2**32 - 1),
    ],
)
def test_parameters_out_of_bounds_are_refused_before_any_derivation(
    file: bytes, no_derivation: None, passes: int, memory_kib: int, lanes: int
) -> None:
    numbers = b"".join(number.to_bytes(4, "big") for number in (passes, memory_kib, lanes))
    with pytest.raises(RefusedError, match="outside"):
        open_key_file(file[:26] + numbers + file[38:], PASSPHRASE)
    with pytest.raises(RefusedError, match="outside"):
        _create_at_cost(VaultKey(RAW_KEY), PASSPHRASE, PassphraseCost(passes, memory_kib, lanes))


def test_several_threads_may_open_key_files_at_once() -> None:
    cost = PassphraseCost(passes=1, memory_kib=19 * 1024, lanes=4)
    file = _create_at_cost(VaultKey(RAW_KEY), PASSPHRASE, cost)
    opened: list[VaultKey] = []

    def open_often() -> None:
        for _ in range(5):
            opened.append(open_key_file(file, PASSPHRASE))

    threads = [threading.Thread(target=open_often, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert opened == [VaultKey(RAW_KEY)] * 15


@pytest.mark.parametrize("cost", [(1, 19 * 1024, 1), (10, 1024 * 1024, 8)])
def test_the_bounds_themselves_are_allowed(cost: tuple[int, int, int]) -> None:
    PassphraseCost(*cost).check()


def test_a_machine_without_the_memory_is_told_so(monkeypatch: pytest.MonkeyPatch, file: bytes) -> None:
    def derive(**_parameters: int) -> None:
        raise MemoryError

    monkeypatch.setattr(key_file, "Argon2id", derive)
    with pytest.raises(RefusedError, match="19 MiB of memory"):
        open_key_file(file, PASSPHRASE)


@pytest.mark.one_python
def test_every_bit_outside_the_parameters_counts(file: bytes, derived_once: None) -> None:
    for offset in [*range(26), *range(38, KEY_FILE_SIZE)]:
        # Each bit of the salt means a derivation; there, three of the eight stand for all.
        for mask in (1, 0x80, 0xFF) if 10 <= offset < 26 else [1 << bit for bit in range(8)]:
            _must_fail(_changed(file, offset, mask))


@pytest.mark.one_python
def test_every_byte_of_the_parameters_counts(file: bytes) -> None:
    for offset in range(26, 38):
        for mask in (1, 0x80, 0xFF):
            _must_fail(_changed(file, offset, mask))


def test_every_bit_counts_whatever_argon2id_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 1040 bits, with a cheap function in Argon2id's place that depends on all that Argon2id does."""
    monkeypatch.setattr(key_file, "Argon2id", CheapDerivation)
    cheap = create_key_file(VaultKey(RAW_KEY), PASSPHRASE)
    assert open_key_file(cheap, PASSPHRASE).reveal() == RAW_KEY
    for bit in range(8 * KEY_FILE_SIZE):
        _must_fail(_changed(cheap, bit // 8, 1 << bit % 8))


class CheapDerivation:
    def __init__(self, **parameters: object) -> None:
        self._parameters = repr(sorted(parameters.items())).encode()

    def derive(self, secret: bytes) -> bytes:
        return hashlib.sha256(self._parameters + secret).digest()


def test_a_key_file_cut_anywhere_is_damaged(file: bytes, no_derivation: None) -> None:
    for size in range(KEY_FILE_SIZE):
        with pytest.raises(IntegrityError):
            open_key_file(file[:size], PASSPHRASE)


@pytest.mark.parametrize("behind", [b"\0", b"\n", bytes(130)])
def test_a_key_file_with_anything_behind_is_damaged(file: bytes, no_derivation: None, behind: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_key_file(file + behind, PASSPHRASE)


@given(st.binary(max_size=300))
def test_what_is_no_key_file_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_key_file(data, PASSPHRASE)


@pytest.mark.parametrize("passphrase", ["open sesame \ud800", "open sesame"])
def test_no_error_holds_the_passphrase_or_the_key(file: bytes, derived_once: None, passphrase: str) -> None:
    for data in (file, file[:-1], _changed(file, 50, 1), _changed(file, 29, 0xFF)):
        with pytest.raises(TesseraError) as raised:
            open_key_file(data, passphrase)
        _must_not_tell(raised.value, passphrase)
    with pytest.raises(TesseraError) as raised:
        open_key_file(_changed(file, 129, 1), PASSPHRASE)
    _must_not_tell(raised.value, PASSPHRASE)


def _must_not_tell(error: BaseException, passphrase: str) -> None:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    # What an exception keeps as context does not print, but may be logged or inspected.
    context = error.__context__
    for shown in (text, repr(error), repr(vars(error)), repr(context), repr(getattr(context, "object", ""))):
        assert passphrase[:11] not in shown
        assert RAW_KEY.hex() not in shown
        assert repr(RAW_KEY)[2:-1] not in shown


def _changed(data: bytes, offset: int, mask: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= mask
    return bytes(changed)


def _must_fail(data: bytes) -> None:
    with pytest.raises((IntegrityError, RefusedError)):
        open_key_file(data, PASSPHRASE)
