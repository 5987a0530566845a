"""A worker in memory: its side of what the steward asks, as docs/protocol.md tells it, and the faults it may have.

The real service on a disk in memory takes 1.5 times the processor time for a schedule: `test_device` asks both the
same.

What it holds survives its being away, as a disk does. A share may be damaged without its worker knowing; it finds out
when it reads or scrubs it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from common.coding.commitments import CommitmentVerifier, supersedes
from common.coding.recipe import decode_recipe, digest
from common.protocol.codec import pack, unpack, unpack_header
from common.protocol.device_messages import (
    Amend,
    Append,
    Commit,
    Commitment,
    Fetch,
    Fetched,
    Inspect,
    Open,
    Part,
    Progress,
    SegmentRange,
    ShareName,
    SignedCommitment,
)
from common.protocol.envelope import Envelope, Operation
from common.protocol.identifiers import device_id
from common.protocol.messages import (
    GRANTED,
    TOMBSTONE_LIFETIME,
    Acknowledged,
    AnnouncedShare,
    Answer,
    Code,
    DeviceKind,
    GrantedTo,
    Message,
    ToldTombstone,
    Tombstone,
)
from common.protocol.signatures import is_tombstone_signed

Key = tuple[bytes, int]
Answered = tuple[Message, Optional[bytes]]


@dataclass
class Stored:
    owner: bytes
    packed: bytes
    blocks: list[bytes]
    sound: bool = True  # as far as the worker knows

    @property
    def commitment(self) -> Commitment:
        return unpack(self.packed, SignedCommitment).commitment

    def is_good(self, share: int) -> bool:
        recipe = decode_recipe(self.commitment.recipe)
        return all(recipe.accepts(s, share, block) for s, block in enumerate(self.blocks))


@dataclass
class Staged:
    owner: bytes
    opened: Open
    blocks: dict[int, bytes] = field(default_factory=dict)


class Decline(Exception):
    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Device:
    """`tell(operation, list)`: says something to all brokers; `committed(device, key)`: a share became durable here."""

    def __init__(
        self,
        number: int,
        rng: random.Random,
        tell: Callable[[Device, Operation, list[Any]], None],
        committed: Callable[[Device, Key], None],
        discarding: Callable[[Device, Key], None],
    ) -> None:
        self.name = f"d{number}"
        self.public_key = number.to_bytes(32, "big")
        self.device_id = device_id(self.public_key)
        self.shares: dict[Key, Stored] = {}
        self.staged: dict[Key, Staged] = {}
        self.trash: dict[Key, Stored] = {}
        self.tombstones: dict[bytes, Tombstone] = {}  # by encoding id: schedules have one owner
        self.up = True
        self.dead = False
        self.kind = DeviceKind.SERVER
        self.full = False  # takes nothing, although it says that it has room
        self.read_only = False  # takes no deletion, and takes none back
        self.lies = False  # sends wrong blocks now
        self._leases: dict[bytes, tuple[object, float, int]] = {}
        self._verifier = CommitmentVerifier()
        self._rng = rng
        self._tell = tell
        self._committed = committed
        self._discarding = discarding

    # --- what the world does to it

    def restart(self) -> None:
        self._leases.clear()

    def announced(self, key: Key) -> AnnouncedShare:
        stored = self.shares[key]
        commitment = stored.commitment
        recipe = decode_recipe(commitment.recipe)
        return AnnouncedShare(
            *key,
            commitment.object_id,
            stored.owner,
            recipe.k,
            recipe.n,
            recipe.share_bytes,
            stored.sound,
            commitment.revision,
            [GrantedTo(grant.owner, grant.object_id) for grant in commitment.grants],
        )

    def announcement(self) -> list[AnnouncedShare]:
        """All that it says it holds, when it registers."""
        return [self.announced(key) for key in self.shares]

    def store(self, key: Key, stored: Stored) -> None:
        self.shares[key] = stored
        self._tell(self, Operation.ANNOUNCE, [self.announced(key)])

    def damage(self, key: Key) -> None:
        blocks = self.shares[key].blocks
        segment = self._rng.randrange(len(blocks))
        blocks[segment] = bytes([blocks[segment][0] ^ 1]) + blocks[segment][1:]

    def scrub(self, keys: Optional[Iterable[Key]] = None, *, always_tell: bool = False) -> None:
        for key in list(self.shares if keys is None else keys):
            stored = self.shares.get(key)
            if stored is not None and stored.sound and not stored.is_good(key[1]):
                stored.sound = False
                self._tell(self, Operation.ANNOUNCE, [self.announced(key)])
            elif stored is not None and always_tell:
                self._tell(self, Operation.ANNOUNCE, [self.announced(key)])

    def used_bytes(self) -> int:
        return sum(len(block) for stored in self.shares.values() for block in stored.blocks)

    def drop_leases(self, broker: object) -> None:
        self._leases = {e: lease for e, lease in self._leases.items() if lease[0] is not broker}

    # --- what is asked of it

    def reply(
        self, broker: object, envelope: Envelope, header: bytes, payload: bytes, now: float
    ) -> Optional[Answered]:
        """What comes of a request; None where nothing does."""
        return self.handle(broker, envelope, header, payload, now)

    def handle(self, broker: object, envelope: Envelope, header: bytes, payload: bytes, now: float) -> Answered:
        operations: dict[Operation, tuple[type[Message], Callable[[Any], Answered]]] = {
            Operation.INSPECT: (Inspect, lambda h: self._inspect(h, broker, envelope.owner, now)),
            Operation.OPEN: (Open, lambda h: self._open(h, envelope.owner)),
            Operation.PROGRESS: (ShareName, lambda h: self._progress(h, envelope.owner)),
            Operation.APPEND: (Append, lambda h: self._append(h, envelope.owner, payload)),
            Operation.COMMIT: (Commit, lambda h: self._commit(h, envelope.owner, payload)),
            Operation.ABANDON: (ShareName, lambda h: self._abandon(h, envelope.owner)),
            Operation.FETCH: (Fetch, lambda h: self._fetch(h, broker, envelope.owner, now)),
            Operation.CHECK: (ShareName, self._check),
            Operation.DISCARD: (ShareName, lambda h: self._discard(h, envelope.owner)),
            Operation.AMEND: (Amend, lambda h: self._amend(h, payload)),
            Operation.DELETE: (Tombstone, lambda h: self.delete(h, envelope.owner)),
            Operation.UNDELETE: (Tombstone, lambda h: self.undelete(h, envelope.owner)),
        }
        shape, operation = operations[envelope.operation]
        try:
            return operation(unpack_header(header, shape))
        except Decline as decline:
            return Acknowledged(Answer(decline.code)), None

    def _require_not_deleted(self, encoding_id: bytes) -> None:
        if encoding_id in self.tombstones and self.tombstones[encoding_id].deleted:
            raise Decline(Code.CONFLICT)

    def _inspect(self, header: Inspect, broker: object, owner: bytes, now: float) -> Answered:
        stored = self.shares.get((header.encoding_id, header.share))
        if stored is None or stored.owner != owner:
            raise Decline(Code.NOT_FOUND)
        if not stored.sound:
            raise Decline(Code.DAMAGED)
        lease = self._leases.get(header.encoding_id)
        if header.lease:
            if lease is not None and lease[0] is not broker and lease[1] > now:
                raise Decline(Code.CONFLICT)
            self._leases[header.encoding_id] = (broker, now + header.lease, header.lease)
        return Acknowledged(GRANTED), stored.packed

    def _open(self, header: Open, owner: bytes) -> Answered:
        key = (header.encoding_id, header.share)
        self._require_not_deleted(header.encoding_id)
        if key in self.shares and self.shares[key].sound:
            raise Decline(Code.CONFLICT)
        if self.full:
            raise Decline(Code.NO_ROOM)
        self.staged.setdefault(key, Staged(owner, header))
        return Acknowledged(GRANTED), None

    def _progress(self, header: ShareName, owner: bytes) -> Answered:
        key = (header.encoding_id, header.share)
        if key in self.staged and self.staged[key].owner == owner:
            return Progress(GRANTED), pack([SegmentRange(s, 1) for s in sorted(self.staged[key].blocks)])
        if key in self.shares and self.shares[key].sound:
            return Progress(GRANTED, True), None
        raise Decline(Code.NOT_OPEN)

    def _append(self, header: Append, owner: bytes, payload: bytes) -> Answered:
        staged = self.staged.get((header.encoding_id, header.share))
        if staged is None or staged.owner != owner:
            raise Decline(Code.NOT_OPEN)
        if self.full:
            raise Decline(Code.NO_ROOM)
        if digest(payload) != header.digest:
            raise Decline(Code.MALFORMED)
        if staged.blocks.setdefault(header.segment, payload) != payload:
            raise Decline(Code.CONFLICT)
        return Acknowledged(GRANTED), None

    def _commit(self, header: Commit, owner: bytes, payload: bytes) -> Answered:
        key = (header.encoding_id, header.share)
        self._require_not_deleted(header.encoding_id)
        if key in self.shares and self.shares[key].sound:
            if self.shares[key].packed != payload:
                raise Decline(Code.CONFLICT)
            return Acknowledged(GRANTED), None
        staged = self.staged.get(key)
        if staged is None or staged.owner != owner:
            raise Decline(Code.NOT_OPEN)
        recipe = decode_recipe(unpack(payload, SignedCommitment).commitment.recipe)
        blocks = [staged.blocks.get(s, b"") for s in range(recipe.segment_count)]
        if not all(recipe.accepts(s, header.share, block) for s, block in enumerate(blocks)):
            raise Decline(Code.CONFLICT)
        del self.staged[key]
        self.store(key, Stored(owner, payload, blocks))
        self._committed(self, key)
        return Acknowledged(GRANTED), None

    def _abandon(self, header: ShareName, owner: bytes) -> Answered:
        key = (header.encoding_id, header.share)
        if key in self.staged and self.staged[key].owner == owner:
            del self.staged[key]
        return Acknowledged(GRANTED), None

    def _fetch(self, header: Fetch, broker: object, owner: bytes, now: float) -> Answered:
        parts, payload = [], b""
        for name in header.blocks:
            key = (name.encoding_id, name.share)
            lease = self._leases.get(name.encoding_id)
            if lease is not None and lease[0] is broker:
                self._leases[name.encoding_id] = (broker, now + lease[2], lease[2])
            stored = self.shares.get(key)
            if stored is None or stored.owner != owner or not stored.sound:
                code = Code.DAMAGED if stored is not None and stored.owner == owner else Code.NOT_FOUND
                parts.append(Part(Answer(code)))
                continue
            block = stored.blocks[name.segment]
            if not decode_recipe(stored.commitment.recipe).accepts(name.segment, name.share, block):
                self.scrub([key])
                parts.append(Part(Answer(Code.DAMAGED)))
                continue
            block = bytes(len(block)) if self.lies else block
            parts.append(Part(GRANTED, len(block)))
            payload += block
        return Fetched(GRANTED, parts), payload

    def _check(self, header: ShareName) -> Answered:
        if (header.encoding_id, header.share) not in self.shares:
            self._tell(self, Operation.WITHDRAW, [header])
            raise Decline(Code.NOT_FOUND)
        self.scrub([(header.encoding_id, header.share)], always_tell=True)
        return Acknowledged(GRANTED), None

    def _discard(self, header: ShareName, owner: bytes) -> Answered:
        key = (header.encoding_id, header.share)
        if key in self.shares and self.shares[key].owner == owner:
            self._discarding(self, key)
            del self.shares[key]
            self._tell(self, Operation.WITHDRAW, [ShareName(*key)])
        return Acknowledged(GRANTED), None

    def _amend(self, header: Amend, payload: bytes) -> Answered:
        signed = unpack(payload, SignedCommitment)
        if self._verifier.fault(signed, header.encoding_id) is not None:
            raise Decline(Code.NOT_ALLOWED)
        for key in [key for key in self.shares if key[0] == header.encoding_id]:
            if supersedes(signed.commitment, self.shares[key].commitment):
                self.store(key, replace(self.shares[key], owner=signed.commitment.owner, packed=payload))
        return Acknowledged(GRANTED), None

    # --- deletion

    def delete(self, tombstone: Tombstone, owner: bytes) -> Answered:
        known = self._known(tombstone, owner)
        keys = self._keys(tombstone)
        if not keys and known is None:
            raise Decline(Code.NOT_FOUND)
        if known is not None and known.generation >= tombstone.generation:
            if known.deleted:
                return Acknowledged(GRANTED), None
            raise Decline(Code.CONFLICT)
        if self.read_only:
            raise Decline(Code.READ_ONLY)
        self._bury(tombstone)
        for key in keys:
            self.trash[key] = self.shares.pop(key)
        self._tell(self, Operation.WITHDRAW, [ShareName(*key) for key in keys])
        self.staged = {key: staged for key, staged in self.staged.items() if key[0] != tombstone.encoding_id}
        return Acknowledged(GRANTED), None

    def undelete(self, tombstone: Tombstone, owner: bytes) -> Answered:
        known = self._known(tombstone, owner)
        if known is None and not self._keys(tombstone):
            raise Decline(Code.NOT_FOUND)
        if known is not None and known.generation >= tombstone.generation:
            return Acknowledged(GRANTED if not known.deleted else Answer(Code.CONFLICT)), None
        if self.read_only:
            raise Decline(Code.READ_ONLY)
        self._bury(tombstone)
        for key in [key for key in self.trash if key[0] == tombstone.encoding_id]:
            self.store(key, self.trash.pop(key))
        if not self._keys(tombstone):
            raise Decline(Code.NOT_FOUND)
        return Acknowledged(GRANTED), None

    def _known(self, tombstone: Tombstone, owner: bytes) -> Optional[Tombstone]:
        if tombstone.owner != owner or not is_tombstone_signed(tombstone):
            raise Decline(Code.NOT_ALLOWED)
        return self.tombstones.get(tombstone.encoding_id)

    def _keys(self, tombstone: Tombstone) -> list[Key]:
        """The shares here that a tombstone is about."""
        name = tombstone.encoding_id, tombstone.owner
        return [key for key, stored in self.shares.items() if (key[0], stored.owner) == name]

    def told(self) -> list[ToldTombstone]:
        return [ToldTombstone(each, each.trash_seconds, TOMBSTONE_LIFETIME) for each in self.tombstones.values()]

    def _bury(self, tombstone: Tombstone) -> None:
        self.tombstones[tombstone.encoding_id] = tombstone
        self._tell(self, Operation.REPORT_DELETED, self.told())
