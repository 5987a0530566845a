"""What a look at an image says: never more than a remark, and whatever it meets, never an exception."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from common.vault.mapping import MAX_THUMBNAIL, UNKNOWN_MEDIA_TYPE
from tests import ROOT
from tests.support.sample_images import chance
from viewer.messages import FORMATS
from viewer.picture import Picture
from viewer.process import Viewer

SAMPLES = ROOT / "samples"
KNOWN = {
    "astronaut.png": ("image/png", 512, 512),
    "chelsea.png": ("image/png", 451, 300),
    "coffee.png": ("image/png", 600, 400),
    "hubble_deep_field.jpg": ("image/jpeg", 1000, 872),
    "no_time_for_that_tiny.gif": ("image/gif", 14, 25),
    "rocket.jpg": ("image/jpeg", 640, 427),
}
ODD = "multipage_rgb.tif"
NOTHING = Picture()
VIEWER = Viewer()  # one process for all tests here, as for all images of a run
look_at = VIEWER.look_at


@pytest.fixture(scope="module", autouse=True)
def viewer_ends() -> Iterator[None]:
    yield
    VIEWER.close()


def check_thumbnail(picture: Picture, limit: int = MAX_THUMBNAIL) -> Image.Image:
    """The thumbnail, decoded; within the limit."""
    assert picture.thumbnail is not None
    assert len(picture.thumbnail) <= limit
    thumbnail = Image.open(io.BytesIO(picture.thumbnail))
    thumbnail.load()
    assert max(thumbnail.size) <= 160
    return thumbnail


def painted(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture with some colour in it."""
    gradient = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180))).convert(mode)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


# --- images


def test_all_samples_are_known_here() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.suffix != ".md"} == {*KNOWN, ODD}


def test_a_sample_whose_layout_not_every_pillow_knows_is_an_image_by_its_signature() -> None:
    picture = look_at(SAMPLES / ODD)
    assert (picture.media_type, picture.is_image) == ("image/tiff", True)
    assert (picture.width, picture.height) in [(None, None), (10, 10)]


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"GIF89a", "image/gif"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic"),
        (b"II*\0" + bytes(100), "image/tiff"),
        (b"II+\0\x08\0\0\0" + bytes(100), "image/tiff"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0", "image/heic-sequence"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "image/heif"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0", "image/heif-sequence"),
        (b"\0\0\0\x18ftypavis\0\0\0\0", "image/avif"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "image/x-canon-cr3"),
        (b"II\x1a\0\0\0HEAPCCDR\2\0\1\0", "image/x-canon-crw"),
        (b"FUJIFILMCCD-RAW 0201FF383501", "image/x-fuji-raf"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "image/x-canon-cr2"),
        (b"gimp xcf v011\0", "image/x-xcf"),
        (b"#?RADIANCE\n", "image/vnd.radiance"),
        (b"#?RGBE\n", "image/vnd.radiance"),
        (b"qoif", "image/qoi"),
        (b"8BPS\0\1", "image/vnd.adobe.photoshop"),
        (b"IIRO\x08\0\0\0", "image/x-olympus-orf"),
        (b"IIRS\x08\0\0\0", "image/x-olympus-orf"),
        (b"MMOR\0\0\0\x08", "image/x-olympus-orf"),
        (b"IIU\0\x18\0\0\0", "image/x-panasonic-rw2"),
        (b"\0MRM\0\1\2\3\0PRD", "image/x-minolta-mrw"),
        (b"FOVb\0\0\2\0", "image/x-sigma-x3f"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
        (b"\xff\x4f\xff\x51\0\x2f", "image/j2c"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
        (b"\xff\x0a\xfa\x1f", "image/jxl"),
        (b"\x76\x2f\x31\x01\2\0\0\0", "image/x-exr"),
        (bytes(128) + b"DICM\2\0\0\0UL", "application/dicom"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a licence -->\n<svg\nwidth='1'></svg>", "image/svg+xml"),
        (b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' [<!ENTITY a 'b'>]>\n<svg>", "image/svg+xml"),
    ],
)
def test_an_image_that_cannot_be_read_is_one_by_its_signature(content: bytes, media_type: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    for picture in (look_at(content), look_at(path)):
        assert picture == Picture(media_type)
        assert picture.is_image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_tga_is_an_image_by_its_header(mode: str, packed: bool) -> None:
    content = saved(painted(mode), "TGA", compression="tga_rle" if packed else None)
    assert look_at(content) == Picture("image/x-tga", 64, 48)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><svg></svg></html>",
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><svg/></html>",
        b"<?xml version='1.0'?><rss/>",
        b"I like <svg> best",
        b"\0\0\2\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0",  # a pointer of Windows
        bytes(200),
        b"\x7fELF\2\1\1" + bytes(57),
        b"PK\3\4\x14\0\0\0\x08\0" + bytes(40),
    ],
)
def test_what_only_looks_a_little_like_an_image_is_none(content: bytes) -> None:
    assert look_at(content) == NOTHING


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("as_path", [True, False])
def test_format_pixels_and_thumbnail_of_the_samples(name: str, as_path: bool) -> None:
    picture = look_at(SAMPLES / name if as_path else (SAMPLES / name).read_bytes())
    assert (picture.media_type, picture.width, picture.height) == KNOWN[name]
    assert picture.is_image
    thumbnail = check_thumbnail(picture)
    width, height = KNOWN[name][1:]
    assert abs(thumbnail.width * height - thumbnail.height * width) <= max(width, height), "another shape"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO"])
def test_each_listed_format_is_known(format_: str) -> None:
    assert FORMATS[format_] == Image.MIME[format_]
    picture = look_at(saved(painted(size=(48, 48)), format_))
    assert (picture.media_type, picture.width, picture.height) == (Image.MIME[format_], 48, 48)
    check_thumbnail(picture)


def test_several_jpegs_in_one_file_are_an_image() -> None:
    picture = look_at(saved(painted(), "MPO", save_all=True, append_images=[painted().rotate(90)]))
    assert picture.media_type in ("image/mpo", "image/jpeg")
    check_thumbnail(picture)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_an_image() -> None:
    picture = look_at(saved(painted(), "AVIF"))
    assert (picture.media_type, picture.width, picture.height) == ("image/avif", 64, 48)
    check_thumbnail(picture)


@pytest.mark.parametrize(
    ("mode", "format_"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("RGBA", "WEBP")],
)
def test_pictures_of_every_mode_get_a_thumbnail(mode: str, format_: str) -> None:
    check_thumbnail(look_at(saved(painted(mode), format_)))


def test_what_is_transparent_stays_transparent() -> None:
    image = painted("RGBA")
    image.putalpha(0)
    thumbnail = check_thumbnail(look_at(saved(image, "PNG")))
    assert thumbnail.convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]  # a pixel of four


