"""The recipe: read back as it was written, and refused where it is cut, changed or contradicts itself."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.recipe import Recipe, decode_recipe, digest
from common.errors import IntegrityError
from common.protocol.codec import MAX_PAYLOAD


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    n = draw(st.integers(2, 64))
    block_size = draw(st.integers(1, MAX_PAYLOAD))
    rows = draw(st.lists(st.binary(min_size=n * 32, max_size=n * 32), min_size=1, max_size=3))
    return Recipe(
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.integers(2, n)),
        n,
        block_size,
        draw(st.integers(1, block_size)),
        b"".join(rows),
    )


def packed(**changes: Any) -> bytes:
    """The recipe of two segments, 2 of 3, with some fields changed."""
    fields: dict[str, Any] = {
        "version": 1,
        "encoding_id": b"e" * 16,
        "k": 2,
        "n": 3,
        "block_size": 64,
        "last_block_size": 32,
        "digests": bytes(range(192)),
    }
    fields.update(changes)
    return bytes(msgpack.packb(list(fields.values())))


SAMPLE = decode_recipe(packed())


@given(recipes())
def test_a_recipe_is_read_back_as_it_was_written(recipe: Recipe) -> None:
    assert decode_recipe(recipe.encode()) == recipe
    assert decode_recipe(memoryview(recipe.encode())) == recipe


@given(recipes())
def test_it_names_a_digest_for_each_block_segment_by_segment_and_share_by_share(recipe: Recipe) -> None:
    named = [recipe.digest_of(s, i) for s in range(recipe.segment_count) for i in range(recipe.n)]
    assert b"".join(named) == recipe.digests
    assert {len(one) for one in named} == {32}


@given(recipes())
def test_a_share_has_the_bytes_of_its_blocks(recipe: Recipe) -> None:
    lengths = [recipe.block_length(segment) for segment in range(recipe.segment_count)]
    assert sum(lengths) == recipe.share_bytes
    assert lengths == [recipe.block_size] * (recipe.segment_count - 1) + [recipe.last_block_size]


def test_the_bytes_are_those_of_the_formats_page() -> None:
    assert decode_recipe(packed()) == Recipe(b"e" * 16, 2, 3, 64, 32, bytes(range(192)))
    assert SAMPLE.encode() == packed()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"version": 0}, id="version 0"),
        pytest.param({"version": 2}, id="a later version"),
        pytest.param({"encoding_id": b"e" * 15}, id="encoding id cut short"),
        pytest.param({"k": 0}, id="k of 0"),
        pytest.param({"k": 4}, id="k over n"),
        pytest.param({"n": 65, "digests": bytes(65 * 32)}, id="n over the largest"),
        pytest.param({"n": 4}, id="digests that are not whole rows"),
        pytest.param({"digests": b""}, id="no segment"),
        pytest.param({"digests": bytes(95)}, id="a digest cut short"),
        pytest.param({"block_size": 0, "last_block_size": 0}, id="empty blocks"),
        pytest.param({"last_block_size": 0}, id="empty last block"),
        pytest.param({"last_block_size": 65}, id="last block longer than the others"),
        pytest.param({"block_size": MAX_PAYLOAD + 1}, id="blocks that no message could carry"),
        pytest.param({"block_size": -1}, id="negative size"),
        pytest.param({"digests": "text"}, id="text for digests"),
        pytest.param({"one more": 1}, id="a field too many"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        decode_recipe(packed(**changes))


def test_a_recipe_cut_anywhere_or_with_a_byte_behind_is_refused() -> None:
    whole = packed()
    for end in range(len(whole)):
        with pytest.raises(IntegrityError):
            decode_recipe(whole[:end])
    with pytest.raises(IntegrityError):
        decode_recipe(whole + b"\0")


@given(st.binary(max_size=300))
def test_junk_is_refused_and_nothing_worse(junk: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_recipe(junk)


def test_a_digest_is_blake3_of_256_bits() -> None:
    # the published test vector for no input
    assert digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest(memoryview(b"block")) == digest(b"block") != digest(b"blocK")
