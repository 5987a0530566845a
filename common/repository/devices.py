"""Requests to devices for blocks, and for what lies beside a share, batched.

Questions of one kind to the same device that are asked in the same moment travel in one message, up to the protocol's
sizes; so do those that come while a message is under way to it, unless they fill one (as Nagle's algorithm has it, RFC
896). So restoring many small images at a time needs few messages. The time of every message is measured. A message is
not cancelled when its answers are no longer wanted: it would still count at the broker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Optional, TypeVar, Union

from common.coding.slicing import block_size_for
from common.errors import ProtocolError, TesseraError, UnreachableError
from common.link.link import Link
from common.link.replies import DeclinedError
from common.protocol.codec import MAX_PAYLOAD, unpack
from common.protocol.device_messages import (
    MAX_GRANTED_MAPPING,
    MAX_TRANSFERS,
    BlockName,
    Describe,
    Fetch,
    ShareName,
    SignedCommitment,
    Wanted,
)
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import MAX_BATCH, MAX_GRANTS, Answer, Code, EncodingAt
from common.protocol.operations import DESCRIBE, FETCH
from common.repository.latency import Latencies
from common.vault.mapping import MAX_SEALED_MAPPING

_BUSY_PAUSE = 0.02  # seconds
_RECIPE_FRAME = 256  # bytes of a recipe beside its digests
_MESSAGE_BYTES = 1 << 20  # of expected payload in one message, where it holds more than one answer

N = TypeVar("N")  # what is asked for
A = TypeVar("A")  # what is answered
Answered = Union[A, TesseraError]


@dataclass(frozen=True)
class Description:
    """What lies beside a share."""

    mapping: bytes  # sealed; or the whole commitment, where that was asked for
    recipe: bytes  # packed; empty where it was not asked for


def commitment_bytes(encoding: EncodingAt) -> int:
    """The most bytes of a share's commitment, likewise."""
    return description_bytes(encoding) + MAX_GRANTS * (MAX_GRANTED_MAPPING + 128) + MAX_TRANSFERS * 128 + _RECIPE_FRAME


def description_bytes(encoding: EncodingAt) -> int:
    """The most bytes of a share's mapping and recipe, by what the catalog says of the share's length."""
    segments = encoding.share_bytes // block_size_for(encoding.n) + 1
    return MAX_SEALED_MAPPING + segments * encoding.n * DIGEST_SIZE + _RECIPE_FRAME


@dataclass
class _Question(Generic[N, A]):
    name: N
    reply_bytes: int
    answer: asyncio.Future[A]
    end: Optional[float] = None  # until when a device that was busy is asked again, in the loop's time


class Batcher(Generic[N, A]):
    """Collects questions and asks them device by device, message by message."""

    def __init__(
        self, ask: Callable[[bytes, list[N], int], Awaitable[Sequence[Answered[A]]]], latencies: Latencies
    ) -> None:
        """`ask(device, names, reply_bytes)` asks one message's questions: an answer or an error for each, in order."""
        self._ask = ask
        self._latencies = latencies
        self._waiting: dict[bytes, list[_Question[N, A]]] = {}
        self._under_way: Counter[bytes] = Counter()
        self._due: set[bytes] = set()  # devices to be sent to before anything else happens
        self._tasks: set[asyncio.Task[Any]] = set()

    def ask(self, device: bytes, name: N, reply_bytes: int) -> asyncio.Future[A]:
        """The answer, of at most `reply_bytes`; DeclinedError or UnreachableError where none comes.

        A future, not a coroutine, so that a block needs no task: very many are asked for at a time.
        """
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._put(device, _Question(name, reply_bytes, answer))
        return answer

    def ask_all(self, device: bytes, names: Sequence[N], sizes: Sequence[int]) -> asyncio.Future[list[Answered[A]]]:
        """For each name what `ask` gives or raises, with as few messages as take them, and at once.

        `sizes`: the most bytes of each answer. What a device was too busy for is not asked again.
        """
        task = asyncio.ensure_future(self._ask_all(device, names, sizes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask_all(self, device: bytes, names: Sequence[N], sizes: Sequence[int]) -> list[Answered[A]]:
        messages = _messages(sizes)
        asked = (self._measured(device, list(names[some]), sum(sizes[some])) for some in messages)
        answers: list[Answered[A]] = []
        for some, came in zip(messages, await asyncio.gather(*asked, return_exceptions=True)):
            if isinstance(came, TesseraError):
                answers += [came] * (some.stop - some.start)
            elif isinstance(came, BaseException):
                raise came
            else:
                answers += came
        return answers

    def _put(self, device: bytes, question: _Question[N, A]) -> None:
        self._waiting.setdefault(device, []).append(question)
        if device not in self._due:
            self._due.add(device)
            asyncio.get_running_loop().call_soon(self._send, device)

    def _send(self, device: bytes) -> None:
        """Send what waits for this device: full messages, and where none is under way the rest."""
        self._due.discard(device)
        wanted = [question for question in self._waiting.pop(device, []) if not question.answer.done()]
        messages = [wanted[some] for some in _messages([question.reply_bytes for question in wanted])]
        if messages and (len(messages) > 1 or self._under_way[device]) and not _is_full(messages[-1]):
            self._waiting[device] = messages.pop()
        for questions in messages:
            self._under_way[device] += 1
            task = asyncio.ensure_future(self._exchange(device, questions))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, device))

    def _ended(self, device: bytes, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._under_way[device] -= 1
        self._send(device)

    async def _exchange(self, device: bytes, questions: list[_Question[N, A]]) -> None:
        reply_bytes = sum(question.reply_bytes for question in questions)
        try:
            answers = await self._measured(device, [question.name for question in questions], reply_bytes)
        except TesseraError as error:
            if isinstance(error, UnreachableError):  # what is queued fails without being sent
                questions += self._waiting.pop(device, [])
            answers = [error] * len(questions)
        except asyncio.CancelledError:
            for question in questions:
                question.answer.cancel()
            raise
        for question, answer in zip(questions, answers):
            self._settle(device, question, answer)

    async def _measured(self, device: bytes, names: list[N], reply_bytes: int) -> Sequence[Answered[A]]:
        """Ask one message's questions, and measure how long that takes."""
        latency = self._latencies.of(device)
        loop = asyncio.get_running_loop()
        asked = latency.asked(loop.time())
        try:
            answers = await self._ask(device, names, reply_bytes)
        except BaseException:
            latency.given_up(asked)
            raise
        latency.answered(asked, loop.time())
        return answers

    def _settle(self, device: bytes, question: _Question[N, A], answer: Answered[A]) -> None:
        if question.answer.done():
            return  # cancelled
        loop = asyncio.get_running_loop()
        if not isinstance(answer, TesseraError):
            question.answer.set_result(answer)
            return
        if question.end is None:
            question.end = loop.time() + FETCH.timeout
        if isinstance(answer, DeclinedError) and answer.code is Code.BUSY and loop.time() < question.end:
            # Of the questions of a message a device answers as many as fit into its reply.
            loop.call_later(_BUSY_PAUSE, self._put, device, question)
        else:
            question.answer.set_exception(answer)


def _messages(sizes: Sequence[int]) -> list[slice]:
    """Questions, by the bytes of their answers, in groups that fit into one message each."""
    starts: list[int] = []
    room = 0
    for number, size in enumerate(sizes):
        room -= size
        if not starts or number - starts[-1] == MAX_BATCH or room < 0:
            starts.append(number)
            room = _MESSAGE_BYTES - size
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(sizes)])]


