"""Sealing segments: they open where they belong and nowhere else, and no nonce is used twice."""

from __future__ import annotations

import hashlib
import traceback
from random import Random
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common import errors
from common.errors import IntegrityError, TesseraError
from common.vault.sealing import (
    TAG_SIZE,
    Buffer,
    DataKey,
    ResumedSealer,
    SegmentOpener,
    SegmentSealer,
    fingerprint,
)
from tests.vectors.vault import read_vectors

ENCODING_ID = bytes(range(16))
PLAINTEXT = b"a tile is worthless alone, and the picture when enough of them meet"

shares = st.integers(2, 64).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n)))
encoding_ids = st.binary(min_size=16, max_size=16)


def room(size: int) -> NDArray[np.uint8]:
    """A buffer full of something, so that what a call left alone is told from what it zeroed."""
    return np.full(size, 0xA5, np.uint8)


def array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


class Encoding:
    """A sealed encoding of a few segments, with what opens it."""

    def __init__(self, *segments: bytes, encoding_id: bytes = ENCODING_ID, k: int = 4, n: int = 6) -> None:
        key = DataKey.generate()
        self.raw_key = key.reveal()
        self.opener = SegmentOpener(DataKey(self.raw_key), encoding_id, k, n)
        sealer = SegmentSealer(key, encoding_id, k, n)
        self.sealed = [seal(sealer, number, data, number == len(segments) - 1) for number, data in enumerate(segments)]


def seal(sealer: SegmentSealer, number: int, plaintext: bytes, is_last: bool) -> bytes:
    out = room(len(plaintext) + TAG_SIZE)
    assert sealer.seal(number, array(plaintext), is_last, out) == out.size
    return out.tobytes()


def must_not_open(opener: SegmentOpener, number: int, sealed: bytes, is_last: bool) -> None:
    out = room(max(len(sealed) - TAG_SIZE, 0) + 5)
    with pytest.raises(IntegrityError, match=f"segment {number} "):
        opener.open(number, array(sealed), is_last, out)
    assert not out.any(), "plaintext that failed its tag was left in the buffer"


@pytest.mark.parametrize("vector", read_vectors("segments"), ids=lambda vector: str(vector["name"]))
def test_known_segments_open_or_fail_as_frozen(vector: dict[str, Any]) -> None:
    key = DataKey(vector["data_key_hex"])
    opener = SegmentOpener(key, vector["encoding_id_hex"], vector["k"], vector["n"])
    sealed = array(vector["sealed_hex"])
    out = room(max(sealed.size - TAG_SIZE, 0))
    if vector["expect"] == "ok":
        size = opener.open(vector["segment_number"], sealed, vector["is_last"], out)
        assert out[:size].tobytes() == vector["plaintext_hex"]
        return
    with pytest.raises(TesseraError) as raised:
        opener.open(vector["segment_number"], sealed, vector["is_last"], out)
    assert raised.type is getattr(errors, vector["expect"])
    assert not out.any()


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), encoding_ids, shares, st.randoms())
def test_segments_open_in_any_order_to_what_was_sealed(
    segments: list[bytes], encoding_id: bytes, k_of_n: tuple[int, int], random: Random
) -> None:
    encoding = Encoding(*segments, encoding_id=encoding_id, k=k_of_n[0], n=k_of_n[1])
    numbers = list(range(len(segments)))
    random.shuffle(numbers)
    for number in numbers:
        out = room(len(segments[number]))
        sealed = array(encoding.sealed[number])
        size = encoding.opener.open(number, sealed, number == len(segments) - 1, out)
        assert out[:size].tobytes() == segments[number]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4096, 4097, 1 << 20])
def test_segments_of_every_kind_of_size_come_back(size: int) -> None:
    plaintext = np.random.default_rng(size).bytes(size)
    encoding = Encoding(plaintext)
    assert len(encoding.sealed[0]) == size + TAG_SIZE
    out = room(size)
    assert encoding.opener.open(0, array(encoding.sealed[0]), True, out) == size
    assert out.tobytes() == plaintext


def as_array(data: bytes) -> Buffer:
    return array(data)


def as_two_rows(data: bytes) -> Buffer:
    return array(data).reshape(2, -1)


@pytest.mark.parametrize("kind", [bytes, memoryview, as_array, as_two_rows])
def test_arrays_memoryviews_and_bytes_are_all_taken(kind: Callable[[bytes], Buffer]) -> None:
    key = DataKey.generate()
    opener = SegmentOpener(DataKey(key.reveal()), ENCODING_ID, 4, 6)
    plaintext = PLAINTEXT + b"."
    sealed, opened = room(len(plaintext) + TAG_SIZE), room(len(plaintext))
    SegmentSealer(key, ENCODING_ID, 4, 6).seal(0, kind(plaintext), True, sealed)
    opener.open(0, kind(sealed.tobytes()), True, opened)
    assert opened.tobytes() == plaintext


