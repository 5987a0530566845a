"""One run of the producer: connect, choose k and n, store all sources.

Small images are stored in batches, longer ones as streams, a few of either at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Callable, Union

from common.coding.redundancy import count_devices
from common.coding.slicing import Slicing
from common.errors import NoRoomError, NotEnoughError, NotFoundError, TesseraError, UnreachableError
from common.link.link import reached, run_with_link
from common.link.questions import settled_devices
from common.membership.identity import ClientIdentity
from common.process.events import BytesExpected, Warned
from common.protocol.messages import Device
from producer.batch import MAX_IMAGES, store_batch
from producer.events import Emit, FailedImage, Outcome
from producer.owner import Owner
from producer.reading import stamp_of
from producer.sources import Source
from producer.stream import store_stream
from producer.target import StoreOptions, Target
from producer.threads import Threads
from viewer.process import Viewer

log = logging.getLogger(__name__)

AT_A_TIME = 5
_BATCH_SEGMENTS = 2  # whose bytes a batch of small images may have: with two there are fewer messages than with one

Part = Union[Source, list[Source]]  # a stream, or a batch


def run_store(
    identity: ClientIdentity,
    find_owner: Callable[[], Owner],
    sources: Sequence[Source],
    options: StoreOptions,
    emit: Emit,
) -> None:
    """Store the sources, as `store`, with a viewer of its own, which starts while the key is derived."""
    with closing(Viewer(emit=emit)) as viewer:
        viewer.start()
        run_with_link(store(identity, find_owner(), viewer, sources, options, emit))


async def store(
    identity: ClientIdentity,
    owner: Owner,
    viewer: Viewer,
    sources: Sequence[Source],
    options: StoreOptions,
    emit: Emit,
) -> None:
    """Store the sources by a link of its own; `emit` gets each one's outcome as soon as it is known.

    Where it is cancelled, the same call resumes what it began.
    """
    sizes = [source.size for source in sources if source.outcome is None]
    if None not in sizes:  # as that of stdin, which is known only at its end
        emit(BytesExpected(sum(size or 0 for size in sizes)))
    async with reached(owner.link(identity, emit)) as link:
        devices = await settled_devices(link)
        chosen = choose_devices(devices, options.to)
        k, n = count_devices(chosen).choose(options.k, options.n, accept_degraded=options.accept_degraded)
        if k == n:
            emit(Warned(f"warning: {k} of {n}: the loss of a single device loses what is stored now"))
        avoid = [device.device_id for device in devices if device not in chosen]
        target = Target(link, owner, k, n, devices, options, avoid=avoid, emit=emit)
        threads = Threads(viewer)
        owner.forget_old(time.time())
        try:
            async for outcome in store_all(target, threads, sources):
                emit(outcome)
        finally:
            threads.close()
            owner.save(emit)


def choose_devices(devices: Sequence[Device], names: Sequence[str]) -> list[Device]:
    """The devices of these names, all where no name is given; NotFoundError where there is no such device."""
    if not names:
        return list(devices)
    unknown = set(names) - {device.name for device in devices}
    if unknown:
        raise NotFoundError(
            f"no device of the cluster is called {', '.join(sorted(unknown))}",
            advice="see how they are called with: python admin/admin.py status",
        )
    return [device for device in devices if device.name in names]


async def store_all(target: Target, threads: Threads, sources: Iterable[Source]) -> AsyncIterator[Outcome]:
    """Store the sources; yields each one's outcome as soon as it is known.

    Those that failed for lack of room beside a larger one are tried again at the end, the smallest first.
    """
    running: set[asyncio.Task[list[Outcome]]] = set()
    sources = list(sources)
    unfit: list[Outcome] = []
    try:
        for part in _divide(target.coding.slicing, sources):
            if len(running) == AT_A_TIME:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for outcome in _known(done, unfit):
                    yield outcome
            running.add(asyncio.get_running_loop().create_task(_store(target, threads, part)))
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for outcome in _known(done, unfit):
                yield outcome
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    by_name = {source.shown: source for source in sources}
    unfit.sort(key=lambda outcome: _size(by_name[outcome.shown]))
    while len(unfit) > 1:  # where all others fit, the largest cannot
        source = by_name[unfit[0].shown]
        (outcome,) = await _store(target, threads, source if _is_long(target.coding.slicing, source) else [source])
        if _is_unfit(outcome):
            break
        del unfit[0]
        yield outcome
    for outcome in unfit:
        yield outcome


def _known(done: Iterable[asyncio.Task[list[Outcome]]], unfit: list[Outcome]) -> Iterator[Outcome]:
    """The outcomes of done tasks; those that found no room are added to `unfit` instead."""
    for outcome in (outcome for task in done for outcome in task.result()):
        if _is_unfit(outcome):
            unfit.append(outcome)
        else:
            yield outcome


def _is_unfit(outcome: Outcome) -> bool:
    return isinstance(outcome, FailedImage) and isinstance(outcome.error, NoRoomError)


def _size(source: Source) -> float:
    """In bytes; stdin, which cannot be read again, counts as the largest."""
    return float("inf") if source.path is None else float(source.size or 0)


def _divide(slicing: Slicing, sources: Iterable[Source]) -> Iterator[Part]:
    """Batches of images of one segment each, as large as allowed; the others one by one."""
    batch: list[Source] = []
    room = _BATCH_SEGMENTS * slicing.block_size
    for source in sources:
        if source.outcome is None and _is_long(slicing, source):
            yield source
            continue
        block = slicing.block_length(source.size or 0)
        if batch and (len(batch) == MAX_IMAGES or block > room):
            yield batch
            batch, room = [], _BATCH_SEGMENTS * slicing.block_size
        batch.append(source)
        room -= block
    if batch:
        yield batch


def _is_long(slicing: Slicing, source: Source) -> bool:
    """Whether a source has more than one segment, or may have."""
    return source.size is None or slicing.segment_count(source.size) > 1


async def _store(target: Target, threads: Threads, part: Part) -> list[Outcome]:
    sources = part if isinstance(part, list) else [part]
    outcomes: list[Outcome] = [source.outcome for source in sources if source.outcome is not None]
    outcomes += await _attempt(target, threads, [source for source in sources if source.outcome is None])
    return [_explained(target, outcome) for outcome in outcomes]


def _explained(target: Target, outcome: Outcome) -> Outcome:
    """The link's error in place of the outcome's, where no broker is reached any more: it says more."""
    if isinstance(outcome, FailedImage) and isinstance(outcome.error, (NotEnoughError, UnreachableError)):
        return FailedImage(outcome.shown, target.link.cause(outcome.error, outcome.shown))
    return outcome


async def _attempt(target: Target, threads: Threads, sources: Sequence[Source]) -> list[Outcome]:
    """Store a batch, or one stream; an error of one source is its own outcome only."""
    known: list[Outcome] = []
    rest = sources
    try:
        known = await _recognise(target, sources)
        rest = [source for source in sources if source.shown not in {outcome.shown for outcome in known}]
        return known + await _store_unknown(target, threads, rest)
    except TesseraError as error:
        return known + [FailedImage(source.shown, error) for source in rest]
    except Exception as error:
        log.debug("a source is not what was foreseen", exc_info=True)
        if len(rest) > 1:
            return known + [outcome for source in rest for outcome in await _attempt(target, threads, [source])]
        text, advice = f"{type(error).__name__}: {error}", "run it again with --debug and report what it prints"
        return known + [
            FailedImage(source.shown, TesseraError(f"{source.shown}: internal fault: {text}", advice=advice))
            for source in rest
        ]


async def _store_unknown(target: Target, threads: Threads, sources: Sequence[Source]) -> list[Outcome]:
    if not sources:
        return []
    if _is_long(target.coding.slicing, sources[0]):
        return [await store_stream(target, threads, sources[0])]
    return await store_batch(target, threads, sources)


async def _recognise(target: Target, sources: Sequence[Source]) -> list[Outcome]:
    """The outcomes of files that were seen before, are unchanged by their stamps, and are still stored."""
    started = time.monotonic()
    if target.options.reread:
        return []
    seen = [(source, target.owner.seen(stamp_of(source))) for source in sources]
    hashes = {sha256 for _, sha256 in seen if sha256}
    if not hashes:
        return []
    stored = await target.stored_encodings(list(hashes))
    return [
        target.already_stored(source, sha256, source.size or 0, stored[sha256], started)
        for source, sha256 in seen
        if sha256 in stored
    ]
