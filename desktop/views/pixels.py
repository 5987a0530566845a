"""Pixels that the viewer's process decoded, as images that widgets show: the only place that meets Pillow here."""

from __future__ import annotations

from typing import Any

import customtkinter
from PIL import Image, ImageDraw, ImageTk

from producer.viewing import Pixels

_SMOOTHING = 4  # times as large a round corner is drawn, and then made small


def photo(pixels: Pixels, scale: float = 1.0) -> ImageTk.PhotoImage:
    """For a canvas or a plain Tk label, pixel by pixel or so many times as large."""
    image = _image(pixels)
    if scale != 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return ImageTk.PhotoImage(image)


def rounded(width: int, height: int, radius: int, fill: str, border: str, border_width: int) -> ImageTk.PhotoImage:
    """A rectangle with smooth round corners, which a canvas by itself draws none of; a disc where it is all corner."""
    large = Image.new("RGBA", (width * _SMOOTHING, height * _SMOOTHING))
    edge = (large.width - 1, large.height - 1)
    draw = ImageDraw.Draw(large)
    draw.rounded_rectangle(
        (0, 0, *edge), radius * _SMOOTHING, fill=fill, outline=border, width=border_width * _SMOOTHING
    )
    return ImageTk.PhotoImage(large.resize((width, height), Image.Resampling.LANCZOS))


def scaled(pixels: Pixels, width: int, height: int) -> Any:
    """For a widget of customtkinter: shown at so many units, as large as the screen's scaling makes them."""
    return customtkinter.CTkImage(_image(pixels), size=(width, height))


def _image(pixels: Pixels) -> Image.Image:
    return Image.frombytes("RGBA", (pixels.width, pixels.height), pixels.rgba)
