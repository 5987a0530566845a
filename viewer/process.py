"""Has images decoded by a process of its own, whose answers are not trusted.

A hostile file may run code in a decoder, and this process has the vault key. So a child decodes (`python -m viewer`):
one for a whole run, started while the key is derived, without its parent's environment and handles, under limits that
it sets itself, and killed at a deadline. It gets the pieces of the image that it requests through its pipe; it opens no
file.

A failure of the child costs a thumbnail only: the next image gets a new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Optional, TypeVar, Union, cast

import msgspec

from common.facts import fault_of
from common.files import open_regular
from common.process.events import Warned, ignore
from common.process.running_time import called_after
from common.vault.mapping import MAX_THUMBNAIL
from viewer.messages import (
    FORMATS,
    MAX_ANSWER,
    MAX_EDGE,
    MAX_PIXELS_FRAME,
    PIXEL_BYTES,
    TIMEOUT,
    Look,
    Message,
    Read,
    Ready,
    Request,
    Seen,
    Show,
    Shown,
    ViewerError,
    decode_message,
    read_frame,
    write_frame,
)
from viewer.picture import Picture, by_signature
from viewer.signatures import MEDIA_TYPES, SIGNATURE_BYTES, may_be_decodable

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "viewer")
_MEDIA_TYPES = MEDIA_TYPES | set(FORMATS.values())
_START_TIMEOUT = 30.0  # seconds until it is ready, on a machine that has much else to do
_END_TIMEOUT = 1.0  # seconds
_MAX_FAILED_STARTS = 2
# What an interpreter may need to find itself and its packages; no secret has any of these names.
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
    *("SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP"),
)

_Piece = Callable[[int, int], bytes]  # (offset, length) → the image's bytes there, fewer at its end
T = TypeVar("T")


@dataclass(frozen=True)
class Pixels:
    """An image as a screen shows it, row by row; four bytes a pixel: red, green, blue, opacity."""

    width: int
    height: int
    rgba: bytes


class Viewer:
    """Decodes images, one at a time, by a child that is replaced when it fails."""

    def __init__(
        self, command: Sequence[str] = COMMAND, timeout: float = TIMEOUT, emit: Callable[[Warned], None] = ignore
    ) -> None:
        """`timeout`: seconds for one image. `emit` gets a warning, in any thread, where the viewer does not start."""
        self._emit = emit
        self._command = command
        self._timeout = timeout
        self._child: Optional[_Child] = None
        self._failed_starts = 0
        self._closed = False
        self._looking = threading.Lock()
        self._changing = threading.Lock()

    def start(self) -> None:
        """Start the child, without waiting until it is ready."""
        with self._changing:
            if self._child is None and not self._closed and self._failed_starts < _MAX_FAILED_STARTS:
                try:
                    self._child = _Child(self._command)
                except OSError as error:
                    self._start_failed(str(error.strerror))

    @property
    def pid(self) -> Optional[int]:
        """The child's process id, while there is one."""
        child = self._child
        return None if child is None else child.pid

    def look_at(self, content: Union[bytes, memoryview, Path], thumbnail_limit: int = MAX_THUMBNAIL) -> Picture:
        """What is known of an image, given as bytes or its file; an empty Picture where it cannot be read."""
        try:
            with self._looking, _opened(content) as (size, piece):
                start = piece(0, SIGNATURE_BYTES)
                look = Look(size, thumbnail_limit)
                seen = self._ask(lambda child: child.look(look, piece)) if may_be_decodable(start) else None
                return _checked(seen or Seen(), thumbnail_limit) or by_signature(start)
        except OSError:  # the file cannot be read; storing it raises the error
            return Picture()

    def show(self, content: Union[bytes, Path], width: int, height: int) -> Optional[Pixels]:
        """An image upright, with at most so many pixels across and down; None where it cannot be read or is too large.

        It is made smaller where it has more, never larger.
        """
        try:
            with self._looking, _opened(content) as (size, piece):
                show = Show(size, min(width, MAX_EDGE), min(height, MAX_EDGE))
                return self._ask(lambda child: child.show(show, piece))
        except OSError:
            return None

    def close(self) -> None:
        """End the child, whatever it is doing."""
        with self._changing:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        if self._looking.acquire(timeout=_END_TIMEOUT):  # a request under way ends now
            with self._changing:
                self._drop()
            self._looking.release()

    def _ask(self, ask: Callable[[_Child], T]) -> Optional[T]:
        """The child's answer; None where there is none."""
        self.start()
        child = self._child
        if child is None:
            return None
        try:
            if not child.ready:
                with child.killed_after(_START_TIMEOUT):
                    child.wait_ready()
                self._failed_starts = 0
            with child.killed_after(self._timeout):
                return ask(child)
        except (OSError, EOFError, ViewerError) as error:
            log.debug("no look at an image: %s %s", type(error).__name__, error)
            if not child.ready:
                self._start_failed("it ends at once")
            return None
        finally:
            with self._changing:
                if not child.well and self._child is child:
                    self._drop()

    def _start_failed(self, why: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MAX_FAILED_STARTS and not self._closed:
            without = "images are stored without thumbnails: the process that makes them does not start"
            self._emit(Warned(f"{without} ({why})"))

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """One process; not to be used again once it is not `well`."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it; OSError where that cannot be."""
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NO_WINDOW
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,  # no terminal: it cannot write to it nor be interrupted from it
            creationflags=flags,
        )
        self._asks, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self.ready = False
        self.well = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @contextlib.contextmanager
    def killed_after(self, seconds: float) -> Iterator[None]:
        """Kill it where the block takes longer: reading and writing its pipes then fails."""
        with called_after(seconds, self.kill):
            try:
                yield
            except BaseException:
                self.well = False
                raise

    def wait_ready(self) -> None:
        if not isinstance(self._receive(), Ready):
            raise ViewerError("the viewer answers before it was asked")
        self.ready = True

    def look(self, look: Look, piece: _Piece) -> Seen:
        said = self._asked(look, piece)
        if not isinstance(said, Seen):
            raise ViewerError("the viewer does not answer what it was asked")
        return said

    def show(self, show: Show, piece: _Piece) -> Optional[Pixels]:
        said = self._asked(show, piece)
        if not isinstance(said, Shown) or said.width > show.width or said.height > show.height:
            raise ViewerError("the viewer does not answer what it was asked")
        rgba = bytearray()
        wanted = PIXEL_BYTES * said.width * said.height
        while len(rgba) < wanted:
            rgba += read_frame(self._answers, min(MAX_PIXELS_FRAME, wanted - len(rgba)))
        return Pixels(said.width, said.height, bytes(rgba)) if wanted else None

    def _asked(self, what: Request, piece: _Piece) -> Message:
        """Its answer, after the pieces of the image that it requests."""
        self._send(msgspec.msgpack.encode(what))
        while isinstance(said := self._receive(), Read):
            self._send(piece(said.offset, said.length))
        return said

    def end(self) -> None:
        self.kill()
        self._process.wait()
        self._asks.close()
        self._answers.close()

    def kill(self) -> None:
        self.well = False
        self._process.kill()

    def _send(self, content: bytes) -> None:
        write_frame(self._asks, content)

    def _receive(self) -> Message:
        return decode_message(read_frame(self._answers, MAX_ANSWER))


