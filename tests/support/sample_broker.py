"""A broker without sockets, disk or clock: a real switchboard, queries and catalog, and peers that speak to it.

What a peer sends is handed to the switchboard as frames; what the switchboard would send is returned. Nothing is
delivered by itself: a test says what arrives, and when.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any, Callable, Optional, TypeVar

from msgspec import convert

from broker.catalog import BUDGET
from broker.catalog_rows import Storage
from broker.members import Member, MemberList, MembersFile
from broker.queries import Queries
from broker.retiring import Retiring
from broker.rights import Standing
from broker.sessions import Outgoing, Side
from broker.steward.steward import Settings, Steward
from broker.switchboard import Switchboard
from common.protocol.codec import pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import BROKER, device_id
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Answer,
    ChangedObject,
    Changes,
    Code,
    Device,
    DeviceKind,
    Empty,
    EncodingAt,
    Hello,
    Holdings,
    ListChanges,
    ListObjects,
    Locate,
    Message,
    Register,
    Report,
    Status,
    Welcome,
    Withdraw,
)
from common.vault.keys import VaultKey

T = TypeVar("T")
M = TypeVar("M", bound=Message)
STARTED = 1000.0  # monotonic seconds
TODAY = 1_800_000_000  # Unix seconds
ROOM = 1 << 40
_KEY = VaultKey(b"t" * 32)

_SIDES = {
    Standing.WORKER: Side.WORKERS,
    Standing.INVITED_WORKER: Side.WORKERS,
    Standing.CLIENT: Side.CLIENTS,
    Standing.ADD_ONLY: Side.CLIENTS,
    Standing.ADMIN: Side.CLIENTS,
    Standing.INVITED_ADMIN: Side.CLIENTS,
    Standing.INVITED_CLIENT: Side.CLIENTS,
    Standing.INVITED_ADD_ONLY: Side.CLIENTS,
    Standing.BROKER: Side.CLIENTS,
    Standing.INVITED_BROKER: Side.CLIENTS,
    Standing.REVOKED: Side.CLIENTS,
}


class MembersInMemory(MembersFile):
    """The list of members without its file."""

    def __init__(self) -> None:
        self.members = MemberList([])

    def refresh(self) -> None:
        pass

    def change(self, action: Callable[[MemberList], T]) -> T:
        return action(self.members)

    def add(self, public_key: bytes, standing: Standing, name: str, expires: Optional[int] = None) -> None:
        member = Member(public_key.hex(), standing, name, TODAY, expires)
        self.members = MemberList([*self.members.all(), member], self.members.retired_owners)

    def revoke(self, public_key: bytes) -> None:
        self.members = MemberList([m for m in self.members.all() if m.public_key != public_key.hex()])


class SampleBroker:
    def __init__(
        self,
        settings: Optional[Settings] = None,
        seed: int = 1,
        *,
        members: Optional[MembersInMemory] = None,
        now: float = STARTED,
        record_accesses: bool = False,
        owner_quota: Optional[int] = None,
        budget: int = BUDGET,
        storage: Optional[Storage] = None,
    ) -> None:
        self.now = now
        self.today = TODAY
        self.members = members or MembersInMemory()
        self.recorded: list[dict[str, Any]] = []
        self.queries = Queries(
            self.members, now, lambda: self.today, self._record, owner_quota, budget=budget, storage=storage
        )
        catalog, devices = self.queries.catalog, self.queries.devices
        self.steward = Steward(catalog, devices, settings or Settings(), random.Random(seed))  # noqa: S311 - the same in every run
        self.retiring = Retiring(self.members, devices, self.steward, lambda: self.today, self._record)
        self.switchboard = Switchboard(
            self.queries, self.steward, self.retiring, self._record, record_accesses=record_accesses
        )
        self._counter = itertools.count(1)

    def number(self) -> int:
        return next(self._counter)

    def _record(self, event: str, **facts: Any) -> None:
        self.recorded.append({"event": event, **facts})

    def admit(self, standing: Standing, name: str, expires: Optional[int] = None) -> SamplePeer:
        peer = self.stranger(_SIDES[standing])
        self.members.add(peer.public_key, standing, name, expires)
        return peer

    def stranger(self, side: Side) -> SamplePeer:
        return SamplePeer(self, side, self.number().to_bytes(32, "big"))

    def worker(self, name: str, shares: Iterable[AnnouncedShare] = ()) -> SamplePeer:
        """A device that has registered and announced all that it holds."""
        peer = self.admit(Standing.WORKER, name)
        peer.register()
        peer.announce(shares)
        return peer

    def client(self, key: Optional[VaultKey] = _KEY, standing: Standing = Standing.CLIENT) -> SamplePeer:
        """A client (or admin) that has said hello, for the vault with this key."""
        peer = self.admit(standing, f"client {self.number()}")
        peer.hello(key)
        return peer

    def tick(self) -> list[Outgoing]:
        return self.switchboard.tick(self.now)

    def deliver(self, side: Side, routing_id: bytes, key: bytes, frames: list[bytes]) -> list[Outgoing]:
        views = [memoryview(frame) for frame in frames]
        payload = frames[2] if len(frames) > 2 else None
        return self.switchboard.receive(side, routing_id, key, views, payload, self.now)


class SamplePeer:
    """One connection of one key."""

    def __init__(self, broker: SampleBroker, side: Side, public_key: bytes) -> None:
        self.broker = broker
        self.side = side
        self.public_key = public_key
        self.routing_id = broker.number().to_bytes(5, "big")
        self.device = device_id(public_key)

    def reconnected(self) -> SamplePeer:
        """Another connection with the same key."""
        return SamplePeer(self.broker, self.side, self.public_key)

    def send(self, *frames: bytes) -> list[Outgoing]:
        return self.broker.deliver(self.side, self.routing_id, self.public_key, list(frames))

    def ask(
        self,
        operation: Operation,
        header: Message,
        payload: Optional[bytes] = None,
        *,
        device: bytes = BROKER,
        credit: int = 0,
        request_id: Optional[bytes] = None,
    ) -> list[Outgoing]:
        request_id = request_id or self.broker.number().to_bytes(16, "big")
        envelope = Envelope(Kind.REQUEST, operation, request_id, device, credit)
        return self.send(envelope.encode(), pack_header(header), *([] if payload is None else [payload]))

    def fetch(self, device: SamplePeer, credit: int = 0, request_id: Optional[bytes] = None) -> list[Outgoing]:
        """Ask a device for something; it is the same to the broker for what."""
        return self.ask(Operation.FETCH, Empty(), device=device.device, credit=credit, request_id=request_id)

    def reply(
        self, request: Outgoing, header: Optional[Message] = None, payload: Optional[bytes] = None
    ) -> list[Outgoing]:
        """Answer a request that the broker forwarded to this device."""
        frames = [request.envelope.reply().encode(), pack_header(header or Acknowledged(GRANTED))]
        return self.send(*frames, *([] if payload is None else [payload]))

    # --- what clients and workers usually say

    def hello(self, key: Optional[VaultKey], version: int = PROTOCOL_VERSION) -> Welcome:
        proof = None if key is None else key.owner_proof(self.public_key)
        return answer(self.ask(Operation.HELLO, Hello(version, proof)), Welcome)

    def register(self, version: int = PROTOCOL_VERSION, kind: DeviceKind = DeviceKind.SERVER) -> Code:
        messages = self.ask(Operation.REGISTER, Register(version, ROOM, 0, ROOM, kind))
        return answer(messages[:1], Acknowledged).answer.code

    def announce(self, shares: Iterable[AnnouncedShare] = (), *, complete: bool = True) -> Code:
        return code(self.ask(Operation.ANNOUNCE, Announce(complete), pack(list(shares))))

    def report(
        self, used: int = 0, free: int = ROOM, shares: int = 0, held_for: int = 0, over: Iterable[bytes] = ()
    ) -> Code:
        return code(self.ask(Operation.REPORT, Report(used, free, shares, held_for, list(over))))

    def locate(self, *object_ids: bytes) -> tuple[Holdings, list[EncodingAt]]:
        messages = self.ask(Operation.LOCATE, Locate(), pack(list(object_ids)))
        return answer(messages, Holdings), unpack(only(messages).payload, list[EncodingAt])

    def objects(self) -> list[EncodingAt]:
        return unpack(only(self.ask(Operation.LIST, ListObjects())).payload, list[EncodingAt])

    def changes(self, asked: ListChanges) -> tuple[Changes, list[ChangedObject]]:
        messages = self.ask(Operation.CHANGES, asked)
        payload = only(messages).payload
        return answer(messages, Changes), [] if payload is None else unpack(payload, list[ChangedObject])

    def withdraw(self, *names: ShareName) -> Code:
        return code(self.ask(Operation.WITHDRAW, Withdraw(), pack(list(names))))

    def status(self) -> tuple[Status, list[Device]]:
        messages = self.ask(Operation.STATUS, Empty())
        return answer(messages, Status), unpack(only(messages).payload, list[Device])


# --- what the switchboard would send


def only(messages: list[Outgoing]) -> Outgoing:
    (message,) = messages
    return message


def answer(messages: list[Outgoing], shape: type[M]) -> M:
    """The header of the one message there is, which is a reply."""
    message = only(messages)
    assert message.envelope.kind is Kind.REPLY
    return unpack_header(message.header, shape)


def code(messages: list[Outgoing]) -> Code:
    """Of the one reply there is, whatever else it says."""
    first, *_ = unpack_header(only(messages).header, list[Any])
    return convert(first, Answer).code


def is_for(message: Outgoing, peer: SamplePeer) -> bool:
    return (message.session.side, message.session.routing_id) == (peer.side, peer.routing_id)


def requests(messages: list[Outgoing]) -> list[Outgoing]:
    return [message for message in messages if message.envelope.kind is Kind.REQUEST]


def replies(messages: list[Outgoing]) -> list[Outgoing]:
    return [message for message in messages if message.envelope.kind is Kind.REPLY]


def probes(messages: list[Outgoing]) -> list[Outgoing]:
    return [message for message in messages if message.envelope.kind is Kind.PROBE]
