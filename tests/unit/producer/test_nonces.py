"""No (key, nonce) meets two plaintexts: over a hundred puts of a hundred segments each, with all that goes wrong.

Recorded where the cipher is called, below everything that could be mistaken about it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.vault import sealing
from producer.events import StoredImage
from tests.support.interrupted_puts import SEGMENT, Machine, N, make_sizes_small
from tests.support.sample_images import chance

PUTS = 100
SEGMENTS = 100  # of each


class Record:
    """What was sealed: for each (key, nonce) the messages, by what they are made of, and how often each came."""

    def __init__(self) -> None:
        self.sealed: dict[tuple[bytes, bytes], Counter[bytes]] = {}

    def cipher(self, key: bytes) -> Any:
        return _RecordedCipher(key, self)

    def add(self, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> None:
        message = hashlib.sha256(len(associated).to_bytes(8, "big") + associated + plaintext).digest()
        self.sealed.setdefault((key, nonce), Counter())[message] += 1

    @property
    def total(self) -> int:
        return sum(sum(messages.values()) for messages in self.sealed.values())

    @property
    def with_two_messages(self) -> list[tuple[bytes, bytes]]:
        return [pair for pair, messages in self.sealed.items() if len(messages) > 1]


class _RecordedCipher:
    def __init__(self, key: bytes, record: Record) -> None:
        self._key, self._record, self._cipher = bytes(key), record, AESGCM(key)

    def encrypt_into(self, nonce: bytes, data: Any, associated: bytes, out: Any) -> int:
        self._record.add(self._key, bytes(nonce), bytes(data), bytes(associated))
        return self._cipher.encrypt_into(nonce, data, associated, out)

    def decrypt_into(self, nonce: bytes, data: Any, associated: bytes, out: Any) -> int:
        return self._cipher.decrypt_into(nonce, data, associated, out)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    make_sizes_small(monkeypatch)
    made = Record()
    monkeypatch.setattr(sealing, "AESGCM", made.cipher)
    return made


def content_of(label: str) -> bytes:
    return chance(label, SEGMENTS * SEGMENT - 100)


def test_the_record_notices_a_nonce_that_meets_two_plaintexts(record: Record) -> None:
    """Were one used so, the test below would see it."""
    for plaintext in (b"one", b"two", b"two"):
        record.cipher(bytes(32)).encrypt_into(bytes(12), plaintext, b"", bytearray(len(plaintext) + 16))
    assert record.total == 3
    assert record.with_two_messages == [(bytes(32), bytes(12))]


@pytest.mark.one_python
def test_ten_thousand_segments_over_a_hundred_puts_never_share_key_and_nonce(record: Record, tmp_path: Path) -> None:
    """A quarter each: undisturbed; with shares moved to another device; with requests sent again; and interrupted and
    gone on with. Only the last seal anything twice, and then it is the same in every bit."""
    drawn = random.Random(4)  # noqa: S311
    stored = 0
    for put in range(PUTS):
        machine = Machine(tmp_path / str(put), devices=N + 2, content=content_of(f"image {put}"))
        device = drawn.choice(machine.cluster.devices)
        at = drawn.randint(2, SEGMENTS)
        before = record.total, len(record.sealed)
        if put % 4 == 1:
            device.die(Operation.APPEND, at=at)
        elif put % 4 == 2:
            device.decline(Operation.APPEND, Code.BUSY, at=at)
        elif put % 4 == 3:
            machine.interrupt(Operation.APPEND, N * at, delivered=drawn.random() < 0.5, kill=drawn.random() < 0.5)
        outcome = machine.stored()
        assert isinstance(outcome, StoredImage)
        stored += not outcome.already_stored
        if put % 4 != 3:
            assert record.total - before[0] == len(record.sealed) - before[1] == SEGMENTS
    assert stored == PUTS
    assert len(record.sealed) >= PUTS * SEGMENTS
    assert record.with_two_messages == []


def test_a_file_that_changed_between_two_runs_is_sealed_under_another_key(record: Record, tmp_path: Path) -> None:
    for put in range(8):
        machine = Machine(tmp_path / str(put), content=content_of(f"before {put}"))
        assert machine.interrupt(Operation.APPEND, 20 * N)
        machine.file.write_bytes(content_of(f"after {put}"))
        machine.stored()
    assert len({key for key, _ in record.sealed}) == 16
    assert record.with_two_messages == []


def test_each_put_of_one_image_has_a_key_of_its_own(record: Record, tmp_path: Path) -> None:
    for put in range(8):
        Machine(tmp_path / str(put), content=content_of("the same")).stored()
    assert len({key for key, _ in record.sealed}) == 8
    assert record.with_two_messages == []
