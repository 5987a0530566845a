"""Headers: of formats that Pillow does not open type, size and facts are told, and no file harms who reads them."""

from __future__ import annotations

import io
import random
import time
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest
from PIL import Image

from common.facts import Facts, fault_of
from tests.support.mutation import mutant
from tests.support.sample_headers import FACTS, HEADERS, HEIGHT, WIDTH, exif, heif, jpeg
from viewer.exif import camera_of, facts_in
from viewer.headers import described
from viewer.messages import Seen
from viewer.process import Viewer
from viewer.reading import MAX_METADATA
from viewer.signatures import MEDIA_TYPES

WITHOUT_FACTS = {"XCF", "EXR", "HDR", "QOI", "SVG", "SVG by its box", "JPEG XL, bare", "JPEG 2000", "JPEG 2000, bare"}
WITHOUT_FACTS |= {"PNG with a long text"}
OTHERS = {
    "CRW": Facts("2019-07-14T18:03:22", "Canon EOS D60", 6),
    "X3F": Facts(orientation=6),
    "DICOM": Facts("2019-07-14T18:03:22+02:00", "Canon EOS R5"),
    "DICOM, implicit": Facts("2019-07-14T18:03:22+02:00", "Canon EOS R5"),
    "MP4": Facts("2019-07-14T16:03:22+00:00", None, None, -33_856_600, 151_215_000),
    "NEF": msgspec.structs.replace(FACTS, camera="NIKON CORPORATION Canon EOS R5"),
    "ARW": msgspec.structs.replace(FACTS, camera="SONY Canon EOS R5"),
    "DNG": msgspec.structs.replace(FACTS, camera="Leica Canon EOS R5"),
}


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    made = Viewer()
    yield made
    made.close()


@pytest.mark.parametrize("name", HEADERS)
def test_the_header_of_a_format_tells_its_type_its_size_and_its_facts(name: str, viewer: Viewer) -> None:
    content, media_type, has_jpeg = HEADERS[name]
    picture = viewer.look_at(content)
    assert (picture.media_type, picture.width, picture.height) == (media_type, WIDTH, HEIGHT)
    assert picture.facts == (None if name in WITHOUT_FACTS else OTHERS.get(name, FACTS))
    assert (picture.thumbnail is not None) == has_jpeg


@pytest.mark.parametrize("name", [name for name, (_, _, has_jpeg) in HEADERS.items() if has_jpeg])
def test_of_a_raw_file_the_picture_in_it_is_shown_upright(name: str, viewer: Viewer) -> None:
    pixels = viewer.show(HEADERS[name][0], 100, 100)
    assert pixels is not None
    assert (pixels.width, pixels.height) == (75, 100)


@pytest.mark.parametrize("name", ["MOV", "MP4"])
def test_a_video_is_no_image(name: str, viewer: Viewer) -> None:
    assert not viewer.look_at(HEADERS[name][0]).is_image


@pytest.mark.parametrize("name", HEADERS)
def test_whatever_was_changed_in_a_file_its_header_is_sound_or_nothing(name: str) -> None:
    content, drawn = HEADERS[name][0][:20_000], random.Random(name)  # noqa: S311 # drawn again from the same seed
    for _ in range(150):
        header = described(io.BytesIO(mutant(content, drawn)))
        if header is None:
            continue
        assert header.media_type in MEDIA_TYPES
        assert (header.width is None) == (header.height is None)
        msgspec.convert(Seen(header.media_type, header.width, header.height), Seen, from_attributes=True)
        assert header.facts == Facts() or fault_of(header.facts) is None
        assert msgspec.convert(msgspec.to_builtins(header.facts), Facts) == header.facts


HUGE = {
    "a box of 2 GiB": heif().replace(b"meta", b"free")[:40] + b"\x7f\xff\xff\xffmeta" + bytes(64 << 20),
    "boxes of nothing": b"\0\0\0\x18ftypheic" + bytes(16) + b"\0\0\0\x08free" * 500_000,
    "items without end": heif().replace(b"\0\0\0\1\0\1\1\2", b"\xff\xff\xff\xff\0\2\xff\2"),
    "a directory of 65,535 entries": b"IIRO\x08\0\0\0" + b"\xff\xff" + b"\0\1\7\0\0\0\0\1\0\0\0\0" * 65535,
    "a directory that is its own next": b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\1\0\0\0N\0\0\0\x08\0\0\0",
    "a drawing of brackets": b"<svg " * 20_000,
    "sequences in sequences": bytes(128) + b"DICM" + b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" * 100_000,
    "resources of nothing": b"8BPS\0\1" + bytes(24) + b"\x7f\xff\xff\xff" + b"8BIM\0\1\0\0\0\0\0\0" * 100_000,
    "a heap around itself": b"II\x1a\0\0\0HEAPCCDR" + bytes(12) + b"\1\0\x0a\x30\xff\xff\0\0\0\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_header_that_claims_too_much_is_read_no_further_than_is_allowed(name: str) -> None:
    content = HUGE[name]
    tracemalloc.start()
    try:
        began = time.monotonic()
        described(io.BytesIO(content))
        took = time.monotonic() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MAX_METADATA + len(content) // 2
    assert took < 5


@pytest.mark.parametrize("length", range(0, 1200, 7))
def test_a_file_that_was_cut_off_is_known_by_its_first_bytes_or_more(length: int) -> None:
    header = described(io.BytesIO(heif()[:length]))
    assert header is None or header.media_type in (None, "image/heic")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_an_image_tells_that_pillow_opens_is_known_too(format_: str, viewer: Viewer) -> None:
    told, out = Image.Exif(), io.BytesIO()
    told.load(b"Exif\0\0" + exif())
    Image.open(io.BytesIO(jpeg())).save(out, format_, exif=told)
    picture = viewer.look_at(out.getvalue())
    assert (picture.media_type, picture.facts) == (Image.MIME[format_], FACTS)
    assert {picture.width, picture.height} == {320, 240}
    assert picture.thumbnail is not None


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("SONY\0\0", " ILCE-7M3  \0x", "SONY ILCE-7M3"),
        ("", "", None),
        (None, 7, None),
        ("a\x1b[31mb", "\n", "a [31mb"),
        ("m" * 60, "n" * 60, "m" * 60 + " nnn"),
    ],
)
def test_a_camera_is_called_by_make_and_model_the_make_once(make: object, model: object, camera: object) -> None:
    assert camera_of(make, model) == camera


def test_a_block_of_which_a_part_is_broken_tells_the_rest() -> None:
    """The directory of the place is said to be far behind the end."""
    whole = exif()
    at = whole.index(b"\x25\x88\x04\0\1\0\0\0") + 8
    told = facts_in(whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :])
    assert told == msgspec.structs.replace(FACTS, latitude=None, longitude=None)


@pytest.mark.parametrize("block", [None, b"", b"Exif\0\0II*\0\0\0\0\0", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"])
def test_a_block_that_says_nothing_tells_no_facts(block: bytes) -> None:
    assert facts_in(block) == Facts()
