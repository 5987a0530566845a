"""One repair: all that the steward does for one encoding, from the first question to the last discarded share.

    lease → agree → open → transfer → commit → amend → read → discard

- *lease*: the first holder, in an order that all brokers share, is asked for its commitment and to let no other broker
  repair this encoding meanwhile. One that says that another broker does may lie: the next is asked, and the others
  only when one agreed. So of two brokers one ends before it has asked many;
- *agree*: which commitment holds, by its owner's signature: `agreement`. Once k have it nobody else is waited for;
- *open* each place that is to get a share, and ask how far an earlier try came;
- *transfer*: of a segment k good blocks are fetched, what is missing is rebuilt, and appended on its places; at most
  two segments at a time, less where they are large. A share that another device holds already, and is only to be moved,
  comes straight from that device as long as it gives good blocks;
- *commit* on each place: from then on the share counts; what fails before costs nothing but the work;
- *amend* shares whose devices were away when the commitment changed: it is signed, so that anybody may bring it;
- *read* the shares that are to be looked at, and new ones where something is to be given up for them: every block;
- *discard* what is not needed any more, if the catalog still says so.

Every block is checked against the recipe before anybody uses it. A share that gave a bad one is not asked again, and
its device is told to look at it; a device that gives no answer is not asked again either, and a place that fails is
left out from then on. Where a device is slow another is asked as well, and what comes first counts; a slow place is
given up where its share can go to another one. Each step is a generator that yields its requests: `trampoline`. There
is no socket, clock or disk here; deadlines, and devices that are lost, come as replies from `requests`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Optional, Protocol

import numpy as np

from broker.claims import Place
from broker.steward.agreement import Agreed, Shown, agree, read
from broker.steward.plan import Task
from broker.steward.requests import Reply, Request, Then
from broker.steward.trampoline import Enough, GaveUp, Steps, Trampoline
from common.coding.commitments import CommitmentVerifier
from common.coding.recipe import Recipe
from common.erasure import ErasureCode
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, Buffer, unpack, unpack_header
from common.protocol.device_messages import (
    Amend,
    Append,
    BlockName,
    Commit,
    Fetch,
    Fetched,
    Inspect,
    Open,
    Progress,
    SegmentRange,
    ShareName,
)
from common.protocol.envelope import Operation
from common.protocol.messages import AnnouncedShare, Code, GrantedTo, Message

# Seconds for which no other broker is promised an encoding; every FETCH renews it. Longer than INSPECT and FETCH may
# take, so that one device that does not answer lets no lease of the others end.
LEASE = 30
MAX_SEGMENTS = 1 << 20  # of one encoding: more fit into no recipe
MEMORY = 16 * 1024 * 1024  # bytes of blocks that one repair holds at once
REQUEST_TIMEOUT = 6.0  # seconds that a device has for what needs no fsync: it may have to be asked twice
LETTING_GO = 3.0  # seconds in which a broker that gives way has let go of what it was promised
_SEGMENTS = 2  # at a time
_READ_AHEAD = 2  # blocks of a share that is read whole
_NO_PLACE = "no device takes its shares"


@dataclass
class Outcome:
    """What a repair came to; `reason` says why it did not do all."""

    reason: str = ""
    conflict: bool = False  # another broker repairs this encoding
    disputed: bool = False  # its devices do not show what they claim
    placed: list[Place] = field(default_factory=list)
    refused: list[Place] = field(default_factory=list)
    discarded: list[Place] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not self.reason


class Surroundings(Protocol):
    """What a repair needs of the steward."""

    verifier: CommitmentVerifier

    def ask(self, request: Request, then: Then, asker: object) -> None:
        """Send a request; `then` is called once, unless the repair ends before."""

    def code(self, k: int, n: int) -> ErasureCode:
        """The erasure code of k of n."""

    def found_bad(self, encoding_id: bytes, place: Place) -> None:
        """This share gave a bad block."""

    def is_slow(self, device: bytes) -> bool:
        """Whether this device leaves something unanswered for longer than it should, or did lately."""

    def can_go_elsewhere(self, task: Task, place: Place) -> bool:
        """Whether another device, that is not slow, may be given this share."""

    def stored(self, share: AnnouncedShare, device: bytes) -> None:
        """A share is durable on a device."""

    def may_discard(self, task: Task) -> list[Place]:
        """Those of a task's discards that may still go, as the catalog has it now."""


