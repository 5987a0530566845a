"""Where good blocks of one encoding come from: which shares can still be asked, and which have shown to be bad.

Every block is checked against the recipe before anybody uses it. A share that gave a bad one is not asked again, and
its device is told to look at it; a device that gives no answer is not asked again by this job.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Callable, Optional

from broker.catalog import Claim, Place
from broker.steward.requests import Ask, Reply
from common.coding.recipe import Recipe
from common.errors import ProtocolError
from common.protocol.codec import unpack_header
from common.protocol.device_messages import BlockName, Fetch, Fetched
from common.protocol.envelope import Operation
from common.protocol.messages import Code

_READ_AHEAD = 2  # blocks of a share that is read whole
Then = Callable[[Optional[memoryview], float], None]  # the block, checked; None where this share gives none
Asking = Callable[[Ask], None]


class Blocks:
    """`bad` is called with a share that gave a wrong block, or that its device calls damaged."""

    def __init__(self, claim: Claim, recipe: Recipe, asker: object, ask: Asking, bad: Callable[[Place], None]) -> None:
        self._claim = claim
        self._recipe = recipe
        self._asker = asker
        self._ask = ask
        self._bad = bad
        self._failed: set[Place] = set()

    def usable(self, places: Collection[Place]) -> list[Place]:
        return [place for place in places if place not in self._failed]

    def fetch(self, place: Place, segment: int, then: Then) -> None:
        """Ask for one block."""
        name = BlockName(self._claim.encoding_id, place.share, segment)
        self._ask(
            Ask(
                self._asker,
                place.device,
                self._claim.owner,
                Operation.FETCH,
                Fetch([name]),
                lambda reply, now: self._came(place, segment, reply, then, now),
                credit=self._recipe.block_length(segment),
            )
        )

    def read_whole(self, place: Place, then: Callable[[bool, float], None], now: float) -> None:
        """Read all blocks of one share; `then` is told whether all are good."""
        numbers = iter(range(self._recipe.segment_count))
        under_way, good = 0, True

        def go_on(now: float) -> None:
            nonlocal under_way
            while good and under_way < _READ_AHEAD:
                segment = next(numbers, None)
                if segment is None:
                    break
                under_way += 1
                self.fetch(place, segment, came)
            if under_way == 0:
                then(good, now)

        def came(block: Optional[memoryview], now: float) -> None:
            nonlocal under_way, good
            under_way -= 1
            good = good and block is not None
            go_on(now)

        go_on(now)

    def _came(self, place: Place, segment: int, reply: Reply, then: Then, now: float) -> None:
        code = self._code(reply)
        block = reply.payload
        if code is Code.GRANTED and block is not None and self._recipe.accepts(segment, place.share, block):
            then(block, now)
            return
        if place not in self._failed and code in (Code.GRANTED, Code.DAMAGED):
            self._bad(place)
        self._failed.add(place)
        then(None, now)

    def _code(self, reply: Reply) -> Code:
        """What the device says of this block."""
        if not reply.answer.granted or reply.header is None:
            return reply.code
        try:
            parts = unpack_header(reply.header, Fetched).parts
        except ProtocolError:
            return Code.FAULT
        return parts[0].answer.code if len(parts) == 1 else Code.FAULT
