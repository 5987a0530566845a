"""What devices say of shares, and an encoding as all that is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from common.protocol.messages import AnnouncedShare, GrantedTo


class Place(NamedTuple):
    """A share of an encoding on a device."""

    share: int
    device: bytes


class Claim(NamedTuple):
    """What devices say of shares that they hold."""

    owner: bytes
    object_id: bytes
    encoding_id: bytes
    k: int
    n: int
    share_bytes: int
    granted: bool = False  # somebody else's, who lets this owner read it
    depositor: Optional[bytes] = None  # who left it for the owner, and whom it counts for

    @property
    def shape(self) -> tuple[int, int, int, bool]:
        """What an amendment leaves as it is, beside the encoding id."""
        return self.k, self.n, self.share_bytes, self.granted


class Known(NamedTuple):
    """What is known of an encoding, by the claim that is believed most."""

    claim: Claim
    sound: tuple[Place, ...]
    damaged: tuple[Place, ...]
    contrary: frozenset[bytes]  # devices that claim otherwise
    stale: tuple[Place, ...] = ()  # whose devices were away when they were amended elsewhere


class Entry:
    """An encoding in the catalog, which changes as devices say more."""

    __slots__ = ("damaged", "encoding_id", "ref", "revisions", "sound", "stored")

    def __init__(self, ref: int, encoding_id: bytes, *, stored: bool = False) -> None:
        """`ref`: its number in the catalog, 0 where it has none yet; higher ones came later. `stored`: has a row."""
        self.ref = ref
        self.encoding_id = encoding_id
        self.stored = stored
        self.sound: dict[Claim, tuple[Place, ...]] = {}  # by claim, in the order in which these came
        self.damaged: tuple[Place, ...] = ()  # shares that are not whole
        self.revisions: dict[Place, int] = {}  # of sound shares, where it is not 1

    @property
    def is_empty(self) -> bool:
        return not self.sound and not self.damaged

    def own_claims(self) -> list[Claim]:
        """Without those of whom it is granted to."""
        return [claim for claim in self.sound if not claim.granted]

    def claims_of(self, place: Place) -> list[Claim]:
        """The claims that are made of a sound share, its owner's first."""
        return [claim for claim, places in self.sound.items() if place in places]

    def says(self, place: Place) -> bool:
        """Whether anything is said of this share."""
        return place in self.damaged or any(place in places for places in self.sound.values())

    def says_so(self, place: Place, claims: Sequence[Claim], revision: int) -> bool:
        """Whether just these claims are made of it, at this revision; none where it is damaged."""
        if place in self.damaged:
            return not claims
        return set(self.claims_of(place)) == set(claims) and self.revisions.get(place, 1) == revision

    def places(self) -> set[Place]:
        return {place for places in (*self.sound.values(), self.damaged) for place in places}

    def devices(self) -> set[bytes]:
        """Those that hold anything of it, whatever they claim."""
        return {place.device for place in self.places()}

    def shares_on(self, device: bytes) -> list[Place]:
        return [place for place in self.places() if place.device == device]

    def agreed_revision(self, claim: Claim) -> int:
        """The highest revision at which k devices make a claim; 0 where they do at none."""
        devices: dict[int, set[bytes]] = {}
        for place in self.sound[claim]:
            devices.setdefault(self.revisions.get(place, 1), set()).add(place.device)
        return max((revision for revision, group in devices.items() if len(group) >= claim.k), default=0)

    def below(self, revision: int, claims: Iterable[Claim]) -> tuple[Place, ...]:
        """Shares by these claims whose revision is below one."""
        places = [place for claim in claims for place in self.sound[claim]]
        return tuple(place for place in places if self.revisions.get(place, 1) < revision)

    def is_complete(self) -> bool:
        """Whether nothing is to be said of it but where its n shares are, each on a device of its own."""
        claims = self.own_claims()
        if len(claims) != 1 or self.damaged or len(set(self.revisions.values())) > 1:
            return False
        (claim,) = claims
        places = self.sound[claim]
        if len(places) != claim.n or len(self.revisions) not in (0, claim.n):
            return False
        return len({place.share for place in places}) == len({place.device for place in places}) == claim.n


def claims_in(share: AnnouncedShare) -> list[Claim]:
    """What is claimed of a share, by its owner first, and by whom it is granted to; nothing where it is damaged."""
    if share.object_id is None or not share.sound:
        return []
    whose, shape = (share.owner, share.object_id, share.encoding_id), (share.k, share.n, share.share_bytes)
    own = Claim(*whose, *shape, False, share.depositor)
    if not share.grants:
        return [own]
    grants = dict.fromkeys((grant.owner, grant.object_id) for grant in share.grants)
    return [own, *(own._replace(owner=owner, object_id=object_id, granted=True) for owner, object_id in grants)]


def announced(entry: Entry, place: Place) -> Optional[AnnouncedShare]:
    """What a device said of a share, as far as it is kept; None where it said nothing."""
    if place in entry.damaged:
        return AnnouncedShare(entry.encoding_id, place.share, None, b"", 1, 1, 0, sound=False)
    claims = entry.claims_of(place)
    own = next((claim for claim in claims if not claim.granted), None)
    if own is None:
        return None
    return AnnouncedShare(
        entry.encoding_id,
        place.share,
        own.object_id,
        own.owner,
        own.k,
        own.n,
        own.share_bytes,
        revision=entry.revisions.get(place, 1),
        grants=[GrantedTo(claim.owner, claim.object_id) for claim in claims if claim.granted],
        depositor=own.depositor,
    )
