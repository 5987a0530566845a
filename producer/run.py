"""Stores all sources of one run: small images in batches, longer ones as streams, a few of either at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Union

from common.errors import TesseraError
from common.vault.seen import Stamp
from producer.batch import MAX_IMAGES, store_batch
from producer.outcome import FailedImage, Outcome
from producer.session import Session
from producer.sources import Source
from producer.stream import store_stream

AT_A_TIME = 5

Work = Union[Source, list[Source]]  # a stream, or a batch


async def store_all(session: Session, sources: Iterable[Source]) -> AsyncIterator[Outcome]:
    """Store the sources, and give each one's outcome as soon as it is known."""
    running: set[asyncio.Task[list[Outcome]]] = set()
    try:
        for work in _divide(session, sources):
            if len(running) == AT_A_TIME:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    for outcome in task.result():
                        yield outcome
            running.add(asyncio.get_running_loop().create_task(_store(session, work)))
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                for outcome in task.result():
                    yield outcome
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _divide(session: Session, sources: Iterable[Source]) -> Iterator[Work]:
    """Batches of what fits into one segment each, as much as a batch has room for; the rest one by one."""
    batch: list[Source] = []
    room = session.batch_room
    for source in sources:
        if source.fault is None and (source.size is None or session.slicing.segment_count(source.size) > 1):
            yield source
            continue
        block = session.slicing.block_length(source.size or 0)
        if batch and (len(batch) == MAX_IMAGES or block > room):
            yield batch
            batch, room = [], session.batch_room
        batch.append(source)
        room -= block
    if batch:
        yield batch


async def _store(session: Session, work: Work) -> list[Outcome]:
    if isinstance(work, list):
        outcomes: list[Outcome] = [FailedImage(s.shown, s.fault) for s in work if s.fault is not None]
        readable = [source for source in work if source.fault is None]
        known = await _recognise(session, readable)
        rest = [source for source in readable if source.shown not in {o.shown for o in known}]
        try:
            return outcomes + known + (await store_batch(session, rest) if rest else [])
        except TesseraError as error:
            return outcomes + known + [FailedImage(source.shown, error) for source in rest]
    known = await _recognise(session, [work])
    if known:
        return known
    try:
        return [await store_stream(session, work)]
    except TesseraError as error:
        return [FailedImage(work.shown, error)]


async def _recognise(session: Session, sources: Sequence[Source]) -> list[Outcome]:
    """The outcomes of files that were seen before, are unchanged by size and time, and are still stored."""
    started = time.monotonic()
    seen = {source: session.seen(_stamp(source)) for source in sources}
    hashes = {sha256 for sha256 in seen.values() if sha256}
    if not hashes:
        return []
    stored = await session.stored_encodings(list(hashes))
    return [
        session.already_stored(source, sha256, source.size or 0, stored[sha256], started)
        for source, sha256 in seen.items()
        if sha256 in stored
    ]


def _stamp(source: Source) -> Stamp | None:
    if source.path is None:
        return None
    try:
        return Stamp.of(source.path, source.path.stat())
    except OSError:
        return None
