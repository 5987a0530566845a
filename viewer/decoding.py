"""Decodes images by Pillow: format, size in pixels, facts, and a thumbnail for the mapping; or pixels for a screen.

Of what Pillow does not open the size and the facts come from its header (`headers`), and of a raw file the pixels from
the largest JPEG that its camera put into it. Of a HEIC the pixels come by pi-heif, where that is installed. Only
formats on a list are read, and pixels only where decoding them takes at most 48 MiB by what the header says. What a
header does not say is up to the limits of the process. All readers are imported here: the process opens no file after
the first image.
"""

from __future__ import annotations

import contextlib
import copy  # noqa: F401  # which Pillow imports for certain GIFs
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Optional

from PIL import (  # noqa: F401  # the readers of the formats on the list register themselves
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageColor,
    ImageFilter,
    ImageOps,
    ImagePalette,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from common.facts import Facts
from viewer.exif import Tiff, facts_in
from viewer.headers import described
from viewer.heif import HEIF_TYPES
from viewer.messages import FORMATS, MAX_PIXELS_FRAME, PIXEL_BYTES, Seen
from viewer.reading import Header, MalformedError, length_of

with contextlib.suppress(ImportError):  # Pillow has it since 11.3
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the process may have no other

try:
    import pi_heif
except ImportError:  # an extra: requirements-heic.txt
    NEEDS_THREADS = False
else:
    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    NEEDS_THREADS = True  # its decoder starts one, though it is told to use none
    pi_heif.options.DECODE_THREADS = 1

_MAX_DECODED = 48 << 20  # bytes that decoding for a thumbnail may take; a JPEG is decoded at an eighth of its edges
_THUMBNAIL_EDGES = (160, 96, 48)  # pixels; the first that fits into the bytes allowed
_QUALITY = 60
_METHOD = 2  # of 6: half the time of the usual 4, and a twentieth more bytes
_EXIF_PREFIX = b"Exif\0\0"
_JPEG_OFFSET, _JPEG_LENGTH = 0x201, 0x202  # tags of the second directory
_MAX_EMBEDDED_EDGE = 1024  # pixels
_MAX_PREVIEW = 16 << 20  # bytes of a JPEG in a raw file, and of a HEIC, which is read whole
_HEIF = "HEIF"  # Pillow's name
_TURNS = {  # as ImageOps.exif_transpose has it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def do_without_threads() -> None:
    """Leave undecoded what takes threads to decode."""
    Image.OPEN.pop(_HEIF, None)


def look_at(file: IO[bytes], thumbnail_limit: int) -> Seen:
    """Media type, size, thumbnail and facts of an image; none where it cannot be read."""
    header = described(file)
    try:
        with _opened(file, header, small=True) as image:
            if header is None:
                header = Header(*image.size, _facts(image), media_type=FORMATS[image.format or ""])
            elif header.media_type == "image/png":  # of which the header tells the size alone
                header = replace(header, facts=_facts(image))
            return _seen(header, _thumbnail(image, thumbnail_limit))
    except Exception:  # a hostile file may make Pillow's readers raise anything
        return Seen() if header is None else _seen(header)


def _seen(header: Header, thumbnail: Optional[bytes] = None) -> Seen:
    facts = None if header.facts == Facts() else header.facts
    return Seen(header.media_type, header.width, header.height, thumbnail, facts)


def shown(file: IO[bytes], width: int, height: int) -> Optional[Image.Image]:
    """An image upright and no larger than that; None where it cannot be read, or takes too much to decode."""
    try:
        with _opened(file, described(file), small=False) as image:
            image.draft("RGB", (width, height))
            if _decoded_bytes(image) > _MAX_DECODED:
                return None
            longest = max(width, height)  # the orientation is known only once it is upright
            image.thumbnail((longest, longest))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((width, height))
            return upright.convert("RGBA")
    except Exception:  # as above
        return None


def strips(image: Image.Image) -> Iterator[bytes]:
    """The pixels of an image of a screen, top to bottom, in pieces that fit into a frame."""
    rows = MAX_PIXELS_FRAME // (PIXEL_BYTES * image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()


@contextlib.contextmanager
def _opened(file: IO[bytes], header: Optional[Header], *, small: bool) -> Iterator[Image.Image]:
    """`small`: a thumbnail that the file has will do."""
    # Pillow's own limit would refuse a photograph of 200 megapixels; ours is on what is decoded.
    Image.MAX_IMAGE_PIXELS = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage that does not matter here
        if header is not None and header.previews:
            with _preview(file, header) as image:
                yield image
            return
        if header is not None and header.media_type in HEIF_TYPES:
            # Not by Image.open: of a file of several images that plugin decodes anew at each step.
            with pi_heif.open_heif(_heic(file, header, small)).to_pillow() as image:
                yield image
            return
        readable = [name for name in FORMATS if name in Image.OPEN]  # Pillow loads all others for one that is not
        file.seek(0)
        with Image.open(file, formats=readable) as image:
            yield image


def _preview(file: IO[bytes], header: Header) -> Image.Image:
    """The largest JPEG in a raw file; it has the sensor's orientation, unless it says itself which it has."""
    piece = next(piece for piece in header.previews if piece.length <= _MAX_PREVIEW)
    file.seek(piece.offset)
    image = Image.open(io.BytesIO(file.read(piece.length)), formats=["JPEG"])
    if header.facts.orientation is not None:
        image.getexif().setdefault(ExifTags.Base.Orientation, header.facts.orientation)
    return image


def _heic(file: IO[bytes], header: Header, small: bool) -> bytes:
    """A HEIC that is decoded within the limits: the thumbnail in it, or the file; MalformedError where neither is."""
    if _HEIF not in Image.OPEN:
        raise MalformedError("nothing here decodes it")
    pixels = (header.width or _MAX_DECODED) * (header.height or 1)
    fits = 4 * pixels <= _MAX_DECODED and length_of(file) <= _MAX_PREVIEW
    if header.thumbnail is not None and (small or not fits):
        return header.thumbnail
    if not fits:
        raise MalformedError("too large to decode, and without a thumbnail")
    file.seek(0)
    return file.read()


def _facts(image: Image.Image) -> Facts:
    """Before its pixels are read: then a TIFF is closed."""
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.fp is not None:
            return Tiff(image.fp).facts()
        return facts_in(image.info.get("exif"))
    except Exception:  # as above
        return Facts()


def _thumbnail(image: Image.Image, limit: int) -> Optional[bytes]:
    """A WebP of at most `limit` bytes, upright as the camera was; None where that cannot be made."""
    with contextlib.suppress(Exception):  # as above: the image may be good where the embedded one is not
        embedded = _embedded(image)
        if embedded is not None:
            with embedded:
                return _encoded(_upright(embedded, image.getexif()), limit)
    try:
        if image.info.get("progressive") and _decoded_bytes(image) > _MAX_DECODED:
            return None  # a progressive JPEG is kept whole while it is decoded, however small the result
        largest = _THUMBNAIL_EDGES[0]
        image.draft("RGB", (2 * largest, 2 * largest))  # only a JPEG can: it is then decoded small
        if _decoded_bytes(image) > _MAX_DECODED:
            return None
        image.thumbnail((2 * largest, 2 * largest))
        return _encoded(ImageOps.exif_transpose(image), limit)
    except Exception:  # as above: a truncated or hostile image only gets no thumbnail
        return None


def _encoded(small: Image.Image, limit: int) -> Optional[bytes]:
    small = small.convert("RGBA" if "A" in small.getbands() or "transparency" in small.info else "RGB")
    for edge in _THUMBNAIL_EDGES:
        small.thumbnail((edge, edge))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=_QUALITY, method=_METHOD)
        if out.tell() <= limit:
            return out.getvalue()
    return None


def _embedded(image: Image.Image) -> Optional[Image.Image]:
    """The small JPEG that a camera puts into a photograph (Exif 2.3, section 4.5.5), where it has the same shape.

    Taking it costs a thirtieth of decoding the photograph. One of another shape shows something else: the photograph
    before it was cropped, or with bars at its edges.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    directory = image.getexif().get_ifd(ExifTags.IFD.IFD1)
    offset, length = directory.get(_JPEG_OFFSET, 0), directory.get(_JPEG_LENGTH, 0)
    exif = image.info.get("exif", b"")[len(_EXIF_PREFIX) :]
    if not 0 < offset < offset + length <= len(exif):
        return None
    small = Image.open(io.BytesIO(exif[offset : offset + length]), formats=["JPEG"])
    # Across first: |w/h - W/H| without a division, within a fiftieth.
    across, down = small.width * image.height, small.height * image.width
    same_shape = abs(across - down) * 50 <= max(across, down)
    large_enough = _THUMBNAIL_EDGES[0] <= max(small.size) <= _MAX_EMBEDDED_EDGE
    return small if same_shape and large_enough else None


def _upright(small: Image.Image, exif: Image.Exif) -> Image.Image:
    """Rotated by the photograph's Exif; the embedded one has the sensor's orientation."""
    turn = _TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    return small if turn is None else small.transpose(turn)


def _decoded_bytes(image: Image.Image) -> int:
    """Pillow keeps 4 bytes a pixel, and to scale an image with transparency a second copy of it."""
    copies = 2 if "A" in image.getbands() else 1
    return 4 * image.width * image.height * copies
