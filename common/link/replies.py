"""What a request comes to: a reply, or an answer that is no as an error, with the exit code that fits the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Optional

from common.errors import (
    IntegrityError,
    NoRoomError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    TesseraError,
    UnreachableError,
)
from common.protocol.codec import unpack_header
from common.protocol.messages import Answer, Code
from common.protocol.operations import R
from common.text import printable

_FAMILY = {
    Code.GONE: UnreachableError,
    Code.BUSY: UnreachableError,
    Code.NOT_ALLOWED: RefusedError,
    Code.REPLACED: RefusedError,
    Code.NO_ROOM: NoRoomError,
    Code.READ_ONLY: NoRoomError,
    Code.NOT_FOUND: NotFoundError,
    Code.DAMAGED: IntegrityError,
}


class DeclinedError(TesseraError):
    """The broker or a device did not grant a request."""

    def __init__(self, answer: Answer, device: bytes) -> None:
        family = _FAMILY.get(answer.code, ProtocolError)
        super().__init__(printable(answer.text) or answer.code.value, advice=family.advice)
        self.exit_code = family.exit_code
        self.code = answer.code
        self.device = device


@dataclass(frozen=True)
class Reply(Generic[R]):
    """An answer that granted the request: its header, and its payload as a view (empty where there was none)."""

    header: R
    payload: memoryview


def read_reply(frames: Sequence[memoryview], shape: type[R], device: bytes) -> Optional[Reply[R]]:
    """The reply, or None where the answer was to ask again later."""
    if len(frames) not in (2, 3):
        raise ProtocolError(f"a message of {len(frames)} frames")
    header = unpack_header(frames[1], shape)
    answer = header.answer
    if answer.code in (Code.BUSY, Code.NO_SESSION):
        return None
    if answer.code is not Code.GRANTED:
        raise DeclinedError(answer, device)
    return Reply(header, frames[2] if len(frames) == 3 else memoryview(b""))
