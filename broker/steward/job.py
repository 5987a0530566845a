"""One job: what the steward does for one encoding, from the first question to the last discarded share.

    lease → inspect → open → transfer → commit → read → discard

1. *lease*: the first holder, in an order that all brokers share, is asked for the commitment and to let no other broker
   mend this encoding meanwhile; where one does already, the job ends before it asked anything of the others.
2. *inspect*: the other holders, likewise. At least k must have identical commitments.
3. *open* each place, and ask how far an earlier try came.
4. *transfer* the blocks: `transfer`.
5. *commit* on each place. From then on the share counts; what fails before costs nothing but the work.
6. *read* the shares that are to be looked at, and new ones where something is to be given up for them: every block.
7. *discard* what is not needed any more, if the catalog still says so.

A job has no socket, clock or disk: it is told replies, and asks. It ends once, with an `Outcome`.
"""

from __future__ import annotations

from typing import Callable, Optional, Protocol

from broker.catalog import Place
from broker.steward.agreement import Agreed, agree
from broker.steward.blocks import Blocks
from broker.steward.requests import PATIENCE, PATIENCE_TO_COMMIT, Ask, Reply
from broker.steward.task import Discard, Outcome, Task
from broker.steward.transfer import Transfer, fits
from common.erasure import ErasureCode
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, unpack, unpack_header
from common.protocol.envelope import Operation
from common.protocol.messages import Code, Commit, Inspect, Message, Open, Progress, SegmentRange, ShareName

LEASE = 15  # seconds; every FETCH renews it
MAX_SEGMENTS = 1 << 20  # of one encoding: more fit into no recipe


class Surroundings(Protocol):
    """What a job needs of the steward; see `steward`."""

    def ask(self, ask: Ask) -> None:
        """Send a request; its `then` is called once, unless the job ends before."""

    def code(self, k: int, n: int) -> ErasureCode:
        """The erasure code of k of n."""

    def found_bad(self, encoding_id: bytes, place: Place) -> None:
        """This share gave a bad block."""

    def stored(self, task: Task, place: Place) -> None:
        """A share is durable on its new place."""

    def may_discard(self, task: Task, discard: Discard) -> bool:
        """Whether, as the catalog has it now, this share may still go."""

    def ended(self, job: Job, outcome: Outcome, now: float) -> None:
        """The job is over."""


