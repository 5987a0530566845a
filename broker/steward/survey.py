"""What is found of all encodings, kept up to date bit by bit.

An encoding is assessed again when the catalog says that it changed, and when a time that was set for it comes. Where a
device that holds shares comes, goes or has been away for long enough, or where very many changed, the survey goes round
all encodings, part by part: the rows tell which are complete on devices that are here, and of the others each is
assessed. So neither time nor memory is taken by what is whole; what is found of the rest lies in rows as well
(`findings`).

What is lacking is handed out in turns of its owners, of each the nearest to being lost first. Who takes a finding sees
to it that the encoding is looked at again: by changing it, or by `look_later`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Optional

from broker.catalog import Catalog, Code
from broker.claims import Claim, Known, Place
from broker.steward.assessment import Finding, Presence, State, assess
from broker.steward.findings import Findings, Found, ToDo
from common.coding.redundancy import DeviceCount

_WHOLE = Found(State.WHOLE)
_ROWS = 100_000  # gone over at a time, in search of what is not simply whole
_ALIKE = 10_000  # findings kept
_PAGE = 2000  # encodings read together
_NAMED = 20_000  # encodings that are to be looked at one by one

Image = tuple[bytes, bytes]  # owner, object id


class Lacking(NamedTuple):
    """An encoding that lacks something, and what is known of it."""

    known: Known
    finding: Finding


class Surplus(NamedTuple):
    """A whole encoding with more copies than it needs, for longer than the grace."""

    known: Known
    places: tuple[Place, ...]


class ImageCounts(NamedTuple):
    """How many images are how, each by the best of its encodings."""

    whole: int
    waiting: int
    lacking: int
    unrecoverable: int
    in_danger: int  # of those that are waiting or lacking: exactly as many shares as are needed are at hand
    needless: int  # encodings that can be restored, beside a whole one of the same image


class _Round:
    """All encodings that were there when it began, gone over part by part.

    changed: devices of which an encoding has to be on one; None for any.
    """

    def __init__(self, last_ref: int, changed: Optional[set[bytes]]) -> None:
        self.next_ref = 1
        self.last_ref = last_ref
        self.changed = changed
        self.after: Optional[bytes] = b""  # findings up to there were compared with the catalog; None where all were

    def widen(self, changed: Optional[set[bytes]]) -> None:
        """Before it has begun."""
        self.changed = None if changed is None or self.changed is None else self.changed | changed


class Survey:
    """`timeout` and `grace`: seconds for which a share that no device named is waited for, and surplus is kept."""

    def __init__(self, catalog: Catalog, timeout: float, grace: float) -> None:
        self._catalog = catalog
        self._timeout = timeout
        self._grace = grace
        self._presence: dict[bytes, Presence] = {}
        self._may_come = 0  # devices that are away and may have shares that no device has named
        self._findings = Findings(catalog.rows)
        self._alike: dict[tuple[int, int, tuple[Place, ...]], Finding] = {}  # of k, n and places, while nobody moves
        self._unlooked: dict[bytes, None] = {}
        self._round: Optional[_Round] = None
        self._next_round: Optional[_Round] = None  # what is to be gone over after that
        self._urgent: set[bytes] = set()
        self._set: list[tuple[float, bytes]] = []  # a heap of times at which encodings are to be looked at again
        self._counts: Counter[Optional[State]] = Counter()  # None: deleted, and still held by a device
        self._left: Counter[tuple[bytes, bool]] = Counter()  # retiring device → shares that only it has; incomplete?
        self._endangered = 0
        self._bytes_left = 0
        self._hidden_codes: Counter[Code] = Counter()
        self._go_round(None)

    # --- keeping it up to date

    def notice(self, presence: Mapping[bytes, Presence], may_come: int = 0) -> None:
        """Take up which devices are there now; `may_come` as for `assess`."""
        before, self._presence = self._presence, dict(presence)
        devices = before.keys() | presence.keys()
        changed = {device for device in devices if before.get(device) is not self._presence.get(device)}
        if changed:
            self._alike.clear()
        if may_come != self._may_come:
            self._may_come = may_come
            self._go_round(None)
        elif any(self._catalog.shares_on(device) for device in changed):
            self._go_round(changed)

    def _go_round(self, changed: Optional[set[bytes]]) -> None:
        if self._next_round is None:
            self._next_round = _Round(0, changed)
        else:
            self._next_round.widen(changed)

    def look(self, now: float, limit: int) -> list[bytes]:
        """Assess up to `limit` encodings of which something changed, and return them. `now`: monotonic seconds."""
        touched = self._catalog.take_touched()
        if touched is None:
            self._go_round(None)
        else:
            self._unlooked.update(dict.fromkeys(touched))
        self._unlooked.update(dict.fromkeys(self._findings.take_due(now, limit)))
        while self._set and self._set[0][0] <= now:
            self._unlooked[heapq.heappop(self._set)[1]] = None
        if len(self._unlooked) > _NAMED:
            self._unlooked.clear()
            self._go_round(None)
        looked_at = list(itertools.islice(self._unlooked, limit))
        self._look_at_all(looked_at, now)
        if len(looked_at) < limit:
            found = self._go_on(limit - len(looked_at))
            self._look_at_all(found, now)
            looked_at += found
        return looked_at

    def _look_at_all(self, encoding_ids: list[bytes], now: float) -> None:
        self._catalog.hold(encoding_ids)
        self._findings.hold(encoding_ids)
        away = self._catalog.rows.bits(self._not_here())
        for encoding_id in encoding_ids:
            self._unlooked.pop(encoding_id, None)
            is_as_before = self._findings.get(encoding_id) is None and encoding_id not in self._urgent
            if not (is_as_before and self._catalog.is_simply_whole(encoding_id, away)):
                self._look_at(encoding_id, now)
        self._findings.write()

    def _go_on(self, limit: int) -> list[bytes]:
        """Up to `limit` encodings that are to be looked at in the round that is under way, and in that after it."""
        found: list[bytes] = []
        rows = _ROWS
        while rows > 0 and len(found) < limit and (going := self._going()) is not None:
            if going.next_ref <= going.last_ref:
                refs = range(going.next_ref, min(going.next_ref + rows, going.last_ref + 1))
                found += self._not_whole_of(going, refs, limit - len(found))
                rows -= len(refs)
            elif going.changed is None and going.after is not None:
                gone, going.after = self._findings.without_encoding(going.after, rows)
                found += gone
                rows -= rows if going.after is not None else 0
            else:
                self._round = None
        return found

    def _going(self) -> Optional[_Round]:
        """The round that is under way, or begins now."""
        if self._round is None:
            self._round, self._next_round = self._next_round, None
            if self._round is not None:
                self._round.last_ref = self._catalog.last_ref
        return self._round

    def _not_whole_of(self, going: _Round, refs: range, limit: int) -> list[bytes]:
        found = self._catalog.to_look_at(refs, going.changed, self._not_here(), limit)
        going.next_ref = found[-1][0] + 1 if len(found) == limit else refs.stop
        return [encoding_id for _, encoding_id in found]

    def _not_here(self) -> list[bytes]:
        return [device for device in self._catalog.devices() if self.presence(device) is not Presence.HERE]

    @property
    def current(self) -> bool:
        """Everything was looked at."""
        return not self._unlooked and self._round is None and self._next_round is None

    def look_later(self, encoding_id: bytes, when: float) -> None:
        heapq.heappush(self._set, (when, encoding_id))

    def hurry(self, encoding_id: bytes) -> None:
        """Wait for no device to come back, until this encoding is whole."""
        if encoding_id in self._catalog:
            self._urgent.add(encoding_id)
            self._unlooked[encoding_id] = None

    def presence(self, device: bytes) -> Presence:
        return self._presence.get(device, Presence.LOST)

    # --- what was found

    def take_lacking(self, now: float) -> Optional[Lacking]:
        """Of the owner whose turn it is the encoding nearest to being lost; None where nothing is to be done now."""
        while (taken := self._findings.take_lacking()) is not None:
            encoding_id, spare = taken
            known = self._catalog.known(encoding_id)
            if known is None or encoding_id in self._unlooked:
                continue  # it comes again when it was looked at
            finding = self._assessed(known, self._findings.get(encoding_id), now)
            self._findings.write()
            if finding.state is State.LACKING and finding.spare == spare:
                return Lacking(known, finding)
            self._unlooked[encoding_id] = None
        return None

    @property
    def has_lacking(self) -> bool:
        """Whether any may wait for its turn."""
        return self._findings.has_lacking()

    def due(self, owner: Optional[bytes]) -> int:
        """How many lacking encodings of this owner, or of all, wait for their turn."""
        return self._findings.count_lacking(owner)

    def take_surplus(self, now: float) -> Optional[Surplus]:
        """A whole encoding with copies that may go, out of the queue."""
        while (encoding_id := self._findings.take_surplus()) is not None:
            known = self._catalog.known(encoding_id)
            if known is None or encoding_id in self._unlooked:
                continue  # as above
            finding = self._assessed(known, self._findings.get(encoding_id), now)
            self._findings.write()
            if finding.surplus and finding.state is State.WHOLE:
                return Surplus(known, finding.surplus)
            self._unlooked[encoding_id] = None
        return None

    def take_stale(self, now: float, timeout: float, busy: Collection[bytes], limit: int) -> list[Known]:
        """Up to `limit` encodings that have had stale shares for so many seconds; they come again after as many."""
        due = [each for each in self._findings.stale_since(now - timeout, limit + len(busy)) if each not in busy]
        for encoding_id in due[:limit]:
            self._findings.take_stale(encoding_id, now)
        return [known for known in map(self._catalog.known, due[:limit]) if known is not None]

    def count(self, state: State) -> int:
        if state is not State.WHOLE:
            return self._counts[state]
        others = sum(count for other, count in self._counts.items() if other is not State.WHOLE)
        return max(0, len(self._catalog) - others)  # of the others some may have gone since the last look

    def weak(self, devices: DeviceCount) -> int:
        """How many images could be stronger with so many devices: have an encoding that could, as in `admin.health`."""
        codes = self._catalog.codes
        weak = {code: codes[code] - self._hidden_codes[code] for code in codes if devices.could_be_stronger(*code)}
        several: Counter[Image] = Counter()
        for known in self._known_duplicates():
            if (known.claim.k, known.claim.n) in weak:
                several[known.claim.owner, known.claim.object_id] += 1
        return sum(max(0, count) for count in weak.values()) - sum(count - 1 for count in several.values())

    def images(self) -> ImageCounts:
        """The same by images: of one that has several encodings the best counts."""
        counts = Counter({state: self.count(state) for state in State})
        in_danger = self._endangered
        best: dict[Image, Found] = {}
        restorable: Counter[Image] = Counter()
        for known in self._known_duplicates():
            found = self._findings.get(known.claim.encoding_id) or _WHOLE
            if found.state is None:
                continue
            counts[found.state] -= 1
            in_danger -= found.in_danger
            image = known.claim.owner, known.claim.object_id
            restorable[image] += found.state is not State.UNRECOVERABLE
            best[image] = max(best.get(image, found), found, key=lambda f: (f.state is State.WHOLE, f.spare))
        self._findings.write()
        counts.update(found.state for found in best.values() if found.state is not None)
        in_danger += sum(found.in_danger for found in best.values())
        return ImageCounts(
            whole=max(0, counts[State.WHOLE]),
            waiting=counts[State.WAITING],
            lacking=counts[State.LACKING],
            unrecoverable=counts[State.UNRECOVERABLE],
            in_danger=in_danger,
            needless=sum(restorable[image] - 1 for image, found in best.items() if found.state is State.WHOLE),
        )

    def _known_duplicates(self) -> Iterator[Known]:
        """The encodings of images that have several, but for those that were deleted."""
        for owner, object_id in self._catalog.several:
            encodings = self._catalog.encodings_of(owner, object_id)
            for known in map(self._catalog.known, encodings if len(encodings) > 1 else ()):
                if known is not None and (known.claim.owner, known.claim.object_id) == (owner, object_id):
                    yield known

    @property
    def bytes_left(self) -> int:
        return self._bytes_left

    def left_on(self, device: bytes, *, all_heard: bool) -> int:
        """How many shares only this retiring device has; all of its shares where not everything was looked at.

        all_heard: every device on the list has told what it holds, so that encodings of which fewer than k shares are
        known are rests that nothing can be restored from; unless a device has yet to learn that they were taken back.
        """
        if not self.current:
            return self._catalog.shares_on(device)
        return self._left[device, False] + (0 if all_heard else self._left[device, True])

    def not_whole(self) -> Iterator[bytes]:
        """Encodings that are not whole, and those that were not looked at yet."""
        after = b""
        while some := self._findings.not_whole(after, _PAGE):
            self._catalog.hold(some)  # which is asked whose they are
            yield from some
            after = some[-1]
        yield from list(self._unlooked)

    # --- looking

    def _look_at(self, encoding_id: bytes, now: float) -> None:
        before = self._findings.get(encoding_id)
        self._count(before, -1)
        found, to_do = self._find(encoding_id, before, now)
        self._count(found, 1)
        if found is not None or before is not None:
            self._findings.put(encoding_id, found, to_do)

    def _count(self, found: Optional[Found], by: int) -> None:
        """Add what was found of an encoding to all counts, or take it out of them."""
        if found is None:
            return
        self._counts[found.state] += by
        self._endangered += by * found.in_danger
        self._bytes_left += by * found.bytes_left
        for device in found.leaving:
            self._left[device, found.incomplete] += by
        if found.state is None:
            self._hidden_codes[found.code] += by

    def _find(self, encoding_id: bytes, before: Optional[Found], now: float) -> tuple[Optional[Found], ToDo]:
        """What there is to be kept of an encoding, and to be done."""
        if encoding_id not in self._catalog:
            self._urgent.discard(encoding_id)
            return None, ToDo()
        known = self._catalog.known(encoding_id)
        if self._catalog.is_deleted(encoding_id):
            self._urgent.discard(encoding_id)
            return Found(None, code=(known.claim.k, known.claim.n) if known is not None else (0, 0)), ToDo()
        if known is None:  # nothing is left of it but damage
            return Found(State.UNRECOVERABLE, -1), ToDo()
        finding = self._assessed(known, before, now)
        since = self._since(finding, before, now)
        stale = None
        if known.stale:
            stale = now if before is None or before.stale is None else before.stale
        if finding.state is State.WHOLE:
            self._urgent.discard(encoding_id)
            if not finding.surplus and stale is None:
                return None, ToDo()
        incomplete = finding.incomplete and not self._is_coming_back(known.claim)  # out of the trash of devices
        leaving = tuple(place.device for place in finding.leaving)
        what = finding.state, finding.spare, finding.unannounced, incomplete, finding.bytes_left, leaving
        return Found(*what, since, stale), self._to_do(known.claim, finding, since, now)

    def _is_coming_back(self, claim: Claim) -> bool:
        """Whether devices are yet to hear that its owner took a deletion back."""
        tombstone = self._catalog.tombstones.of_owner(claim.encoding_id, claim.owner)
        return tombstone is not None and bool(self._catalog.tombstones.behind(tombstone))

    def _assessed(self, known: Known, before: Optional[Found], now: float) -> Finding:
        urgent = known.claim.encoding_id in self._urgent
        finding = assess(known, self.presence, urgent=True, patient=True) if urgent else self._assessed_alike(known)
        if finding.unannounced and now - self._since(finding, before, now) >= self._timeout:
            return assess(known, self.presence, urgent=urgent, patient=False, may_come=self._may_come)
        return finding

    def _assessed_alike(self, known: Known) -> Finding:
        """Not urgent, and patient: all are found alike that lie alike, unless a choice of copies is to be made.

        That follows from the encoding's id, so that all brokers keep the same ones.
        """
        claim, sound = known.claim, known.sound
        has_copies = len({place.share for place in sound}) < len(sound) or len({p.device for p in sound}) < len(sound)
        if has_copies or known.damaged:
            return assess(known, self.presence, urgent=False, patient=True)
        finding = self._alike.get((claim.k, claim.n, sound))
        if finding is None:
            finding = assess(known, self.presence, urgent=False, patient=True)
            if len(self._alike) >= _ALIKE:
                self._alike.clear()
            self._alike[claim.k, claim.n, sound] = finding
        return finding._replace(bytes_left=claim.share_bytes * len(finding.lacking)) if finding.lacking else finding

    def _since(self, finding: Finding, before: Optional[Found], now: float) -> float:
        """Since when an encoding is as it is found: whole, or not."""
        if before is None or before.since is None:
            return now
        return before.since if (before.state is State.WHOLE) is (finding.state is State.WHOLE) else now

    def _to_do(self, claim: Claim, finding: Finding, since: float, now: float) -> ToDo:
        owner = claim.owner if finding.state is State.LACKING else None
        if finding.state is State.WHOLE and finding.surplus:
            is_over = now - since >= self._grace
            return ToDo(owner, is_over, None if is_over else since + self._grace)
        is_waited_for = finding.unannounced and now - since < self._timeout
        return ToDo(owner, False, since + self._timeout if is_waited_for else None)
