"""One run of the producer: connect, choose k and n, store all sources.

Small images are stored in batches, longer ones as streams, a few of either at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Callable, Optional, Union

from common.chunks import chunks
from common.coding.redundancy import count_devices
from common.coding.slicing import Slicing
from common.errors import NoRoomError, NotEnoughError, NotFoundError, TesseraError, UnreachableError
from common.link.link import reached, run_with_link
from common.link.questions import locate, settled_devices
from common.membership.identity import ClientIdentity
from common.process.events import BytesExpected, Warned
from common.protocol.messages import Device
from common.vault.mapping import SNAPSHOT
from common.vault.prune_plan import PRUNE_GRACE
from common.vault.snapshot import encode_snapshot
from common.vault.stamp import Stamp
from producer.batch import MAX_IMAGES, store_batch
from producer.events import Emit, FailedImage, Outcome, RecordedSnapshot, SkippedFile, StoredImage, nothing_stored
from producer.owner import Owner
from producer.reading import ChangedError, stamp_of
from producer.recording import new_snapshot
from producer.sources import Found, LinkFound, Source, located, root_paths
from producer.stream import store_stream
from producer.target import FoundImage, StoreOptions, Target
from producer.threads import Threads
from producer.trees import Trees
from viewer.process import Viewer

log = logging.getLogger(__name__)

AT_A_TIME = 5
_FOUND_AT_ONCE = 256
_ASKED_AT_ONCE = 500
_PRUNE_TIMEOUT = 60.0  # seconds in which a prune elsewhere may end
_FIRST_LOOK, _PRUNE_LOOK = 0.01, 0.5  # seconds to the next look, which double: mostly the broker learns of it at once
_BATCH_SEGMENTS = 2  # whose bytes a batch of small images may have: with two there are fewer messages than with one

Part = Union[Source, list[Source]]  # a stream, or a batch
Settled = list[tuple[Source, Outcome]]


def run_store(
    identity: ClientIdentity,
    find_owner: Callable[[], Owner],
    arguments: Sequence[str],
    found: Iterable[Found],
    options: StoreOptions,
    emit: Emit,
) -> None:
    """Store what was found, as `store`, with a viewer of its own, which starts while the key is derived."""
    with closing(Viewer(emit=emit)) as viewer:
        viewer.start()
        run = Run(arguments, found, Trees() if options.snapshot else None)
        run_with_link(partial(store, identity, find_owner(), viewer, run, options, emit))


async def store(
    identity: ClientIdentity,
    owner: Owner,
    viewer: Viewer,
    run: Run,
    options: StoreOptions,
    emit: Emit,
) -> None:
    """Store what is found by a link of its own; `emit` gets each one's outcome as soon as it is known.

    Where it is cancelled, the same call resumes what it began.
    """
    taken_at = time.time_ns()
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
            async for outcome in store_all(target, threads, run):
                emit(outcome)
            for failed in run.untouched():
                emit(failed)
            # While the snapshot is on its way this machine remembers what it stored.
            await asyncio.gather(record(target, threads, run, taken_at), threads.run(owner.save, emit))
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


class Run:
    """What one run stores: found piece by piece while it is stored, and the trees that are made of it.

    `unfit`: sources that found no room, with what was said of them.
    """

    def __init__(self, arguments: Sequence[str], found: Iterable[Found], trees: Optional[Trees] = None) -> None:
        """`trees`: None where no snapshot is taken."""
        self.arguments = arguments
        self.trees = trees
        self.unfit: list[tuple[Source, FailedImage]] = []
        self._found = iter(found)
        self._sources: deque[Source] = deque()
        self._looking = True
        self._touched: set[int] = set()  # the arguments of which something was stored, or failed

    @property
    def is_looking(self) -> bool:
        """Whether there may be more to be found."""
        return self._looking

    @property
    def is_short(self) -> bool:
        """Whether to look for more, lest there be nothing to store."""
        return self._looking and len(self._sources) < _FOUND_AT_ONCE

    async def look(self, target: Target, threads: Threads) -> Settled:
        """Find the next files; the outcomes of those that need not be read. The others can be had from `next`."""
        found = await threads.run(lambda: list(islice(self._found, _FOUND_AT_ONCE)))
        self._take(target, found)
        sources = [each for each in found if isinstance(each, Source)]
        settled = [(source, source.outcome) for source in sources if source.outcome is not None]
        readable = [source for source in sources if source.outcome is None]
        known, rest = await _recognise(target, threads, readable)
        self._sources += rest
        self._looking = len(found) == _FOUND_AT_ONCE
        return [*settled, *known]

    def next(self) -> Optional[Source]:
        """The next that is to be stored; None where there is none now: a tree may come once others are settled."""
        tree = None if self.trees is None else self.trees.next()
        if tree is not None:
            return tree
        return self._sources.popleft() if self._sources else None

    def _take(self, target: Target, found: Sequence[Found]) -> None:
        sources = [each for each in found if isinstance(each, Source)]
        sizes = [source.size for source in sources if source.outcome is None]
        if sizes and None not in sizes:  # as that of stdin, which is known only at its end
            target.emit(BytesExpected(sum(size or 0 for size in sizes)))
        for each in found:
            if isinstance(each, Source):
                if self.trees is not None:
                    self.trees.expect(each)
            elif self.trees is not None:
                self.trees.take(each)
                if isinstance(each, LinkFound):
                    self._touched.add(each.argument)

    def settle(self, source: Source, outcome: Outcome) -> Optional[Outcome]:
        """Take what came of a source; None where that is nothing to tell, as of a tree."""
        if not isinstance(outcome, SkippedFile) and source.kind is None:
            self._touched.add(source.argument)
        matters = self.trees is None or self.trees.settle(source, outcome)
        return outcome if matters and (source.kind is None or isinstance(outcome, FailedImage)) else None

    def untouched(self) -> Iterator[FailedImage]:
        """The arguments of which nothing was stored, neither by themselves nor by another that has the same in it.

        To be asked once, before `record`: a snapshot that lacks them is incomplete.
        """
        left = [argument for number, argument in enumerate(self.arguments) if number not in self._touched]
        found_elsewhere: set[str] = set()
        if left and self.trees is not None:
            touched = {located(self.arguments[number]) for number in self._touched}
            found_elsewhere = touched | (set(map(located, left)) - root_paths(self.arguments).keys())
        for argument in left:
            if located(argument) not in found_elsewhere:
                if self.trees is not None:
                    self.trees.failed += 1
                yield nothing_stored(argument)


async def store_all(target: Target, threads: Threads, run: Run) -> AsyncIterator[Outcome]:
    """Store what is found; yields each one's outcome as soon as it is known.

    Those that failed for lack of room beside a larger one are tried again at the end, the smallest first.
    """
    async for outcome in _store_found(target, threads, run):
        yield outcome
    unfit = sorted(run.unfit, key=lambda each: _size(each[0]))
    while len(unfit) > 1:  # where all others fit, the largest cannot
        source, _ = unfit[0]
        ((_, outcome),) = await _store(target, threads, source if _is_long(target.coding.slicing, source) else [source])
        if _is_unfit(outcome):
            break
        del unfit[0]
        if (told := run.settle(source, outcome)) is not None:
            yield told
    for source, failed in unfit:
        if (told := run.settle(source, failed)) is not None:
            yield told
    async for outcome in _store_found(target, threads, run):  # trees that waited for these
        yield outcome


async def _store_found(target: Target, threads: Threads, run: Run) -> AsyncIterator[Outcome]:
    """Store until nothing more is found; what finds no room is left to `unfit`."""
    running: set[asyncio.Task[Settled]] = set()
    look: Optional[asyncio.Task[Settled]] = None
    parts = _Parts(target.coding.slicing)
    try:
        while True:
            while len(running - {look}) < AT_A_TIME and (part := parts.next(run)) is not None:
                running.add(asyncio.ensure_future(_store(target, threads, part)))
            if run.is_short and look not in running:
                look = asyncio.ensure_future(run.look(target, threads))
                running.add(look)
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for source, outcome in (each for task in done for each in task.result()):
                if isinstance(outcome, FailedImage) and _is_unfit(outcome) and source.kind is None:
                    run.unfit.append((source, outcome))
                elif (told := run.settle(source, outcome)) is not None:
                    yield told
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Parts:
    """Batches of images of one segment each, as large as allowed; the others one by one."""

    def __init__(self, slicing: Slicing) -> None:
        self._slicing = slicing
        self._batch: list[Source] = []  # which is not full yet
        self._room = self._empty = _BATCH_SEGMENTS * slicing.block_size
        self._left: Optional[Source] = None  # what did not fit into the batch before

    def next(self, run: Run) -> Optional[Part]:
        """None where nothing is to be stored now: a batch that has room waits while more may be found."""
        while True:
            source, self._left = self._left or run.next(), None
            if source is None:
                return None if run.is_looking else self._take()
            is_stream = _is_long(self._slicing, source)
            block = self._slicing.block_length(source.size or 0)
            if self._batch and (is_stream or block > self._room):
                self._left = source
                return self._take()
            if is_stream:
                return source
            self._batch.append(source)
            self._room -= block
            if len(self._batch) == MAX_IMAGES:
                return self._take()

    def _take(self) -> Optional[Part]:
        batch, self._batch, self._room = self._batch, [], self._empty
        return batch or None


async def record(target: Target, threads: Threads, run: Run, taken_at: int) -> None:
    """Store the snapshot of what was stored, and emit it; `taken_at`: ns since 1970, when the run began.

    None where nothing was stored, or no path was given. Where it cannot be stored, that is an outcome that failed.
    """
    trees = run.trees
    if trees is None or trees.root is None:
        return
    code = target.coding.code
    snapshot = new_snapshot(run.arguments, target.options.label, trees, taken_at, code.k, code.n)
    content = encode_snapshot(snapshot)
    source = Source(None, "the snapshot", "snapshot", len(content), content=content, kind=SNAPSHOT)
    outcome = await store_object(target, threads, source)
    if isinstance(outcome, StoredImage):
        target.emit(RecordedSnapshot(outcome.sha256, snapshot, trees.degraded or outcome.degraded))
        is_long = time.time() - taken_at / 1e9 > PRUNE_GRACE / 2  # what it stored first is not new to a prune any more
        await _require_there(target, trees.found.union(trees.stored() if is_long else ()), outcome.sha256)
    else:
        target.emit(outcome)


async def store_object(target: Target, threads: Threads, source: Source) -> Outcome:
    """Store what is no file: a snapshot, or what a prune is about to delete."""
    ((_, outcome),) = await _store(target, threads, [source])
    return outcome


async def _require_there(target: Target, contents: AbstractSet[bytes], snapshot: bytes) -> None:
    """Say so where of these something is stored no more, or may yet be deleted: another machine may be pruning.

    A prune keeps in the vault what it is about to delete, reads the snapshots after that, and deletes what none names
    (`admin.pruning`). Once no such plan is to be seen, and this snapshot is, no prune deletes what it names.
    """
    pruning = await _is_pruning(target, snapshot)
    gone = set(contents)
    for some in chunks(contents, _ASKED_AT_ONCE):
        gone.difference_update(await target.stored_encodings(some))
    if gone:
        error = NotEnoughError(
            f"the snapshot: {len(gone):,} of what it names were deleted meanwhile, or lost devices",
            advice="run the same command again: it stores them anew",
        )
    elif pruning:
        error = NotEnoughError(
            "the snapshot: another machine prunes the vault, or was broken off in it, and may delete what it names",
            advice="have it end, or end it with python admin/admin.py prune; then run the same command again",
        )
    else:
        return
    target.emit(FailedImage("the snapshot", error))


async def _is_pruning(target: Target, snapshot: bytes) -> bool:
    """Whether a prune is at work, or broken off, and does not end in a while."""
    own, plan = target.owner.snapshot_ids(snapshot)
    end = target.link.time() + _PRUNE_TIMEOUT
    pause = min(_FIRST_LOOK, _PRUNE_LOOK)
    while True:
        found, settled = await locate(target.link, [own, plan])
        planned = any(len({share.share for share in each.shares}) >= each.k for each in found[plan])
        if settled and found[own] and not planned:
            return False
        if target.link.time() >= end:
            return True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _PRUNE_LOOK)


def _is_unfit(outcome: Outcome) -> bool:
    return isinstance(outcome, FailedImage) and isinstance(outcome.error, NoRoomError)


def _size(source: Source) -> float:
    """In bytes; stdin, which cannot be read again, counts as the largest."""
    return float("inf") if source.path is None else float(source.size or 0)


def _is_long(slicing: Slicing, source: Source) -> bool:
    """Whether a source has more than one segment, or may have."""
    return source.size is None or slicing.segment_count(source.size) > 1


async def _store(target: Target, threads: Threads, part: Part) -> Settled:
    """What came of each source of a part."""
    sources = part if isinstance(part, list) else [part]
    settled: Settled = []
    left: dict[str, list[Source]] = {}  # a file may be found twice, by two paths that are shown alike
    for source in sources:
        left.setdefault(source.shown, []).append(source)
    outcomes = await _attempt(target, threads, [source for each in left.values() for source in each])
    for outcome in outcomes:
        source = left[outcome.shown].pop()
        if isinstance(outcome, FailedImage) and isinstance(outcome.error, ChangedError):
            outcome = await _store_again(target, threads, source, outcome)
        settled.append((source, outcome))
    return [(source, _explained(target, outcome)) for source, outcome in settled]


async def _store_again(target: Target, threads: Threads, source: Source, changed: FailedImage) -> Outcome:
    """What came of a source that changed while it was read, by reading it once more as it is now."""
    stamp = stamp_of(source)
    if stamp is None:
        return changed
    (outcome,) = await _attempt(target, threads, [replace(source, size=stamp.size)])
    return outcome


def _explained(target: Target, outcome: Outcome) -> Outcome:
    """The link's error in place of the outcome's, where no broker is reached any more: it says more."""
    if isinstance(outcome, FailedImage) and isinstance(outcome.error, (NotEnoughError, UnreachableError)):
        return FailedImage(outcome.shown, target.link.cause(outcome.error, outcome.shown))
    return outcome


async def _attempt(target: Target, threads: Threads, sources: Sequence[Source]) -> list[Outcome]:
    """Store a batch, or one stream; an error of one source is its own outcome only."""
    try:
        if _is_long(target.coding.slicing, sources[0]):
            return [await store_stream(target, threads, sources[0])]
        return await store_batch(target, threads, sources)
    except TesseraError as error:
        return [FailedImage(source.shown, error) for source in sources]
    except Exception as error:
        log.debug("a source is not what was foreseen", exc_info=True)
        if len(sources) > 1:
            return [outcome for source in sources for outcome in await _attempt(target, threads, [source])]
        text, advice = f"{type(error).__name__}: {error}", "run it again with --debug and report what it prints"
        return [
            FailedImage(source.shown, TesseraError(f"{source.shown}: internal fault: {text}", advice=advice))
            for source in sources
        ]


async def _recognise(target: Target, threads: Threads, sources: Sequence[Source]) -> tuple[Settled, list[Source]]:
    """The outcomes of files that were seen before, are unchanged by their stamps, and are still stored; the others.

    Those of which that cannot be told are read.
    """
    started = time.monotonic()
    if target.options.reread:
        return [], list(sources)
    stamps = await threads.run(lambda: [_stamp(source) for source in sources])
    hashes = target.owner.seen(stamps)
    try:
        stored = await target.stored_encodings([*{*filter(None, hashes)}])
    except TesseraError:
        stored = {}  # storing them meets the same, and says so
    settled: Settled = []
    rest: list[Source] = []
    for source, stamp, sha256 in zip(sources, stamps, hashes):
        if sha256 in stored:
            image = FoundImage(source, sha256, source.size or 0, stamp)
            settled.append((source, target.already_stored(image, stored[sha256], started)))
        else:
            rest.append(source)
    return settled, rest


def _stamp(source: Source) -> Optional[Stamp]:
    try:
        return stamp_of(source)
    except Exception:
        log.debug("a source is not what was foreseen", exc_info=True)
        return None