class Repair:
    """`ended` is called once, when nothing more will be asked; replies to what is still under way are to be dropped."""

    def __init__(
        self,
        task: Task,
        surroundings: Surroundings,
        ended: Callable[[Repair, Outcome, float], None],
        *,
        patient: bool,
    ) -> None:
        """`patient`: slow devices are waited for even where another says that another broker repairs it."""
        self.task = task
        self._patient = patient
        self.segments = 0
        self.segments_done = 0
        self._around = surroundings
        self._ended = ended
        self._claim = task.claim
        self._outcome = Outcome()
        self._missing: dict[Place, set[int]] = {}  # opened place → segments that it lacks
        self._failed: set[Place] = set()  # shares that gave a bad block, or none
        self._inspected: set[Place] = set()  # asked for their commitment, which may still come
        self._shown: dict[bytes, Optional[Shown]] = {}  # device → its commitment; None where its owner did not sign it
        self._contrary: AbstractSet[bytes] = frozenset()  # devices that have another commitment than the one that holds
        self._conflicts = 0  # devices that say that another broker repairs this encoding

        self._trampoline = Trampoline(lambda request, then: self._around.ask(request, then, self), self._end)

    def begin(self, now: float) -> None:
        self._trampoline.begin(self._steps(), now)

    def look(self, now: float) -> None:
        """To be called now and then: a device may have become slow."""
        self._trampoline.look(now)

    def abandonments(self) -> list[Request]:
        """What tells the places to forget what they were given: of an encoding that is not to be repaired any more."""
        places = [place for place in self._missing if place not in self._outcome.placed]
        return [self._request(place.device, Operation.ABANDON, self._name(place)) for place in places]

    def _end(self, reason: str, now: float) -> None:
        self._outcome.reason = reason
        self._ended(self, self._outcome, now)

    def _steps(self) -> Steps[None]:
        targets, outcome = self.task.targets, self._outcome
        agreed = yield from self._agree()
        if targets:
            yield from self._at(targets, lambda target: self._open(target, agreed.recipe))
            yield from self._transfer(agreed)
            yield from self._at(self._open_places(), lambda target: self._commit(target, agreed))
            for place in outcome.placed:
                self._around.stored(self._announced(place, agreed), place.device)
            if not outcome.placed:
                raise GaveUp(_NO_PLACE)
        yield from self._at(self.task.stale, lambda place: self._amend(place, agreed))
        bad = yield from self._read(agreed.recipe)
        discards = [place for place in self._around.may_discard(self.task) if place.share not in bad]
        left = set(discards)
        yield Enough([self._discard(place, left) for place in discards], lambda: all(map(self._is_slow, left)))
        if bad:
            raise GaveUp(f"{len(bad)} shares of it are not good")
        short = len(targets) - len(outcome.placed)
        if short:
            raise GaveUp(f"{short} shares found no place")
        if outcome.refused and self.task.stale:
            raise GaveUp("a device does not take what was amended")
        if left:
            raise GaveUp("a device does not give up what there is too much of")

    def _at(self, places: Iterable[Place], steps: Callable[[Place], Steps[None]]) -> Steps[None]:
        """Take these steps at each place; those that are slow and can be done without count as refused."""
        waiting = dict.fromkeys(places)

        def at(place: Place) -> Steps[None]:
            yield from steps(place)
            waiting.pop(place, None)

        yield Enough([at(place) for place in waiting], lambda: all(map(self._can_do_without, waiting)))
        for place in waiting:
            self._refuse(place)

    def _can_do_without(self, place: Place) -> bool:
        if not self._around.is_slow(place.device):
            return False
        return place in self.task.stale or self._around.can_go_elsewhere(self.task, place)

    def _refuse(self, place: Place) -> None:
        """This place takes nothing, whatever it still answers."""
        if place not in self._outcome.refused:
            self._outcome.refused.append(place)

    # --- lease, agree

    def _agree(self) -> Steps[Agreed]:
        sources = sorted(self.task.sources, key=lambda place: (self._around.is_slow(place.device), place.device))
        if not sources:
            raise GaveUp("no device that holds it is here")
        while sources and not self._shown and self._conflicts <= self._claim.n - self._claim.k:
            place = sources.pop(0)
            yield Enough([self._inspect(place)], partial(self._is_slow_or_shown, place.device))
        if self._shown or not sources:
            yield Enough([self._inspect(place) for place in sources], self._is_agreed)
        agreed = self._commitment()
        self._contrary = self._shown.keys() - (frozenset() if agreed is None else agreed.devices)
        good = frozenset() if agreed is None else agreed.devices | agreed.older
        for place in self.task.sources:  # which all claim the same
            if place.device in self._shown and place.device not in good:
                self._around.found_bad(self._claim.encoding_id, place)
        if agreed is None or (self._conflicts and len(self._shown) < self._claim.k):
            self._outcome.conflict = self._conflicts > 0
            self._outcome.disputed = not self._conflicts
            if self._conflicts:
                yield [self._let_go(place) for place in self.task.sources if place.device in self._shown]
            why = "another broker repairs it" if self._conflicts else "its owner did not sign what devices claim"
            raise GaveUp(why)
        if _segment_bytes(agreed.recipe, len(self.task.targets)) > MEMORY:
            raise GaveUp("its segments are too large to be rebuilt here")
        self.segments = agreed.recipe.segment_count
        return agreed

    def _commitment(self) -> Optional[Agreed]:
        """What its owner signed, as far as that is what devices claim to hold."""
        agreed = agree(self._shown)
        return agreed if agreed is not None and agreed.is_claimed(self._claim) else None

    def _is_slow_or_shown(self, device: bytes) -> bool:
        return bool(self._shown) or self._around.is_slow(device)

    def _is_agreed(self) -> bool:
        """Whether nobody else is waited for."""
        agreed = self._commitment() if len(self._shown) >= self._claim.k else None
        if not self._inspected or (agreed is not None and len(agreed.devices) >= self._claim.k):
            return True
        gives_way = self._conflicts > 0 and not self._patient
        return gives_way and all(map(self._is_slow, self._inspected))

    def _inspect(self, place: Place) -> Steps[None]:
        self._inspected.add(place)
        # Another broker that has this one's lease finds one before it taken, and lets go of it.
        first = not self._conflicts and any(device < place.device for device in self._shown)
        reply: Reply = yield self._lease(place, LEASE, LETTING_GO if first else 0.0)
        self._inspected.discard(place)
        if reply.answer.granted and reply.payload is not None:
            self._shown[place.device] = read(bytes(reply.payload), self._claim.encoding_id, self._around.verifier)
        elif reply.code is Code.CONFLICT:
            self._conflicts += 1
        elif reply.code in (Code.DAMAGED, Code.NOT_FOUND):
            self._around.found_bad(self._claim.encoding_id, place)

    def _let_go(self, place: Place) -> Steps[None]:
        """Have the lease of a repair that ends end soon, for the other broker."""
        yield self._lease(place, 1)

    def _lease(self, place: Place, seconds: int, again: float = 0.0) -> Request:
        header, owner = Inspect(self._claim.encoding_id, place.share, seconds), self._claim.owner
        return Request(place.device, owner, Operation.INSPECT, header, None, MAX_PAYLOAD, REQUEST_TIMEOUT, again)

    # --- amend

    def _amend(self, place: Place, agreed: Agreed) -> Steps[None]:
        """Show a device what supersedes its commitment; it checks for itself whether its owner signed that."""
        header = Amend(self._claim.encoding_id)
        reply: Reply = yield Request(place.device, self._claim.owner, Operation.AMEND, header, agreed.packed)
        if not reply.answer.granted:
            self._refuse(place)
        if reply.code in (Code.CONFLICT, Code.NOT_ALLOWED, Code.NOT_FOUND, Code.DAMAGED):
            self._around.found_bad(self._claim.encoding_id, place)  # or it would serve what does not hold any more

    # --- open

    def _open(self, target: Place, recipe: Recipe) -> Steps[None]:
        claim = self._claim
        header = Open(claim.encoding_id, target.share, claim.k, claim.n, recipe.block_size, claim.share_bytes)
        opened: Reply = yield self._request(target.device, Operation.OPEN, header)
        if not opened.answer.granted and opened.code is not Code.CONFLICT:
            self._refuse(target)
            return
        # A conflict may mean that the share is there already: by an earlier try, or by another broker.
        asked = self._request(target.device, Operation.PROGRESS, self._name(target), credit=MAX_PAYLOAD)
        committed, there = _progress((yield asked))
        if committed:
            self._outcome.placed.append(target)
        elif opened.answer.granted:
            self._missing[target] = set(range(recipe.segment_count)) - there
        else:
            self._refuse(target)

    def _open_places(self) -> list[Place]:
        """The opened places that did not fail."""
        return [target for target in self._missing if target not in self._outcome.refused]

    # --- transfer

    def _transfer(self, agreed: Agreed) -> Steps[None]:
        """Bring the opened places what they lack."""
        if not self._missing:
            return
        # Who was not waited for may do as well, since every block is checked.
        usable = [place for place in self.task.sources if place.device not in self._contrary]
        numbers = sorted(set().union(*self._missing.values()))
        self.segments_done = self.segments - len(numbers)
        at_once = max(1, min(_SEGMENTS, MEMORY // _segment_bytes(agreed.recipe, len(self._missing))))
        remaining = iter(numbers)
        yield [self._transfer_segments(remaining, sorted(usable), agreed.recipe) for _ in range(at_once)]

    def _transfer_segments(self, numbers: Iterator[int], sources: list[Place], recipe: Recipe) -> Steps[None]:
        """One segment after the other, as long as there are any."""
        for number in numbers:
            yield from self._transfer_segment(number, sources, recipe)
            self.segments_done += 1
            if not self._open_places():
                raise GaveUp(_NO_PLACE)

    def _transfer_segment(self, number: int, sources: list[Place], recipe: Recipe) -> Steps[None]:
        targets = self._lacking(number)
        if targets:
            blocks = yield from self._gather(number, targets, sources, recipe)
            targets = self._lacking(number)  # one may have failed meanwhile
            self._rebuild(number, targets, blocks, recipe)
            yield from self._at(targets, lambda target: self._append(number, target, blocks[target.share], recipe))

    def _lacking(self, number: int) -> list[Place]:
        """The opened places that lack a segment."""
        return [target for target in self._open_places() if number in self._missing[target]]

    def _gather(
        self, number: int, targets: list[Place], sources: list[Place], recipe: Recipe
    ) -> Steps[dict[int, memoryview]]:
        """Fetch what is needed to make the targets' blocks of a segment: share → block; more, where some were late."""
        blocks: dict[int, memoryview] = {}
        asked: set[Place] = set()

        def fetch(place: Place) -> Steps[None]:
            block = yield from self._fetch(place, number, recipe)
            if block is not None:
                blocks[place.share] = block

        def under_way() -> set[Place]:
            return {place for place in asked if place.share not in blocks and place not in self._failed}

        def lacking() -> list[Place]:
            return self._places_to_ask(targets, sources, blocks, asked, under_way())

        while not self._are_enough(targets, blocks):
            places = lacking()
            asked.update(places)
            if not under_way():
                raise GaveUp("fewer good blocks are to be had than are needed")
            yield Enough(
                [fetch(place) for place in places],
                lambda: self._are_enough(targets, blocks) or bool(lacking()) or not under_way(),
            )
        return dict(blocks)  # what comes late is not kept

    def _are_enough(self, targets: list[Place], blocks: dict[int, memoryview]) -> bool:
        return len(blocks) >= self._claim.k or {target.share for target in targets} <= blocks.keys()

    def _places_to_ask(
        self,
        targets: list[Place],
        sources: list[Place],
        blocks: dict[int, memoryview],
        asked: Collection[Place],
        under_way: Collection[Place],
    ) -> list[Place]:
        """Who is to be asked now for a block: nobody as long as enough are to come of devices that are not slow."""
        slow = {place.device for place in (*sources, *under_way) if self._around.is_slow(place.device)}
        coming = blocks.keys() | {place.share for place in under_way if place.device not in slow}
        wanted = {target.share for target in targets}
        donors = [Place(share, self.task.donors[share]) for share in sorted(wanted & self.task.donors.keys())]
        donors = [p for p in donors if p.share not in blocks and p not in asked and p not in self._failed]
        if wanted <= coming | {place.share for place in donors}:
            return donors
        others = [p for p in sources if p.share not in coming and p not in asked and p not in self._failed]
        others.sort(key=lambda place: place.device in slow)
        return others[: max(0, self._claim.k - len(coming))]

    def _fetch(self, place: Place, number: int, recipe: Recipe) -> Steps[Optional[memoryview]]:
        """One block, checked; None where this share gives none."""
        header = Fetch([BlockName(self._claim.encoding_id, place.share, number)])
        credit = recipe.block_length(number)
        reply: Reply = yield self._request(place.device, Operation.FETCH, header, credit=credit)
        code, block = _fetched(reply), reply.payload
        if code is Code.GRANTED and block is not None and recipe.accepts(number, place.share, block):
            return block
        if place not in self._failed and code in (Code.GRANTED, Code.DAMAGED):
            self._around.found_bad(self._claim.encoding_id, place)
        self._failed.add(place)
        return None

    def _rebuild(self, number: int, targets: list[Place], blocks: dict[int, memoryview], recipe: Recipe) -> None:
        """Add to the blocks of a segment those of the targets that are not among them."""
        length = recipe.block_length(number)
        missing = {t.share: np.empty(length, np.uint8) for t in targets if t.share not in blocks}
        if missing:
            present = {share: np.frombuffer(block, np.uint8) for share, block in blocks.items()}
            self._around.code(self._claim.k, self._claim.n).rebuild(present, missing)
            blocks.update((share, memoryview(array.data).cast("B")) for share, array in missing.items())
        if not all(recipe.accepts(number, t.share, blocks[t.share]) for t in targets):
            raise GaveUp("what was rebuilt is not what its recipe names")

    def _append(self, number: int, target: Place, block: memoryview, recipe: Recipe) -> Steps[None]:
        header = Append(self._claim.encoding_id, target.share, number, recipe.digest_of(number, target.share))
        credit = len(block)
        reply: Reply = yield self._request(target.device, Operation.APPEND, header, payload=block, credit=credit)
        if not reply.answer.granted:
            self._refuse(target)

    # --- commit

    def _commit(self, target: Place, agreed: Agreed) -> Steps[None]:
        header, packed = Commit(self._claim.encoding_id, target.share), agreed.packed
        credit = len(packed)
        reply: Reply = yield self._request(target.device, Operation.COMMIT, header, payload=packed, credit=credit)
        if not reply.answer.granted:
            self._refuse(target)
        elif target not in self._outcome.refused:
            self._outcome.placed.append(target)

    # --- read, discard

    def _read(self, recipe: Recipe) -> Steps[set[int]]:
        """Read what is to be read, one share after the other; the shares of which a copy is not good, or not given."""
        bad: set[Place] = set()
        for place in [*self.task.reads, *(self._outcome.placed if self.task.discards else [])]:
            numbers = iter(range(recipe.segment_count))
            yield [self._read_blocks(place, numbers, bad, recipe) for _ in range(_READ_AHEAD)]
        return {place.share for place in bad}

    def _read_blocks(self, place: Place, numbers: Iterator[int], bad: set[Place], recipe: Recipe) -> Steps[None]:
        """One block after the other, until one is not good."""
        for number in numbers:
            if (yield from self._fetch(place, number, recipe)) is None:
                bad.add(place)
            if place in bad:
                return

    def _discard(self, place: Place, left: set[Place]) -> Steps[None]:
        """Takes a place out of `left` where its device does it."""
        reply: Reply = yield self._request(place.device, Operation.DISCARD, self._name(place))
        if reply.answer.granted:
            self._outcome.discarded.append(place)
            left.discard(place)

    # --- small things

    def _is_slow(self, place: Place) -> bool:
        return self._around.is_slow(place.device)

    def _request(
        self, device: bytes, operation: Operation, header: Message, payload: Optional[Buffer] = None, credit: int = 0
    ) -> Request:
        timeout = None if operation is Operation.COMMIT else REQUEST_TIMEOUT
        return Request(device, self._claim.owner, operation, header, payload, credit, timeout)

    def _name(self, place: Place) -> ShareName:
        return ShareName(self._claim.encoding_id, place.share)

    def _announced(self, place: Place, agreed: Agreed) -> AnnouncedShare:
        """What the device is going to announce."""
        claim, commitment = self._claim, agreed.commitment
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
            depositor=claim.depositor,
        )


def _segment_bytes(recipe: Recipe, targets: int) -> int:
    """Of the blocks of one segment that are held at once."""
    return (recipe.k + targets) * recipe.block_size


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


def _fetched(reply: Reply) -> Code:
    """What the device says of the block that was asked for."""
    if not reply.answer.granted or reply.header is None:
        return reply.code
    try:
        parts = unpack_header(reply.header, Fetched).parts
    except ProtocolError:
        return Code.FAULT
    return parts[0].answer.code if len(parts) == 1 else Code.FAULT
