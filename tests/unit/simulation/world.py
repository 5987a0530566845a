"""Brokers, devices and what lies between them, on a clock of its own: real broker code, no socket, no disk.

Requests and replies between broker and device take time, and may be lost, doubled or overtaken. What a device says of
itself comes in order, as on one TCP connection: either it comes, or the connection is lost and the device registers
anew.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import Any, Callable, Optional

from msgspec import convert

from broker.catalog import in_memory
from broker.catalog_rows import Storage
from broker.rights import Standing
from broker.sessions import Outgoing, Side
from broker.steward.steward import Settings
from common.protocol.codec import pack, pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Announce,
    Answer,
    Code,
    Message,
    Register,
    Report,
    ReportDeleted,
    Withdraw,
)
from tests.support.sample_broker import TODAY, MembersInMemory, SampleBroker
from tests.unit.simulation.device import Device, Key

CAPACITY = 1 << 20
REPAIR_AFTER = 4.0  # seconds
REPAIR_LAPTOPS_AFTER = 60.0
TICK = 0.5
REPORT = 2.0
HEADERS: dict[Operation, Message] = {Operation.WITHDRAW: Withdraw(), Operation.REPORT_DELETED: ReportDeleted()}


class Broker(SampleBroker):
    """One run of one broker."""

    def __init__(self, members: MembersInMemory, now: float, seed: int, storage: Storage) -> None:
        settings = Settings(REPAIR_AFTER, 100_000_000, 1.0, REPAIR_LAPTOPS_AFTER)
        super().__init__(settings, seed, members=members, now=now, storage=storage)
        self.storage = storage

    def killed(self) -> Storage:
        """What is left of its catalog: what it had committed."""
        self.storage.connection.rollback()
        return self.storage


class World:
    def __init__(self, rng: random.Random, devices: int, brokers: int) -> None:
        self.rng = rng
        self.now = 1000.0
        self.members = MembersInMemory()
        self._restarts = 0  # of brokers
        self.loss = 0.0  # of requests and replies: lost, doubled, or late
        self.devices: dict[bytes, Device] = {}
        self.brokers: list[Broker] = [self._new_broker() for _ in range(brokers)]
        self.cut: set[tuple[int, bytes]] = set()  # broker's number, device: no connection between them
        self.on_commit: Callable[[Device, Key], None] = lambda device, key: None
        self.on_discard: Callable[[Device, Key], None] = lambda device, key: None
        self.clients: dict[bytes, Callable[[Broker, Outgoing], None]] = {}  # by public key: what gets its messages
        self._connections: dict[tuple[int, bytes], bytes] = {}  # → routing id
        self._numbers = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for _ in range(devices):
            self.add_device()
        self.later(0.0, self._tick)
        self.later(0.0, self._report)

    # --- what the schedule does

    def add_device(self, kind: type[Device] = Device) -> Device:
        device = kind(next(self._numbers), self.rng, self._tell, self._on_commit, self._on_discard)
        self.devices[device.device_id] = device
        self.members.add(device.public_key, Standing.WORKER, device.name)
        return device

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def restart_broker(self, number: int) -> None:
        for device in self.devices.values():
            self._connections.pop((number, device.device_id), None)
            device.drop_leases(self.brokers[number])
        self._restarts += 1  # each other time it finds its catalog again
        self.brokers[number] = self._new_broker(self.brokers[number].killed() if self._restarts % 2 else None)

    def connect_all(self) -> None:
        """Every device that is up connects at once."""
        for number in range(len(self.brokers)):
            for device in self.devices.values():
                if device.up and self.listed(device) and (number, device.device_id) not in self._connections:
                    self._connect(number, device)

    def leave(self, device: Device) -> None:
        """Power is cut, or its cable pulled."""
        device.up = False
        device.restart()
        for number in range(len(self.brokers)):
            self._connections.pop((number, device.device_id), None)

    def disconnect(self, number: int, device: Device) -> None:
        self.cut.add((number, device.device_id))
        self._connections.pop((number, device.device_id), None)
        device.drop_leases(self.brokers[number])

    def listed(self, device: Device) -> bool:
        return self.members.members.find(device.public_key, TODAY) is not None

    def number(self) -> int:
        """One that was never given before."""
        return next(self._numbers)

    def _new_broker(self, storage: Optional[Storage] = None) -> Broker:
        return Broker(self.members, self.now, self.rng.getrandbits(32), storage or Storage(in_memory()))

    def _on_commit(self, device: Device, key: Key) -> None:
        self.on_commit(device, key)

    def _on_discard(self, device: Device, key: Key) -> None:
        self.on_discard(device, key)

    # --- time

    def later(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), event))

    def _tick(self) -> None:
        for number, broker in enumerate(self.brokers):
            broker.now = self.now
            self.send_all(number, broker.tick())
        self.later(TICK, self._tick)

    def _report(self) -> None:
        """Every device says how it is, or connects where it is not connected."""
        for device in self.devices.values():
            for number in range(len(self.brokers)) if device.up and self.listed(device) else ():
                if (number, device.device_id) in self._connections:
                    report = Report(device.used_bytes(), CAPACITY - device.used_bytes())
                    self._say(number, device, Operation.REPORT, report)
                elif (number, device.device_id) not in self.cut and self.rng.random() < 0.7:
                    self._connect(number, device)
        self.later(REPORT, self._report)

    # --- what devices say

    def _connect(self, number: int, device: Device) -> None:
        self._connections[(number, device.device_id)] = next(self._numbers).to_bytes(5, "big")
        used = device.used_bytes()
        register = Register(PROTOCOL_VERSION, CAPACITY, used, CAPACITY - used, device.kind)
        if self._say(number, device, Operation.REGISTER, register) is not Code.GRANTED:
            self._connections.pop((number, device.device_id), None)  # an old connection still stands: again later
            return
        self._say(number, device, Operation.REPORT_DELETED, ReportDeleted(), pack(device.told()))
        self._say(number, device, Operation.ANNOUNCE, Announce(True), pack(device.announcement()))

    def _tell(self, device: Device, operation: Operation, items: list[Any]) -> None:
        for number in range(len(self.brokers)):
            if device.up and (number, device.device_id) in self._connections:
                self._say(number, device, operation, HEADERS.get(operation, Announce(False)), pack(items))

    def _say(
        self, number: int, device: Device, operation: Operation, header: Message, payload: Optional[bytes] = None
    ) -> Optional[Code]:
        envelope = Envelope(Kind.REQUEST, operation, next(self._numbers).to_bytes(16, "big"))
        frames = [envelope.encode(), pack_header(header), *([] if payload is None else [payload])]
        answer = None
        others = []
        for message in self._deliver(number, device, frames):
            if message.envelope.kind is Kind.REPLY and message.envelope.request_id == envelope.request_id:
                first, *_ = unpack_header(message.header, list[Any])
                answer = convert(first, Answer).code
            else:
                others.append(message)
        self.send_all(number, others)
        if answer is Code.NO_SESSION:
            self._connections.pop((number, device.device_id), None)
        return answer

    def _deliver(self, number: int, device: Device, frames: list[bytes]) -> list[Outgoing]:
        broker = self.brokers[number]
        broker.now = self.now
        routing_id = self._connections[(number, device.device_id)]
        return broker.deliver(Side.WORKERS, routing_id, device.public_key, frames)

    # --- what brokers say

    def send_all(self, number: int, messages: list[Outgoing]) -> None:
        broker = self.brokers[number]
        while messages:
            message = messages.pop(0)
            if message.session.side is Side.CLIENTS:
                self.send(lambda m=message: self.clients[m.session.public_key](broker, m))  # type: ignore[misc]
                continue
            device = self._device_of(number, message)
            if device is None:
                messages += broker.switchboard.undelivered(message, gone=True)
            elif message.envelope.kind is Kind.REQUEST:
                if self.rng.random() < self.loss / 4:
                    messages += broker.switchboard.undelivered(message, gone=False)
                else:
                    self.send(lambda m=message, d=device: self._reach_device(broker, number, d, m))  # type: ignore[misc]

    def _device_of(self, number: int, message: Outgoing) -> Optional[Device]:
        device = self.devices[message.session.device]
        there = self._connections.get((number, device.device_id)) == message.session.routing_id
        return device if there and device.up else None

    def send(self, event: Callable[[], None]) -> None:
        """Let something arrive: once, as a rule, and soon."""
        if self.rng.random() < self.loss:
            return
        self.later(self.rng.uniform(0.001, 0.02), event)
        if self.rng.random() < self.loss:
            self.later(self.rng.uniform(0.001, 3.0), event)

    def _reach_device(self, broker: Broker, number: int, device: Device, message: Outgoing) -> None:
        if self.brokers[number] is not broker or self._device_of(number, message) is None:
            return
        payload = b"" if message.payload is None else bytes(message.payload)
        answered = device.reply(broker, message.envelope, message.header, payload, self.now)
        if answered is None:
            return
        header, body = answered
        frames = [message.envelope.reply().encode(), pack_header(header), *([] if body is None else [body])]
        self.send(lambda: self._reach_broker(broker, number, device, message, frames))

    def _reach_broker(
        self, broker: Broker, number: int, device: Device, request: Outgoing, frames: list[bytes]
    ) -> None:
        if self.brokers[number] is broker and self._device_of(number, request) is not None:
            self.send_all(number, self._deliver(number, device, frames))
