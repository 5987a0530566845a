"""What is found of all encodings, kept up to date bit by bit.

An encoding is assessed again when the catalog says that it changed, when a device that holds a share of it comes, goes
or has been away for long enough, and when a time that was set for it comes. So a change costs what it touches, and
100,000 encodings are never walked at once. Whole encodings leave no record here.

What is lacking is handed out in turns of its owners, of each the nearest to being lost first. Who takes a finding sees
to it that the encoding is looked at again: by changing it, or by `look_later`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Optional

from broker.catalog import Catalog, Claim, Code, Known, Place
from broker.steward.assessment import Finding, Presence, State, assess
from broker.steward.turns import Turns
from common.coding.redundancy import DeviceCount

_WHOLE = Finding(State.WHOLE)

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


class Survey:
    """`timeout` and `grace`: seconds for which a share that no device named is waited for, and surplus is kept."""

    def __init__(self, catalog: Catalog, timeout: float, grace: float) -> None:
        self._catalog = catalog
        self._timeout = timeout
        self._grace = grace
        self._presence: dict[bytes, Presence] = {}
        self._may_come = 0  # devices that are away and may have shares that no device has named
        self._unlooked: dict[bytes, None] = {}
        self._findings: dict[bytes, Finding] = {}
        self._since: dict[bytes, float] = {}  # encoding id → when it was first found as it is: not whole, or surplus
        self._urgent: set[bytes] = set()
        self._lacking: Turns[tuple[int, bytes]] = Turns()  # spare, encoding id; what changed since is skipped
        self._surplus: dict[bytes, None] = {}  # encodings whose grace is over
        self._set: list[tuple[float, bytes]] = []  # a heap of times at which encodings are to be looked at again
        self._counts: Counter[State] = Counter()
        self._left: Counter[tuple[bytes, bool]] = Counter()  # retiring device → shares that only it has; incomplete?
        self._endangered = 0
        self._bytes_left = 0
        self._hidden: dict[bytes, Code] = {}  # deleted, and still held by a device
        self._hidden_codes: Counter[Code] = Counter()
        self._stale: dict[bytes, float] = {}  # encodings with stale shares → since when, or when they were last taken
        self.duplicates: dict[bytes, Image] = {}  # encodings of objects that have several

    # --- keeping it up to date

    def notice(self, presence: Mapping[bytes, Presence], may_come: int = 0) -> None:
        """Take up which devices are there now; `may_come` as for `assess`."""
        if may_come != self._may_come:
            self._may_come = may_come
            self._unlooked.update(dict.fromkeys(e for e, finding in self._findings.items() if finding.unannounced))
        before, self._presence = self._presence, dict(presence)
        for device in before.keys() | presence.keys():
            if before.get(device) is not self._presence.get(device):
                self._unlooked.update(dict.fromkeys(self._catalog.encodings_on(device)))

    def look(self, now: float, limit: int) -> list[bytes]:
        """Assess up to `limit` encodings of which something changed, and return them. `now`: monotonic seconds."""
        self._unlooked.update(dict.fromkeys(self._catalog.take_touched()))
        while self._set and self._set[0][0] <= now:
            self._unlooked[heapq.heappop(self._set)[1]] = None
        looked_at = list(itertools.islice(self._unlooked, limit))
        for encoding_id in looked_at:
            del self._unlooked[encoding_id]
            self._look_at(encoding_id, now)
        return looked_at

    @property
    def current(self) -> bool:
        """Everything was looked at."""
        return not self._unlooked

    def look_later(self, encoding_id: bytes, when: float) -> None:
        heapq.heappush(self._set, (when, encoding_id))

    def hurry(self, encoding_id: bytes) -> None:
        """Wait for no device to come back, until this encoding is whole."""
        if encoding_id in self._findings or encoding_id in self._unlooked:
            self._urgent.add(encoding_id)
            self._unlooked[encoding_id] = None

    def presence(self, device: bytes) -> Presence:
        return self._presence.get(device, Presence.LOST)

    # --- what was found

    def take_lacking(self) -> Optional[Lacking]:
        """Of the owner whose turn it is the encoding nearest to being lost; None where nothing is to be done now."""
        while (taken := self._lacking.take()) is not None:
            spare, encoding_id = taken
            finding, known = self._findings.get(encoding_id), self._catalog.known(encoding_id)
            if finding is None or known is None or finding.state is not State.LACKING or finding.spare != spare:
                continue
            if encoding_id in self._unlooked:
                continue  # it comes again when it was looked at
            return Lacking(known, finding)
        return None

    @property
    def has_lacking(self) -> bool:
        """Whether any may wait for its turn."""
        return bool(self._lacking)

    def due(self, owner: Optional[bytes]) -> int:
        """How many lacking encodings of this owner, or of all, wait for their turn."""
        return self._lacking.count() if owner is None else self._lacking.count(owner)

    def take_surplus(self) -> Optional[Surplus]:
        """A whole encoding with copies that may go, out of the queue."""
        while self._surplus:
            encoding_id = next(iter(self._surplus))
            del self._surplus[encoding_id]
            if encoding_id in self._unlooked:
                continue  # as above
            finding, known = self._findings.get(encoding_id), self._catalog.known(encoding_id)
            if finding is not None and known is not None and finding.surplus and finding.state is State.WHOLE:
                return Surplus(known, finding.surplus)
        return None

    def take_stale(self, now: float, timeout: float, busy: Collection[bytes], limit: int) -> list[Known]:
        """Up to `limit` encodings that have had stale shares for so many seconds; they come again after as many."""
        due = [encoding for encoding, since in self._stale.items() if now - since >= timeout and encoding not in busy]
        self._stale.update(dict.fromkeys(due[:limit], now))
        return [known for known in map(self._catalog.known, due[:limit]) if known is not None]

    def finding(self, encoding_id: bytes) -> Optional[Finding]:
        """What was found of an encoding that is not simply whole."""
        return self._findings.get(encoding_id)

    def count(self, state: State) -> int:
        if state is not State.WHOLE:
            return self._counts[state]
        return len(self._catalog) - len(self._hidden) - sum(self._counts[s] for s in State if s is not State.WHOLE)

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
        best: dict[Image, Finding] = {}
        restorable: Counter[Image] = Counter()
        for known in self._known_duplicates():
            finding = self._findings.get(known.claim.encoding_id, _WHOLE)
            counts[finding.state] -= 1
            in_danger -= finding.in_danger
            image = known.claim.owner, known.claim.object_id
            restorable[image] += finding.state is not State.UNRECOVERABLE
            best[image] = max(best.get(image, finding), finding, key=lambda f: (f.state is State.WHOLE, f.spare))
        counts.update(finding.state for finding in best.values())
        in_danger += sum(finding.in_danger for finding in best.values())
        return ImageCounts(
            whole=counts[State.WHOLE],
            waiting=counts[State.WAITING],
            lacking=counts[State.LACKING],
            unrecoverable=counts[State.UNRECOVERABLE],
            in_danger=in_danger,
            needless=sum(restorable[image] - 1 for image, found in best.items() if found.state is State.WHOLE),
        )

    def _known_duplicates(self) -> Iterator[Known]:
        """The encodings of images that have several, but for those that were deleted."""
        for encoding_id in self.duplicates:
            known = self._catalog.known(encoding_id)
            if known is not None and encoding_id not in self._hidden:
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
        yield from [encoding for encoding, finding in self._findings.items() if finding.state is not State.WHOLE]
        yield from list(self._unlooked)

    # --- looking

    def _look_at(self, encoding_id: bytes, now: float) -> None:
        before = self._forget(encoding_id)
        if encoding_id not in self._catalog:
            self._leave(encoding_id)
            return
        if self._catalog.is_deleted(encoding_id):
            self._leave(encoding_id)
            self._hide(encoding_id)
            return
        known = self._catalog.known(encoding_id)
        if known is None:  # nothing is left of it but damage
            self._file(encoding_id, Finding(State.UNRECOVERABLE, -1), None)
            return
        self._look_for_others(known)
        if known.stale:
            self._stale.setdefault(encoding_id, now)
        else:
            self._stale.pop(encoding_id, None)
        finding = self._assess(known, before, now)
        if finding.incomplete and self._is_coming_back(known.claim):
            finding = finding._replace(incomplete=False)  # what they have in their trash is about to come back
        if finding.state is State.WHOLE:
            self._urgent.discard(encoding_id)
            if not finding.surplus:
                self._since.pop(encoding_id, None)
                return
        self._file(encoding_id, finding, known.claim.owner)

    def _is_coming_back(self, claim: Claim) -> bool:
        """Whether devices are yet to hear that its owner took a deletion back."""
        tombstone = self._catalog.tombstones.of_owner(claim.encoding_id, claim.owner)
        return tombstone is not None and bool(self._catalog.tombstones.behind(tombstone))

    def _assess(self, known: Known, before: Optional[Finding], now: float) -> Finding:
        encoding_id = known.claim.encoding_id
        urgent = encoding_id in self._urgent
        if before is None:
            self._since[encoding_id] = now
        finding = assess(known, self.presence, urgent=urgent, patient=True)
        if before is not None and (before.state is State.WHOLE) is not (finding.state is State.WHOLE):
            self._since[encoding_id] = now
        since = self._since.setdefault(encoding_id, now)
        if finding.unannounced:
            if now - since >= self._timeout:
                return assess(known, self.presence, urgent=urgent, patient=False, may_come=self._may_come)
            self.look_later(encoding_id, since + self._timeout)
        if finding.state is State.WHOLE and finding.surplus:
            if now - since >= self._grace:
                self._surplus[encoding_id] = None
            else:
                self.look_later(encoding_id, since + self._grace)
        return finding

    def _file(self, encoding_id: bytes, finding: Finding, owner: Optional[bytes]) -> None:
        self._findings[encoding_id] = finding
        self._counts[finding.state] += 1
        self._endangered += finding.in_danger
        self._bytes_left += finding.bytes_left
        self._left.update((place.device, finding.incomplete) for place in finding.leaving)
        if finding.state is State.LACKING:
            self._lacking.add(owner, (finding.spare, encoding_id), finding.spare)

    def _forget(self, encoding_id: bytes) -> Optional[Finding]:
        """Take an encoding out of the indexes and counts; returns what was found of it before."""
        hidden = self._hidden.pop(encoding_id, None)
        if hidden is not None:
            self._hidden_codes[hidden] -= 1
        finding = self._findings.pop(encoding_id, None)
        if finding is not None:
            self._counts[finding.state] -= 1
            self._endangered -= finding.in_danger
            self._bytes_left -= finding.bytes_left
            self._left.subtract((place.device, finding.incomplete) for place in finding.leaving)
        return finding

    def _hide(self, encoding_id: bytes) -> None:
        known = self._catalog.known(encoding_id)
        code = (known.claim.k, known.claim.n) if known is not None else (0, 0)
        self._hidden[encoding_id] = code
        self._hidden_codes[code] += 1

    def _leave(self, encoding_id: bytes) -> None:
        """Nothing is to be done for this encoding any more."""
        self._since.pop(encoding_id, None)
        image = self.duplicates.pop(encoding_id, None)
        if image is not None:
            others = self._catalog.encodings_of(*image)
            if len(others) < 2:  # nothing else tells the one that stays that it is alone now
                for other in others:
                    self.duplicates.pop(other, None)
        self._stale.pop(encoding_id, None)
        self._urgent.discard(encoding_id)

    def _look_for_others(self, known: Known) -> None:
        claim = known.claim
        encodings = self._catalog.encodings_of(claim.owner, claim.object_id)
        if len(encodings) > 1:
            for encoding_id in encodings:
                self.duplicates.setdefault(encoding_id, (claim.owner, claim.object_id))
        else:
            self.duplicates.pop(claim.encoding_id, None)
