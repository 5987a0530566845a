"""Answers what is asked of the broker itself: who is there, where to put shares, where shares are, who may come in.

What of that is the steward's is in `steward.answers`.

Sees identities, not routing ids; its answers are headers and payloads, which the switchboard sends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Callable, Optional

import msgspec

from broker.audit import Coalesced, Record, unrecorded
from broker.catalog import BUDGET, Catalog
from broker.catalog_rows import Storage
from broker.credit import CREDIT, REQUESTS, REQUESTS_PER_DEVICE
from broker.devices import DeviceNow, Devices
from broker.list_marks import ListMarks
from broker.members import MembersFile, address_of, take_up
from broker.overruns import MEMORY, SIGNATURES, Overruns
from broker.placement import Candidate, has_room, place
from broker.quota import Quota
from broker.rights import CLIENT_SIDE, Standing
from broker.sessions import Session
from broker.signature_checks import SignatureChecks
from broker.storing import BEGINNING, Storing
from broker.vault_origins import VaultOrigins
from common.errors import IntegrityError, NotFoundError, ProtocolError, RefusedError
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.device_messages import ShareName
from common.protocol.envelope import MAX_MEMBERS, Envelope, Operation
from common.protocol.identifiers import NO_ACCOUNT, owner_id, shown_key
from common.protocol.messages import (
    GRANTED,
    MAX_ANNOUNCED,
    MAX_BROKERS,
    MAX_OBJECTS,
    MAX_TOMBSTONES,
    PROTOCOL_VERSION,
    TOMBSTONE_LIFETIME,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Answer,
    Brokers,
    ChangedObject,
    Changes,
    Code,
    Device,
    DeviceKind,
    Hello,
    Holdings,
    Identifier,
    Join,
    Joined,
    KnownBroker,
    ListChanges,
    ListObjects,
    ListTrash,
    Locate,
    Message,
    ObjectId,
    OverLimit,
    OwnerProof,
    Placed,
    Places,
    Register,
    Registered,
    Report,
    Status,
    Sync,
    ToldTombstone,
    Tombstone,
    Trashed,
    TrashList,
    Welcome,
    Withdraw,
)
from common.protocol.signatures import client_statement, is_signed, is_tombstone_signed

log = logging.getLogger(__name__)

Answered = tuple[Message, Optional[bytes]]  # header, payload
_MAX_RETIRED_OWNERS = 10_000  # so that no client makes the list of members grow without end
_MAX_OVER_LIMITS = 12  # told in one answer, whose header has to stay small
_FORGOTTEN = 4000  # encodings of a device that is no member any more, at a tick
_LEARNING_PERIOD = 5.0  # seconds between commits while devices tell what the broker forgot
_EXPIRY_PERIOD = 3600  # seconds between looks for tombstones that have come to their end

_Encodings = Annotated[list[Identifier], msgspec.Meta(max_length=MAX_OBJECTS)]
_Objects = Annotated[list[ObjectId], msgspec.Meta(max_length=MAX_OBJECTS)]
_Withdrawal = Annotated[list[ShareName], msgspec.Meta(max_length=MAX_ANNOUNCED)]
_Tombstones = Annotated[list[ToldTombstone], msgspec.Meta(max_length=MAX_TOMBSTONES)]
_Announcement = Annotated[list[AnnouncedShare], msgspec.Meta(max_length=MAX_ANNOUNCED)]


class Queries:
    """The broker's own knowledge and its answers. `now` is monotonic seconds, `today` Unix seconds."""

    def __init__(
        self,
        members: MembersFile,
        started: float,
        today: Callable[[], int],
        record: Record = unrecorded,
        owner_quota: Optional[int] = None,
        marks: Optional[ListMarks] = None,
        budget: int = BUDGET,
        origins: Optional[VaultOrigins] = None,
        storage: Optional[Storage] = None,
    ) -> None:
        """`owner_quota`: bytes of shares that one vault, and one client's, may have in the whole cluster; None for any
        number. `marks`: what tells peers which list of members this is, and from theirs whether it is the newest; None
        for no such look. `budget`: bytes of memory for what devices tell. `origins`: who brought which vault.
        `storage`: where the catalog's rows lie; None for memory.
        """
        self._marks = marks
        self._members = members
        self._record = record
        self._deletions: Coalesced[tuple[str, bytes, bytes, int]] = Coalesced()
        self._today = today
        self._next_expiry = 0
        self._next_commit = 0.0
        self.catalog = Catalog(self.has_retired, budget, storage)
        self.overruns = Overruns(self.name_of, record)
        origins = origins or VaultOrigins()
        self.quota = Quota(self.catalog, origins, owner_quota)
        self.storing = Storing(self.catalog, self.quota, origins, self.overruns, self._is_client, self.has_retired)
        self.devices = Devices(members, started)
        self._checks = SignatureChecks()

    # --- who is there

    def lose(self, device: bytes) -> None:
        """The device's connection is gone."""
        if self.devices.lose(device):
            log.warning("device %s is gone", self.devices.name(device))

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        self._record_deletions(now)
        self._forget_revoked()
        self._note_cut_off(now)
        self.storing.tick(now)
        self.overruns.expire(now)
        self._checks.expire(now)
        self.catalog.drop_unnamed()
        self._commit(now)
        if self._today() >= self._next_expiry:
            self._next_expiry = self._today() + _EXPIRY_PERIOD
            for encoding_id in self.catalog.tombstones.expire(self._today()):
                self.catalog.touch(encoding_id)

    def _commit(self, now: float) -> None:
        """Make the catalog durable; not at once while devices tell it anew, each of them the same encodings."""
        if not self.devices.is_learning(now) or now >= self._next_commit:
            self._next_commit = now + _LEARNING_PERIOD
            self.catalog.commit()

    def _forget_revoked(self) -> None:
        for device in self.catalog.devices() - self.devices.members().keys():
            self.catalog.forget_device(device, _FORGOTTEN)

    def _note_cut_off(self, now: float) -> None:
        for device in self.catalog.cut_off & self.devices.members().keys():
            self.overruns.note(self._key_of(device), MEMORY, now)

    def _key_of(self, device: bytes) -> bytes:
        """The public key of a device that is a member."""
        return bytes.fromhex(self.devices.members()[device].public_key)

    def status(self, left_on: Callable[[bytes], int], waited_for: Callable[[DeviceNow], float], now: float) -> Answered:
        """`left_on`: of a retiring device, how many shares no other device has. `waited_for`: seconds left, of one."""
        devices = [
            Device(
                device,
                there.name,
                there.alive,
                there.used_bytes,
                there.free_bytes,
                self.catalog.shares_on(device),
                int(there.away),
                there.retiring,
                left_on(device) if there.retiring else 0,
                there.kind,
                int(waited_for(there)),
                max(0, there.shares - self.catalog.shares_on(device)) if there.alive else 0,
                there.hold,
                int(there.held_for),
            )
            for device, there in self.devices.all(now).items()
        ]
        devices.sort(key=lambda device: device.name)
        return Status(GRANTED, self.devices.settled(now)), pack(devices)

    def over_limits(self, asker: bytes, now: float, *, by_admin: bool) -> list[OverLimit]:
        """Who is over a limit: devices, and of clients the asker alone (by its public key), unless it is an admin."""
        over = self.overruns.current(now)
        if not by_admin:
            over = [(key, limit) for key, limit in over if key == asker or self.standing_of(key) is Standing.WORKER]
        return [OverLimit(self.name_of(key), limit) for key, limit in over[:_MAX_OVER_LIMITS]]

    # --- clients

    def hello(self, header: Hello, client_key: bytes) -> Answered:
        if header.version != PROTOCOL_VERSION:
            return Welcome(_other_version(header.version)), None
        self._require_newest(header.list_mark)
        if header.deposit_for is not None and header.proof is None:
            return Welcome(Answer(Code.MALFORMED, "who stores for a vault says who that is")), None
        if header.proof is not None and not _proves(header.proof, client_key):
            return Welcome(Answer(Code.NOT_ALLOWED, "the vault's owner did not sign for this client")), None
        adds_only = self.standing_of(client_key) is Standing.ADD_ONLY
        return Welcome(GRANTED, REQUESTS, REQUESTS_PER_DEVICE, CREDIT, adds_only), None

    def places(self, header: Places, payload: memoryview, session: Session, now: float) -> Answered:
        refusal = self.storing.refusal_of_more(session, header.n * header.share_bytes, now)
        if refusal is not None:
            return Placed(refusal), None
        candidates = [
            Candidate(device, 0 if device in self.catalog.cut_off else there.free_bytes)
            for device, there in self.devices.all(now).items()
            if there.alive and not there.retiring
        ]
        places = [
            place(encoding, candidates, header.n, header.share_bytes, header.exclude)
            for encoding in unpack(payload, _Encodings)
        ]
        fit = [c for c in candidates if c.device_id not in header.exclude]
        return Placed(GRANTED, sum(not has_room(c, header.share_bytes) for c in fit)), pack(places)

    def refusal(
        self, session: Session, device: bytes, operation: Operation, frames: Sequence[memoryview], now: float
    ) -> Optional[Answer]:
        """The refusal of a request to a device that would store what may not be, or what nobody would find."""
        return self.storing.refusal(session, device, operation, frames, now)

    def passed_on(self, envelope: Envelope, session: Session) -> Envelope:
        """The envelope with which a device gets a request: as whose, and whom what it begins counts for."""
        onward = envelope._replace(peer=session.session_id, owner=session.vault, account=NO_ACCOUNT, members=0)
        if envelope.operation not in BEGINNING:
            return onward
        members = min(len(self._members.members.clients()), MAX_MEMBERS)
        return onward._replace(account=self.storing.account(session, envelope.peer), members=members)

    def locate(self, header: Locate, payload: memoryview, owner: bytes, now: float) -> Answered:
        objects = unpack(payload, _Objects)
        found = self.catalog.locate_all(owner, objects, lambda device: self.devices.alive(device, now))
        return Holdings(GRANTED, self.devices.settled(now)), pack(found)

    def list_objects(self, header: ListObjects, owner: bytes, now: float) -> Answered:
        self._commit(now)  # what is told is known after a restart too, so that only what changed then is told again
        limit = header.limit
        while True:
            found, rest = self.catalog.page(owner, header.after, limit, lambda d: self.devices.alive(d, now))
            payload = pack(found)
            if len(payload) <= MAX_PAYLOAD or limit == 1:
                return Holdings(GRANTED, self.devices.settled(now), rest), payload
            limit //= 2  # a page of objects with very many shares: a shorter one fits into a message

    def list_changes(self, header: ListChanges, owner: bytes, now: float) -> Answered:
        self._commit(now)  # as above
        log, limit = self.catalog.changes, header.limit
        if not log.knows(header.epoch, header.number):
            return Changes(GRANTED, log.epoch, log.tell()), None
        while True:
            changed = log.since(owner, header.number, limit)
            found = [
                ChangedObject(object_id, self.catalog.locate(owner, object_id, lambda d: self.devices.alive(d, now)))
                for object_id in changed.objects
            ]
            payload = pack(found)
            if len(payload) <= MAX_PAYLOAD or limit == 1:
                return Changes(GRANTED, log.epoch, changed.number, True, changed.complete), payload
            limit //= 2

    def trash(self, header: ListTrash, owner: bytes, now: float) -> Answered:
        """What this owner deleted and may take back, or all that it deleted, in the order of encoding ids."""
        tombstones = self.catalog.tombstones
        trashed: list[Trashed] = []
        for encoding_id in tombstones.encodings_of(owner):
            stone = tombstones.of_owner(encoding_id, owner)
            if encoding_id <= header.after or stone is None or not stone.deleted:
                continue
            trash_left = min(max(0, tombstones.trash_until(stone) - self._today()), stone.trash_seconds)
            if not trash_left and not header.emptied:
                continue
            if len(trashed) == MAX_OBJECTS:
                return TrashList(GRANTED, self.devices.settled(now), False), pack(trashed)
            devices = [device for device in tombstones.told_by(stone) if self.devices.alive(device, now)]
            age = min(max(0, self._today() + TOMBSTONE_LIFETIME - tombstones.ends(stone)), TOMBSTONE_LIFETIME)
            trashed.append(Trashed(stone.object_id, encoding_id, stone.generation, trash_left, devices, age))
        return TrashList(GRANTED, self.devices.settled(now)), pack(trashed)

    def has_retired(self, owner: bytes) -> bool:
        """Whether this owner's vault key was replaced by another."""
        return self._members.members.has_retired(owner)

    def retire_owner(self, session: Session, now: float) -> Answered:
        """Let nobody in as this session's owner from now on."""
        owner = session.vault
        if not self.storing.brings(session, now):
            return Acknowledged(Answer(Code.NO_ROOM, "this client has retired as many vaults as one may")), None
        if len(self._members.members.retired_owners) >= _MAX_RETIRED_OWNERS and not self.has_retired(owner):
            return Acknowledged(Answer(Code.NO_ROOM, "too many owners were retired")), None
        try:
            self._members.change(lambda members: members.retire_owners([owner]))
        except (OSError, IntegrityError) as error:
            log.error("cannot retire an owner: %s", error)
            return Acknowledged(Answer(Code.FAULT, "the broker cannot write its list of members")), None
        log.info("retired the owner %s: the vault key was replaced", owner.hex())
        return Acknowledged(GRANTED), None

    # --- workers

    def register(self, device: bytes, header: Register, now: float) -> Answered:
        if header.version != PROTOCOL_VERSION:
            return Acknowledged(_other_version(header.version)), None
        self._require_newest(header.list_mark)
        if self.devices.alive(device, now):
            taken = "another worker with this store's key is registered"
            return Acknowledged(Answer(Code.CONFLICT, taken)), None
        self._keep_kind(device, header.kind)
        known = self.catalog.known_of(device)
        if known is None or known.epoch != header.epoch:
            known = None
        self.catalog.register(device, anew=known is None)
        self.devices.register(device, header.used_bytes, header.free_bytes, now, header.hold)
        log.info("device %s registered", self.devices.name(device))
        return (Acknowledged(GRANTED) if header.epoch is None else Registered(GRANTED, known)), None

    def _keep_kind(self, device: bytes, kind: DeviceKind) -> None:
        """Know what a device is also while it is away, after the broker's restart, and at other brokers."""
        member = self.devices.members().get(device)
        if member is None or member.kind is kind:
            return
        try:
            self._members.change(lambda members: members.set_kind(member.public_key, kind))
        except (OSError, IntegrityError, NotFoundError) as error:
            log.error("cannot keep that %s is a %s: %s", member.name, kind.value, error)

    def announce(self, device: bytes, header: Announce, payload: memoryview, now: float) -> Answered:
        if not self.devices.connected(device):
            return Acknowledged(Answer(Code.NO_SESSION)), None
        shares = unpack(payload, _Announcement)
        if any(share.k > share.n or share.share >= share.n for share in shares if share.sound):
            raise ProtocolError("an announced share contradicts itself")
        self.catalog.announce(device, shares)
        self.devices.told(device, now)
        named_all = header.complete and self.catalog.end_announcing(device)
        self.catalog.know_up_to(device, header.epoch, header.sequence)
        if header.complete and not named_all and not self._agrees(device, header.digest):
            return Acknowledged(Answer(Code.NO_SESSION, "this broker knows otherwise: announce everything")), None
        if header.complete and not self.devices.complete(device):
            log.info("device %s holds %d shares", self.devices.name(device), self.catalog.shares_on(device))
            self.devices.completed(device, now)
        return Acknowledged(GRANTED), None

    def _agrees(self, device: bytes, digest: Optional[bytes]) -> bool:
        """Whether what is known of a device is what it says; where not, it is to announce everything anew."""
        known = self.catalog.known_of(device)
        if digest is None or known is None or known.digest == digest:
            return True
        log.warning("what is known of device %s is not what it holds", self.devices.name(device))
        self.catalog.know_up_to(device, None)
        return False

    def withdraw(self, device: bytes, header: Withdraw, payload: memoryview) -> Answered:
        names = unpack(payload, _Withdrawal)
        self.catalog.withdraw(device, [(name.encoding_id, name.share) for name in names])
        self.catalog.know_up_to(device, header.epoch, header.sequence)
        return Acknowledged(GRANTED), None

    def report_deleted(self, device: bytes, payload: memoryview, now: float) -> Answered:
        told = [each for each in unpack(payload, _Tombstones) if each.left]
        for before, stone in enumerate([each.tombstone for each in told]):
            if not self.catalog.tombstones.takes(device, stone):
                continue  # one too many: not worth the check of a signature
            if self.catalog.tombstones.is_news(stone) and not self._is_checked(device, stone, now):
                self.catalog.add_tombstones(device, told[:before], self._today())
                return Acknowledged(Answer(Code.BUSY, "this device tells of too many deletions")), None
            known = self.catalog.tombstones.of_owner(stone.encoding_id, stone.owner)
            # Only a device that had announced everything before brings news; any tells again when it registers anew.
            new = self.devices.known_complete(device) and (known is None or known.generation < stone.generation)
            event = "deleted" if stone.deleted else "undeleted"
            self._deletions.tell((event, stone.owner, stone.encoding_id, stone.generation), device, now, opens=new)
        self.catalog.add_tombstones(device, told, self._today())
        return Acknowledged(GRANTED), None

    def _is_checked(self, device: bytes, stone: Tombstone, now: float) -> bool:
        """Whether its owner signed it, else ProtocolError; False where this device has had too many checked."""
        if not self._checks.allow(device, now):
            self.overruns.note(self._key_of(device), SIGNATURES, now)
            return False
        if not is_tombstone_signed(stone):
            raise ProtocolError("a tombstone that its owner did not sign")
        return True

    def _record_deletions(self, now: float) -> None:
        for (event, owner, encoding_id, _), devices in self._deletions.take(now):
            self._record(event, owner=owner.hex(), encoding=encoding_id.hex(), devices=devices)

    def report(self, device: bytes, header: Report, now: float) -> Answered:
        if not self.devices.connected(device) or self.devices.fell_silent(device, now):
            return Acknowledged(Answer(Code.NO_SESSION)), None
        self.devices.report(device, header.used_bytes, header.free_bytes, now, header.shares, header.held_for)
        if header.over:
            clients = [bytes.fromhex(member.public_key) for member in self._members.members.clients()]
            self.storing.over(device, header.over, clients, self.devices.name(device), now)
        return Acknowledged(GRANTED), None

    # --- invited peers

    def join(self, one_time_key: bytes, header: Join) -> Answered:
        try:
            member = self._members.change(
                lambda members: members.admit(
                    one_time_key, header.public_key, header.name, self._today(), address_of(header)
                )
            )
        except RefusedError as error:
            self._record(
                "join refused", invite=shown_key(one_time_key), key=shown_key(header.public_key), why=str(error)
            )
            return Joined(Answer(Code.NOT_ALLOWED, str(error))), None
        except (OSError, IntegrityError) as error:
            log.error("cannot admit anybody: %s", error)
            return Joined(Answer(Code.FAULT, "the broker cannot write its list of members")), None
        log.info("admitted %s as %s", member.name, member.standing.value)
        self._record(
            "joined",
            name=member.name,
            role=member.standing.value,
            key=shown_key(member.public_key),
            invite=shown_key(one_time_key),
        )
        return Joined(GRANTED, member.name), None

    # --- other brokers

    def sync(self, header: Sync, payload: memoryview) -> Answered:
        return Acknowledged(take_up(self._members, payload, self._today(), header.retired_owners)), None

    def brokers(self) -> Answered:
        known = [
            KnownBroker(a.host, a.client_port, a.worker_port, key) for key, a in self._members.members.brokers().items()
        ]
        mark = None if self._marks is None else self._marks.current()
        return Brokers(GRANTED, mark), pack(known[:MAX_BROKERS])

    def _require_newest(self, mark: Optional[bytes]) -> None:
        """RefusedError where a peer's mark shows that this list of members is not the newest."""
        if self._marks is not None:
            self._marks.check(mark)

    def name_of(self, public_key: bytes) -> str:
        """What the member with this key is called, or the beginning of the key."""
        member = self._members.members.find(public_key, self._today())
        return member.name if member is not None and member.name else shown_key(public_key)

    def _is_client(self, public_key: bytes) -> bool:
        return self.standing_of(public_key) in CLIENT_SIDE

    def standing_of(self, public_key: bytes) -> Optional[Standing]:
        member = self._members.members.find(public_key, self._today())
        return None if member is None else member.standing


def owner_named(header: Hello) -> Optional[bytes]:
    """The vault that a client says it speaks for, or stores for."""
    if header.deposit_for is not None:
        return owner_id(header.deposit_for)
    return None if header.proof is None else owner_id(header.proof.owner_key)


def _proves(proof: OwnerProof, client_key: bytes) -> bool:
    return is_signed(proof.owner_key, proof.signature, client_statement(client_key))


def _other_version(version: int) -> Answer:
    return Answer(Code.MALFORMED, f"this broker speaks protocol version {PROTOCOL_VERSION}, not {version}")
