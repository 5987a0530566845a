"""A broker as small as can be, for the tests of the clients' link: one ROUTER with CURVE and ZAP, in a thread.

It greets whoever says HELLO and answers requests as the test says. It can be cut off and bound anew on the same port,
as when a broker is killed and started again. Below it are the few things that the tests do over a link to it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

import msgspec
import zmq

from broker.authentication import Authentication, authenticated_key
from common.discovery.addresses import BrokerAddress
from common.link.lane import REFUSAL
from common.link.link import Link, run_with_link
from common.link.sockets import make_router
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.codec import pack, pack_header, unpack_header
from common.protocol.envelope import Envelope, Operation, decode_envelope
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    Answer,
    Brokers,
    Code,
    Empty,
    Hello,
    KnownBroker,
    OwnerProof,
    Welcome,
)
from common.protocol.operations import Of, Spec

R = TypeVar("R")
PATIENCE = 30  # seconds: whatever takes so long does not come


@dataclass(frozen=True)
class Request:
    """One message of a client's."""

    session: int  # counted from 0: how many times the broker was bound before
    peer: bytes  # the connection's routing id
    envelope: Envelope
    header: bytes
    payload: Optional[bytes]


Responses = list[list[bytes]]  # messages without the routing id


def reply(request: Request, header: msgspec.Struct, payload: Optional[bytes] = None) -> list[bytes]:
    frames = [request.envelope.reply().encode(), pack_header(header)]
    return frames if payload is None else [*frames, payload]


def granted(request: Request) -> Responses:
    """Give back the payload."""
    return [reply(request, Acknowledged(GRANTED), request.payload)]


def declined(request: Request, code: Code, text: str = "") -> Responses:
    return [reply(request, Acknowledged(Answer(code, text)))]


def nothing(request: Request) -> Responses:
    return []


