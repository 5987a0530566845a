"""A share's file: what is written is what is read, any msgpack reader can walk it, and no damage passes for whole."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.recipe import Recipe, digest
from common.errors import IntegrityError
from common.protocol.codec import pack
from tests.support.sample_shares import Sample, sample
from worker.reading import OpenShare
from worker.share_file import (
    FOOTER_SIZE,
    MAX_HEADER_SIZE,
    ShareInformation,
    ShareTrailer,
    decode_footer,
    decode_share,
    encode_ending,
    record_prefix,
    share_header,
)


@dataclass(frozen=True)
class Written:
    """A share's file, and where its parts are."""

    content: bytes
    header_length: int
    trailer_offset: int

    @property
    def vouched(self) -> list[int]:
        """The offsets of header, trailer and footer: of all but the records, for which the recipe's digests vouch."""
        return [*range(self.header_length), *range(self.trailer_offset, len(self.content))]


def write(encoding: Sample, share: int, order: list[int], offset_shift: int = 0) -> Written:
    """The file of a share whose blocks came in this order of segments."""
    recipe = encoding.recipe
    header = pack(share_header(recipe.encoding_id, share, recipe.k, recipe.n, recipe.block_size))
    content = header
    offsets = [0] * recipe.segment_count
    for segment in order:
        block = encoding.blocks[segment][share]
        prefix = record_prefix(segment, digest(block), len(block))
        offsets[segment] = len(content) + len(prefix) + offset_shift
        content += prefix + block
    trailer = ShareTrailer(encoding.signed(), offsets)
    return Written(content + encode_ending(header, trailer, len(content)), len(header), len(content))


def read(content: bytes) -> ShareInformation:
    """As a store reads it: the footer from the end, the trailer where that points, the header from the start."""
    offset = decode_footer(content[-FOOTER_SIZE:])
    if not 0 <= offset < len(content):
        raise IntegrityError("the footer points nowhere")
    return decode_share(content[:MAX_HEADER_SIZE], content[offset:])


