"""A line of text as a QR code: its squares, for a view to draw."""

from __future__ import annotations


def qr_matrix(text: str) -> list[list[bool]]:
    """Rows of squares, true where dark, without the light margin of four squares that a reader needs around."""
    import segno  # an extra of the window: whoever makes no invite does without

    return [[bool(square) for square in row] for row in segno.make(text, error="m", micro=False).matrix]
