"""What each operation asks and answers: the headers, and the lists that travel as payloads.

A reply begins with an `Answer`: it says whether the request was granted, and if not why, in a code that programs act
upon and a text that people read. Structures are packed as arrays, so their fields' order is part of the protocol.
"""

from __future__ import annotations

import enum
from typing import Annotated, Optional

import msgspec

from common.protocol.identifiers import DIGEST_SIZE, IDENTIFIER_SIZE, LIST_MARK_SIZE, OBJECT_ID_SIZE, owner_id

PROTOCOL_VERSION = 6
HIGH_WATER_MARK = 16  # messages that a connection holds for its peer, so requests that one client has under way
MAX_SHARES = 64  # the largest n; a share's index is below it
MAX_CODED_SHARES = 16  # the largest n that a broker codes: beyond it a code takes seconds to make
MAX_BATCH = 64  # shares, blocks or descriptions in one message, so that its header stays under 4 KiB
MAX_OBJECTS = 1000  # objects in one LOCATE or LIST
MAX_ANNOUNCED = 2000  # shares in one ANNOUNCE
MAX_OWNERS_OF_AN_ENCODING = 32  # whose tombstones of it a device keeps, and a broker remembers of that device
MAX_TOMBSTONES = 200  # in one REPORT_DELETED: a broker checks a signature for each that is news
MAX_RETIRED = 200  # owners in one SYNC
MAX_GRANTS = 16  # other owners that may read one encoding
MAX_APPROVERS = 8  # of one owner
MAX_EMPTIED = 500  # deletions in one EMPTY
MAX_EMPTIED_PARTS = 1000  # EMPTYs that are approved together
MAX_OVER = 16  # accounts named in one REPORT
TOMBSTONE_LIFETIME = 2 * 365 * 24 * 3600  # seconds that a device may be away and still learn of a deletion

ListMark = Annotated[bytes, msgspec.Meta(min_length=LIST_MARK_SIZE, max_length=LIST_MARK_SIZE)]
Identifier = Annotated[bytes, msgspec.Meta(min_length=IDENTIFIER_SIZE, max_length=IDENTIFIER_SIZE)]
ObjectId = Annotated[bytes, msgspec.Meta(min_length=OBJECT_ID_SIZE, max_length=OBJECT_ID_SIZE)]
Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]  # X25519's (CURVE) or Ed25519's
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]  # Ed25519's
ShareIndex = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SHARES)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Redundancy = Annotated[int, msgspec.Meta(ge=2, le=MAX_SHARES)]  # k or n: one device alone holds no whole image
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
HostName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]  # or an address
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
KeptSeconds = Annotated[int, msgspec.Meta(ge=0, le=TOMBSTONE_LIFETIME)]
Revision = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
MOST_AHEAD = 256  # generations, or revisions, by which what a device is shown may be ahead of what it has
Generation = Annotated[int, msgspec.Meta(ge=1, lt=2**32)]


class Code(enum.Enum):
    """Why a request was not granted."""

    GRANTED = "granted"
    BUSY = "busy"  # full for now: ask again
    GONE = "gone"  # the device is not connected
    NO_SESSION = "no session"  # send HELLO or REGISTER first
    NOT_ALLOWED = "not allowed"  # not with this key
    REPLACED = "replaced"  # the vault key was rotated: its owner has retired
    MALFORMED = "malformed"
    NO_ROOM = "no room"
    NOT_OPEN = "not open"  # there is no such share being stored
    NOT_FOUND = "not found"
    DAMAGED = "damaged"  # it is there, but not what was stored
    CONFLICT = "conflict"  # contradicts what was said before
    READ_ONLY = "read only"  # the store met a fault and takes nothing more
    FAULT = "fault"