def test_only_the_start_of_a_longer_buffer_is_written() -> None:
    key = DataKey.generate()
    sealed = room(100)
    size = SegmentSealer(key, ENCODING_ID, 4, 6).seal(0, b"tile", True, sealed)
    assert size == 4 + TAG_SIZE
    assert (sealed[size:] == 0xA5).all()
    opened = room(100)
    assert SegmentOpener(key, ENCODING_ID, 4, 6).open(0, sealed[:size], True, opened) == 4
    assert opened[:4].tobytes() == b"tile"
    assert (opened[4:] == 0xA5).all()


def test_a_segment_can_be_sealed_and_opened_in_place() -> None:
    key = DataKey.generate()
    buffer = room(len(PLAINTEXT) + TAG_SIZE)
    buffer[: len(PLAINTEXT)] = array(PLAINTEXT)
    SegmentSealer(key, ENCODING_ID, 4, 6).seal(0, buffer[: len(PLAINTEXT)], True, buffer)
    SegmentOpener(key, ENCODING_ID, 4, 6).open(0, buffer, True, buffer)
    assert buffer[: len(PLAINTEXT)].tobytes() == PLAINTEXT


def test_every_bit_of_a_sealed_segment_counts() -> None:
    encoding = Encoding(PLAINTEXT, PLAINTEXT)
    sealed = encoding.sealed[0]
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        must_not_open(encoding.opener, 0, bytes(changed), False)


def test_a_sealed_segment_cut_anywhere_does_not_open() -> None:
    encoding = Encoding(PLAINTEXT)
    for size in range(len(encoding.sealed[0])):
        must_not_open(encoding.opener, 0, encoding.sealed[0][:size], True)


@given(st.binary(min_size=1, max_size=40))
def test_a_sealed_segment_with_anything_behind_does_not_open(behind: bytes) -> None:
    encoding = Encoding(PLAINTEXT)
    must_not_open(encoding.opener, 0, encoding.sealed[0] + behind, True)


def test_segments_that_changed_places_do_not_open() -> None:
    encoding = Encoding(PLAINTEXT, PLAINTEXT, PLAINTEXT)
    assert len(set(encoding.sealed)) == 3
    for number in range(3):
        for other in range(3):
            if number != other:
                must_not_open(encoding.opener, number, encoding.sealed[other], number == 2)


def in_blocks(sealed: bytes, length: int, padding: int = 0) -> list[Buffer]:
    """A sealed segment cut into blocks of `length` bytes, the last one with padding behind."""
    padded = sealed + bytes(padding)
    return [padded[start : start + length] for start in range(0, len(padded), length)]


@given(st.binary(max_size=200), st.integers(1, 120), st.integers(0, 40), st.sampled_from([bytes, memoryview, array]))
def test_a_segment_opens_from_blocks_of_any_length_as_from_one_buffer(
    plaintext: bytes, length: int, padding: int, kind: Callable[[bytes], Buffer]
) -> None:
    encoding = Encoding(plaintext, b"")
    sealed, out = encoding.sealed[0], room(len(plaintext) + TAG_SIZE)
    blocks = [kind(bytes(block)) for block in in_blocks(sealed, length, padding)]
    assert encoding.opener.open_blocks(0, blocks, len(sealed), False, out) == len(plaintext)
    assert out[: len(plaintext)].tobytes() == plaintext
    assert (out[len(plaintext) :] == 0xA5).all()


