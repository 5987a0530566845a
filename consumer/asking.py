"""Questions to devices: for blocks, and for what lies beside a share.

Questions to the same device that are asked in the same moment travel in one message, up to the protocol's sizes. So
restoring many small images at a time needs few messages, and the code that restores one knows nothing of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar, Union

from common.errors import ProtocolError, TesseraError
from common.link.declined import DeclinedError
from common.link.link import Link
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Operation
from common.protocol.messages import (
    MAX_BATCH,
    Answer,
    BlockName,
    Describe,
    Described,
    Fetch,
    Fetched,
    ShareName,
)

PATIENCE = 20.0  # seconds
_MESSAGE_BYTES = 1 << 20  # of expected payload in one message, where it holds more than one answer
_MAX_DESCRIPTION = 64 << 10  # bytes; of a recipe this long or longer only one is asked for at a time

Q = TypeVar("Q", ShareName, BlockName)


@dataclass(frozen=True)
class Description:
    """What lies beside a share."""

    mapping: bytes  # sealed
    recipe: bytes  # packed


@dataclass
class _Question(Generic[Q]):
    name: Q
    reply_bytes: int
    answer: asyncio.Future[memoryview]


class Devices:
    """Asks devices over one link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._blocks: dict[bytes, list[_Question[BlockName]]] = {}

    async def block(self, device: bytes, name: BlockName, length: int) -> memoryview:
        """A block of `length` bytes, unchecked; DeclinedError or UnreachableError where it does not come."""
        loop = asyncio.get_running_loop()
        question = _Question(name, length, loop.create_future())
        waiting = self._blocks.setdefault(device, [])
        if not waiting:
            loop.call_soon(self._send_waiting, device)
        waiting.append(question)
        return await question.answer

    def _send_waiting(self, device: bytes) -> None:
        for questions in _messages(self._blocks.pop(device)):
            task = asyncio.ensure_future(self._fetch(device, questions))
            # A question's own future reports what went wrong; the task itself raises nothing.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _fetch(self, device: bytes, questions: list[_Question[BlockName]]) -> None:
        expected = sum(question.reply_bytes for question in questions)
        try:
            reply = await self._link.request(
                Operation.FETCH,
                Fetch([question.name for question in questions]),
                Fetched,
                device=device,
                reply_bytes=expected,
                patience=PATIENCE,
            )
            parts = [(part.answer, part.length) for part in reply.header.parts]
            for question, answer in zip(questions, _split(reply.payload, parts, len(questions), device)):
                _settle(question.answer, answer)
        except (TesseraError, asyncio.CancelledError) as error:
            for question in questions:
                _settle(question.answer, error)

    async def describe(
        self, device: bytes, names: list[ShareName], *, with_recipe: bool
    ) -> list[Union[Description, TesseraError]]:
        """For each share (at most 64) what lies beside it, or why that did not come."""
        if len(names) > MAX_BATCH:
            raise ProtocolError(f"{len(names)} shares in one question")
        try:
            reply = await self._link.request(
                Operation.DESCRIBE,
                Describe(names, with_recipe),
                Described,
                device=device,
                reply_bytes=MAX_PAYLOAD,
                patience=PATIENCE,
            )
            parts = [(answer, mapping + recipe) for answer, mapping, recipe in reply.header.parts]
            pieces = _split(reply.payload, parts, len(names), device)
        except TesseraError as error:
            return [error] * len(names)
        return [
            piece if isinstance(piece, TesseraError) else Description(bytes(piece[:mapping]), bytes(piece[mapping:]))
            for piece, (_, mapping, _) in zip(pieces, reply.header.parts)
        ]


def _messages(questions: list[_Question[Q]]) -> list[list[_Question[Q]]]:
    """Questions in groups that fit into one message each."""
    groups: list[list[_Question[Q]]] = []
    size = 0
    for question in questions:
        size += question.reply_bytes
        if not groups or len(groups[-1]) == MAX_BATCH or size > _MESSAGE_BYTES:
            groups.append([])
            size = question.reply_bytes
        groups[-1].append(question)
    return groups


def _split(
    payload: memoryview, parts: list[tuple[Answer, int]], count: int, device: bytes
) -> list[Union[memoryview, TesseraError]]:
    """The payload's pieces, in order, or the reason why one is missing."""
    if len(parts) != count or sum(length for _, length in parts) != payload.nbytes:
        raise ProtocolError("a reply does not answer what was asked")
    pieces: list[Union[memoryview, TesseraError]] = []
    offset = 0
    for answer, length in parts:
        pieces.append(payload[offset : offset + length] if answer.granted else DeclinedError(answer, device))
        offset += length
    return pieces


def _settle(future: asyncio.Future[memoryview], outcome: Union[memoryview, BaseException]) -> None:
    if future.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    elif isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