class DeviceKind(enum.Enum):
    """What a device is: how long it may be away before its shares are rebuilt."""

    SERVER = "server"  # always on
    LAPTOP = "laptop"  # often asleep or elsewhere


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The base of all headers and list items."""


class Answer(Message):
    code: Code
    text: Annotated[str, msgspec.Meta(max_length=500)] = ""

    @property
    def granted(self) -> bool:
        return self.code is Code.GRANTED


class ReplyHeader(Message):
    """The base of all headers of replies."""

    answer: Answer


class Empty(Message):
    """The header of a request that says all by its operation or its payload."""


# --- asked of the broker by an invited peer


class ReachedAt(Message):
    """Where others reach a broker that joins."""

    host: HostName
    client_port: Port
    worker_port: Port


class Join(Message):
    name: Name
    public_key: PublicKey
    reached_at: Optional[ReachedAt] = None  # of a broker


class Joined(ReplyHeader):
    name: str = ""  # as admitted: a number is added where the name was taken


# --- asked of the broker by a client


class OwnerProof(Message):
    """That a vault's owner lets this client speak for it; of use to no other, whose CURVE key it does not name."""

    owner_key: PublicKey
    signature: Signature  # of `signatures.client_statement`


class Hello(Message):
    """Without proof this client only looks at the devices."""

    version: int
    proof: Optional[OwnerProof] = None  # all of a vault's rights
    deposit_for: Optional[PublicKey] = None  # only storing, for the vault with this signing key, as the proof's owner
    list_mark: Optional[ListMark] = None  # that this broker gave last
    takes_back: bool = False  # it comes with a key that was replaced, to take back what was given away with it


class Welcome(ReplyHeader):
    requests: int = 0  # how many may be under way at once
    requests_per_device: int = 0
    credit: int = 0  # payload bytes under way at once, over all devices
    adds_only: bool = False  # it was invited to store and restore, and to change nothing


class Device(Message):
    device_id: Identifier
    name: str
    alive: bool
    used_bytes: int = 0
    free_bytes: int = 0
    shares: int = 0
    away_seconds: int = 0  # since it was last seen by this broker; 0 while it is alive
    retiring: bool = False
    left: int = 0  # of a retiring device: shares that no other device has yet
    kind: DeviceKind = DeviceKind.SERVER
    waited_for: Seconds = 0  # that it may still be away until its shares are rebuilt elsewhere; 0 while it is alive
    unlisted: int = 0  # shares that it holds beyond what brokers remember of a device
    hold: Seconds = 0  # for which it keeps what is deleted, whatever the owner signed; 0 where that is not known
    held_for: Seconds = 0  # until all that was deleted or replaced there is held no more: until then it does not retire


class Status(ReplyHeader):
    """Payload: a list of Device."""

    settled: bool = False


class Places(Message):
    """Asks for n devices for each encoding; payload: a list of encoding ids."""

    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHARES)]  # 1 where one share is moved
    share_bytes: Count  # expected on each device for one encoding; 0 where it is not known yet
    exclude: list[Identifier] = []


class Placed(ReplyHeader):
    """Payload: for each encoding a list of at most n device ids, in the order of shares."""

    full: int = 0  # connected devices that were passed over since they have no room


class CodedBlock(Message):
    """One block of a segment, and the APPEND that takes it to its device."""

    share: ShareIndex
    device_id: Identifier
    request_id: Identifier  # of the APPEND
    digest: Digest


class AppendSegment(Message):
    """Asks the broker to code a segment, and to append some of its n blocks to their shares.

    Payload: its k data blocks, one after the other. The devices' answers come as those to APPENDs of the client's own.
    """

    encoding_id: Identifier
    segment: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    k: Redundancy
    n: Annotated[int, msgspec.Meta(ge=2, le=MAX_CODED_SHARES)]
    blocks: Annotated[list[CodedBlock], msgspec.Meta(max_length=MAX_CODED_SHARES)]


NOWHERE = 255  # of a share that is not sent now


class CodedStore(Message):
    """The STORE that takes shares to one device."""

    device_id: Identifier
    request_id: Identifier


class CodedImage(Message):
    """An image of one segment."""

    encoding_id: Identifier
    block_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]
    commitment_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]
    # For each share, in order, a byte: the place of its device's STORE, or NOWHERE.
    places: Annotated[bytes, msgspec.Meta(max_length=MAX_CODED_SHARES)]


class StoreSegments(Message):
    """Asks the broker to code images of one segment, and to store their shares.

    Payload: for each image its k data blocks, then its packed `SignedCommitment`. The devices' answers come as those to
    STOREs of the client's own.
    """

    k: Redundancy
    n: Annotated[int, msgspec.Meta(ge=2, le=MAX_CODED_SHARES)]
    stores: Annotated[list[CodedStore], msgspec.Meta(max_length=MAX_CODED_SHARES)]
    images: Annotated[list[CodedImage], msgspec.Meta(max_length=MAX_BATCH)]