@given(st.integers(0, 8 * (len(PLAINTEXT) + TAG_SIZE) - 1), st.integers(1, 100))
def test_every_bit_of_a_sealed_segment_in_blocks_counts(bit: int, length: int) -> None:
    encoding = Encoding(PLAINTEXT, b"")
    changed = bytearray(encoding.sealed[0])
    changed[bit // 8] ^= 1 << bit % 8
    out = room(len(PLAINTEXT) + 5)
    with pytest.raises(IntegrityError, match="segment 0 "):
        encoding.opener.open_blocks(0, in_blocks(bytes(changed), length), len(changed), False, out)
    assert not out.any(), "plaintext that failed its tag was left in the buffer"


@pytest.mark.parametrize(("number", "is_last"), [(1, False), (0, True), (1, True)])
def test_blocks_of_another_segment_or_of_an_end_that_is_none_do_not_open(number: int, is_last: bool) -> None:
    encoding, out = Encoding(PLAINTEXT, PLAINTEXT, b""), room(len(PLAINTEXT))
    sealed = encoding.sealed[0]
    with pytest.raises(IntegrityError):
        encoding.opener.open_blocks(number, in_blocks(sealed, 30), len(sealed), is_last, out)
    assert not out.any()


def test_blocks_that_are_too_short_or_overlap_the_output_are_an_error() -> None:
    encoding = Encoding(PLAINTEXT)
    sealed, length = array(encoding.sealed[0]).copy(), len(encoding.sealed[0])
    with pytest.raises(TesseraError, match="do not hold"):
        encoding.opener.open_blocks(0, [sealed[:50]], length, True, room(200))
    with pytest.raises(TesseraError, match="do not hold"):
        encoding.opener.open_blocks(0, [sealed], TAG_SIZE - 1, True, room(200))
    with pytest.raises(TesseraError, match="overlap"):
        encoding.opener.open_blocks(0, [sealed], length, True, sealed)
    with pytest.raises(TesseraError, match="output buffer"):
        encoding.opener.open_blocks(0, [sealed], length, True, room(10))
    with pytest.raises(TesseraError, match="no segment"):
        encoding.opener.open_blocks(-1, [sealed], length, True, room(200))


def test_a_stream_cut_at_a_segment_or_grown_by_one_does_not_open() -> None:
    encoding = Encoding(PLAINTEXT, PLAINTEXT)
    must_not_open(encoding.opener, 0, encoding.sealed[0], True)
    must_not_open(encoding.opener, 1, encoding.sealed[1], False)


@given(encoding_ids, shares)
def test_a_segment_opens_only_under_its_encoding_id_k_and_n(encoding_id: bytes, k_of_n: tuple[int, int]) -> None:
    encoding = Encoding(PLAINTEXT)
    key = DataKey(encoding.raw_key)
    if encoding_id != ENCODING_ID:
        must_not_open(SegmentOpener(key, encoding_id, 4, 6), 0, encoding.sealed[0], True)
    if k_of_n != (4, 6):
        must_not_open(SegmentOpener(key, ENCODING_ID, *k_of_n), 0, encoding.sealed[0], True)


def test_a_segment_opens_only_under_its_data_key() -> None:
    encoding, other = Encoding(PLAINTEXT), Encoding(PLAINTEXT)
    must_not_open(other.opener, 0, encoding.sealed[0], True)


def test_after_a_failed_open_the_same_buffer_can_be_used() -> None:
    encoding = Encoding(PLAINTEXT, PLAINTEXT)
    out = room(len(PLAINTEXT))
    with pytest.raises(IntegrityError):
        encoding.opener.open(0, array(encoding.sealed[1]), False, out)
    encoding.opener.open(0, array(encoding.sealed[0]), False, out)
    assert out.tobytes() == PLAINTEXT


@pytest.mark.parametrize("numbers", [[1], [0, 0], [0, 2], [0, 1, 1], [0, 1, 0], [-1], [2**64]])
def test_a_segment_number_is_sealed_once_and_in_order(numbers: list[int]) -> None:
    sealer = SegmentSealer(DataKey.generate(), ENCODING_ID, 4, 6)
    *good, bad = numbers
    for number in good:
        seal(sealer, number, PLAINTEXT, False)
    out = room(100)
    with pytest.raises(TesseraError, match="comes next") as raised:
        sealer.seal(bad, array(PLAINTEXT), False, out)
    assert raised.type is TesseraError
    assert (out == 0xA5).all(), "something was written"
    seal(sealer, len(good), PLAINTEXT, True)


def test_nothing_is_sealed_after_the_last_segment() -> None:
    sealer = SegmentSealer(DataKey.generate(), ENCODING_ID, 4, 6)
    seal(sealer, 0, PLAINTEXT, True)
    for number in (0, 1, 2):
        for is_last in (True, False):
            with pytest.raises(TesseraError, match="segment 0 was the last"):
                sealer.seal(number, array(PLAINTEXT), is_last, room(100))


def test_a_data_key_seals_in_one_sealer_only() -> None:
    key = DataKey.generate()
    SegmentSealer(key, ENCODING_ID, 4, 6)
    with pytest.raises(TesseraError, match="one sealer only"):
        SegmentSealer(key, ENCODING_ID, 4, 6)


def test_a_data_key_from_a_mapping_seals_nothing() -> None:
    with pytest.raises(TesseraError, match="one sealer only"):
        SegmentSealer(DataKey(DataKey.generate().reveal()), ENCODING_ID, 4, 6)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 0), (2, 1), (1, 65), (65, 65), (-1, 3)])