def test_a_thumbnail_is_upright_as_the_camera_was_and_the_pixels_are_the_files() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture = look_at(saved(painted(size=(300, 200)), "JPEG", exif=exif))
    assert (picture.width, picture.height) == (300, 200)
    thumbnail = check_thumbnail(picture)
    assert thumbnail.height > thumbnail.width


# --- the small JPEG that a camera puts into a photograph

RED = (250, 10, 10)


def photograph(
    size: tuple[int, int], embedded: bytes, orientation: int = 1, length: Optional[int] = None
) -> tuple[bytes, Image.Image]:
    """A grey JPEG with Exif in which this is embedded; and its own thumbnail, as Pillow turns it."""
    said = len(embedded) if length is None else length
    first = struct.pack(">HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 26)
    second = struct.pack(">H", 3)
    for tag, kind, value in ((0x103, 3, 6 << 16), (0x201, 4, 68), (0x202, 4, said)):
        second += struct.pack(">HHII", tag, kind, 1, value)
    exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">I", 8) + first + second + bytes(4) + embedded
    grey = Image.new("RGB", size, (128, 128, 128))
    content = saved(grey, "JPEG", exif=exif)
    return content, ImageOps.exif_transpose(Image.open(io.BytesIO(content)))


def marked(size: tuple[int, int]) -> bytes:
    """A grey picture, red where it begins."""
    picture = Image.new("RGB", size, (128, 128, 128))
    picture.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    return saved(picture, "JPEG")


def is_red(thumbnail: Image.Image, right: bool, bottom: bool) -> bool:
    place = (thumbnail.width * (3 if right else 1) // 4, thumbnail.height * (3 if bottom else 1) // 4)
    red, green, _ = thumbnail.convert("RGB").getpixel(place)  # type: ignore[misc]  # a pixel of three
    return bool(red > 180 and green < 80)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photographs_own_small_picture_is_its_thumbnail_turned_as_the_photograph(orientation: int) -> None:
    content, upright = photograph((640, 480), marked((160, 120)), orientation)
    picture = look_at(content)
    assert (picture.width, picture.height) == (640, 480)
    thumbnail = check_thumbnail(picture)
    assert (thumbnail.width > thumbnail.height) is (upright.width > upright.height)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(_with_orientation(marked((160, 120)), orientation))))
    corners = [(right, bottom) for right in (False, True) for bottom in (False, True)]
    assert [is_red(thumbnail, *corner) for corner in corners] == [is_red(expected, *corner) for corner in corners]
    assert sum(is_red(thumbnail, *corner) for corner in corners) == 1


def _with_orientation(content: bytes, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.open(io.BytesIO(content)), "JPEG", exif=exif)


@pytest.mark.parametrize("size", [(160, 160), (160, 107), (120, 160), (80, 60), (1600, 1200)])
def test_a_small_picture_of_another_shape_or_of_no_use_is_not_taken(size: tuple[int, int]) -> None:
    """As where a photograph was cropped and the program left the small one as it was, or a camera filled it up."""
    content, _ = photograph((640, 480), marked(size)[:60_000])
    thumbnail = check_thumbnail(look_at(content))
    assert not is_red(thumbnail, right=False, bottom=False)