class Locate(Message):
    """Payload: a list of object ids."""


class ListObjects(Message):
    after: bytes = b""  # the object id to go on behind
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_OBJECTS)] = MAX_OBJECTS


class ListChanges(Message):
    """Asks which of this vault's objects changed since a number, as the broker of an epoch counts."""

    epoch: Annotated[bytes, msgspec.Meta(max_length=IDENTIFIER_SIZE)] = b""  # empty where none is known
    number: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_OBJECTS)] = MAX_OBJECTS


class ShareAt(Message):
    share: ShareIndex
    device_id: Identifier
    sound: bool
    alive: bool  # the device is connected


class EncodingAt(Message):
    object_id: ObjectId
    encoding_id: Identifier
    k: Redundancy
    n: Redundancy
    share_bytes: Count
    shares: list[ShareAt]
    granted: bool = False  # another owner's, who lets this one read it


def shares_at_hand(encoding: EncodingAt) -> dict[int, list[bytes]]:
    """share → the devices that are connected and hold it whole.

    A device counts for one share only: it gets no more of an encoding, so whatever else it names proves nothing. Of one
    that names several, a share that no other has.
    """
    named: dict[bytes, list[int]] = {}
    at_hand: dict[int, list[bytes]] = {}
    count = 0
    for share in encoding.shares:
        if share.sound and share.alive:
            count += 1
            named.setdefault(share.device_id, []).append(share.share)
            at_hand.setdefault(share.share, []).append(share.device_id)
    if len(named) == count:  # as nearly always
        return dict(sorted(at_hand.items()))
    at_hand = {}
    for device_id, shares in sorted(named.items(), key=lambda each: len(each[1])):
        counted = next((share for share in shares if share not in at_hand), shares[0])
        at_hand.setdefault(counted, []).append(device_id)
    return dict(sorted(at_hand.items()))


def is_at_hand(encoding: EncodingAt) -> bool:
    """Whether enough of its shares are at hand to restore it."""
    return len(shares_at_hand(encoding)) >= encoding.k


class Holdings(ReplyHeader):
    """Payload: a list of EncodingAt, all encodings of an object beside each other, in the order of object ids."""

    settled: bool = False  # every device that may come has registered, or had the time to
    complete: bool = True  # False: a LIST has more behind the last object


class ChangedObject(Message):
    """An object that changed, with all its encodings now; none where there is nothing of it any more."""

    object_id: ObjectId
    encodings: list[EncodingAt]


class Changes(ReplyHeader):
    """Payload: a list of ChangedObject, each once, in the order in which they changed last.

    Where `known` is False they cannot be told: all is to be listed, and what changes from `number` on asked for.
    """

    epoch: Annotated[bytes, msgspec.Meta(max_length=IDENTIFIER_SIZE)] = b""
    number: Count = 0  # up to where one is in step who knows these
    known: bool = False
    complete: bool = True  # False: more changed behind the last


class Job(Message):
    """What the steward is doing now."""

    kind: Name  # "rebuild", "move", "check", "amend"
    encoding_id: Identifier
    shares: list[ShareIndex]
    devices: list[Identifier]  # where the shares are to be, in their order
    segments: Count
    segments_done: Count


class OverLimit(Message):
    """A member that would take more of the broker, or of the devices, than one may."""

    name: str
    limit: str  # which one: see `broker.overruns`


class Health(ReplyHeader):
    """The state of all images of the cluster, each by its best encoding, of all owners; payload: a list of Job."""

    settled: bool = False
    whole: Count = 0  # images with all shares on devices that are connected and not retiring
    lacking: Count = 0  # images with k or more good shares at hand, but not all on such devices
    waiting: Count = 0  # of those, how many wait for --repair-after, since their devices may come back
    unrecoverable: Count = 0  # images with fewer than k good shares at hand: only their devices' return helps
    bytes_left: Count = 0  # of shares to be rebuilt or moved, without those that are waited for
    rate: Count = 0  # bytes per second, lately; 0 while nothing is being done
    balancing: bool = False  # a rebalance is under way
    weak: Count = 0  # images that could be stronger, stored anew with the devices that are alive
    in_danger: Count = 0  # of the lacking ones: exactly k good shares at hand, so that one more device loses them
    over_limits: list[OverLimit] = []  # members that were, within ten minutes
    needless: Count = 0  # encodings that can be restored, beside a whole one of the same image
    # Encodings of the vault that asks that are being repaired, or are to be without a pause; 0: all was done, or tried,
    # that can be. None by a broker that does not tell.
    due: Optional[Count] = None