def test_k_and_n_out_of_bounds_are_an_error(k: int, n: int) -> None:
    key = DataKey.generate()
    with pytest.raises(TesseraError):
        SegmentSealer(key, ENCODING_ID, k, n)
    with pytest.raises(TesseraError):
        SegmentOpener(key, ENCODING_ID, k, n)
    SegmentSealer(key, ENCODING_ID, 4, 6)  # the key is as fresh as before


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_an_encoding_id_of_another_size_is_an_error(size: int) -> None:
    with pytest.raises(TesseraError, match="16 bytes"):
        SegmentSealer(DataKey.generate(), bytes(size), 4, 6)
    with pytest.raises(TesseraError, match="16 bytes"):
        SegmentOpener(DataKey.generate(), bytes(size), 4, 6)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_segment_number_beyond_64_bits_is_an_error(number: int) -> None:
    with pytest.raises(TesseraError, match="no segment"):
        SegmentOpener(DataKey.generate(), ENCODING_ID, 4, 6).open(number, bytes(16), False, room(0))


def read_only(size: int) -> NDArray[np.uint8]:
    out = room(size)
    out.flags.writeable = False
    return out


UNFIT_BUFFERS = [
    pytest.param(room(len(PLAINTEXT) - 1), id="too short"),
    pytest.param(room(400)[::2], id="with gaps"),
    pytest.param(room(400).reshape(2, 200), id="two dimensions"),
    pytest.param(np.zeros(200, np.uint16), id="wider numbers"),
    pytest.param(read_only(200), id="read-only"),
]


@pytest.mark.parametrize("out", UNFIT_BUFFERS)
def test_a_buffer_that_does_not_fit_is_an_error_and_spends_no_number(out: NDArray[np.uint8]) -> None:
    sealer = SegmentSealer(DataKey.generate(), ENCODING_ID, 4, 6)
    with pytest.raises(TesseraError, match="output buffer"):
        sealer.seal(0, array(PLAINTEXT), False, out)
    seal(sealer, 0, PLAINTEXT, False)
    with pytest.raises(TesseraError, match="output buffer") as raised:
        Encoding(PLAINTEXT).opener.open(0, bytes(len(PLAINTEXT) + TAG_SIZE), True, out)
    assert raised.type is TesseraError


@pytest.mark.parametrize("plaintext", [room(200)[::2], np.zeros(50, np.uint16)])
def test_a_segment_that_is_not_contiguous_bytes_is_an_error(plaintext: NDArray[np.uint8]) -> None:
    with pytest.raises(TesseraError, match="contiguous"):
        SegmentSealer(DataKey.generate(), ENCODING_ID, 4, 6).seal(0, plaintext, False, room(200))


@pytest.mark.parametrize("offset", [1, 15, 16, 60])
def test_buffers_that_overlap_are_an_error(offset: int) -> None:
    key = DataKey.generate()
    shared = room(300)
    early, late = shared[:100], shared[offset : 100 + offset]
    sealer, opener = SegmentSealer(key, ENCODING_ID, 4, 6), SegmentOpener(key, ENCODING_ID, 4, 6)
    for source, out in ((early, shared[offset:]), (late, shared)):
        with pytest.raises(TesseraError, match="overlap"):
            sealer.seal(0, source, False, out)
        with pytest.raises(TesseraError, match="overlap"):
            opener.open(0, source, False, out)
    assert (shared == 0xA5).all()


def test_no_error_holds_the_data_key_or_the_plaintext() -> None:
    encoding = Encoding(PLAINTEXT)
    with pytest.raises(IntegrityError) as raised:
        encoding.opener.open(1, encoding.sealed[0], True, room(100))
    text = "".join(traceback.format_exception(raised.type, raised.value, raised.tb))
    for shown in (text, repr(raised.value), repr(encoding.opener)):
        assert encoding.raw_key.hex() not in shown
        assert repr(encoding.raw_key)[2:-1] not in shown
        assert PLAINTEXT.decode() not in shown


# --- going on after an interruption


class Interrupted:
    """An encoding of which some segments were sealed before the process ended; `journalled` of them are on disk."""

    def __init__(self, segments: list[bytes], journalled: int) -> None:
        self.segments = segments
        key = DataKey.generate()
        self.raw_key = key.reveal()
        first = SegmentSealer(key, ENCODING_ID, 4, 6)
        self.sealed = [seal(first, s, data, self.is_last(s)) for s, data in enumerate(segments)]
        so_far = [hashlib.sha256(b"".join(segments[: s + 1])).digest() for s in range(len(segments))]
        self.fingerprints = [fingerprint(sha256, self.is_last(s)) for s, sha256 in enumerate(so_far)][:journalled]

    def is_last(self, segment: int) -> bool:
        return segment == len(self.segments) - 1

    def resumed(self, segment: int = 0) -> ResumedSealer:
        """One that has passed over all before a segment."""
        sealer = ResumedSealer(self.raw_key, ENCODING_ID, 4, 6, self.fingerprints)
        for earlier in range(segment):
            sealer.pass_over(earlier, array(self.segments[earlier]), self.is_last(earlier))
        return sealer


