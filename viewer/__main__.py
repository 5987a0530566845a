"""The viewer's loop: `python -m viewer`, started by its parent with a pipe to read from and one to write to.

It sends Ready, and then answers each `Look` and `Show`, meanwhile requesting the pieces of the image that Pillow reads.
When the parent is gone its pipes end, and so does the viewer.
"""

from __future__ import annotations

import io
import signal
import sys
from typing import IO, Any

import msgspec

from viewer.decoding import NEEDS_THREADS, do_without_threads, look_at, shown, strips
from viewer.limits import allow_seconds, confine
from viewer.messages import (
    MAX_LOOK,
    MAX_READ,
    TIMEOUT,
    Look,
    Message,
    Read,
    Ready,
    Request,
    Shown,
    read_frame,
    write_frame,
)

_AT_A_TIME = 128 << 10  # bytes: of a camera's photograph only the beginning is read


class _AskedFor(io.RawIOBase):
    """The image as a file; each piece is requested from the parent."""

    def __init__(self, asks: IO[bytes], answers: IO[bytes], size: int) -> None:
        super().__init__()
        self._asks, self._answers, self._size = asks, answers, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), MAX_READ, max(0, self._size - self._position))
        if not wanted:
            return 0
        _send(self._answers, Read(self._position, wanted))
        piece = read_frame(self._asks, wanted)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def readall(self) -> bytes:
        content = bytearray()
        while piece := self.read(MAX_READ):
            content += piece
        return bytes(content)


def serve(asks: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the parent's end of the pipe is closed."""
    _send(answers, Ready())
    while True:
        try:
            asked: Request = msgspec.msgpack.decode(read_frame(asks, MAX_LOOK), type=Request)
        except EOFError:
            return
        allow_seconds(TIMEOUT)
        file = io.BufferedReader(_AskedFor(asks, answers, asked.size), _AT_A_TIME)
        if isinstance(asked, Look):
            _send(answers, look_at(file, asked.thumbnail_limit))
            continue
        image = shown(file, asked.width, asked.height)
        if image is None:
            _send(answers, Shown())
            continue
        _send(answers, Shown(image.width, image.height))
        for strip in strips(image):
            write_frame(answers, strip)


def _send(answers: IO[bytes], message: Message) -> None:
    write_frame(answers, msgspec.msgpack.encode(message))


def main() -> None:
    # Ctrl-C goes to every process of a terminal; this one ends with its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(sys.stdin.fileno(), "rb", 0) as asks, open(sys.stdout.fileno(), "wb", 0) as answers:
        if not confine(threads=NEEDS_THREADS):
            do_without_threads()
        serve(asks, answers)


if __name__ == "__main__":
    main()
