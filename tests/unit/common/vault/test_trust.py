"""What is believed of an image that comes back: each of the five steps refuses what it should."""

from __future__ import annotations

from typing import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.recipe import Recipe, digest
from common.coding.slicing import TAG_SIZE
from common.errors import IntegrityError, RefusedError
from common.vault.trust import TrustedImage
from tests.support.sample_images import KEY, OTHER_KEY, EncodedImage, chance, encode, segment_size

FULL = segment_size(2, 4)
REST = 20  # bytes of the last segment, which with its tag fill more than one block
IMAGE = encode(chance("image", 2 * FULL + REST))  # two full segments, and a short one
OTHER = encode(chance("image", 2 * FULL + REST))  # the same image, encoded again
UNIT = IMAGE.code.block_unit


def read(image: TrustedImage, source: EncodedImage, segments: list[int]) -> bytes:
    """Open segments as the consumer does, in the order given, and hash them."""
    content = b""
    for segment in segments:
        out = np.empty(source.slicing.segment_size + TAG_SIZE, np.uint8)
        length = image.open_segment(segment, source.sealed_segment(segment), out)
        image.update(out[:length].data)
        content += out[:length].tobytes()
    return content


sizes = st.tuples(st.integers(0, 4), st.integers(-TAG_SIZE - 1, TAG_SIZE + 1))


@given(sizes, st.sampled_from([(2, 2), (2, 3), (2, 4), (3, 5), (4, 6), (3, 17)]), st.integers(1, 3))
def test_what_was_encoded_is_believed_at_every_size_around_a_segments_end(
    size: tuple[int, int], k_of_n: tuple[int, int], units: int
) -> None:
    content = chance("content", max(0, size[0] * segment_size(*k_of_n, units) + size[1]))
    encoded = encode(content, *k_of_n, units)
    image = encoded.proven()
    for segment, row in enumerate(encoded.blocks):
        assert all(image.recipe.accepts(segment, share, block) for share, block in enumerate(row))
    assert read(image, encoded, list(range(len(encoded.blocks)))) == content
    image.verify()


# --- step 1: the mapping


def test_a_mapping_of_another_vault_is_refused() -> None:
    with pytest.raises(RefusedError):
        IMAGE.trusted(OTHER_KEY)


def test_a_mapping_that_lies_beside_another_encoding_is_refused() -> None:
    with pytest.raises(IntegrityError):
        TrustedImage.from_sealed(KEY, OTHER.commitment.mapping, IMAGE.commitment.object_id, IMAGE.encoding_id)


def test_a_mapping_that_is_named_after_another_object_is_refused() -> None:
    with pytest.raises(IntegrityError):
        TrustedImage.from_sealed(KEY, IMAGE.commitment.mapping, chance("object", 32), IMAGE.encoding_id)


# --- step 2: the recipe


def test_the_recipe_of_another_encoding_of_the_same_image_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not the one that the mapping names"):
        IMAGE.trusted().accept_recipe(OTHER.commitment.recipe, UNIT)


@given(st.data())
def test_a_recipe_cut_anywhere_is_refused(data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(IMAGE.commitment.recipe) - 1))
    with pytest.raises(IntegrityError):
        IMAGE.trusted().accept_recipe(IMAGE.commitment.recipe[:length], UNIT)


@given(st.data())
def test_a_recipe_with_any_bit_flipped_is_refused(data: st.DataObject) -> None:
    packed = bytearray(IMAGE.commitment.recipe)
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        IMAGE.trusted().accept_recipe(bytes(packed), UNIT)


def recipe_with(**changed: object) -> Recipe:
    fields = {name: getattr(IMAGE.recipe, name) for name in IMAGE.recipe.__dataclass_fields__}
    return Recipe(**{**fields, **changed})


