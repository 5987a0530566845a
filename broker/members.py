"""The cluster's members: which CURVE keys are admitted, as what, under which name; and the invites not yet used.

With the broker's own key this is all that a broker keeps on disk: `members.json`, mode 0600, always replaced whole.
`broker.py invite` and the running broker both change it, under a lock; the broker reads it again when it has changed.
An invite is a member too, with a one-time key, a standing that may only join, and an end.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated, Callable, Optional, TypeVar

import msgspec

from broker.rights import Standing
from common.errors import IntegrityError, NotFoundError, RefusedError
from common.files import locked, read_limited, write_private
from common.invite import INVITE_LIFETIME, Role
from common.text import printable

_VERSION = 1
_MAX_FILE = 64 << 20  # bytes
log = logging.getLogger(__name__)
T = TypeVar("T")
_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

_INVITED = {Role.WORKER: Standing.INVITED_WORKER, Role.CLIENT: Standing.INVITED_CLIENT}
_ADMITTED = {Standing.INVITED_WORKER: Standing.WORKER, Standing.INVITED_CLIENT: Standing.CLIENT}


class Member(msgspec.Struct, frozen=True):
    public_key: _Key  # hexadecimal
    standing: Standing
    name: str
    added: int  # Unix seconds
    expires: Optional[int] = None  # Unix seconds; only of an invite
    used_by: Optional[_Key] = None  # the key that this invite admitted
    retiring: bool = False  # a worker whose shares are to move elsewhere


class _File(msgspec.Struct):
    members: list[Member]
    version: int = _VERSION


class MemberList:
    """The members of one cluster, in memory; no disk and no clock."""

    def __init__(self, members: list[Member]) -> None:
        self._members: dict[str, Member] = {member.public_key: member for member in members}

    def all(self) -> list[Member]:
        return list(self._members.values())

    def find(self, public_key: bytes, now: int) -> Optional[Member]:
        """Who has this key (32 bytes); None where nobody does, or the invite is over."""
        member = self._members.get(public_key.hex())
        return None if member is None or _over(member, now) else member

    def workers(self) -> list[Member]:
        return [member for member in self._members.values() if member.standing is Standing.WORKER]

    def invite(self, one_time_key: bytes, role: Role, now: int) -> None:
        """Let the holder of a one-time key join within the hour; old invites are dropped."""
        self._members = {key: m for key, m in self._members.items() if not _over(m, now)}
        key = one_time_key.hex()
        self._members[key] = Member(key, _INVITED[role], "", now, now + INVITE_LIFETIME)

    def admit(self, one_time_key: bytes, public_key: bytes, name: str, now: int) -> Member:
        """Trade an invite for a place; asking again with the same keys gets the same answer.

        RefusedError where the invite is over or was used by another.
        """
        invite = self.find(one_time_key, now)
        if invite is None or invite.standing not in _ADMITTED:
            raise RefusedError("this invite is over")
        key = public_key.hex()
        if invite.used_by is not None:
            if invite.used_by == key and key in self._members:
                return self._members[key]
            raise RefusedError("this invite has been used")
        if key in self._members:
            raise RefusedError("this key is a member already")
        member = Member(key, _ADMITTED[invite.standing], self._free_name(printable(name)), now)
        self._members[key] = member
        self._members[invite.public_key] = msgspec.structs.replace(invite, used_by=key)
        return member

    def revoke(self, name: str) -> Member:
        """Take a member off the list; NotFoundError where nobody has that name."""
        for key, member in self._members.items():
            if member.name == name and member.standing not in _ADMITTED:
                del self._members[key]
                return member
        raise NotFoundError(f"no member is called {name}", advice="see who is: python broker/broker.py members")

    def retire(self, public_key: str, *, cancel: bool = False) -> Member:
        """Mark a worker (by its key in hexadecimal) as retiring, or no more; NotFoundError where it is none."""
        member = self._members.get(public_key)
        if member is None or member.standing is not Standing.WORKER:
            raise NotFoundError("this is no device of the cluster")
        self._members[public_key] = msgspec.structs.replace(member, retiring=not cancel)
        return self._members[public_key]

    def _free_name(self, wished: str) -> str:
        taken = {member.name for member in self._members.values()}
        name, number = wished, 2
        while name in taken:
            name, number = f"{wished}-{number}", number + 1
        return name


def _over(member: Member, now: int) -> bool:
    return member.expires is not None and member.expires <= now


class MembersFile:
    """`members.json` of a broker's folder, read again when another process changed it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "members.json"
        self._lock = folder / "members.lock"
        self._seen: tuple[int, int, int] = (-1, 0, 0)
        self.members = MemberList(self._read())

    def refresh(self) -> None:
        """Take up what another process wrote; cheap where nothing did."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self.members = MemberList(self._read())
        except IntegrityError as error:
            # Whoever edited it by hand may still be at it; who was a member stays one until it can be read again.
            log.error("%s; the list as it was read before holds", error)

    def change(self, action: Callable[[MemberList], T]) -> T:
        """Read, change and write the list with no other process in between."""
        with locked(self._lock):
            members = MemberList(self._read())
            result = action(members)
            content = msgspec.to_builtins(_File(members.all()))
            write_private(self._path, json.dumps(content, indent=1).encode())
        self.refresh()
        return result

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _read(self) -> list[Member]:
        try:
            file = msgspec.json.decode(read_limited(self._path, _MAX_FILE), type=_File)
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"{self._path} is damaged: {error}") from None
        if file.version != _VERSION:
            raise IntegrityError(f"{self._path} is of version {file.version}; this broker reads {_VERSION}")
        return file.members
