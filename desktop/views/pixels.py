"""Pixels that the viewer's process decoded, as images for widgets; the only module here that imports Pillow."""

from __future__ import annotations

from typing import Any, Optional

import customtkinter
from PIL import Image, ImageDraw, ImageTk

from viewer.process import Pixels

_SMOOTHING = 4  # a round corner is drawn so many times as large, and then scaled down


def photo(pixels: Pixels, scale: float = 1.0) -> ImageTk.PhotoImage:
    """For a canvas or a plain Tk label, pixel by pixel or so many times as large."""
    image = _image(pixels)
    if scale != 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return ImageTk.PhotoImage(image)


def rounded(width: int, height: int, radius: int, fill: str, border: str, border_width: int) -> ImageTk.PhotoImage:
    """A rectangle with antialiased round corners, which a canvas does not draw; a disc for a large radius."""
    large = Image.new("RGBA", (width * _SMOOTHING, height * _SMOOTHING))
    edge = (large.width - 1, large.height - 1)
    draw = ImageDraw.Draw(large)
    draw.rounded_rectangle(
        (0, 0, *edge), radius * _SMOOTHING, fill=fill, outline=border, width=border_width * _SMOOTHING
    )
    return ImageTk.PhotoImage(large.resize((width, height), Image.Resampling.LANCZOS))


def folder(width: int, fill: str, border: str) -> ImageTk.PhotoImage:
    """A folder, three quarters as high as wide."""
    across, down = width * _SMOOTHING, width * _SMOOTHING * 3 // 4
    large = Image.new("RGBA", (across, down))
    draw = ImageDraw.Draw(large)
    line = max(_SMOOTHING, across // 40)
    looks: dict[str, Any] = {"radius": across // 14, "fill": fill, "outline": border, "width": line}
    draw.rounded_rectangle((0, 0, across * 9 // 20, down // 2), **looks)
    draw.rounded_rectangle((0, down // 6, across - 1, down - 1), **looks)
    return ImageTk.PhotoImage(large.resize((width, width * 3 // 4), Image.Resampling.LANCZOS))


def scaled(pixels: Pixels, width: int, height: int) -> Any:
    """For a widget of customtkinter: shown at so many units, as large as the screen's scaling makes them."""
    return customtkinter.CTkImage(_image(pixels), size=(width, height))


def _image(pixels: Pixels) -> Image.Image:
    return Image.frombytes("RGBA", (pixels.width, pixels.height), pixels.rgba)


class Mosaic:
    """An image shown tile by tile: tiles that have not come are flat and grey."""

    def __init__(self, pixels: Optional[Pixels], width: int, height: int, columns: int, rows: int) -> None:
        """Of a thumbnail scaled to this size; where there is none, of grey tiles."""
        self._columns, self._rows = columns, rows
        if pixels is None:
            self._bright = Image.new("RGB", (width, height), "#4f86b4")
        else:
            self._bright = _image(pixels).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        coarse = self._bright.resize((columns, rows), Image.Resampling.BOX).convert("L").convert("RGB")
        veiled = Image.blend(coarse, Image.new("RGB", coarse.size, "#7d838a"), 0.55)
        self._veiled = veiled.resize((width, height), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(self._veiled)
        for column, row in ((column, row) for row in range(rows) for column in range(columns)):
            draw.rectangle(self._box(column, row), outline="#6b7178")

    def photo(self, tiles: int) -> ImageTk.PhotoImage:
        """With so many tiles filled, from the top left on."""
        image = self._veiled.copy()
        for number in range(min(tiles, self._columns * self._rows)):
            box = self._box(number % self._columns, number // self._columns)
            image.paste(self._bright.crop(box), box)
        return ImageTk.PhotoImage(image)

    def _box(self, column: int, row: int) -> tuple[int, int, int, int]:
        width, height = self._bright.size
        left, right = column * width // self._columns, (column + 1) * width // self._columns
        return left, row * height // self._rows, right, (row + 1) * height // self._rows
