"""From what was found of an encoding to a task: what comes from where, goes where, or is not needed any more.

Shares go to devices that are here, stay, have room and hold nothing of the encoding, chosen as for a new image:
`placement`. A damaged share may also go back to its own device. Nothing here acts.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

from broker.claims import Claim, Known, Place
from broker.placement import Candidate, place
from broker.steward.assessment import Finding, Presence, assign


class Kind(enum.Enum):
    REBUILD = "rebuild"  # from k others
    MOVE = "move"  # from the device that holds it
    CHECK = "check"  # read it whole
    AMEND = "amend"  # show it what was amended while its device was away


@dataclass(frozen=True)
class Task:
    """One encoding's work.

    sources: sound shares at hand, on different devices. targets: what is to be stored where. donors: for a share to be
    moved, the device that has it. stale: shares to be amended. reads: shares to be read whole; discards: copies that go
    after these, and the targets, were found good.
    """

    kind: Kind
    claim: Claim
    sources: tuple[Place, ...]
    targets: tuple[Place, ...] = ()
    donors: dict[int, bytes] = field(default_factory=dict)
    stale: tuple[Place, ...] = ()
    reads: tuple[Place, ...] = ()
    discards: tuple[Place, ...] = ()


class Room(NamedTuple):
    """What the plan needs to know of a device on the list."""

    presence: Presence
    free_bytes: int
    capacity: int  # bytes, with what it holds already


Rooms = Mapping[bytes, Room]
Avoid = Callable[[bytes], bool]  # of a device: whether it refused something of this encoding lately, or is slow


def presence_in(rooms: Rooms) -> Callable[[bytes], Presence]:
    return lambda device: rooms[device].presence if device in rooms else Presence.LOST


def sources_of(known: Known, rooms: Rooms) -> tuple[Place, ...]:
    """Sound shares at hand, one of each device."""
    presence = presence_in(rooms)
    at_hand = [p for p in known.sound if presence(p.device) in (Presence.HERE, Presence.LEAVING)]
    counted = {device: share for share, device in assign(known.claim.encoding_id, at_hand).items()}
    for found in at_hand:
        counted.setdefault(found.device, found.share)
    return tuple(sorted(Place(share, device) for device, share in counted.items()))


def repair(known: Known, finding: Finding, rooms: Rooms, avoid: Avoid) -> Optional[Task]:
    """Rebuild, or move, what an encoding lacks; None where there is no place for any of it.

    Where copies of other shares take up the places, these go first.
    """
    targets = choose_places(known, finding.lacking, rooms, avoid)
    if not targets:
        return drop_surplus(known, finding.surplus, rooms) if finding.surplus else None
    presence = presence_in(rooms)
    leaving = {p.share: p.device for p in finding.leaving if presence(p.device) is Presence.LEAVING}
    donors = {target.share: leaving[target.share] for target in targets if target.share in leaving}
    kind = Kind.MOVE if len(donors) == len(targets) else Kind.REBUILD
    return Task(kind, known.claim, sources_of(known, rooms), targets, donors)


def choose_places(known: Known, shares: Collection[int], rooms: Rooms, avoid: Avoid) -> tuple[Place, ...]:
    """Places for some shares of an encoding: as many as there are devices for."""
    claim = known.claim
    holders = {p.device for p in known.sound + known.damaged} | known.contrary
    open_to = {d: r for d, r in rooms.items() if r.presence is Presence.HERE and not avoid(d)}
    free = {device for device in open_to if device not in holders}
    sound = {p.device for p in known.sound}
    chosen: list[Place] = []
    for share in shares:
        own = {p.device for p in known.damaged if p.share == share and p.device in open_to} - sound - known.contrary
        candidates = [Candidate(device, open_to[device].free_bytes) for device in free | own]
        best = place(claim.encoding_id, candidates, 1, claim.share_bytes, {p.device for p in chosen})
        chosen += [Place(share, device) for device in best]
    return tuple(chosen)


def drop_surplus(known: Known, places: Collection[Place], rooms: Rooms) -> Task:
    """Read the copies that stay, and discard the others."""
    claim = known.claim
    presence = presence_in(rooms)
    kept = assign(claim.encoding_id, [p for p in known.sound if presence(p.device) is Presence.HERE])
    reads = tuple(Place(share, kept[share]) for share in sorted({p.share for p in places}) if share in kept)
    return Task(Kind.CHECK, claim, sources_of(known, rooms), reads=reads, discards=tuple(places))


def check(known: Known, found: Place, rooms: Rooms) -> Task:
    """Read one share whole."""
    return Task(Kind.CHECK, known.claim, sources_of(known, rooms), reads=(found,))


def bring_up_to_date(known: Known, rooms: Rooms, avoid: Avoid) -> Optional[Task]:
    """Show devices that were away what was amended meanwhile; None where none of them is here, or all are avoided."""
    presence = presence_in(rooms)
    stale = tuple(p for p in known.stale if presence(p.device) is Presence.HERE and not avoid(p.device))
    if not stale:
        return None
    sources = tuple(place for place in sources_of(known, rooms) if place not in stale)
    return Task(Kind.AMEND, known.claim, sources, stale=stale)


def loses_nothing(known: Known, places: Collection[Place], rooms: Rooms) -> bool:
    """Whether every share that is held, by devices that are here and stay, still is when these go.

    So is that of a place that is not taken for sound: one bad block makes a copy doubtful, and it may be the last one.
    """
    presence = presence_in(rooms)
    here = [p for p in known.sound if presence(p.device) is Presence.HERE]
    rest = [p for p in here if p not in places]
    encoding_id = known.claim.encoding_id
    held = assign(encoding_id, here).keys() | {place.share for place in places}
    return held <= assign(encoding_id, rest).keys()