_ROW = IMAGE.code.n * 32


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe_with(encoding_id=bytes(16)), id="another encoding id"),
        pytest.param(recipe_with(k=1), id="another k"),
        pytest.param(recipe_with(n=6, digests=bytes(6 * 3 * 32)), id="another n"),
        pytest.param(recipe_with(n=3, digests=bytes(3 * 3 * 32)), id="fewer shares"),
        pytest.param(recipe_with(block_size=3 * UNIT), id="longer blocks"),
        pytest.param(recipe_with(block_size=UNIT), id="shorter blocks"),
        pytest.param(recipe_with(last_block_size=2 * UNIT), id="longer last blocks"),
        pytest.param(recipe_with(digests=IMAGE.recipe.digests[:-_ROW]), id="one segment less"),
        pytest.param(recipe_with(digests=IMAGE.recipe.digests + bytes(_ROW)), id="one segment more"),
        pytest.param(recipe_with(digests=IMAGE.recipe.digests[:-1]), id="half a digest"),
    ],
)
def test_a_recipe_that_contradicts_the_mapping_that_names_it_is_refused(recipe: Recipe) -> None:
    packed = recipe.encode()
    with pytest.raises(IntegrityError):
        IMAGE.with_mapping(recipe_digest=digest(packed)).accept_recipe(packed, UNIT)


@pytest.mark.parametrize("change", [-1, 1, UNIT, 2 * UNIT + 1])
def test_a_mapping_with_another_segment_size_accepts_no_recipe(change: int) -> None:
    image = IMAGE.with_mapping(segment_size=FULL + change)
    with pytest.raises(IntegrityError):
        image.accept_recipe(IMAGE.commitment.recipe, UNIT)


def test_a_mapping_whose_image_would_end_in_another_block_accepts_no_recipe() -> None:
    image = IMAGE.with_mapping(image_size=2 * FULL + REST + 2 * UNIT)
    with pytest.raises(IntegrityError):
        image.accept_recipe(IMAGE.commitment.recipe, UNIT)


# --- step 3: a block


def test_a_block_with_any_byte_flipped_is_refused() -> None:
    image = IMAGE.proven()
    for offset in range(len(IMAGE.blocks[0][0])):
        block = bytearray(IMAGE.blocks[0][0])
        block[offset] ^= 0x40
        assert not image.recipe.accepts(0, 0, bytes(block))


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda block: b"", id="empty"),
        pytest.param(lambda block: block[:-1], id="cut"),
        pytest.param(lambda block: block[:-UNIT], id="a unit short"),
        pytest.param(lambda block: block + b"\0", id="longer"),
        pytest.param(lambda block: block + bytes(UNIT), id="a unit longer"),
    ],
)
@pytest.mark.parametrize("segment", [0, 2])
def test_a_block_of_a_wrong_length_is_refused(alter: Callable[[bytes], bytes], segment: int) -> None:
    assert not IMAGE.proven().recipe.accepts(segment, 0, alter(IMAGE.blocks[segment][0]))


def test_a_good_block_is_good_only_in_its_own_place() -> None:
    image = IMAGE.proven()
    places = [(segment, share) for segment in range(3) for share in range(4)]
    for segment, share in places:
        fits = [place for place in places if image.recipe.accepts(*place, IMAGE.blocks[segment][share])]
        assert fits == [(segment, share)]


def test_there_is_no_good_block_of_a_share_that_was_never_made() -> None:
    """Else share 4 of segment 0 would be taken for share 0 of segment 1, whose digest comes next in the recipe."""
    image = IMAGE.proven()
    assert not image.recipe.accepts(0, IMAGE.code.n, IMAGE.blocks[1][0])
    assert not image.recipe.accepts(1, -1, IMAGE.blocks[0][-1])


def test_a_block_of_another_encoding_of_the_same_image_is_refused() -> None:
    assert not IMAGE.proven().recipe.accepts(0, 0, OTHER.blocks[0][0])


# --- step 4: a segment


