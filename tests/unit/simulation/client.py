"""A client of the simulation: the real protocol of clients, and a put over it whose segments the broker codes.

What it sends and what it gets may be lost, doubled or late, as between broker and devices; a broker that is started
anew, or another one that it goes on to, is a new connection.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Optional

from broker.rights import Standing
from broker.sessions import Outgoing, Side
from common.discovery.addresses import BrokerAddress
from common.link.client_protocol import ClientProtocol, DeviceRequest, Request
from common.link.connection import Change
from common.link.replies import Reply
from common.protocol.device_messages import Append, Commit, Open
from common.protocol.envelope import Operation, decode_envelope
from common.protocol.messages import PROTOCOL_VERSION, AppendSegment, CodedBlock, Hello
from common.protocol.operations import APPEND, APPEND_SEGMENT, COMMIT, OPEN
from tests.support.sample_shares import KEY
from tests.unit.simulation.device import Device
from tests.unit.simulation.images import Encoding
from tests.unit.simulation.world import Broker, World

_STEP = 0.01  # seconds
_NEVER = float("-inf")
_PUBLIC = b"client's" * 4

Putting = Generator[list[Request], None, int]  # gives requests to wait for; in the end how many shares were committed


class SimulatedClient:
    def __init__(self, world: World) -> None:
        world.members.add(_PUBLIC, Standing.CLIENT, "client")
        world.clients[_PUBLIC] = self.receive
        addresses = [BrokerAddress("broker", 1, 2, bytes([number]) * 32) for number in range(len(world.brokers))]
        self.protocol = ClientProtocol(addresses, Hello(PROTOCOL_VERSION, KEY.owner_proof(_PUBLIC)), b"prefix--")
        self.sent: list[Operation] = []
        self.committed: Optional[int] = None  # of the put that is over
        self._world = world
        self._putting: Optional[Putting] = None
        self._waiting: list[Request] = []
        self._connected: tuple[int, Optional[Broker]] = (-1, None)  # the number of the connection, and to whom
        self._routing_id = b""
        self.protocol.start(world.now)
        self._step()

    def put(self, encoding: Encoding, devices: list[Device]) -> None:
        """Begin to store an encoding, share by share, on these devices."""
        self.committed = None
        self._putting = self._put(encoding, devices)
        self._waiting = []

    # --- the connection

    def _step(self) -> None:
        """What a shell does, a hundred times a second."""
        self._world.later(_STEP, self._step)
        number = self.protocol.broker.public_key[0]
        broker, now = self._world.brokers[number], self._world.now
        if self._connected != (self.protocol.connection, broker):
            if self._connected[0] == self.protocol.connection:
                self.protocol.changed(Change.DOWN, now)
            self._connected = self.protocol.connection, broker
            self._routing_id = self._world.number().to_bytes(5, "big")
            self.protocol.changed(Change.UP, now)
        self.protocol.time_passed(now, _NEVER)
        while (frames := self.protocol.to_send()) is not None:
            self.protocol.sent()
            self._send(number, broker, [bytes(memoryview(frame)) for frame in frames])
        self.protocol.finished()
        self._go_on()

    def _send(self, number: int, broker: Broker, frames: list[bytes]) -> None:
        self.sent.append(decode_envelope(frames[0]).operation)
        routing_id = self._routing_id

        def arrive() -> None:
            if self._world.brokers[number] is broker and self._routing_id == routing_id:
                broker.now = self._world.now
                self._world.send_all(number, broker.deliver(Side.CLIENTS, routing_id, _PUBLIC, frames))

        self._world.send(arrive)

    def receive(self, broker: Broker, message: Outgoing) -> None:
        if self._connected[1] is broker and message.session.routing_id == self._routing_id:
            frames = [message.envelope.encode(), message.header]
            if message.payload is not None:
                frames.append(bytes(message.payload))
            self.protocol.received([memoryview(frame) for frame in frames], self._world.now)

    # --- a put

    def _go_on(self) -> None:
        if self._putting is None or not self.protocol.was_up:
            return
        while all(request.outcome is not None for request in self._waiting):
            try:
                self._waiting = next(self._putting)
            except StopIteration as ended:
                self.committed, self._putting = ended.value, None
                return

    def _put(self, encoding: Encoding, devices: list[Device]) -> Putting:
        recipe, block_size = encoding.recipe, encoding.recipe.block_size
        placed = list(enumerate(devices))
        asked = [
            self.protocol.request(
                OPEN,
                Open(encoding.encoding_id, share, recipe.k, recipe.n, block_size, recipe.share_bytes),
                *(None, device.device_id, 0, OPEN.timeout, False, self._world.now),
            )
            for share, device in placed
        ]
        yield asked
        placed = _granted(placed, asked)
        for segment in range(recipe.segment_count):
            asked = self._append(encoding, segment, placed)
            yield asked
            placed = _granted(placed, asked)
        asked = [
            self.protocol.request(
                COMMIT,
                Commit(encoding.encoding_id, share),
                *(encoding.packed, device.device_id, len(encoding.packed), COMMIT.timeout, False, self._world.now),
            )
            for share, device in placed
        ]
        yield asked
        return len(_granted(placed, asked))

    def _append(self, encoding: Encoding, segment: int, placed: list[tuple[int, Device]]) -> list[Request]:
        recipe, row = encoding.recipe, encoding.blocks[segment]

        def header(ids: Mapping[int, bytes]) -> AppendSegment:
            blocks = []
            for place, request_id in ids.items():
                share, device = placed[place]
                blocks.append(CodedBlock(share, device.device_id, request_id, recipe.digest_of(segment, share)))
            return AppendSegment(encoding.encoding_id, segment, recipe.k, recipe.n, blocks)

        asked = []
        for share, device in placed:
            append = Append(encoding.encoding_id, share, segment, recipe.digest_of(segment, share))
            asked.append(DeviceRequest(APPEND, append, len(row[share]), row[share], device.device_id))
        data = b"".join(row[: recipe.k])
        return self.protocol.request_combined(APPEND_SEGMENT, header, data, asked, self._world.now)


def _granted(placed: list[tuple[int, Device]], asked: list[Request]) -> list[tuple[int, Device]]:
    return [each for each, request in zip(placed, asked) if isinstance(request.outcome, Reply)]
