"""The cluster's members: which CURVE keys are admitted, as what, under which name; and the invites not yet used.

With the broker's own key this is all that a broker keeps on disk: `members.json`, mode 0600, always replaced whole.
`broker.py invite` and the running broker both change it, under a lock; the broker reads it again when it has changed.
An invite is a member too, with a one-time key, a standing that may only join, and an end.

The brokers of a cluster pass their lists on to each other (`other_brokers`), in any order, some of them old. So each
change of a member raises its revision, and of two records of one key the higher revision holds. A revocation raises it
by more than all other changes made elsewhere meanwhile could, and stays on the list, without rights, for a year.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Callable, Optional, TypeVar

import msgspec

from broker.rights import INVITED, Standing
from common.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from common.files import locked, read_limited, write_private
from common.protocol.codec import unpack
from common.protocol.messages import GRANTED, Answer, Code, Count, DeviceKind, HostName, Join, Port, Seconds
from common.protocol.operations import Role
from common.text import printable

_VERSION = 1
_MAX_FILE = 64 << 20  # bytes
log = logging.getLogger(__name__)
T = TypeVar("T")
_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

_Owner = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]

_INVITED = {
    Role.WORKER: Standing.INVITED_WORKER,
    Role.CLIENT: Standing.INVITED_CLIENT,
    Role.ADD_ONLY: Standing.INVITED_ADD_ONLY,
    Role.ADMIN: Standing.INVITED_ADMIN,
    Role.BROKER: Standing.INVITED_BROKER,
}
_ADMITTED = {
    Standing.INVITED_WORKER: Standing.WORKER,
    Standing.INVITED_CLIENT: Standing.CLIENT,
    Standing.INVITED_ADD_ONLY: Standing.ADD_ONLY,
    Standing.INVITED_ADMIN: Standing.ADMIN,
    Standing.INVITED_BROKER: Standing.BROKER,
}
_CLIENTS = (Standing.CLIENT, Standing.ADD_ONLY, Standing.ADMIN)
_REVOCATION = 1 << 20  # by how much a revocation raises the revision: more than all other changes together
_DEMOTION = 1 << 10  # likewise a demotion: more than other changes made elsewhere meanwhile, less than a revocation
_ACCEPTANCE = 1 << 20  # by how much accepting a list raises its generation: above all that a lost one may have had
_REVOKED_FOR = 365 * 24 * 3600  # seconds that it stays on the list; no broker is away for longer and still one
MAX_NAME = 64  # characters, as whoever joins may say
_SHORTEST_KEY = 8  # hexadecimal digits by which a member may be named

INVITE_LIFETIME = 3600  # seconds
MAX_SYNCED = 2000  # members in one SYNC; none takes more than 1.5 KiB


class Address(msgspec.Struct, frozen=True):
    """Where clients, workers and other brokers reach a broker."""

    host: HostName
    client_port: Port
    worker_port: Port


class Member(msgspec.Struct, frozen=True):
    public_key: _Key  # hexadecimal
    standing: Standing
    name: Annotated[str, msgspec.Meta(max_length=100)]
    added: Seconds  # Unix
    expires: Optional[Seconds] = None  # Unix; of an invite, and of the record that somebody was revoked
    used_by: Optional[_Key] = None  # the key that this invite admitted
    address: Optional[Address] = None  # of a broker
    revision: Count = 1  # raised by every change
    retiring: bool = False  # a worker whose shares are to move elsewhere
    kind: DeviceKind = DeviceKind.SERVER  # of a worker, as it said when it registered last


class MemberList:
    """The members of one cluster, in memory; no disk and no clock."""

    def __init__(self, members: list[Member], retired_owners: Iterable[bytes] = ()) -> None:
        self._members: dict[str, Member] = {member.public_key: member for member in members}
        self._retired_owners = set(retired_owners)

    def all(self) -> list[Member]:
        return list(self._members.values())

    @property
    def retired_owners(self) -> list[bytes]:
        """The ids of owners whose vault key was replaced: nobody is let in as one of them any more. They only grow."""
        return sorted(self._retired_owners)

    def has_retired(self, owner: bytes) -> bool:
        return owner in self._retired_owners

    def retire_owners(self, owners: Iterable[bytes]) -> None:
        self._retired_owners |= set(owners)

    def find(self, public_key: bytes, now: int) -> Optional[Member]:
        """Who has this key (32 bytes); None where nobody does, who had it is revoked, or the invite is over."""
        member = self._members.get(public_key.hex())
        return None if member is None or member.standing is Standing.REVOKED or _over(member, now) else member

    def workers(self) -> list[Member]:
        return [member for member in self._members.values() if member.standing is Standing.WORKER]

    def clients(self) -> list[Member]:
        """All clients, admins among them."""
        return [member for member in self._members.values() if member.standing in _CLIENTS]

    def brokers(self) -> dict[bytes, Address]:
        """The brokers of this cluster, by public key, as far as it is known where they are."""
        found = [m for m in self._members.values() if m.standing is Standing.BROKER]
        return {bytes.fromhex(member.public_key): member.address for member in found if member.address is not None}

    def revoked(self, public_key: bytes) -> bool:
        member = self._members.get(public_key.hex())
        return member is not None and member.standing is Standing.REVOKED

    # --- changes

    def invite(self, one_time_key: bytes, role: Role, now: int) -> None:
        """Let the holder of a one-time key join within the hour; old invites are dropped."""
        self._drop_what_is_over(now)
        self._put(Member(one_time_key.hex(), _INVITED[role], "", now, now + INVITE_LIFETIME))

    def admit(
        self, one_time_key: bytes, public_key: bytes, name: str, now: int, address: Optional[Address] = None
    ) -> Member:
        """Make whoever holds an invite a member; asking again with the same keys gets the same answer.

        RefusedError where the invite is over or was used by another, or a broker does not say where it is.
        """
        invite = self.find(one_time_key, now)
        if invite is None or invite.standing not in _ADMITTED:
            raise RefusedError("this invite is over")
        present = self.find(public_key, now)
        if invite.used_by is not None:
            if invite.used_by == public_key.hex() and present is not None:
                return present
            raise RefusedError("this invite has been used")
        if present is not None:
            raise RefusedError("this key is a member already")
        standing = _ADMITTED[invite.standing]
        if (address is not None) is not (standing is Standing.BROKER):
            raise RefusedError("a broker, and nobody else, says where it is reached")
        self._put(msgspec.structs.replace(invite, used_by=public_key.hex()))
        return self._put(Member(public_key.hex(), standing, self._free_name(printable(name)), now, address=address))

    def enter_broker(self, public_key: bytes, name: str, address: Address, now: int) -> None:
        """Enter the broker whose list this is, at the address where others reach it; RefusedError where revoked."""
        member = self._members.get(public_key.hex())
        if member is None:
            self._put(Member(public_key.hex(), Standing.BROKER, self._free_name(name), now, address=address))
        elif member.standing is not Standing.BROKER:
            raise broker_revoked()
        elif member.address != address:
            self._put(msgspec.structs.replace(member, address=address))

    def presume_broker(self, public_key: bytes, name: str, address: Address, now: int) -> None:
        """Take for a broker what an invite names as one, until the list of another tells more of it."""
        member = self._members.get(public_key.hex())
        if member is None or member.standing is not Standing.BROKER:
            presumed = Member(public_key.hex(), Standing.BROKER, name, now, address=address, revision=0)
            self._members[public_key.hex()] = presumed

    def revoke(self, name: str, now: int) -> Member:
        """Take everything from a member, named so or by the beginning of its key; returns what it was.

        NotFoundError where nobody is called so, UsageError where several are.
        """
        member = self._called(name)
        record = Member(member.public_key, Standing.REVOKED, member.name, member.added, now + _REVOKED_FOR)
        self._put(record, _REVOCATION)
        return member

    def rename(self, name: str, wished: str) -> Member:
        """Call a member, named as for `revoke`, by another name from now on; returns it as it is then.

        UsageError where another has the name, or it is none.
        """
        member = self._called(name)
        if not 0 < len(wished) <= MAX_NAME or printable(wished) != wished:
            raise UsageError(f"a name has 1 to {MAX_NAME} characters that can be printed")
        if member.name == wished:
            return member
        if self._free_name(wished) != wished:
            raise UsageError(f"another member is called {wished} already")
        return self._put(msgspec.structs.replace(member, name=wished))

    def promote(self, name: str) -> Member:
        """Give a client, named as for `revoke`, an admin's rights; UsageError where it is neither."""
        return self._client(name, Standing.ADMIN)

    def demote(self, name: str) -> Member:
        """Take an admin's rights from a client, named as for `revoke`; UsageError where it is neither."""
        return self._client(name, Standing.CLIENT)

    def _client(self, name: str, standing: Standing) -> Member:
        member = self._called(name)
        if member.standing not in (Standing.CLIENT, Standing.ADMIN):
            raise UsageError(f"{name} is a {member.standing.value}, and only a client can be an admin")
        if member.standing is standing:
            return member
        step = _DEMOTION if standing is Standing.CLIENT else 1
        return self._put(msgspec.structs.replace(member, standing=standing), step)

    def _called(self, name: str) -> Member:
        """The member with this name, or whose key begins so; NotFoundError, or UsageError where several have it."""
        admitted = [m for m in self._members.values() if m.standing in _ADMITTED.values()]
        found = [m for m in admitted if m.name == name]
        if not found and len(name) >= _SHORTEST_KEY:
            found = [m for m in admitted if m.public_key.startswith(name)]
        if len(found) > 1:
            advice = "say which by the beginning of its key: python broker/broker.py members"
            raise UsageError(f"{len(found)} members are called {name}", advice=advice)
        if not found:
            raise NotFoundError(f"no member is called {name}", advice="see who is: python broker/broker.py members")
        return found[0]

    def open_invites(self, now: int) -> list[Member]:
        """The invites that can still be used."""
        return [m for m in self._members.values() if m.standing in INVITED and m.used_by is None and not _over(m, now)]

    def withdraw(self, key: str, now: int) -> Member:
        """Take an open invite back, named by the beginning of its one-time key; returns what it was.

        It stays on the list as revoked for the rest of its hour, so that no other broker's list brings it back.
        NotFoundError where no open invite's key begins so, UsageError where several do.
        """
        advice = "see which are open: python broker/broker.py invites"
        if len(key) < _SHORTEST_KEY:
            raise UsageError(f"name an invite by at least {_SHORTEST_KEY} digits of its key", advice=advice)
        found = [m for m in self.open_invites(now) if m.public_key.startswith(key.lower())]
        if len(found) > 1:
            raise UsageError(f"the keys of {len(found)} invites begin so", advice=advice)
        if not found:
            raise NotFoundError("no open invite's key begins so: it is over, used or withdrawn", advice=advice)
        self._put(msgspec.structs.replace(found[0], standing=Standing.REVOKED), _REVOCATION)
        return found[0]

    def merge(self, others: list[Member], now: int) -> None:
        """Take up what another broker's list has that is newer; what is over counts for nothing."""
        self._drop_what_is_over(now)
        for member in others:
            present = self._members.get(member.public_key)
            if not _over(member, now) and (present is None or _precedence(member) > _precedence(present)):
                self._members[member.public_key] = member

    def _put(self, member: Member, step: int = 1) -> Member:
        """Enter a member as a change of what is known of its key."""
        former = self._members.get(member.public_key)
        revision = step + (0 if former is None else former.revision)
        entered = self._members[member.public_key] = msgspec.structs.replace(member, revision=revision)
        return entered

    def _drop_what_is_over(self, now: int) -> None:
        self._members = {key: member for key, member in self._members.items() if not _over(member, now)}

    def retire(self, public_key: str, *, cancel: bool = False) -> Member:
        """Mark a worker (by its key in hexadecimal) as retiring, or no more; NotFoundError where it is none."""
        member = self._members.get(public_key)
        if member is None or member.standing is not Standing.WORKER:
            raise NotFoundError("this is no device of the cluster")
        return self._put(msgspec.structs.replace(member, retiring=not cancel))

    def set_kind(self, public_key: str, kind: DeviceKind) -> None:
        """Keep what a worker (by its key in hexadecimal) says that it is; NotFoundError where it is none."""
        member = self._members.get(public_key)
        if member is None or member.standing is not Standing.WORKER:
            raise NotFoundError("this is no device of the cluster")
        self._put(msgspec.structs.replace(member, kind=kind))

    def _free_name(self, wished: str) -> str:
        taken = {m.name for m in self._members.values() if m.standing is not Standing.REVOKED}
        name, number = wished, 2
        while name in taken:
            name, number = f"{wished}-{number}", number + 1
        return name


