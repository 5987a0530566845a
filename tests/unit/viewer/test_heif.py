"""HEIC: thumbnails by pi-heif where it is installed, from the small picture in the file where there is one.

samples/turned.heic (pillow-heif 1.4, quality 40): 640×480, above blue and below red, turned by 90° to the right, with a
thumbnail 320 pixels across; samples/bare.heic is the same without both.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from PIL import Image

from tests.support.mutation import mutant
from viewer import decoding
from viewer.headers import described
from viewer.messages import MAX_ANSWER, Seen
from viewer.picture import Picture
from viewer.process import Viewer

pytest.importorskip("pi_heif", reason="an extra")
SAMPLES = Path(__file__).parent / "samples"
TURNED, BARE = ((SAMPLES / f"{name}.heic").read_bytes() for name in ("turned", "bare"))
BLUE, RED = (30, 30, 200), (200, 30, 30)


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    made = Viewer()
    yield made
    made.close()


def without_thumbnail(content: bytes) -> bytes:
    """What was the thumbnail is a second image then."""
    changed = content.replace(b"thmb", b"free")
    assert changed != content
    return changed


def of_size(content: bytes, width: int, height: int) -> bytes:
    """The file says that its image is that large."""
    changed = content.replace(struct.pack(">II", 640, 480), struct.pack(">II", width, height))
    assert changed != content
    return changed


def check_colours(picture: Picture, *, turned: bool) -> None:
    """Blue above and red below, or turned to the right: blue right and red left."""
    assert picture.thumbnail is not None
    with Image.open(io.BytesIO(picture.thumbnail)) as opened:
        image = opened.convert("RGB")
    assert image.size == ((120, 160) if turned else (160, 120))
    first, second = ((115, 80), (5, 80)) if turned else ((80, 5), (80, 115))
    for place, wanted in ((first, BLUE), (second, RED)):
        found = image.getpixel(place)
        assert isinstance(found, tuple)
        assert all(abs(a - b) < 40 for a, b in zip(found, wanted)), (place, found)


@pytest.mark.parametrize("content", [TURNED, without_thumbnail(TURNED)], ids=["of its thumbnail", "of itself"])
def test_a_heic_gets_an_upright_thumbnail(viewer: Viewer, content: bytes) -> None:
    picture = viewer.look_at(content)
    assert (picture.media_type, picture.width, picture.height) == ("image/heic", 640, 480)
    check_colours(picture, turned=True)


def test_a_heic_without_turns_or_exif_gets_a_thumbnail(viewer: Viewer) -> None:
    check_colours(viewer.look_at(BARE), turned=False)


def test_the_small_picture_is_taken_where_the_image_takes_too_much_to_decode(viewer: Viewer) -> None:
    check_colours(viewer.look_at(of_size(TURNED, 5712, 4284)), turned=True)
    assert viewer.look_at(of_size(without_thumbnail(TURNED), 5712, 4284)).thumbnail is None
    assert viewer.look_at(of_size(BARE, 5712, 4284)).thumbnail is None


def test_a_heic_is_shown_upright_and_one_too_large_by_its_small_picture(viewer: Viewer) -> None:
    whole, small = viewer.show(TURNED, 600, 600), viewer.show(of_size(TURNED, 5712, 4284), 600, 600)
    assert whole is not None and (whole.width, whole.height) == (450, 600)
    assert small is not None and (small.width, small.height) == (240, 320)
    assert viewer.show(of_size(BARE, 5712, 4284), 600, 600) is None


def test_a_small_picture_that_is_damaged_costs_the_thumbnail_and_no_fact(viewer: Viewer) -> None:
    start = TURNED.index(b"iref")
    for place in range(start, start + 40):
        changed = bytearray(TURNED)
        changed[place] ^= 0xFF
        picture = viewer.look_at(bytes(changed))
        assert (picture.media_type, picture.width, picture.height) == ("image/heic", 640, 480)
        assert picture.facts is not None and picture.facts.camera == "Camera"


def test_whatever_was_changed_in_a_heic_the_viewer_goes_on(viewer: Viewer) -> None:
    drawn = random.Random(16)  # noqa: S311 # drawn again from the same seed
    for _ in range(150):
        viewer.look_at(mutant(TURNED, drawn))
    check_colours(viewer.look_at(TURNED), turned=True)


def test_where_no_thread_may_be_started_a_heic_gets_no_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    assert looked_at(TURNED).thumbnail is not None
    decoding.do_without_threads()
    seen = looked_at(TURNED)
    assert (seen.media_type, seen.width, seen.height, seen.thumbnail) == ("image/heic", 640, 480, None)


def looked_at(content: bytes) -> Seen:
    return decoding.look_at(io.BytesIO(content), MAX_ANSWER)


@pytest.mark.parametrize("content", [TURNED, BARE])
def test_the_small_picture_is_a_file_of_its_own_with_one_image(content: bytes) -> None:
    header = described(io.BytesIO(content))
    assert header is not None
    small: Optional[bytes] = header.thumbnail
    if content is BARE:
        assert small is None
        return
    assert small is not None and len(small) < len(TURNED)
    alone = described(io.BytesIO(small))
    assert alone is not None and (alone.width, alone.height) == (320, 240)
    assert alone.thumbnail is None
