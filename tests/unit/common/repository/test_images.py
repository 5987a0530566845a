"""What the vault holds: a false claim of one device adds no image, and a prefix finds what can be read."""

from __future__ import annotations

import msgspec
import pytest

from common.errors import NotEnoughError, NotFoundError, UsageError
from common.protocol.messages import EncodingAt
from common.repository.images import combine, find
from tests.support.sample_images import encode

IMAGE = encode(b"an image")
MAPPING = IMAGE.trusted().mapping


def encoding_at() -> EncodingAt:
    return IMAGE.located()


def test_a_known_encoding_under_a_false_object_id_adds_no_image() -> None:
    true = encoding_at()
    false = msgspec.structs.replace(true, object_id=bytes(32))
    holdings = combine([false, true], {(true.object_id, true.encoding_id): MAPPING})
    assert [image.encodings for image in holdings.images] == [[true]]
    assert holdings.unreadable == 1


def test_a_prefix_finds_the_image() -> None:
    holdings = combine([encoding_at()], {(encoding_at().object_id, encoding_at().encoding_id): MAPPING})
    sha256 = MAPPING.image_sha256.hex()
    assert find(sha256[:8], holdings).sha256 == sha256
    with pytest.raises(NotFoundError):
        find("0" * 16, holdings)


def test_a_prefix_of_what_may_be_an_unreadable_image_is_not_called_unknown() -> None:
    with pytest.raises(NotEnoughError):
        find("0" * 16, combine([encoding_at()], {}))


def test_a_prefix_of_two_images_is_a_usage_error() -> None:
    one = encoding_at()
    other = msgspec.structs.replace(one, object_id=bytes(32))
    twin = msgspec.structs.replace(
        MAPPING, image_sha256=MAPPING.image_sha256[:31] + bytes([MAPPING.image_sha256[31] ^ 1])
    )
    mappings = {(one.object_id, one.encoding_id): MAPPING, (other.object_id, other.encoding_id): twin}
    with pytest.raises(UsageError):
        find(MAPPING.image_sha256.hex()[:8], combine([one, other], mappings))


def test_an_image_stored_here_and_shared_by_another_is_one_with_both_encodings() -> None:
    one = encoding_at()
    other = msgspec.structs.replace(one, object_id=bytes(32), encoding_id=bytes(16))
    mappings = {(each.object_id, each.encoding_id): MAPPING for each in (one, other)}
    (image,) = combine([one, other], mappings).images
    assert image.encodings == [one, other]