def address_of(joining: Join) -> Optional[Address]:
    """Where a broker that joins is reached."""
    place = joining.reached_at
    return None if place is None else Address(place.host, place.client_port, place.worker_port)


def broker_revoked() -> RefusedError:
    return RefusedError(
        "this broker was revoked from its cluster",
        advice="get an invite at another of its brokers (python broker/broker.py invite broker) "
        "and start this one with --join INVITE",
    )


def newer_list() -> RefusedError:
    return RefusedError(
        "members were told of a newer list of members than this broker has: its folder is an older copy, or another "
        "broker runs with a copy of it",
        advice="end the other one, or put the newest copy back; where there is none, revoke who should not be in "
        "(broker.py members, revoke), and then: python broker/broker.py accept-members",
    )


def _accepted(history: History) -> History:
    generation = max(history.generation, history.newer) + _ACCEPTANCE
    return msgspec.structs.replace(history, generation=generation, before_run=generation, newer=0)


def _over(member: Member, now: int) -> bool:
    return member.expires is not None and member.expires <= now


def _precedence(member: Member) -> tuple[int, int, bytes]:
    """Of two records of one key the one with the higher precedence holds, whichever list came first.

    Of equal revisions it is the more restrictive; what is left is decided in some way that all brokers share.
    """
    restricted = 2 if member.standing is Standing.REVOKED else 1 if member.used_by is not None else 0
    return member.revision, restricted, msgspec.json.encode(member)