class Content:
    """A share's record in memory."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._content = content

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def uncache(self) -> None:
        pass

    def close(self) -> None:
        pass


def opened(content: bytes, encoding: Sample, share: int) -> OpenShare:
    return OpenShare(Content(content), encoding.key(share))


@st.composite
def written_shares(draw: st.DrawFn) -> tuple[Sample, int, list[int]]:
    n = draw(st.integers(2, 64))
    block_size = draw(st.integers(1, 300))
    encoding = sample(
        draw(st.text(max_size=5)),
        segments=draw(st.integers(1, 6)),
        k=draw(st.integers(2, n)),
        n=n,
        block_size=block_size,
        last=draw(st.integers(1, block_size)),
    )
    order = draw(st.permutations(range(encoding.recipe.segment_count)))
    return encoding, draw(st.integers(0, n - 1)), order


@given(written_shares())
def test_what_was_written_is_read(written: tuple[Sample, int, list[int]]) -> None:
    encoding, share, order = written
    content = write(encoding, share, order).content
    information = read(content)
    header, trailer, recipe = information.header, information.trailer, encoding.recipe
    assert (header.encoding_id, header.share) == encoding.key(share)
    assert (header.k, header.n, header.block_size) == (recipe.k, recipe.n, recipe.block_size)
    assert information.recipe == recipe
    assert trailer.signed == encoding.signed()
    for segment, offset in enumerate(trailer.offsets):
        assert content[offset : offset + recipe.block_length(segment)] == encoding.blocks[segment][share]


@given(written_shares())
def test_any_msgpack_reader_walks_the_whole_file(written: tuple[Sample, int, list[int]]) -> None:
    encoding, share, order = written
    unpacker = msgpack.Unpacker()
    unpacker.feed(write(encoding, share, order).content)
    header, *records, trailer, footer = list(unpacker)
    assert header[:2] == ["tessera-share", 3]
    assert [record[0] for record in records] == order
    for segment, block_digest, block in records:
        assert block == encoding.blocks[segment][share]
        assert block_digest == digest(block)
    assert trailer[0][0][2] == encoding.recipe.encode()
    assert footer.endswith(b"TSHREND1")


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_changed_byte_of_header_trailer_and_footer_is_refused(flip: int) -> None:
    written = write(sample(), 1, [0, 1, 2])
    for position in written.vouched:
        damaged = bytearray(written.content)
        damaged[position] ^= flip
        with pytest.raises(IntegrityError):
            read(bytes(damaged))


def test_every_changed_byte_and_every_truncation_is_refused_at_opening() -> None:
    encoding = sample(segments=1)
    written = write(encoding, 1, [0])
    opened(written.content, encoding, 1).close()
    for position in written.vouched:
        damaged = bytearray(written.content)
        damaged[position] ^= 0x40
        with pytest.raises(IntegrityError):
            opened(bytes(damaged), encoding, 1)
    for length in range(len(written.content)):
        with pytest.raises(IntegrityError):
            opened(written.content[:length], encoding, 1)


def test_every_changed_byte_of_the_records_is_refused_at_reading_or_in_no_block() -> None:
    encoding = sample(segments=2)
    written = write(encoding, 2, [1, 0])
    refused = 0
    for position in range(written.header_length, written.trailer_offset):
        damaged = bytearray(written.content)
        damaged[position] ^= 0x10
        there = opened(bytes(damaged), encoding, 2)
        for segment, row in enumerate(encoding.blocks):
            try:
                assert there.block(segment) == row[2], "a bad block was given out as a good one"
            except IntegrityError:
                refused += 1
        there.close()
    assert refused == encoding.recipe.share_bytes


@given(st.binary(max_size=400))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(IntegrityError):
        read(junk)
    with pytest.raises(IntegrityError):
        decode_share(junk[:MAX_HEADER_SIZE], write(sample(), 0, [0, 1, 2]).content[-200:])


def test_junk_behind_the_footer_is_refused() -> None:
    with pytest.raises(IntegrityError):
        read(write(sample(), 0, [0, 1, 2]).content + b"\x00")


def test_a_file_of_a_later_version_is_refused() -> None:
    content = write(sample(), 0, [0, 1, 2]).content
    assert content[:16] == b"\x97\xadtessera-share\x03"
    with pytest.raises(IntegrityError, match="version 3"):
        read(content[:15] + b"\x01" + content[16:])


def test_a_trailer_of_another_encoding_behind_this_header_is_refused() -> None:
    one, other = sample("one"), sample("other")
    header = pack(share_header(one.encoding_id, 0, 2, 3, 64))
    trailer = ShareTrailer(other.signed(), [100, 200, 300])
    with pytest.raises(IntegrityError, match="another encoding's"):
        decode_share(header, encode_ending(header, trailer, 500))


@pytest.mark.parametrize("shift", [-(2**62), -200, 10_000, 2**63])
def test_offsets_outside_the_records_are_refused(shift: int) -> None:
    with pytest.raises(IntegrityError, match="outside the records"):
        read(write(sample(), 0, [0, 1, 2], shift).content)


def test_a_share_that_the_recipe_has_not_is_refused() -> None:
    encoding = sample()
    header = pack(share_header(encoding.encoding_id, 3, 2, 3, 64))
    trailer = ShareTrailer(encoding.signed(), [100, 200, 300])
    with pytest.raises(IntegrityError, match="contradicts the recipe"):
        decode_share(header, encode_ending(header, trailer, 500))


def test_a_recipe_that_is_none_is_refused() -> None:
    header = pack(share_header(b"e" * 16, 0, 2, 3, 64))
    bad = Recipe(b"e" * 16, 2, 3, 64, 65, b"d" * 96)
    trailer = ShareTrailer(sample().signed(recipe=bad.encode()), [100])
    with pytest.raises(IntegrityError, match="contradicts itself"):
        decode_share(header, encode_ending(header, trailer, 500))