@pytest.mark.parametrize("embedded", [b"", b"\xff\xd8\xff", marked((160, 120))[:300], b"no JPEG" * 9])
@pytest.mark.parametrize("length", [None, 0, 1, 2**31, 2**32 - 1])
def test_whatever_is_wrong_with_the_small_picture_the_photograph_has_a_thumbnail(
    embedded: bytes, length: Optional[int]
) -> None:
    content, _ = photograph((640, 480), embedded, length=length)
    picture = look_at(content)
    assert (picture.media_type, picture.width) == ("image/jpeg", 640)
    check_thumbnail(picture)


@pytest.mark.parametrize("limit", [0, 20, 200, 1000, 4000, MAX_THUMBNAIL])
def test_a_thumbnail_is_as_small_as_it_has_to_be_or_left_out(limit: int) -> None:
    noise = Image.frombytes("RGB", (400, 400), chance("noise", 3 * 400 * 400))
    picture = look_at(saved(noise, "PNG"), limit)
    assert (picture.width, picture.height) == (400, 400)
    if picture.thumbnail is not None:
        check_thumbnail(picture, limit)
    if limit == MAX_THUMBNAIL:
        assert picture.thumbnail is not None
    if limit == 0:
        assert picture.thumbnail is None


# --- what is none, or hostile


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header names a size, whatever its data hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (100_000, 30_000)])
def test_a_header_that_names_far_too_many_pixels_is_never_decoded(size: tuple[int, int]) -> None:
    assert look_at(png(*size, data=bytes(100_000))).thumbnail is None


@pytest.mark.parametrize("size", [(10_000, 9_500), (12_000, 9_000), (13_000, 13_000)])
def test_a_large_photograph_is_an_image_though_it_may_get_no_thumbnail(size: tuple[int, int]) -> None:
    """As medium-format cameras and panoramas make them: `--images-only` must not skip these."""
    picture = look_at(png(*size))
    assert (picture.media_type, picture.width, picture.height) == ("image/png", *size)
    assert picture.thumbnail is None


@pytest.mark.parametrize("content", [b"", b"\0", b"GIF", b"\xff\xd8", b"no image at all", bytes(100_000)])
def test_what_is_no_image_is_nothing(content: bytes) -> None:
    assert look_at(content) == NOTHING
    assert NOTHING.media_type == UNKNOWN_MEDIA_TYPE
    assert not NOTHING.is_image


def test_a_file_that_is_not_there_or_is_a_folder_is_nothing(tmp_path: Path) -> None:
    assert look_at(tmp_path / "missing.png") == NOTHING
    assert look_at(tmp_path) == NOTHING


UNLISTED = {format_: saved(painted(), format_) for format_ in ("PCX", "SGI", "DDS", "EPS", "PDF")}


@pytest.mark.parametrize("format_", UNLISTED)
def test_formats_that_are_not_listed_are_refused(format_: str) -> None:
    """Some of Pillow's readers start other programs, and most of them are seldom looked after."""
    assert look_at(UNLISTED[format_]) == NOTHING


MAGIC = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF\x20\0\0\0WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"P6 ",
    b"\0\0\1\0",
]


@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_never_raise(magic: bytes, content: bytes) -> None:
    picture = look_at(magic + content)
    if picture.thumbnail is not None:
        check_thumbnail(picture)


SMALL = {format_: saved(painted(), format_) for format_ in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO")}


@given(st.sampled_from(sorted(SMALL)), st.data())
@settings(max_examples=200)
def test_an_image_cut_anywhere_never_raises(format_: str, data: st.DataObject) -> None:
    content = SMALL[format_]
    picture = look_at(content[: data.draw(st.integers(0, len(content) - 1))])
    assert picture.media_type in (UNKNOWN_MEDIA_TYPE, Image.MIME[format_])
    if picture.thumbnail is not None:
        check_thumbnail(picture)


@given(st.sampled_from(sorted(SMALL)), st.data())
@settings(max_examples=200)
def test_an_image_with_bytes_changed_never_raises(format_: str, data: st.DataObject) -> None:
    content = bytearray(SMALL[format_])
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of what a reader believes stands at the beginning.
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    picture = look_at(bytes(content))
    if picture.thumbnail is not None:
        check_thumbnail(picture)


@pytest.mark.parametrize("name", ["hubble_deep_field.jpg", "chelsea.png"])
def test_a_photograph_cut_in_the_middle_is_an_image_all_the_same(name: str) -> None:
    content = (SAMPLES / name).read_bytes()
    picture = look_at(content[: len(content) // 2])
    assert (picture.media_type, picture.width, picture.height) == KNOWN[name]


def test_a_large_progressive_jpeg_gets_no_thumbnail_for_it_would_be_decoded_whole() -> None:
    """A baseline one of the same pixels does."""
    large = painted(size=(4400, 3200))
    progressive, baseline = (saved(large, "JPEG", quality=30, progressive=p) for p in (True, False))
    assert look_at(progressive) == Picture("image/jpeg", 4400, 3200)
    check_thumbnail(look_at(baseline))