def _is_full(questions: list[_Question[N, A]]) -> bool:
    return len(questions) == MAX_BATCH or sum(question.reply_bytes for question in questions) >= _MESSAGE_BYTES


class Devices:
    """Sends requests to devices over one link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._latencies = Latencies()
        self._blocks: Batcher[BlockName, memoryview] = Batcher(self._fetch, self._latencies)
        self._describing: dict[Wanted, Batcher[ShareName, Description]] = {
            wanted: Batcher(partial(self._describe, wanted), self._latencies) for wanted in Wanted
        }

    def late_after(self, device: bytes) -> float:
        """Seconds after which an answer of this device is late."""
        return self._latencies.of(device).late_after

    def slow(self) -> set[bytes]:
        """The devices that are late now, or were again and again."""
        return self._latencies.slow(asyncio.get_running_loop().time())

    def block(self, device: bytes, name: BlockName, length: int) -> asyncio.Future[memoryview]:
        """A block of `length` bytes, unchecked; DeclinedError or UnreachableError where it does not come."""
        return self._blocks.ask(device, name, length)

    def blocks(
        self, device: bytes, names: Sequence[BlockName], lengths: Sequence[int]
    ) -> asyncio.Future[list[Answered[memoryview]]]:
        """What `block` gives or raises for many, asked together and at once; never an error itself."""
        return self._blocks.ask_all(device, names, lengths)

    def description(
        self, device: bytes, name: ShareName, reply_bytes: int, *, with_recipe: bool
    ) -> asyncio.Future[Description]:
        """What lies beside a share, unchecked, of at most `reply_bytes`; errors as for `block`."""
        wanted = Wanted.RECIPE if with_recipe else Wanted.MAPPING
        return self._describing[wanted].ask(device, name, min(reply_bytes, MAX_PAYLOAD))

    async def commitment(self, device: bytes, name: ShareName, reply_bytes: int) -> SignedCommitment:
        """The commitment of a share of one's own, unchecked; errors as for `block`, or ProtocolError."""
        asking = self._describing[Wanted.COMMITMENT]
        return unpack((await asking.ask(device, name, min(reply_bytes, MAX_PAYLOAD))).mapping, SignedCommitment)

    async def _fetch(self, device: bytes, names: list[BlockName], reply_bytes: int) -> list[Answered[memoryview]]:
        reply = await self._link.request(FETCH, Fetch(names), device=device, reply_bytes=reply_bytes)
        parts = [(part.answer, part.length) for part in reply.header.parts]
        return _split(reply.payload, parts, len(names), device)

    async def _describe(
        self, wanted: Wanted, device: bytes, names: list[ShareName], reply_bytes: int
    ) -> list[Answered[Description]]:
        request = Describe(names, wanted)
        reply = await self._link.request(DESCRIBE, request, device=device, reply_bytes=reply_bytes)
        if any(min(mapping, recipe) < 0 for _, mapping, recipe in reply.header.parts):
            raise ProtocolError("a reply has lengths below zero")
        parts = [(answer, mapping + recipe) for answer, mapping, recipe in reply.header.parts]
        pieces = _split(reply.payload, parts, len(names), device)
        return [
            piece if isinstance(piece, TesseraError) else Description(bytes(piece[:mapping]), bytes(piece[mapping:]))
            for piece, (_, mapping, _) in zip(pieces, reply.header.parts)
        ]


def _split(
    payload: memoryview, parts: list[tuple[Answer, int]], count: int, device: bytes
) -> list[Answered[memoryview]]:
    """The payload's pieces, in order, or the reason why one is missing."""
    if len(parts) != count or sum(length for _, length in parts) != payload.nbytes:
        raise ProtocolError("a reply does not answer what was asked")
    pieces: list[Answered[memoryview]] = []
    offset = 0
    for answer, length in parts:
        pieces.append(payload[offset : offset + length] if answer.granted else DeclinedError(answer, device))
        offset += length
    return pieces
