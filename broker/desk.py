"""Answers what is asked of the broker itself: who is there, where to put shares, where shares are, who may come in.

Sees identities, not routing ids; its answers are headers and payloads, which the switchboard sends.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Callable, Optional

import msgspec

from broker.catalog import Catalog
from broker.credit import CREDIT, REQUESTS, REQUESTS_PER_DEVICE
from broker.members import MembersFile, address_of
from broker.other_brokers import take_up
from broker.placement import Candidate, has_room, place
from broker.rights import Standing
from common.errors import IntegrityError, ProtocolError, RefusedError
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.identifiers import device_id
from common.protocol.messages import (
    GRANTED,
    MAX_ANNOUNCED,
    MAX_BROKERS,
    MAX_OBJECTS,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Answer,
    Brokers,
    Code,
    Device,
    Hello,
    Holdings,
    Identifier,
    Join,
    Joined,
    KnownBroker,
    ListObjects,
    Locate,
    Message,
    ObjectId,
    Placed,
    Places,
    Register,
    Report,
    Status,
    Welcome,
)

log = logging.getLogger(__name__)

SETTLE = 10.0  # seconds after the broker's start in which devices that are not here yet may still come
SILENCE = 5.0  # seconds without a report after which a device is taken for gone
Answered = tuple[Message, Optional[bytes]]  # header, payload

_Encodings = Annotated[list[Identifier], msgspec.Meta(max_length=MAX_OBJECTS)]
_Objects = Annotated[list[ObjectId], msgspec.Meta(max_length=MAX_OBJECTS)]
_Announcement = Annotated[list[AnnouncedShare], msgspec.Meta(max_length=MAX_ANNOUNCED)]


@dataclass
class _DeviceState:
    used_bytes: int = 0
    free_bytes: int = 0
    complete: bool = False  # it has announced all that it holds
    connected: bool = False
    last_report: float = 0.0


class Desk:
    """The broker's own knowledge and its answers. `now` is monotonic seconds, `today` Unix seconds."""

    def __init__(self, members: MembersFile, started: float, today: Callable[[], int]) -> None:
        self._members = members
        self._started = started
        self._today = today
        self._catalog = Catalog()
        self._devices: dict[bytes, _DeviceState] = {}

    # --- who is there

    def alive(self, device: bytes, now: float) -> bool:
        state = self._devices.get(device)
        return state is not None and state.connected and state.complete and now - state.last_report < SILENCE

    def expected(self, device: bytes, now: float) -> bool:
        """Not here, but the broker has not been up for long enough to say that it is gone."""
        return now - self._started < SETTLE and device in self._names()

    def lose(self, device: bytes) -> None:
        """The device's connection is gone."""
        state = self._devices.get(device)
        if state is not None and state.connected:
            state.connected = False
            log.warning("device %s is gone", self._names().get(device, device.hex()))

    def settled(self, now: float) -> bool:
        return now - self._started >= SETTLE or all(self.alive(d, now) for d in self._names())

    def _names(self) -> dict[bytes, str]:
        return {device_id(bytes.fromhex(m.public_key)): m.name for m in self._members.members.workers()}

    def status(self, now: float) -> Answered:
        devices = []
        for device, name in self._names().items():
            state = self._devices.get(device, _DeviceState())
            shares = self._catalog.shares_on(device)
            devices.append(Device(device, name, self.alive(device, now), state.used_bytes, state.free_bytes, shares))
        devices.sort(key=lambda device: device.name)
        return Status(GRANTED, self.settled(now)), pack(devices)

    # --- clients

    def hello(self, header: Hello) -> Answered:
        if header.version != PROTOCOL_VERSION:
            return Welcome(_other_version(header.version)), None
        return Welcome(GRANTED, REQUESTS, REQUESTS_PER_DEVICE, CREDIT), None

    def places(self, header: Places, payload: memoryview, now: float) -> Answered:
        names = self._names()
        candidates = [
            Candidate(device, state.free_bytes)
            for device, state in self._devices.items()
            if device in names and self.alive(device, now)
        ]
        places = [
            place(encoding, candidates, header.n, header.share_bytes, header.exclude)
            for encoding in unpack(payload, _Encodings)
        ]
        fit = [c for c in candidates if c.device_id not in header.exclude]
        return Placed(GRANTED, sum(not has_room(c, header.share_bytes) for c in fit)), pack(places)

    def locate(self, header: Locate, payload: memoryview, owner: bytes, now: float) -> Answered:
        objects = unpack(payload, _Objects)
        found = [e for o in objects for e in self._catalog.locate(owner, o, lambda d: self.alive(d, now))]
        return Holdings(GRANTED, self.settled(now)), pack(found)

    def list(self, header: ListObjects, owner: bytes, now: float) -> Answered:
        limit = header.limit
        while True:
            found, rest = self._catalog.list(owner, header.after, limit, lambda d: self.alive(d, now))
            payload = pack(found)
            if len(payload) <= MAX_PAYLOAD or limit == 1:
                return Holdings(GRANTED, self.settled(now), rest), payload
            limit //= 2  # a page of objects with very many shares: a shorter one fits into a message

    # --- workers

    def register(self, device: bytes, header: Register, now: float) -> Answered:
        if header.version != PROTOCOL_VERSION:
            return Acknowledged(_other_version(header.version)), None
        if self.alive(device, now):
            taken = "another worker with this store's key is registered"
            return Acknowledged(Answer(Code.CONFLICT, taken)), None
        self._catalog.forget_device(device)
        self._devices[device] = _DeviceState(header.used_bytes, header.free_bytes, False, True, now)
        log.info("device %s registered", self._names().get(device))
        return Acknowledged(GRANTED), None

    def announce(self, device: bytes, header: Announce, payload: memoryview) -> Answered:
        state = self._devices.get(device)
        if state is None or not state.connected:
            return Acknowledged(Answer(Code.NO_SESSION)), None
        shares = unpack(payload, _Announcement)
        if any(share.k > share.n or share.share >= share.n for share in shares if share.sound):
            raise ProtocolError("an announced share contradicts itself")
        self._catalog.announce(device, shares)
        if header.complete and not state.complete:
            log.info("device %s holds %d shares", self._names().get(device), self._catalog.shares_on(device))
            state.complete = True
        return Acknowledged(GRANTED), None

    def report(self, device: bytes, header: Report, now: float) -> Answered:
        state = self._devices.get(device)
        if state is None or not state.connected:
            return Acknowledged(Answer(Code.NO_SESSION)), None
        state.used_bytes, state.free_bytes, state.last_report = header.used_bytes, header.free_bytes, now
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
            return Joined(Answer(Code.NOT_ALLOWED, str(error))), None
        except (OSError, IntegrityError) as error:
            log.error("cannot admit anybody: %s", error)
            return Joined(Answer(Code.FAULT, "the broker cannot write its list of members")), None
        log.info("admitted %s as %s", member.name, member.standing.value)
        return Joined(GRANTED, member.name), None

    # --- other brokers

    def sync(self, payload: memoryview) -> Answered:
        return Acknowledged(take_up(self._members, payload, self._today())), None

    def brokers(self) -> Answered:
        known = [
            KnownBroker(a.host, a.client_port, a.worker_port, key) for key, a in self._members.members.brokers().items()
        ]
        return Brokers(GRANTED), pack(known[:MAX_BROKERS])

    def standing_of(self, public_key: bytes) -> Optional[Standing]:
        member = self._members.members.find(public_key, self._today())
        return None if member is None else member.standing


def _other_version(version: int) -> Answer:
    return Answer(Code.MALFORMED, f"this broker speaks protocol version {PROTOCOL_VERSION}, not {version}")