_SEGMENTS = st.lists(st.binary(max_size=100), min_size=1, max_size=6)


@given(_SEGMENTS, st.integers(0, 6), st.data())
def test_a_resumed_sealer_repeats_what_was_sealed_and_goes_on_from_there(
    segments: list[bytes], journalled: int, data: st.DataObject
) -> None:
    put = Interrupted(segments, journalled)
    known = len(put.fingerprints)
    passed_over = data.draw(st.sets(st.integers(0, max(0, known - 1)))) if known else set()
    sealer = put.resumed()
    for number, plaintext in enumerate(segments):
        if number in passed_over:
            sealer.pass_over(number, array(plaintext), put.is_last(number))
        else:
            assert seal(sealer, number, plaintext, put.is_last(number)) == put.sealed[number]


@given(_SEGMENTS, st.data())
def test_a_resumed_sealer_seals_no_segment_otherwise_than_it_was_sealed(
    segments: list[bytes], data: st.DataObject
) -> None:
    put = Interrupted(segments, len(segments))
    number = data.draw(st.integers(0, len(segments) - 1))
    plaintext, is_last = data.draw(st.tuples(st.binary(max_size=100), st.booleans()))
    sealer = put.resumed(number)
    out = room(len(plaintext) + TAG_SIZE)
    if (plaintext, is_last) == (segments[number], put.is_last(number)):
        assert seal(sealer, number, plaintext, is_last) == put.sealed[number]
        return
    with pytest.raises(IntegrityError, match="not what was sealed before"):
        sealer.seal(number, array(plaintext), is_last, out)
    assert (out == 0xA5).all(), "something was sealed"
    for refused in (sealer.seal, lambda *arguments: sealer.pass_over(*arguments[:3])):
        with pytest.raises(IntegrityError):
            refused(number, array(plaintext), is_last, out)
    assert seal(sealer, number, segments[number], put.is_last(number)) == put.sealed[number]


def test_a_segment_whose_bytes_moved_to_the_one_before_is_not_what_was_sealed() -> None:
    """The whole up to its end is the same; what is sealed is not."""
    put = Interrupted([b"one", b"two", b"three"], 3)
    sealer = put.resumed()
    with pytest.raises(IntegrityError, match="segment 0 is not"):
        sealer.pass_over(0, array(b"onetw"), False)
    sealer.pass_over(0, array(b"one"), False)
    with pytest.raises(IntegrityError, match="segment 1 is not"):
        sealer.seal(1, array(b"tw"), False, room(100))


@given(st.integers(0, 5), st.lists(st.tuples(st.integers(-1, 8), st.booleans()), max_size=24))
def test_under_one_key_no_number_is_sealed_twice_or_passed_over_without_fingerprint(
    journalled: int, steps: list[tuple[int, bool]]
) -> None:
    put = Interrupted([bytes([number]) for number in range(9)] + [b""], journalled)
    sealer, done = put.resumed(), -1
    for number, over in steps:
        try:
            if over:
                sealer.pass_over(number, array(bytes([number % 256])), False)
            else:
                assert seal(sealer, number, bytes([number % 256]), False) == put.sealed[number]
        except TesseraError:
            continue
        assert number == done + 1, "a segment was left out, or done twice"
        assert not over or number < journalled, "a new one was passed over"
        done = number


def test_the_last_flag_is_part_of_the_fingerprint() -> None:
    """The same bytes under the same nonce with another flag would show two tags of one key."""
    assert fingerprint(bytes(32), True) != fingerprint(bytes(32), False)
    put = Interrupted([PLAINTEXT, PLAINTEXT], 2)
    with pytest.raises(IntegrityError):
        put.resumed().seal(0, array(PLAINTEXT), True, room(100))


def test_a_resumed_sealer_seals_nothing_after_the_last_segment() -> None:
    put = Interrupted([PLAINTEXT], 1)
    sealer = put.resumed()
    seal(sealer, 0, PLAINTEXT, True)
    with pytest.raises(TesseraError, match="segment 0 was the last"):
        sealer.seal(1, array(PLAINTEXT), True, room(100))
