"""Which of the things that members ask are recorded in the audit log, and by whom they were asked.

What changes the cluster or somebody's images is recorded as it is granted or, where devices decide, as it is passed on
to the first of them, and the server has that line durable before anything goes out. What is read and stored is recorded
where the broker was told to: a line for each image and client, with the number of devices, once it has been quiet.
No clock and no disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from broker.audit import Coalesced, Record, unrecorded
from broker.queries import Queries
from broker.sessions import Session
from common.errors import ProtocolError
from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import Amend, Commit, Fetch, SignedCommitment, Store
from common.protocol.envelope import Operation
from common.protocol.identifiers import owner_id, shown_key
from common.protocol.messages import Acknowledged, ApproverList, EmptyTrash, Message, Retire, Tombstone
from common.protocol.operations import AMEND, COMMIT, DELETE, EMPTY, FETCH, NAME_APPROVERS, STORE, UNDELETE
from common.text import printable

_Change = Union[Amend, Tombstone]
_Rule = Union[ApproverList, EmptyTrash]
_Access = Union[Commit, Store, Fetch]
_CHANGES: dict[Operation, type[_Change]] = {
    AMEND.number: AMEND.header,
    DELETE.number: DELETE.header,
    UNDELETE.number: UNDELETE.header,
}
_RULES: dict[Operation, type[_Rule]] = {NAME_APPROVERS.number: NAME_APPROVERS.header, EMPTY.number: EMPTY.header}
_ACCESSES: dict[Operation, tuple[str, type[_Access]]] = {
    COMMIT.number: ("put", COMMIT.header),
    STORE.number: ("put", STORE.header),
    FETCH.number: ("get", FETCH.header),
}


class AuditTrail:
    """`now` is monotonic seconds."""

    def __init__(self, queries: Queries, record: Record = unrecorded, *, accesses: bool = False) -> None:
        """`accesses`: whether puts and gets are recorded, too."""
        self._queries = queries
        self._record = record
        self._accesses = _ACCESSES if accesses else {}
        self._changes: Coalesced[tuple[bytes, bytes, bytes, str, int]] = Coalesced()
        self._used: Coalesced[tuple[str, bytes, bytes, bytes]] = Coalesced()

    def answered(self, session: Session, operation: Operation, request: Message, reply: Message) -> None:
        """The broker answered a client by itself."""
        if not isinstance(reply, Acknowledged) or not reply.answer.granted:
            return
        by = self._asked_by(session.public_key)
        if operation is Operation.RETIRE and isinstance(request, Retire):
            device = printable(self._queries.devices.name(request.device_id))
            self._record("stays" if request.cancel else "retiring", device=device, **by)
        elif operation is Operation.REBALANCE:
            self._record("rebalancing", **by)
        elif operation is Operation.RETIRE_OWNER:
            self._record("vault key replaced", owner=session.vault.hex(), **by)

    def passed_on(
        self, session: Session, operation: Operation, device: bytes, frames: Sequence[memoryview], now: float
    ) -> None:
        """A request of a client goes to a device; its frames are envelope, header and perhaps payload."""
        try:
            if operation in _CHANGES:
                self._change(session, operation, unpack_header(frames[1], _CHANGES[operation]), device, frames, now)
            elif operation in _RULES:
                self._rule(session, unpack_header(frames[1], _RULES[operation]), device, now)
            elif operation in self._accesses:
                event, shape = self._accesses[operation]
                for encoding_id in _encodings(unpack_header(frames[1], shape)):
                    self._used.tell((event, session.public_key, session.vault, encoding_id), device, now)
        except ProtocolError:
            return  # the device says so

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        self._changes.take(now)
        for (event, key, owner, encoding_id), devices in self._used.take(now):
            facts = {"owner": owner.hex(), "encoding": encoding_id.hex(), "devices": devices}
            self._record(event, **facts, **self._asked_by(key))

    def _change(
        self,
        session: Session,
        operation: Operation,
        asked: _Change,
        device: bytes,
        frames: Sequence[memoryview],
        now: float,
    ) -> None:
        catalog = self._queries.catalog
        if not catalog.owners_of(asked.encoding_id) and asked.encoding_id not in catalog.tombstones:
            return  # or with ids that it makes up a client would push out all other lines
        event, owner = f"{operation.name.lower()} asked", session.vault
        facts = {"owner": owner.hex(), "encoding": asked.encoding_id.hex()}
        if isinstance(asked, Amend):
            commitment = unpack(frames[2] if len(frames) == 3 else b"", SignedCommitment).commitment
            facts["readers"] = " ".join(grant.owner.hex() for grant in commitment.grants)
            turn = commitment.revision
        else:
            turn = asked.generation
        if not self._changes.tell((session.public_key, owner, asked.encoding_id, event, turn), device, now):
            return  # the same, of another device
        self._record(event, **facts, **self._asked_by(session.public_key))

    def _rule(self, session: Session, asked: _Rule, device: bytes, now: float) -> None:
        """Who is to approve that a trash is emptied early, or that it is to be."""
        owner = session.vault
        if not self._queries.catalog.tells_of(owner):
            return  # or by vaults that it makes up
        if isinstance(asked, ApproverList):
            event, people, turn = "approvers named", asked.approvers, asked.generation
        else:
            event, people, turn = "emptying asked", [each.approver for each in asked.approvals], 0
        if self._changes.tell((session.public_key, owner, b"".join(people), event, turn), device, now):
            approvers = " ".join(owner_id(key).hex() for key in people)
            self._record(event, owner=owner.hex(), approvers=approvers, **self._asked_by(session.public_key))

    def _asked_by(self, key: bytes) -> dict[str, str]:
        return {"by": printable(self._queries.name_of(key)), "key": shown_key(key)}


def _encodings(asked: _Access) -> set[bytes]:
    if isinstance(asked, Commit):
        return {asked.encoding_id}
    return {part.encoding_id for part in (asked.shares if isinstance(asked, Store) else asked.blocks)}
