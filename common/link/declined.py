"""An answer that is no, as an error: with the exit code that fits the reason, and the device it came from."""

from __future__ import annotations

from common.errors import (
    IntegrityError,
    NoRoomError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    TesseraError,
    UnreachableError,
)
from common.protocol.messages import Answer, Code
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
