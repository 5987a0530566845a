"""The life of a share on this device: its states, and what leads from one to another.

    (not here) ──committed──▶ HELD ◀──reads after all── DAMAGED ──stored anew──▶ (not here)
                               │  ──found bad──────────▶  │
                               ├──────────────────────────┤
                               ├──deleted by its owner──▶ DELETED ──its time is over──▶ (not here); or taken back
                               ├──discarded──▶ SURPLUS ──its time is over, or its room is needed──▶ (not here); or an
                               │               owner before, for whom something of it is held, takes it back
                               └──of a version that is not known, or not to be listed──▶ LEFT_ALONE

Of a share one copy at most is held, sound or damaged; beside it others may be deleted or surplus. What is LEFT_ALONE is
looked at again at the next start, and after each round of the scrub.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Callable, NamedTuple, Optional

import msgspec

from common.protocol.device_messages import Grant, SignedCommitment
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import AnnouncedShare, GrantedTo
from worker.amendments import Replaced
from worker.layout import Place, ShareKey
from worker.share_file import ShareHeader, ShareInformation


class State(enum.IntEnum):
    HELD = 1
    DAMAGED = 2
    DELETED = 3
    SURPLUS = 4
    LEFT_ALONE = 5


HERE = State.HELD, State.DAMAGED  # what is announced

_TRANSITIONS: dict[State, set[Optional[State]]] = {
    State.HELD: {State.DAMAGED, State.DELETED, State.SURPLUS, State.LEFT_ALONE, None},
    State.DAMAGED: {State.HELD, State.DELETED, State.SURPLUS, State.LEFT_ALONE, None},
    State.DELETED: {State.HELD, State.DAMAGED, None},
    State.SURPLUS: {State.HELD, None},
    State.LEFT_ALONE: {State.HELD, State.DAMAGED, State.DELETED, None},
}


class Superseded(NamedTuple):
    """A commitment that was replaced, and is held for who signed it."""

    replaced: Replaced
    place: Optional[Place]  # of its record; None: it is the one in the share


class KeptShare(msgspec.Struct, array_like=True, frozen=True):
    """One copy of a share: its state, where it lies, and how it is announced while it is held."""

    serial: int
    state: State
    place: Place
    announced: AnnouncedShare  # whose `sound` is whether nothing bad was found of it
    amendment: Optional[Place] = None  # of what replaces its commitment
    amended_by: int = 0  # the serial of that
    until: int = 0  # Unix seconds, of a surplus share
    deleted_by: bytes = NO_OWNER
    superseded: tuple[Superseded, ...] = ()  # the oldest first

    @property
    def key(self) -> ShareKey:
        return self.announced.encoding_id, self.announced.share

    @property
    def here(self) -> bool:
        """Whether it is held, sound or damaged."""
        return self.state in HERE

    @property
    def sound(self) -> bool:
        """Whether nothing bad was found of it."""
        return self.announced.sound

    @property
    def owner(self) -> bytes:
        """NO_OWNER where the share is too damaged to tell."""
        return self.announced.owner

    def is_held_by(self, owner: bytes) -> bool:
        """Whether it is held, this owner's, and nothing bad was found of it."""
        return self.here and self.sound and self.owner == owner

    @property
    def readers(self) -> tuple[bytes, ...]:
        """Who may read it: its owner, and whom it is granted to."""
        return self.owner, *(grant.owner for grant in self.announced.grants)

    @property
    def size(self) -> int:
        """Bytes that it takes, its amendments with it."""
        if self.amendment is None and not self.superseded:
            return self.place.length
        return self.place.length + sum(place.length for place in self.amendments)

    @property
    def amendments(self) -> list[Place]:
        """Where its amendments lie, those with it that were replaced and are held."""
        if self.amendment is None and not self.superseded:
            return []
        places = (self.amendment, *(each.place for each in self.superseded))
        return [place for place in places if place is not None]

    @property
    def counts_for(self) -> bytes:
        """Whose quota it takes: its owner's, once that has signed it."""
        return self.announced.depositor or self.announced.owner

    def trashed(self, state: State, *, until: int = 0, deleted_by: bytes = NO_OWNER) -> KeptShare:
        """The same as it lies in the trash."""
        return msgspec.structs.replace(self, state=state, until=until, deleted_by=deleted_by)

    def kept(self, share: AnnouncedShare) -> KeptShare:
        """The same as it is held, and announced so."""
        state = State.HELD if share.sound else State.DAMAGED
        return msgspec.structs.replace(self, state=state, announced=share, until=0, deleted_by=NO_OWNER)

    def found(self, *, sound: bool) -> KeptShare:
        """The same as it is held, after it was found sound or damaged."""
        return self.kept(msgspec.structs.replace(self.announced, sound=sound))

    def replaced_by_another(self, content: bytes, unix: int, held: Iterable[Superseded]) -> list[Replaced]:
        """All that was replaced once another commitment takes the place of this one, which says `content`."""
        again = {each.replaced.content: each.replaced for each in held}
        first = again[content].first if content in again else unix
        again[content] = Replaced(self.amended_by, self.owner, content, first, unix)
        return list(again.values())

    def amended(self, place: Place, serial: int, signed: SignedCommitment, replaced: Iterable[Replaced]) -> KeptShare:
        """The same with another commitment, this record's."""
        places = {each.replaced.serial: each.place for each in self.superseded}
        places[self.amended_by] = self.amendment
        places[0] = None
        return msgspec.structs.replace(
            self,
            announced=amended(self.announced, signed),
            amendment=place,
            amended_by=serial,
            superseded=tuple(Superseded(each, places[each.serial]) for each in replaced if each.serial in places),
        )

    def moved_amendment(self, serial: int, place: Place) -> KeptShare:
        """The same with the record of one of its amendments elsewhere; harmless where it is none."""
        moved = tuple(
            Superseded(replaced, place if replaced.serial == serial else before) for replaced, before in self.superseded
        )
        amendment = place if serial == self.amended_by else self.amendment
        return msgspec.structs.replace(self, amendment=amendment, superseded=moved)

    def held(self, hold: int, unix: float) -> list[Superseded]:
        """What was replaced of it less than `hold` seconds ago."""
        return [each for each in self.superseded if each.replaced.at + hold > unix]

    def without(self, gone: Callable[[Superseded], bool]) -> KeptShare:
        """The same without some of what was replaced."""
        return msgspec.structs.replace(self, superseded=tuple(each for each in self.superseded if not gone(each)))

    def is_settled_by_taking_back(self) -> bool:
        """Whether it is in the trash of an owner whose it is not any more, or was surplus when it was taken back."""
        deleted = self.state is State.DELETED and not self.belongs_to(self.deleted_by)
        return deleted or (self.state is State.SURPLUS and self.sound)

    @property
    def last_superseded(self) -> int:
        """When something of it was replaced last, in Unix seconds; 0 where nothing is kept."""
        return max((each.at for each, _ in self.superseded), default=0)

    def belongs_to(self, owner: bytes) -> bool:
        """Whether it is this owner's, or too damaged to tell whose."""
        return self.owner in (owner, NO_OWNER)


