"""What an encoding lacks, as a pure assessment of what is known of it.

A device counts for one share of an encoding only, since it is never given more. A share is *held* where a device that
is here, and stays, has it. Of the others some are only to be waited for: their devices have not been away for long.
The rest is lacking:

    whole       all n shares are held
    waiting     k or more are at hand; what is missing may come back with its devices
    lacking     k or more are at hand; something is to be rebuilt, or moved off a device that is retiring
    unrecoverable    fewer than k are at hand: only their devices' return helps
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from typing import Callable, NamedTuple

from broker.claims import Known, Place


class Presence(enum.Enum):
    """What can be expected of a device."""

    HERE = "here"
    LEAVING = "leaving"  # here, but retiring: gives shares, is given none
    LEFT = "left"  # retiring, and away: not waited for
    AWAY = "away"  # not for long: it may come back
    LOST = "lost"  # for too long, or not on the list of members


class State(enum.Enum):
    WHOLE = "whole"
    WAITING = "waiting"
    LACKING = "lacking"
    UNRECOVERABLE = "unrecoverable"


class Finding(NamedTuple):
    """What was found of one encoding."""

    state: State
    spare: int = 0  # distinct shares at hand beyond k: how many more may go
    lacking: tuple[int, ...] = ()  # to be rebuilt or moved now
    unannounced: bool = False  # waits for shares that no device has announced yet
    leaving: tuple[Place, ...] = ()  # shares that only a retiring device has, here or away
    surplus: tuple[Place, ...] = ()  # copies, and damaged shares, of what another device holds
    bytes_left: int = 0  # of what is lacking
    incomplete: bool = False  # fewer than k shares are known, wherever they are

    @property
    def in_danger(self) -> bool:
        """The loss of one more device would lose it, though it was made to bear that: as in `admin.health`."""
        return self.spare == 0 and self.state in (State.WAITING, State.LACKING)


def assess(
    known: Known, presence: Callable[[bytes], Presence], *, urgent: bool, patient: bool, may_come: int = 0
) -> Finding:
    """Assess one encoding.

    `urgent`: wait for no device to come back. `patient`: wait for shares that no device has announced, since the
    encoding may just be coming into being. `may_come`: devices that are away and have not told yet what they hold. For
    so many shares they are waited for otherwise, too, as long as one more device may be lost.
    """
    claim = known.claim
    at = {place: presence(place.device) for place in known.sound + known.damaged}
    held = assign(claim.encoding_id, [place for place in known.sound if at[place] is Presence.HERE])
    given = assign(claim.encoding_id, [place for place in known.sound if at[place] is Presence.LEAVING])
    spare = len(held.keys() | given.keys()) - claim.k
    missing = [share for share in range(claim.n) if share not in held]
    surplus = tuple(
        place for place in at if at[place] is Presence.HERE and held.get(place.share, place.device) != place.device
    )
    if not missing:
        return Finding(State.WHOLE, spare, surplus=surplus)
    away = {place.share for place in known.sound if at[place] is Presence.AWAY}
    retiring = (Presence.LEAVING, Presence.LEFT)
    # Where one more loss would be too much, a second copy is none too many: the first may be bad unnoticed.
    elsewhere = held.keys() | away if spare > 0 else set[int]()
    leaving = tuple(p for p in known.sound if at[p] in retiring and p.share not in elsewhere)
    if spare < 0:
        incomplete = len({place.share for place in known.sound}) < claim.k
        return Finding(State.UNRECOVERABLE, spare, leaving=leaving, incomplete=incomplete)
    unannounced = set(missing) - {place.share for place in at}
    if not patient:
        unannounced = set(sorted(unannounced)[: may_come if spare > 0 else 0])
    waited_for = set() if urgent else away | unannounced
    lacking = tuple(share for share in missing if share not in waited_for)
    state = State.LACKING if lacking else State.WAITING
    waits_for_unannounced = bool(unannounced) and not urgent
    return Finding(state, spare, lacking, waits_for_unannounced, leaving, surplus, claim.share_bytes * len(lacking))


def assign(encoding_id: bytes, places: Iterable[Place]) -> dict[int, bytes]:
    """share → the device that counts for it: each device for one share, and as many shares as possible.

    Where several would do, the choice follows a hash, so that all brokers choose alike and no device is favoured.
    """
    by_device: dict[bytes, list[int]] = {}
    for place in places:
        by_device.setdefault(place.device, []).append(place.share)
    held: dict[int, bytes] = {}
    if all(len(shares) == 1 for shares in by_device.values()):
        held = {shares[0]: device for device, shares in by_device.items()}
        if len(held) == len(by_device):
            return held  # the usual case
        held.clear()
    for device in sorted(by_device, key=lambda device: (len(by_device[device]), _rank(encoding_id, device))):
        free = [share for share in sorted(by_device[device]) if share not in held]
        if free:
            held[free[0]] = device
    return held


def _rank(encoding_id: bytes, device: bytes) -> bytes:
    return hashlib.blake2b(encoding_id + device, digest_size=8, person=b"tessera-keep").digest()
