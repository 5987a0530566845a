"""Pixels that the viewer's process decoded, as images that widgets show: the only place that meets Pillow here."""

from __future__ import annotations

from typing import Any

import customtkinter
from PIL import Image, ImageTk

from producer.viewing import Pixels


def photo(pixels: Pixels) -> ImageTk.PhotoImage:
    """For a canvas or a plain Tk label, pixel by pixel."""
    return ImageTk.PhotoImage(_image(pixels))


def scaled(pixels: Pixels, width: int, height: int) -> Any:
    """For a widget of customtkinter: shown at so many units, as large as the screen's scaling makes them."""
    return customtkinter.CTkImage(_image(pixels), size=(width, height))


def _image(pixels: Pixels) -> Image.Image:
    return Image.frombytes("RGBA", (pixels.width, pixels.height), pixels.rgba)