@pytest.mark.parametrize(("segment", "taken_from"), [(0, 1), (1, 0)])
def test_a_segment_out_of_order_does_not_open(segment: int, taken_from: int) -> None:
    out = np.full(FULL, 0xA5, np.uint8)
    with pytest.raises(IntegrityError, match=f"segment {segment} "):
        IMAGE.proven().open_segment(segment, IMAGE.sealed_segment(taken_from), out)
    assert not out.any(), "plaintext whose tag failed was left in the buffer"


@given(st.integers(0, FULL + TAG_SIZE - 1), st.integers(1, 255))
def test_a_segment_with_any_byte_changed_does_not_open(offset: int, change: int) -> None:
    sealed = IMAGE.sealed_segment(0).copy()
    sealed[offset] ^= change
    with pytest.raises(IntegrityError):
        IMAGE.proven().open_segment(0, sealed, np.empty(FULL, np.uint8))


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_segment_opens_from_its_data_blocks_where_they_lie(segment: int) -> None:
    whole, out = np.empty(FULL + TAG_SIZE, np.uint8), np.empty(FULL + TAG_SIZE, np.uint8)
    length = IMAGE.proven().open_segment(segment, IMAGE.sealed_segment(segment), whole)
    assert IMAGE.proven().open_blocks(segment, IMAGE.blocks[segment][: IMAGE.code.k], out) == length
    assert out[:length].tobytes() == whole[:length].tobytes()


@pytest.mark.parametrize(("segment", "taken_from"), [(0, 1), (1, 0)])
def test_data_blocks_of_another_segment_do_not_open(segment: int, taken_from: int) -> None:
    out = np.full(FULL + TAG_SIZE, 0xA5, np.uint8)
    with pytest.raises(IntegrityError, match=f"segment {segment} "):
        IMAGE.proven().open_blocks(segment, IMAGE.blocks[taken_from][: IMAGE.code.k], out)
    assert not out.any(), "plaintext whose tag failed was left in the buffer"


def test_a_segment_of_another_encoding_does_not_open() -> None:
    with pytest.raises(IntegrityError):
        IMAGE.proven().open_segment(0, OTHER.sealed_segment(0), np.empty(FULL, np.uint8))


def test_an_image_cut_behind_a_segment_does_not_open_as_a_shorter_one() -> None:
    cut = IMAGE.with_mapping(image_size=2 * FULL, segment_count=2)
    with pytest.raises(IntegrityError):
        cut.open_segment(1, IMAGE.sealed_segment(1), np.empty(FULL, np.uint8))


# --- step 5: the image


@pytest.mark.parametrize("segments", [[], [0], [0, 1], [1, 0, 2], [0, 0, 1, 2], [0, 1, 2, 2], [0, 2]])
def test_the_whole_is_refused_with_a_segment_missing_repeated_or_out_of_order(segments: list[int]) -> None:
    image = IMAGE.proven()
    read(image, IMAGE, segments)
    with pytest.raises(IntegrityError, match="not the image"):
        image.verify()


def content_changed(change: Callable[[bytes], bytes]) -> TrustedImage:
    image = IMAGE.proven()
    image.update(memoryview(change(IMAGE.content)))
    return image


def test_the_whole_is_believed_however_it_was_divided() -> None:
    content_changed(lambda content: content).verify()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-1], id="a byte short"),
        pytest.param(lambda content: content + b"\0", id="a byte long"),
        pytest.param(lambda content: bytes([content[0] ^ 1]) + content[1:], id="a bit flipped"),
        pytest.param(lambda content: b"", id="empty"),
    ],
)
def test_the_whole_is_refused_where_it_is_not_the_image(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(IntegrityError):
        content_changed(change).verify()


@pytest.mark.parametrize("changed", [{"image_sha256": bytes(32)}, {"image_size": 2 * FULL + REST - 1}])
def test_the_whole_is_refused_where_the_mapping_says_otherwise(changed: dict[str, object]) -> None:
    image = TrustedImage(msgspec.structs.replace(IMAGE.trusted().mapping, **changed), IMAGE.encoding_id)
    image.update(memoryview(IMAGE.content))
    with pytest.raises(IntegrityError):
        image.verify()