class Job:
    def __init__(self, task: Task, surroundings: Surroundings) -> None:
        self.task = task
        self._around = surroundings
        self._outcome = Outcome()
        self._over = False
        self._commitments: dict[bytes, bytes] = {}  # device → packed
        self._agreed: Optional[Agreed] = None
        self._blocks: Optional[Blocks] = None
        self._transfer: Optional[Transfer] = None
        self._missing: dict[Place, set[int]] = {}  # opened place → segments that it lacks
        self._committed: list[Place] = []  # places that turned out to have the share
        self._outstanding = 0

    @property
    def segments(self) -> int:
        return self._agreed.recipe.segment_count if self._agreed is not None else 0

    @property
    def segments_done(self) -> int:
        return self._transfer.segments_done if self._transfer is not None else 0

    # --- lease, inspect

    def begin(self, now: float) -> None:
        first = min(self.task.sources, key=lambda place: place.device, default=None)
        if first is None:
            self._end("no device that holds it is here", now)
            return
        self._inspect(first, lambda now: self._inspect_others(first, now))

    def _inspect_others(self, first: Place, now: float) -> None:
        others = [place for place in self.task.sources if place != first]
        self._outstanding = len(others)
        for place in others:
            self._inspect(place, self._one_inspected)
        if not others:
            self._compare(now)

    def _inspect(self, place: Place, then: Callable[[float], None]) -> None:
        def came(reply: Reply, now: float) -> None:
            if reply.code is Code.CONFLICT:
                self._outcome.conflict = True
                self._end("another broker mends it", now)
                return
            if reply.answer.granted and reply.payload is not None:
                self._commitments[place.device] = bytes(reply.payload)
            elif reply.code is Code.DAMAGED:
                self._around.found_bad(self.task.claim.encoding_id, place)
            then(now)

        header = Inspect(self.task.claim.encoding_id, place.share, LEASE)
        self._ask(place.device, Operation.INSPECT, header, came, credit=MAX_PAYLOAD)

    def _one_inspected(self, now: float) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._compare(now)

    def _compare(self, now: float) -> None:
        agreed = agree(self._commitments, self.task.claim)
        if isinstance(agreed, str):
            self._end(agreed, now)
            return
        if not fits(agreed.recipe, len(self.task.targets)):
            self._end("its segments are too large to be rebuilt here", now)
            return
        self._agreed = agreed
        claim = self.task.claim
        self._blocks = Blocks(
            claim, agreed.recipe, self, self._around.ask, lambda place: self._around.found_bad(claim.encoding_id, place)
        )
        self._open(now)

    # --- open

    def _open(self, now: float) -> None:
        targets = self.task.targets
        self._outstanding = len(targets)
        for target in targets:
            self._open_one(target)
        if not targets:
            self._read(now)

    def _open_one(self, target: Place) -> None:
        claim, recipe = self.task.claim, self._agreement.recipe
        header = Open(claim.encoding_id, target.share, claim.k, claim.n, recipe.block_size, claim.share_bytes)

        def came(reply: Reply, now: float) -> None:
            # A conflict may mean that the share is there already: by an earlier try, or by another broker.
            if reply.answer.granted or reply.code is Code.CONFLICT:
                self._ask_progress(target, reply)
            else:
                self._outcome.refused.append(target)
                self._one_opened(now)

        self._ask(target.device, Operation.OPEN, header, came)

    def _ask_progress(self, target: Place, opened: Reply) -> None:
        segments = set(range(self._agreement.recipe.segment_count))

        def came(reply: Reply, now: float) -> None:
            committed, there = _progress(reply)
            if committed:
                self._committed.append(target)
            elif opened.answer.granted:
                self._missing[target] = segments - there
            else:
                self._outcome.refused.append(target)
            self._one_opened(now)

        self._ask(target.device, Operation.PROGRESS, self._name(target), came, credit=MAX_PAYLOAD)

    def _one_opened(self, now: float) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._begin_transfer(now)

    # --- transfer, commit

    def _begin_transfer(self, now: float) -> None:
        if not self._missing:
            self._committed_all(now)
            return
        claim, agreed = self.task.claim, self._agreement
        sources = sorted(place for place in self.task.sources if place.device in agreed.devices)
        self._transfer = Transfer(
            self.task,
            agreed.recipe,
            self._around.code(claim.k, claim.n),
            sources,
            self._missing,
            self._whole,
            self,
            self._around.ask,
            self._transferred,
        )
        self._transfer.begin(now)

    def _transferred(self, reason: str, now: float) -> None:
        assert self._transfer is not None
        self._outcome.refused += self._transfer.refused
        if reason:
            self._end(reason, now)
            return
        targets = self._transfer.targets
        self._outstanding = len(targets)
        for target in targets:
            self._commit(target)

    def _commit(self, target: Place) -> None:
        def came(reply: Reply, now: float) -> None:
            if reply.answer.granted:
                self._committed.append(target)
            else:
                self._outcome.refused.append(target)
            self._outstanding -= 1
            if self._outstanding == 0:
                self._committed_all(now)

        packed = self._agreement.packed
        header = Commit(self.task.claim.encoding_id, target.share)
        self._ask(
            target.device,
            Operation.COMMIT,
            header,
            came,
            payload=packed,
            credit=len(packed),
            patience=PATIENCE_TO_COMMIT,
        )

    def _committed_all(self, now: float) -> None:
        self._outcome.placed += self._committed
        for target in self._committed:
            self._around.stored(self.task, target)
        if self._committed or not self.task.targets:
            self._read(now)
        else:
            self._end("no device takes its shares", now)

    # --- read, discard

    def _read(self, now: float) -> None:
        """Read what is to be read, one share after the other."""
        places = [*self.task.reads, *(self._committed if self.task.discards else [])]
        self._read_next(places, [], now)

    def _read_next(self, places: list[Place], bad: list[Place], now: float) -> None:
        if places:
            rest, found = places[1:], bad + places[:1]
            self._whole.read_whole(places[0], lambda good, now: self._read_next(rest, bad if good else found, now), now)
        elif bad:
            self._end(f"{len(bad)} shares of it are not good", now)
        else:
            self._lease_others(now)

    def _lease_others(self, now: float) -> None:
        """Other encodings that are to be discarded must not be mended by another broker meanwhile, either."""
        others = {d.encoding_id: d for d in sorted(self.task.discards, key=lambda d: d.place.device, reverse=True)}
        others.pop(self.task.claim.encoding_id, None)

        def came(reply: Reply, now: float) -> None:
            if reply.code is Code.CONFLICT:
                self._outcome.conflict = True
                self._end("another broker mends what is to be discarded", now)
                return
            self._outstanding -= 1
            if self._outstanding == 0:
                self._discard(now)

        self._outstanding = len(others)
        for discard in others.values():
            header = Inspect(discard.encoding_id, discard.place.share, LEASE)
            self._around.ask(
                Ask(self, discard.place.device, discard.owner, Operation.INSPECT, header, came, credit=MAX_PAYLOAD)
            )
        if not others:
            self._discard(now)

    def _discard(self, now: float) -> None:
        discards = [discard for discard in self.task.discards if self._around.may_discard(self.task, discard)]
        self._outstanding = len(discards)
        for discard in discards:
            self._discard_one(discard)
        if not discards:
            self._finish(now)

    def _discard_one(self, discard: Discard) -> None:
        def came(reply: Reply, now: float) -> None:
            if reply.answer.granted:
                self._outcome.discarded.append(discard)
            self._outstanding -= 1
            if self._outstanding == 0:
                self._finish(now)

        header = ShareName(discard.encoding_id, discard.place.share)
        self._around.ask(Ask(self, discard.place.device, discard.owner, Operation.DISCARD, header, came))

    # --- ending

    def _finish(self, now: float) -> None:
        short = len(self.task.targets) - len(self._outcome.placed)
        self._end(f"{short} shares found no place" if short else "", now)

    def _end(self, reason: str, now: float) -> None:
        if not self._over:
            self._over = True
            self._outcome.reason = reason
            self._around.ended(self, self._outcome, now)

    def abandonments(self, then: Callable[[Reply, float], None]) -> list[Ask]:
        """What tells the places to forget what they were given: of an encoding that is not to be mended any more."""
        places = [target for target in self._missing if target not in self._committed]
        owner = self.task.claim.owner
        return [Ask(None, place.device, owner, Operation.ABANDON, self._name(place), then) for place in places]

    # --- small things

    def _ask(
        self,
        device: bytes,
        operation: Operation,
        header: Message,
        then: Callable[[Reply, float], None],
        *,
        payload: Optional[bytes] = None,
        credit: int = 0,
        patience: float = PATIENCE,
    ) -> None:
        owner = self.task.claim.owner
        self._around.ask(Ask(self, device, owner, operation, header, then, payload, credit, patience))

    @property
    def _agreement(self) -> Agreed:
        assert self._agreed is not None
        return self._agreed

    @property
    def _whole(self) -> Blocks:
        assert self._blocks is not None
        return self._blocks

    def _name(self, place: Place) -> ShareName:
        return ShareName(self.task.claim.encoding_id, place.share)


def _progress(reply: Reply) -> tuple[bool, set[int]]:
    """Whether the share is committed there, and else the segments that are there; none where it makes no sense."""
    if not reply.answer.granted or reply.header is None:
        return False, set()
    try:
        committed = unpack_header(reply.header, Progress).committed
        ranges = unpack(reply.payload, list[SegmentRange]) if reply.payload is not None else []
    except ProtocolError:
        return False, set()
    if committed or sum(one.count for one in ranges) > MAX_SEGMENTS:
        return committed, set()
    return False, {segment for one in ranges for segment in range(one.first, one.first + one.count)}
