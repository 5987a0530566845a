"""What a job does once it knows the recipe: store what is missing, look at what is there, give up what is not needed.

    open → transfer → commit → read → discard

- *open* each place, and ask how far an earlier try came;
- *transfer* the blocks: `transfer`;
- *commit* on each place: from then on the share counts; what fails before costs nothing but the work;
- *read* the shares that are to be looked at, and new ones where something is to be given up for them: every block;
- *discard* what is not needed any more, if the catalog still says so.
"""

from __future__ import annotations

from typing import Callable, Optional

from broker.catalog import Place
from broker.steward.agreement import Agreed
from broker.steward.blocks import Blocks
from broker.steward.requests import Ask, Reply
from broker.steward.task import LEASE, Discard, Outcome, Surroundings, Task
from broker.steward.transfer import Transfer
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, unpack, unpack_header
from common.protocol.device_messages import Commit, Inspect, Open, Progress, SegmentRange, ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import AnnouncedShare, Code, GrantedTo, Message

MAX_SEGMENTS = 1 << 20  # of one encoding: more fit into no recipe


class Mending:
    """`ended` is called once, with the reason why not all was done or "", when `outcome` is complete."""

    def __init__(
        self,
        asker: object,
        task: Task,
        agreed: Agreed,
        surroundings: Surroundings,
        outcome: Outcome,
        ended: Callable[[str, float], None],
    ) -> None:
        self._asker = asker
        self._task = task
        self._agreed = agreed
        self._around = surroundings
        self._outcome = outcome
        self._end = ended
        encoding_id = task.claim.encoding_id
        self._blocks = Blocks(
            task.claim, agreed.recipe, asker, self._around.ask, lambda place: self._around.found_bad(encoding_id, place)
        )
        self._transfer: Optional[Transfer] = None
        self._missing: dict[Place, set[int]] = {}  # opened place → segments that it lacks
        self._committed: list[Place] = []  # places that have the share now
        self._outstanding = 0

    @property
    def segments(self) -> int:
        return self._agreed.recipe.segment_count

    @property
    def segments_done(self) -> int:
        return self._transfer.segments_done if self._transfer is not None else 0

    def begin(self, now: float) -> None:
        self._open(now)

    def abandonments(self, then: Callable[[Reply, float], None]) -> list[Ask]:
        """What tells the places to forget what they were given: of an encoding that is not to be mended any more."""
        places = [target for target in self._missing if target not in self._committed]
        owner = self._task.claim.owner
        return [Ask(None, place.device, owner, Operation.ABANDON, self._name(place), then) for place in places]

    # --- open

    def _open(self, now: float) -> None:
        targets = self._task.targets
        self._outstanding = len(targets)
        for target in targets:
            self._open_one(target)
        if not targets:
            self._read(now)

    def _open_one(self, target: Place) -> None:
        claim, recipe = self._task.claim, self._agreed.recipe
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
        segments = set(range(self._agreed.recipe.segment_count))

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
        claim, agreed = self._task.claim, self._agreed
        sources = sorted(place for place in self._task.sources if place.device in agreed.devices)
        self._transfer = Transfer(
            self._task,
            agreed.recipe,
            self._around.code(claim.k, claim.n),
            sources,
            self._missing,
            self._blocks,
            self._asker,
            self._around.ask,
            self._transferred,
        )
        self._transfer.begin(now)

    def _transferred(self, transfer: Transfer, reason: str, now: float) -> None:
        self._outcome.refused += transfer.refused
        if reason:
            self._end(reason, now)
            return
        targets = transfer.targets
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

        packed = self._agreed.packed
        header = Commit(self._task.claim.encoding_id, target.share)
        self._ask(
            target.device,
            Operation.COMMIT,
            header,
            came,
            payload=packed,
            credit=len(packed),
        )

    def _committed_all(self, now: float) -> None:
        self._outcome.placed += self._committed
        for target in self._committed:
            self._around.stored(self._stored(target), target.device)
        if self._committed or not self._task.targets:
            self._read(now)
        else:
            self._end("no device takes its shares", now)

    # --- read, discard

    def _read(self, now: float) -> None:
        """Read what is to be read, one share after the other."""
        places = [*self._task.reads, *(self._committed if self._task.discards else [])]
        self._read_next(places, [], now)

    def _read_next(self, places: list[Place], bad: list[Place], now: float) -> None:
        if places:
            rest, found = places[1:], bad + places[:1]
            self._blocks.read_whole(
                places[0], lambda good, now: self._read_next(rest, bad if good else found, now), now
            )
        elif bad:
            self._end(f"{len(bad)} shares of it are not good", now)
        else:
            self._lease_others(now)

    def _lease_others(self, now: float) -> None:
        """Other encodings that are to be discarded must not be mended by another broker meanwhile, either."""
        others = {d.encoding_id: d for d in sorted(self._task.discards, key=lambda d: d.place.device, reverse=True)}
        others.pop(self._task.claim.encoding_id, None)

        def came(reply: Reply, now: float) -> None:
            if reply.code is Code.CONFLICT:
                self._outcome.conflict = True
                self._end("another broker mends what is to be discarded", now)
                return
            self._outstanding -= 1
            if self._outstanding == 0:
                self._discard(now)

        self._outstanding = len(others)
        for other in others.values():
            header = Inspect(other.encoding_id, other.place.share, LEASE)
            device, owner = other.place.device, other.owner
            self._around.ask(Ask(self._asker, device, owner, Operation.INSPECT, header, came, credit=MAX_PAYLOAD))
        if not others:
            self._discard(now)

    def _discard(self, now: float) -> None:
        discards = self._around.may_discard(self._task)
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
        self._around.ask(Ask(self._asker, discard.place.device, discard.owner, Operation.DISCARD, header, came))

    # --- small things

    def _finish(self, now: float) -> None:
        short = len(self._task.targets) - len(self._outcome.placed)
        self._end(f"{short} shares found no place" if short else "", now)

    def _ask(
        self,
        device: bytes,
        operation: Operation,
        header: Message,
        then: Callable[[Reply, float], None],
        *,
        payload: Optional[bytes] = None,
        credit: int = 0,
    ) -> None:
        owner = self._task.claim.owner
        self._around.ask(Ask(self._asker, device, owner, operation, header, then, payload, credit))

    def _stored(self, place: Place) -> AnnouncedShare:
        """What the device is going to announce."""
        claim, commitment = self._task.claim, self._agreed.commitment
        return AnnouncedShare(
            claim.encoding_id,
            place.share,
            claim.object_id,
            claim.owner,
            claim.k,
            claim.n,
            claim.share_bytes,
            revision=commitment.revision,
            grants=[GrantedTo(grant.owner, grant.object_id) for grant in commitment.grants],
        )

    def _name(self, place: Place) -> ShareName:
        return ShareName(self._task.claim.encoding_id, place.share)


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
