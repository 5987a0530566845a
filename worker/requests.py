"""Requests as they come through a broker, and the answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.protocol.codec import MAX_HEADER, pack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Envelope
from common.protocol.messages import GRANTED, Acknowledged, Answer, Message
from worker.layout import ShareKey


@dataclass(frozen=True)
class Request:
    """A client's or a steward's request as it came through the broker with this number."""

    broker: int
    envelope: Envelope
    header: memoryview
    payload: memoryview

    @property
    def owner(self) -> bytes:
        return self.envelope.owner


@dataclass(frozen=True)
class Answered:
    broker: int
    envelope: Envelope
    header: bytes
    payload: Any = None


def answer(request: Request, header: Message, payload: Any = None) -> Answered:
    return Answered(request.broker, request.envelope.reply(), pack_header(header), payload)


def grant(request: Request, payload: Any = None) -> Answered:
    return answer(request, Acknowledged(GRANTED), payload)


def brief(answer: Answer, count: int) -> Answer:
    """An answer that fits into one header together with `count` - 1 others; its code says all that programs need."""
    limit = MAX_HEADER // count - 32  # bytes, beside the code, lengths and the arrays around them
    return Answer(answer.code, answer.text.encode()[:limit].decode(errors="ignore"))


def key_of(name: ShareName) -> ShareKey:
    return name.encoding_id, name.share