class RepairNow(Message):
    """Asks for repair now, waiting for no device to come back; payload: a list of object ids, empty for all."""


class BadShare(Message):
    """A share that a client found bad, for the steward to look at."""

    encoding_id: Identifier
    share: ShareIndex
    device_id: Identifier


class ReportBad(Message):
    """Payload: a list of BadShare."""


class Retire(Message):
    """Asks that a device's shares move elsewhere, and the device be taken off the list then."""

    device_id: Identifier
    cancel: bool = False  # keep it after all


NO_TRASH = 0  # of `trash_seconds`: nothing is kept in the trash


class Tombstone(Message):
    """An owner's word that an encoding is deleted, or is so no more; that of the higher `signatures.rank` holds.

    It names no time, only durations: each device counts them by its own clock, from when it first learns of it.
    """

    encoding_id: Identifier
    object_id: ObjectId
    owner_key: PublicKey
    generation: Generation  # 1 for the first deletion, 2 for taking it back, and so on: odd is deleted
    trash_seconds: KeptSeconds  # for which it may be taken back, where it is not NO_TRASH; 0 of an even generation
    signature: Signature  # of `signatures.tombstone_statement`

    @property
    def deleted(self) -> bool:
        return self.generation % 2 == 1

    @property
    def owner(self) -> bytes:
        return owner_id(self.owner_key)


class ToldTombstone(Message):
    """A tombstone as a device has it, with what is left of its time from now on."""

    tombstone: Tombstone
    trash_left: KeptSeconds  # in which it may be taken back
    left: KeptSeconds  # until this device forgets it


class ApproverList(Message):
    """An owner's word on who must approve that a trash is emptied early; of higher generations the latest counts.

    It begins to count on each device once that device's hold is over; nobody approves where there are none.
    """

    owner_key: PublicKey
    generation: Generation
    approvers: Annotated[list[PublicKey], msgspec.Meta(max_length=MAX_APPROVERS)]  # owner keys, in order, none twice
    needed: Annotated[int, msgspec.Meta(ge=0, le=MAX_APPROVERS)]  # how many of them; 0 where there are none
    signature: Signature  # of `signatures.approvers_statement`

    @property
    def owner(self) -> bytes:
        return owner_id(self.owner_key)


class KnownApprovers(ReplyHeader):
    """Whom a device knows as this owner's approvers."""

    in_effect: Optional[ApproverList] = None
    under_way: Optional[ApproverList] = None  # takes the place of those in effect
    left: Seconds = 0  # until it does
    age: Seconds = 0  # since this device learnt of it


class Approval(Message):
    approver: PublicKey
    signature: Signature  # of `signatures.emptying_statement`


class DeletionName(Message):
    """One of an owner's deletions; taken back, or deleted again, it has another generation."""

    encoding_id: Identifier
    generation: Generation


class EmptyTrash(Message):
    """Asks to empty the trash of some deletions before their time; payload: an `EmptiedPart`."""

    approvals: Annotated[list[Approval], msgspec.Meta(max_length=MAX_APPROVERS)]


class EmptiedPart(Message):
    """Some of the deletions that were approved together, and the digests of all parts, in their order."""

    parts: Annotated[list[Digest], msgspec.Meta(max_length=MAX_EMPTIED_PARTS)]
    deletions: Annotated[list[DeletionName], msgspec.Meta(max_length=MAX_EMPTIED)]


class Emptied(ReplyHeader):
    emptied: Count = 0  # deletions of which nothing is in the trash any more
    kept: Count = 0  # of which something is, since another owner had it within this device's hold


class ListTrash(Message):
    """Asks what this owner deleted and may take back."""

    after: bytes = b""  # the encoding id to go on behind
    emptied: bool = False  # also what cannot be taken back any more, and is only remembered


