"""Which files are kept by their names alone where only images are wanted: images, and what lies beside one for it.

A file whose ending is an image's is kept even where its content is none that Tessera knows: a photograph that is
damaged, a raw file of a new camera. A sidecar is kept where its image is in the same folder: edits (`.xmp`, `.aae`),
the moving part of a Live Photo (`.mov`), what Google Takeout tells of a photograph (`.json`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Callable

IMAGE_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib"),
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".j2c", ".jpf", ".svg", ".ico", ".tga"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".qoi", ".dcm"),
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".raw"),
        *(".rwl", ".mrw", ".x3f", ".pef", ".srw", ".erf", ".3fr", ".fff", ".iiq", ".mos", ".mef", ".kdc", ".dcr"),
    )
)
_SIDECARS = (".xmp", ".aae", ".mov", ".json")


def is_kept(name: str, is_there: Callable[[str], bool]) -> bool:
    """Whether a file of this name is kept; `is_there`: whether a file of another name is in the same folder."""
    stem, ending = os.path.splitext(name)
    if is_image_name(name):
        return True
    return ending.lower() in _SIDECARS and any(is_there(image) for image in _images_of(stem, ending.lower()))


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


def _images_of(stem: str, ending: str) -> Iterator[str]:
    """The names that the image of a sidecar may have; `stem` is its name without the last ending."""
    if is_image_name(stem):  # IMG_1.JPG.xmp
        yield stem
    if ending == ".json":
        longer, _ = os.path.splitext(
            stem
        )  # IMG_1.JPG.supplemental-metadata.json, in newer ones, however much was cut off
        if is_image_name(longer):
            yield longer
        return
    for image_ending in IMAGE_ENDINGS:
        yield stem + image_ending
        yield stem + image_ending.upper()