class History(msgspec.Struct, frozen=True):
    """Which list this is among all that a broker with this key ever had (`list_marks`)."""

    generation: Count = 0  # raised by every change, and by each start of the broker
    run: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")] = "0" * 16  # random, of the start that was the last
    before_run: Count = 0  # the generation before it
    newer: Count = 0  # the generation of a list that members were told of, and that this is not; 0 where of none


class _File(msgspec.Struct):
    members: list[Member]
    version: int = _VERSION
    retired_owners: list[_Owner] = []
    history: History = History()

    def as_members(self) -> MemberList:
        return MemberList(self.members, map(bytes.fromhex, self.retired_owners))


class MembersFile:
    """`members.json` of a broker's folder, read again when another process changed it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "members.json"
        self._lock = folder / "members.lock"
        self._seen: tuple[int, int, int] = (-1, 0, 0)
        self._unread = False  # what the last look found
        self.members = MemberList([])
        file = self._read()
        self.members, self.history = file.as_members(), file.history

    def refresh(self) -> None:
        """Take up what another process wrote; cheap where nothing did."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            file = self._read()
            self.members, self.history = file.as_members(), file.history
        except IntegrityError as error:
            # Whoever edited it by hand may still be at it; who was a member stays one until it can be read again.
            log.error("%s; the list as it was read before holds", error)
        except OSError as error:  # as where strangers have all descriptors: the next look tries again
            self._seen = (-1, 0, 0)
            if not self._unread:
                log.error("%s cannot be read: %s; the list as it was read before holds", self._path, error)
            self._unread = True
        else:
            self._unread = False

    def change(self, action: Callable[[MemberList], T]) -> T:
        """Read, change and write the list with no other process in between."""
        with locked(self._lock):
            before = self._read()
            members = before.as_members()
            result = action(members)
            retired = [owner.hex() for owner in members.retired_owners]
            after = msgspec.structs.replace(before, members=members.all(), retired_owners=retired)
            if after != before:
                after.history = msgspec.structs.replace(before.history, generation=before.history.generation + 1)
                self._write(after)
        self.refresh()
        return result

    def begin_run(self, run: bytes) -> None:
        """The broker starts, once more: `run` is 8 random bytes. RefusedError where there is a newer list."""
        if self._read().history.newer:
            raise newer_list()
        self._change_history(lambda h: History(h.generation + 1, run.hex(), h.generation))

    def note_newer(self, generation: int) -> None:
        """Members were told of a list of this generation, which this one never was."""
        self._change_history(lambda h: msgspec.structs.replace(h, newer=max(h.newer, generation)))

    def accept(self) -> None:
        """Go on with this list, whatever members were told of: it becomes newer than all that."""
        self._change_history(_accepted)

    def _change_history(self, action: Callable[[History], History]) -> None:
        with locked(self._lock):
            file = self._read()
            file.history = action(file.history)
            self._write(file)
        self.refresh()

    def _write(self, file: _File) -> None:
        write_private(self._path, json.dumps(msgspec.to_builtins(file), indent=1).encode())

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _read(self) -> _File:
        try:
            file = msgspec.json.decode(read_limited(self._path, _MAX_FILE), type=_File)
        except FileNotFoundError:
            if self.members.all():
                raise IntegrityError(f"{self._path} is gone") from None
            return _File([])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise IntegrityError(f"{self._path} is damaged: {error}") from None
        if file.version != _VERSION:
            raise IntegrityError(f"{self._path} is of version {file.version}; this broker reads {_VERSION}")
        return file


_Members = Annotated[list[Member], msgspec.Meta(max_length=MAX_SYNCED)]


def take_up(file: MembersFile, payload: memoryview, today: int, retired_owners: Sequence[bytes] = ()) -> Answer:
    """Merge what another broker's SYNC carried into this broker's list; `today` is Unix seconds.

    ProtocolError where the payload is no list of members.
    """
    others = unpack(payload, _Members)

    def merge(members: MemberList) -> None:
        members.merge(others, today)
        members.retire_owners(retired_owners)

    try:
        file.change(merge)
    except (OSError, IntegrityError) as error:
        log.error("cannot take up another broker's members: %s", error)
        return Answer(Code.FAULT, "the broker cannot write its list of members")
    return GRANTED