class SmallBroker:
    def __init__(self) -> None:
        self.pair = KeyPair.generate()
        self.client = KeyPair.generate()
        self.admitted = {self.client.public}
        self.answer: Callable[[Request], Responses] = granted
        self.welcome = Welcome(GRANTED, requests=16, requests_per_device=16, credit=64 << 20)
        self.pause = 0.0  # seconds after each message: a broker that is slow
        self.requests: list[Request] = []  # without greetings and questions which brokers there are
        self.greetings: list[Hello] = []
        self.brokers: list[KnownBroker] = []  # that it names whoever asks
        self.told = 0  # how often it did
        self.refused = 0  # handshakes of whoever is not admitted
        self.port = 0
        self._sessions = -1
        self._greeted: set[bytes] = set()
        self._changed = threading.Condition()
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authentication = Authentication(self._context, self._admits)
        self._bind()
        self._thread = threading.Thread(target=self._serve, name="small broker")
        self._thread.start()

    # --- for the test

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, self.port, self.pair.public)

    @property
    def known(self) -> KnownBroker:
        return KnownBroker("127.0.0.1", self.port, self.port, self.pair.public)

    @property
    def identity(self) -> ClientIdentity:
        return ClientIdentity(self.client, [self.address])

    def cut_and_bind_anew(self) -> None:
        """Lose all connections and everything that was known of them."""

        def rebind() -> None:
            self._router.close(linger=0)
            self._bind()

        self._do(rebind)

    def close_port(self) -> None:
        """Lose all connections, and answer nobody until `cut_and_bind_anew`."""
        self._do(lambda: self._router.close(linger=0))

    def _do(self, task: Callable[[], None]) -> None:
        done = threading.Event()
        self._tasks.put(task)
        self._tasks.put(done.set)
        if not done.wait(PATIENCE):
            raise TimeoutError("the broker did not do it")

    def send(self, to: Request, responses: Responses) -> None:
        """Send messages to the client that this request came from."""
        self._tasks.put(lambda: self._send(to.peer, responses))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until what came fulfils a condition."""
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE):
                raise TimeoutError(f"it did not come; {len(self.requests)} requests did")

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._context.destroy(linger=0)

    # --- the thread

    def _admits(self, key: bytes, _domain: str) -> Optional[str]:
        if key in self.admitted:
            return None
        with self._changed:
            self.refused += 1
            self._changed.notify_all()
        return "not on the list"

    def _bind(self) -> None:
        self._sessions += 1
        self._greeted.clear()
        self._router = make_router(self._context, self.pair, "clients")
        self._router.sndtimeo = 1000 * PATIENCE
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._router.bind(f"tcp://127.0.0.1:{self.port or '*'}")
                break
            except zmq.ZMQError:  # the closed socket lets go of its port a moment later
                if time.monotonic() > end:
                    raise
        self.port = int(self._router.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])

    def _serve(self) -> None:
        while not self._stopping.is_set():
            poller = zmq.Poller()
            poller.register(self._authentication.socket, zmq.POLLIN)
            if not self._router.closed:
                poller.register(self._router, zmq.POLLIN)
            ready = dict(poller.poll(10))
            if self._authentication.socket in ready:
                self._authentication.answer()
            if self._router in ready:
                self._receive()
                self._stopping.wait(self.pause)
            while not self._tasks.empty():
                self._tasks.get()()

    def _receive(self) -> None:
        frames = self._router.recv_multipart(copy=False)
        if authenticated_key(frames[-1]) not in self.admitted:
            raise AssertionError("ZAP let somebody in")
        if len(frames) == 2:
            self._send(frames[0].bytes, [[REFUSAL]])  # it has no lanes
            return
        peer, envelope = frames[0].bytes, decode_envelope(frames[1].bytes)
        payload = frames[3].bytes if len(frames) > 3 else None
        request = Request(self._sessions, peer, envelope, frames[2].bytes, payload)
        self._send(peer, self._respond(request))

    def _respond(self, request: Request) -> Responses:
        with self._changed:
            if request.envelope.operation is Operation.HELLO:
                self._greeted.add(request.peer)
                self.greetings.append(unpack_header(request.header, Hello))
                responses = [reply(request, self.welcome)]
            elif request.envelope.operation is Operation.BROKERS:
                self.told += 1
                responses = [reply(request, Brokers(GRANTED), pack(self.brokers))]
            else:
                self.requests.append(request)
                known = request.peer in self._greeted
                responses = self.answer(request) if known else declined(request, Code.NO_SESSION)
            self._changed.notify_all()
        return responses

    def _send(self, peer: bytes, responses: Responses) -> None:
        for frames in responses:
            try:
                self._router.send_multipart([peer, *frames])  # waits while the pipe is full
            except zmq.ZMQError:
                return  # gone: to the client it is the same as if the answer was lost


# --- a client of it

DEVICE = bytes(range(16))
PROOF = OwnerProof(bytes(32), bytes(64))  # this broker believes any


def over_link(
    broker: SmallBroker, work: Callable[[Link], Coroutine[Any, Any, R]], identity: Optional[ClientIdentity] = None
) -> R:
    """What the work gives, over a link that stands, within half a minute."""

    async def whole() -> R:
        async with Link(identity or broker.identity, PROOF) as link:
            return await asyncio.wait_for(work(link), PATIENCE)

    return run_with_link(whole)


# It is the same to the link what is asked.
_ASKED = Spec(Operation.FETCH, Empty, Acknowledged, frozenset(), Of.DEVICE)


def ask(link: Link, payload: Optional[bytes] = None, **options: Any) -> asyncio.Task[bytes]:
    """One request to a device, and what comes back as payload."""

    async def request() -> bytes:
        answered = await link.request(
            _ASKED, Empty(), payload=payload, device=DEVICE, **{"timeout": PATIENCE, **options}
        )
        return bytes(answered.payload)

    return asyncio.ensure_future(request())


async def came(broker: SmallBroker, count: int) -> list[Request]:
    """The requests, once there are so many."""
    await asyncio.get_running_loop().run_in_executor(None, broker.wait_for, lambda: len(broker.requests) >= count)
    return list(broker.requests)


async def ask_and_wait(link: Link, payload: bytes, **options: Any) -> bytes:
    return await ask(link, payload, **options)
