"""Several encodings of one object, and those that never became complete: which one stays.

Two puts of one image make two encodings, and a put that was broken off leaves a part of one. After a grace of a day,
and only while every device on the list is here, so that no broker acts on half of the truth, one whole encoding stays,
of those of which most devices may be lost one that is the same for all brokers, and the others go once it was read
whole. Where no encoding of an object is whole, all stay:
what looks like the rest of a broken put may be the rest of an image whose other devices were taken off the list.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from broker.catalog import Catalog, Known, Place
from broker.steward.assessment import Presence, State, assess, assign
from broker.steward.plan import Discard, Kind, Rooms, Task, presence_in, sources_of


def drop_duplicates(
    catalog: Catalog, owner: bytes, object_id: bytes, old: Collection[bytes], rooms: Rooms
) -> Optional[Task]:
    """Read the encoding of an object that stays, and discard the others; None where nothing is to go yet.

    old: the encodings for which the grace is over.
    """
    if any(room.presence not in (Presence.HERE, Presence.LEAVING) for room in rooms.values()):
        return None
    encodings = [catalog.known(encoding_id) for encoding_id in catalog.encodings_of(owner, object_id)]
    # One that a single device says is this object's, and most others say is another's, is none of ours.
    known = [e for e in encodings if e is not None and (e.claim.owner, e.claim.object_id) == (owner, object_id)]
    whole = [found for found in known if is_whole(found, rooms)]
    if not whole or len(known) < 2:
        return None
    stays = min(whole, key=lambda found: (found.claim.k - found.claim.n, found.claim.encoding_id))
    presence = presence_in(rooms)
    kept = assign(stays.claim.encoding_id, [p for p in stays.sound if presence(p.device) is Presence.HERE])
    reads = tuple(Place(share, device) for share, device in sorted(kept.items()))
    discards = tuple(
        discard
        for found in known
        if found is not stays and found.claim.encoding_id in old
        for discard in _all_of(found)
    )
    if not discards:
        return None
    return Task(Kind.CHECK, stays.claim, sources_of(stays, rooms), reads=reads, discards=discards)


def is_whole(known: Known, rooms: Rooms) -> bool:
    return assess(known, presence_in(rooms), urgent=False, patient=False).state is State.WHOLE


def _all_of(known: Known) -> list[Discard]:
    claim = known.claim
    return [Discard(claim.encoding_id, claim.owner, p) for p in known.sound + known.damaged]