@contextlib.contextmanager
def _opened(content: Union[bytes, memoryview, Path]) -> Iterator[tuple[int, _Piece]]:
    """The image's size, and a function that reads its pieces."""
    if not isinstance(content, Path):
        yield len(content), lambda offset, length: bytes(content[offset : offset + length])
        return
    with open_regular(content) as file:

        def piece(offset: int, length: int) -> bytes:
            try:
                file.seek(offset)
                return file.read(length)
            except OSError:
                return b""  # as if it ended there

        yield os.fstat(file.fileno()).st_size, piece


def _checked(seen: Seen, thumbnail_limit: int) -> Optional[Picture]:
    """The answer, checked: a media type on the list, pixels, facts, a thumbnail of a size and type to be stored."""
    media_type = seen.media_type
    if media_type is None or media_type not in _MEDIA_TYPES:
        return None
    thumbnail, facts = seen.thumbnail, seen.facts
    if thumbnail is not None and (len(thumbnail) > thumbnail_limit or not _is_webp(thumbnail)):
        thumbnail = None
    if facts is not None and fault_of(facts) is not None:
        facts = None
    if seen.width is None or seen.height is None:
        return Picture(media_type, thumbnail=thumbnail, facts=facts)
    return Picture(media_type, seen.width, seen.height, thumbnail, facts)


def _is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