class Trashed(Message):
    """One encoding in the trash."""

    object_id: ObjectId
    encoding_id: Identifier
    generation: Generation
    trash_left: KeptSeconds  # in which it may be taken back
    devices: list[Identifier]  # that have told of it and are connected
    age: KeptSeconds = 0  # since the first of them learned of it


class TrashList(ReplyHeader):
    """Payload: a list of at most MAX_OBJECTS Trashed, in the order of encoding ids."""

    settled: bool = False
    complete: bool = True  # False: there is more behind the last


class KnownBroker(Message):
    """A broker of the cluster, as clients and workers reach it."""

    host: HostName
    client_port: Port
    worker_port: Port
    public_key: PublicKey


MAX_BROKERS = 64
KnownBrokers = Annotated[list[KnownBroker], msgspec.Meta(max_length=MAX_BROKERS)]


class Brokers(ReplyHeader):
    """Payload: KnownBrokers, all of the cluster as far as the one asked knows their addresses."""

    list_mark: Optional[ListMark] = None  # of its list of members as it is now; to be shown at the next greeting


class Sync(Message):
    """One broker's list for another; payload: a list of members, as in members.json."""

    retired_owners: Annotated[list[Identifier], msgspec.Meta(max_length=MAX_RETIRED)] = []


# --- asked of the broker by a worker


class Register(Message):
    version: int
    capacity_bytes: Count
    used_bytes: Count
    free_bytes: Count
    kind: DeviceKind = DeviceKind.SERVER
    list_mark: Optional[ListMark] = None  # that this broker gave last
    epoch: Optional[Identifier] = None  # of a device that numbers what it announces; the answer is `Registered` then
    hold: Seconds = 0  # for which this device keeps what is deleted, whatever its owner signed


class KnownUpTo(Message):
    """What a broker knows of a device that numbers what it announces."""

    epoch: Identifier  # of the numbering: another one after the device lost count
    sequence: Count  # of the last announcement or withdrawal that is known, and so are all before it
    digest: Identifier  # of all that the device announced: `announcements`


class GrantedTo(Message):
    """An owner who may read a share of another's, and the object id by which that owner finds it."""

    owner: Identifier
    object_id: ObjectId


class AnnouncedShare(Message):
    encoding_id: Identifier
    share: ShareIndex
    object_id: Optional[ObjectId]  # None where the share is too damaged to tell
    owner: Identifier
    k: Redundancy
    n: Redundancy
    share_bytes: Count
    sound: bool = True
    revision: Revision = 1  # of the commitment
    grants: Annotated[list[GrantedTo], msgspec.Meta(max_length=MAX_GRANTS)] = []
    depositor: Optional[Identifier] = None  # who left it for its owner, where that one has not signed it yet


class Announce(Message):
    """Payload: a list of AnnouncedShare."""

    complete: bool  # nothing of what this device holds is still to be announced
    epoch: Optional[Identifier] = None  # as in REGISTER
    sequence: Count = 0  # with this page, all that was announced and withdrawn up to this number was told
    digest: Optional[Identifier] = None  # where complete: of all that the device holds (`announcements`)


MAX_SHARES_ON_A_DEVICE = 4_000_000  # that brokers remember, so that no device that announces without end fills them
MAX_TOMBSTONES_ON_A_DEVICE = 250_000  # likewise


class Report(Message):
    used_bytes: Count
    free_bytes: Count
    shares: Count = 0  # held, sound or not
    held_for: Seconds = 0  # until all that was deleted or replaced here is held no more
    over: Annotated[list[Identifier], msgspec.Meta(max_length=MAX_OVER)] = []  # accounts that wanted more than theirs


class Withdraw(Message):
    """Payload: a list of ShareName: shares that this device does not hold any more."""

    epoch: Optional[Identifier] = None  # as in ANNOUNCE
    sequence: Count = 0


class ReportDeleted(Message):
    """Payload: a list of ToldTombstone."""


class Acknowledged(ReplyHeader):
    """The header of a reply that says no more."""


class Registered(Acknowledged):
    """`known`: what came since is enough; None where all is to be announced."""

    known: Optional[KnownUpTo] = None


GRANTED = Answer(Code.GRANTED)