def require_transition(state: State, to: Optional[State]) -> None:
    """ValueError where no share goes from one state to the other; None is that it is not here."""
    if to is not state and to not in _TRANSITIONS[state]:
        raise ValueError(f"no share goes from {state.name} to {'nothing' if to is None else to.name}")


def announced(information: ShareInformation, *, sound: bool = True) -> AnnouncedShare:
    """The announcement of a share that can be read."""
    return announcement(information.header, information.trailer.signed, information.recipe.share_bytes, sound=sound)


def announcement(
    header: ShareHeader, signed: SignedCommitment, share_bytes: int, *, sound: bool = True
) -> AnnouncedShare:
    """The announcement of a committed share."""
    commitment = signed.commitment
    return AnnouncedShare(
        header.encoding_id,
        header.share,
        commitment.object_id,
        commitment.owner,
        header.k,
        header.n,
        share_bytes,
        sound,
        commitment.revision,
        granted(commitment.grants),
        signed.depositor,
    )


def amended(share: AnnouncedShare, signed: SignedCommitment) -> AnnouncedShare:
    """The announcement of a share whose commitment was replaced."""
    commitment = signed.commitment
    return msgspec.structs.replace(
        share,
        object_id=commitment.object_id,
        owner=commitment.owner,
        revision=commitment.revision,
        grants=granted(commitment.grants),
        depositor=None,
    )


def granted(grants: list[Grant]) -> list[GrantedTo]:
    """Who else may read a share, as it is announced."""
    return [GrantedTo(grant.owner, grant.object_id) for grant in grants]


def unreadable(key: ShareKey) -> AnnouncedShare:
    """The announcement of a share that cannot be read."""
    return AnnouncedShare(*key, None, NO_OWNER, 2, 2, 0, sound=False)
