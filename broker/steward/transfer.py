"""The blocks of a job: k good ones of a segment fetched, what is missing rebuilt, and appended on its places.

    fetch → rebuild → append        at most two segments at a time, less where they are large

A share that another device holds already, and is only to be moved, comes straight from that device as long as it gives
good blocks. Blocks that a place has from an earlier try are skipped. A place that fails is left out from then on; the
transfer ends when all others have all blocks, or when none is left, or too few good blocks are to be had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Optional

import numpy as np

from broker.catalog import Place
from broker.steward.blocks import Asking, Blocks
from broker.steward.requests import Ask, Reply
from broker.steward.task import Task
from common.coding.recipe import Recipe
from common.erasure import ErasureCode
from common.protocol.device_messages import Append
from common.protocol.envelope import Operation

MEMORY = 16 * 1024 * 1024  # bytes of blocks that one job holds at once
_SEGMENTS = 2  # at a time


@dataclass
class _Segment:
    number: int
    targets: list[Place]
    blocks: dict[int, memoryview] = field(default_factory=dict)  # by share
    asked: set[Place] = field(default_factory=set)  # not answered yet
    to_append: int = 0  # not answered yet; 0 as long as blocks are gathered
    gathered: bool = False


class Transfer:
    """`missing`: target → segments to store. `ended` is called once, with this and the reason for giving up, or ""."""

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        code: ErasureCode,
        sources: list[Place],
        missing: dict[Place, set[int]],
        blocks: Blocks,
        asker: object,
        ask: Asking,
        ended: Callable[[Transfer, str, float], None],
    ) -> None:
        self._task = task
        self._recipe = recipe
        self._code = code
        self._sources = sources
        self._missing = missing
        self._blocks = blocks
        self._asker = asker
        self._ask = ask
        self._ended = ended
        self._active: dict[int, _Segment] = {}
        self._numbers: Iterator[int] = iter(sorted(set().union(*missing.values())))
        self._over = False
        self._segments_at_once = max(1, min(_SEGMENTS, MEMORY // _segment_bytes(recipe, len(missing))))
        self.segments_done = recipe.segment_count - len(set().union(*missing.values()))
        self.refused: dict[Place, str] = {}

    def begin(self, now: float) -> None:
        self._go_on(now)

    @property
    def targets(self) -> list[Place]:
        """The places that did not fail."""
        return [target for target in self._missing if target not in self.refused]

    def _go_on(self, now: float) -> None:
        """Begin further segments as far as there is room, or end."""
        while not self._over and len(self._active) < self._segments_at_once:
            number = next(self._numbers, None)
            if number is None:
                break
            targets = [target for target in self.targets if number in self._missing[target]]
            if targets:
                segment = self._active[number] = _Segment(number, targets)
                self._gather(segment, now)
            else:
                self.segments_done += 1
        if not self._over and not self._active:
            self._end("" if self.targets else "no device takes its shares", now)

    # --- fetch

    def _gather(self, segment: _Segment, now: float) -> None:
        """Ask for what the segment still needs."""
        wanted = self._wanted(segment)
        if wanted is None:
            self._end("fewer good blocks are to be had than are needed", now)
            return
        for place in wanted:
            segment.asked.add(place)
        for place in wanted:
            self._blocks.fetch(place, segment.number, partial(self._came, segment, place))
        if not segment.asked:
            self._rebuild(segment, now)

    def _wanted(self, segment: _Segment) -> Optional[list[Place]]:
        """The places to ask now, besides those that are asked already; None where there are not enough."""
        have = {*segment.blocks, *(place.share for place in segment.asked)}
        donors = [Place(t.share, self._task.donors[t.share]) for t in segment.targets if t.share in self._task.donors]
        donors = [place for place in self._blocks.usable(donors) if place.share not in have]
        straight = have | {place.share for place in donors}
        if all(target.share in straight for target in segment.targets):
            return donors
        others = [place for place in self._blocks.usable(self._sources) if place.share not in have]
        needed = max(0, self._recipe.k - len(have))
        return others[:needed] if len(others) >= needed else None

    def _came(self, segment: _Segment, place: Place, block: Optional[memoryview], now: float) -> None:
        if self._over:
            return
        segment.asked.discard(place)
        if block is not None:
            segment.blocks[place.share] = block
        if block is None or not segment.asked:
            self._gather(segment, now)

    # --- rebuild, append

    def _rebuild(self, segment: _Segment, now: float) -> None:
        if segment.gathered:
            return
        segment.gathered = True
        targets = [target for target in segment.targets if target not in self.refused]
        present = {share: np.frombuffer(block, np.uint8) for share, block in segment.blocks.items()}
        length = self._recipe.block_length(segment.number)
        missing = {t.share: np.empty(length, np.uint8) for t in targets if t.share not in present}
        if missing:
            self._code.rebuild(present, missing)
        blocks = {**segment.blocks, **{share: memoryview(array.data).cast("B") for share, array in missing.items()}}
        segment.blocks.clear()
        if not all(self._recipe.accepts(segment.number, t.share, blocks[t.share]) for t in targets):
            self._end("what was rebuilt is not what its recipe names", now)
            return
        segment.to_append = len(targets)
        for target in targets:
            block_digest = self._recipe.digest_of(segment.number, target.share)
            header = Append(self._task.claim.encoding_id, target.share, segment.number, block_digest)
            block = blocks[target.share]
            self._ask(
                Ask(
                    self._asker,
                    target.device,
                    self._task.claim.owner,
                    Operation.APPEND,
                    header,
                    partial(self._appended, segment, target),
                    payload=block,
                    credit=len(block),
                )
            )
        if not targets:
            self._finish(segment, now)

    def _appended(self, segment: _Segment, target: Place, reply: Reply, now: float) -> None:
        if self._over:
            return
        if not reply.answer.granted:
            self.refused.setdefault(target, reply.answer.text or reply.code.value)
        segment.to_append -= 1
        if segment.to_append == 0:
            self._finish(segment, now)

    def _finish(self, segment: _Segment, now: float) -> None:
        del self._active[segment.number]
        self.segments_done += 1
        if not self.targets:
            self._end("no device takes its shares", now)
            return
        self._go_on(now)

    def _end(self, reason: str, now: float) -> None:
        if not self._over:
            self._over = True
            self._ended(self, reason, now)


def fits(recipe: Recipe, targets: int) -> bool:
    """Whether at least one segment of an encoding may be held in memory."""
    return _segment_bytes(recipe, targets) <= MEMORY


def _segment_bytes(recipe: Recipe, targets: int) -> int:
    return (recipe.k + targets) * recipe.block_size
