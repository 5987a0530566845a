"""A target that an image is restored to only to see whether it can be."""

from __future__ import annotations

import io
from typing import IO


class NullTarget:
    """A target that discards what is written."""

    place = "nowhere"

    def __init__(self) -> None:
        self.file: IO[bytes] = _NullFile()

    def discard(self) -> None:
        self.file.close()


class _NullFile(io.BytesIO):
    def write(self, data: object) -> int:
        return memoryview(data).nbytes  # type: ignore[arg-type]  # BytesIO takes whatever has a buffer
