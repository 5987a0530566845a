"""Slicing: every byte of an image is in one segment, and every sealed segment in k equal blocks of whole units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.slicing import BLOCK_SIZE, TAG_SIZE, Slicing, block_size_for
from common.errors import UsageError

SMALL = Slicing(k=4, unit=16, block_size=1024)
FULL = Slicing(k=4, unit=64, block_size=BLOCK_SIZE)

slicings = st.builds(
    lambda k, unit, units: Slicing(k, unit, unit * units),
    st.integers(1, 64),
    st.sampled_from([4, 8, 64, 256]),
    st.integers(5, 4096),
)


def boundary_sizes(slicing: Slicing) -> list[int]:
    segment = slicing.segment_size
    return [0, 1, segment - 1, segment, segment + 1, 2 * segment - 1, 2 * segment, 2 * segment + 1, 1000 * segment]


@pytest.mark.parametrize(
    ("size", "segments", "last", "last_block"),
    [
        (0, 1, 0, 16),
        (1, 1, 1, 16),
        (48, 1, 48, 16),
        (49, 1, 49, 32),
        (4079, 1, 4079, 1024),
        (4080, 1, 4080, 1024),
        (4081, 2, 1, 16),
        (8159, 2, 4079, 1024),
        (8160, 2, 4080, 1024),
        (8161, 3, 1, 16),
    ],
)
def test_sizes_around_the_segment_boundary(size: int, segments: int, last: int, last_block: int) -> None:
    assert SMALL.segment_size == 4 * 1024 - TAG_SIZE == 4080
    assert SMALL.segment_count(size) == segments
    assert SMALL.segment_length(size, segments - 1) == last
    assert SMALL.block_length(last) == last_block
    assert SMALL.share_bytes(size) == (segments - 1) * 1024 + last_block


@pytest.mark.parametrize("size", [*boundary_sizes(FULL), 3 * 10**9])
def test_a_full_block_is_one_mebibyte(size: int) -> None:
    count = FULL.segment_count(size)
    blocks = [FULL.block_length(FULL.segment_length(size, segment)) for segment in range(count)]
    assert set(blocks[:-1]) <= {BLOCK_SIZE}
    assert 0 < blocks[-1] <= BLOCK_SIZE


@given(slicings, st.data())
def test_every_byte_is_in_one_segment_and_every_segment_in_k_whole_blocks(
    slicing: Slicing, data: st.DataObject
) -> None:
    size = data.draw(st.sampled_from(boundary_sizes(slicing)) | st.integers(0, 20 * slicing.segment_size))
    count = slicing.segment_count(size)
    lengths = [slicing.segment_length(size, segment) for segment in range(count)]
    blocks = [slicing.block_length(length) for length in lengths]
    assert sum(lengths) == size
    assert all(length == slicing.segment_size for length in lengths[:-1])
    assert all(block == slicing.block_size for block in blocks[:-1])
    assert lengths[-1] > 0 or size == 0
    assert blocks[-1] <= slicing.block_size
    assert sum(blocks) == slicing.share_bytes(size)


@given(slicings, st.data())
def test_blocks_have_room_for_the_sealed_segment_and_no_unit_more(slicing: Slicing, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, slicing.segment_size))
    block = slicing.block_length(length)
    assert block % slicing.unit == 0
    assert slicing.k * block >= length + TAG_SIZE > slicing.k * (block - slicing.unit)


def test_a_block_that_is_not_whole_units_is_refused() -> None:
    with pytest.raises(UsageError, match="1000 bytes"):
        Slicing(k=4, unit=16, block_size=1000)


def test_many_shares_have_smaller_blocks() -> None:
    assert {block_size_for(n) for n in range(1, 17)} == {1024 * 1024}
    assert {block_size_for(n) for n in range(17, 65)} == {256 * 1024}
