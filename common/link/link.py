"""A client's way to the cluster: requests out, answers in, in any order, each with a deadline.

ZeroMQ's send is not delivery. So every request is kept until its answer is here, and sent again when the connection
was lost in between; that is safe, since every operation may be repeated. A busy broker or device is asked again after a
pause. Nothing here knows what is stored: producer, consumer and admin put meaning to the operations.

    async with Link(identity, owner_token) as link:
        reply = await link.request(Operation.STATUS, Empty(), Status)
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar, Union

import msgspec
import zmq

from common.errors import ProtocolError, RefusedError, TesseraError, UnreachableError
from common.home import ClientIdentity
from common.invite import BrokerAddress, Role
from common.link.connection import Change, ConnectionMonitor
from common.link.declined import DeclinedError
from common.link.sockets import HIGH_WATER_MARK, make_dealer
from common.link.window import Window
from common.protocol.codec import pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import BROKER
from common.protocol.messages import PROTOCOL_VERSION, Code, Hello, Welcome

CONNECT_PATIENCE = 6.0  # seconds for all brokers together
REQUEST_PATIENCE = 30.0  # seconds for one request, unless its caller says otherwise
_BUSY_PAUSE = 0.02  # seconds, doubled up to
_BUSY_PAUSE_MAX = 0.5

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R")
Payload = Union[bytes, bytearray, memoryview, Any]  # anything with a buffer, such as a numpy array


@dataclass(frozen=True)
class Reply(Generic[T]):
    """An answer that granted the request: its header, and its payload as a view (empty where there was none)."""

    header: T
    payload: memoryview


@dataclass
class _Pending:
    frames: list[Payload]
    answer: asyncio.Future[list[zmq.Frame]]


class Link:
    """One client's connection to one broker of the cluster."""

    def __init__(self, identity: ClientIdentity, owner_token: Optional[bytes]) -> None:
        """`owner_token`: the vault's, or None for a client that only looks at the devices."""
        self._identity = identity
        self._owner_token = owner_token
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._prefix = secrets.token_bytes(8)  # with the counter: a request id that nobody else can guess
        self._counter = itertools.count()
        self._pending: dict[bytes, _Pending] = {}
        self._unsent: deque[_Pending] = deque()  # what the socket had no room for
        self._device_windows: dict[bytes, Window] = {}
        self._in_session = False
        self._no_handshake = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Link:
        try:
            await self._connect()
        except BaseException:
            self._context.destroy(linger=0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._fail_pending(UnreachableError("the link was closed"))
        for task in self._tasks:
            task.cancel()
        self._disconnect()
        self._context.term()

    # --- asking

    async def request(
        self,
        operation: Operation,
        header: msgspec.Struct,
        shape: type[T],
        *,
        payload: Optional[Payload] = None,
        device: bytes = BROKER,
        reply_bytes: int = 0,
        patience: float = REQUEST_PATIENCE,
    ) -> Reply[T]:
        """Ask the broker, or a device through it, and wait for the answer.

        `reply_bytes` is the most that the answer's payload may have. DeclinedError when the answer is no (GONE: the
        device is not there), UnreachableError when none came within `patience` seconds, ProtocolError when it is not
        of the form `shape`.
        """
        sent = memoryview(payload).nbytes if payload is not None else 0
        size = sent + reply_bytes
        work = self._request(operation, header, shape, payload, device, size)
        try:
            return await asyncio.wait_for(work, patience)
        except asyncio.TimeoutError:
            whom = "a device" if device != BROKER else "the broker"
            raise UnreachableError(f"no answer from {whom} ({self.address}) within {patience:g} s") from None

    async def _request(
        self,
        operation: Operation,
        header: msgspec.Struct,
        shape: type[T],
        payload: Optional[Payload],
        device: bytes,
        size: int,
    ) -> Reply[T]:
        window = self._device_windows.get(device)
        if window is None:
            window = self._device_windows[device] = Window(self._granted.requests_per_device, self._granted.credit)
        await window.enter(size)
        try:
            await self._window.enter(size)
            try:
                pause = _BUSY_PAUSE
                while True:
                    frames = await self._exchange(operation, header, payload, device, size)
                    reply = _read_reply(frames, shape, device)
                    if reply is not None:
                        return reply
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _BUSY_PAUSE_MAX)
            finally:
                self._window.leave(size)
        finally:
            window.leave(size)

    async def _exchange(
        self,
        operation: Operation,
        header: msgspec.Struct,
        payload: Optional[Payload],
        device: bytes,
        credit: int,
    ) -> list[zmq.Frame]:
        request_id = self._prefix + next(self._counter).to_bytes(8, "big")
        envelope = Envelope(Kind.REQUEST, operation, request_id, device, credit)
        frames: list[Payload] = [envelope.encode(), pack_header(header)]
        if payload is not None:
            frames.append(payload)
        pending = _Pending(frames, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        try:
            if self._in_session or operation is Operation.HELLO:
                self._transmit(pending)
            return await pending.answer
        finally:
            del self._pending[request_id]

    def _transmit(self, pending: _Pending) -> None:
        self._unsent.append(pending)
        self._on_event()

    def _on_event(self) -> None:
        """Send what waits and take what has come; the socket's descriptor tells of both, once, at the edge.

        Any call on the socket may swallow the event that announces the other kind, so it goes on until neither is left.
        """
        while True:
            self._send_waiting()
            self._receive()
            events = int(self._socket.getsockopt(zmq.EVENTS))
            if not events & zmq.POLLIN and not (self._unsent and events & zmq.POLLOUT):
                return

    def _send_waiting(self) -> None:
        while self._unsent:
            if not self._unsent[0].answer.done():
                try:
                    self._socket.send_multipart(self._unsent[0].frames, zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    return  # full, or the connection is down: then all is sent again when it is back
            self._unsent.popleft()

    # --- receiving

    def _receive(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._accept(frames)

    def _accept(self, frames: list[zmq.Frame]) -> None:
        try:
            envelope = decode_envelope(frames[0].buffer)
        except ProtocolError:
            return  # the broker is authenticated, so this is a fault, and the request's deadline reports it
        if envelope.kind is Kind.REPLY and envelope.operation is Operation.PROBE:
            self._fail(self._not_admitted())  # revoked: the broker says so, once, before it forgets us
            return
        pending = self._pending.get(envelope.request_id)
        if envelope.kind is Kind.REPLY and pending is not None and not pending.answer.done():
            pending.answer.set_result(frames)

    # --- the connection

    @property
    def address(self) -> str:
        """The broker in use, or all that were tried, as a person would name them."""
        return ", ".join(broker.endpoint(Role.CLIENT) for broker in self._tried)

    async def _connect(self) -> None:
        brokers = self._identity.brokers
        self._tried: list[BrokerAddress] = []
        for broker in brokers:
            self._tried.append(broker)
            self._attach(broker)
            try:
                await asyncio.wait_for(asyncio.shield(self._first_session), CONNECT_PATIENCE / len(brokers))
                self._tried = [broker]
                return
            except asyncio.TimeoutError:
                self._disconnect()
            except BaseException:
                self._disconnect()
                raise
        hint = " (something answers there, but not with the broker's key)" if self._no_handshake else ""
        raise UnreachableError(f"no answer from the broker at {self.address}{hint}")

    def _attach(self, broker: BrokerAddress) -> None:
        loop = asyncio.get_running_loop()
        self._no_handshake = False
        self._first_session: asyncio.Future[None] = loop.create_future()
        self._socket = make_dealer(self._context, self._identity.key_pair, broker.public_key)
        self._monitor = ConnectionMonitor(self._socket)
        loop.add_reader(self._socket.FD, self._on_event)
        loop.add_reader(self._monitor.socket.FD, self._watch)
        self._socket.connect(broker.endpoint(Role.CLIENT))
        self._watch()

    def _disconnect(self) -> None:
        loop = asyncio.get_running_loop()
        self._in_session = False
        loop.remove_reader(self._socket.FD)
        loop.remove_reader(self._monitor.socket.FD)
        self._monitor.close()
        self._socket.close()

    def _watch(self) -> None:
        for change in self._monitor.changes():
            if change is Change.UP:
                task = asyncio.get_running_loop().create_task(self._begin_session())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif change is Change.NOT_ADMITTED:
                self._fail(self._not_admitted())
            elif change is Change.NO_HANDSHAKE:
                self._no_handshake = True
            else:
                self._in_session = False

    def _not_admitted(self) -> RefusedError:
        return RefusedError(
            f"the broker at {self.address} does not admit this machine",
            advice="get an invite there (python broker/broker.py invite client) "
            "and run: python admin/admin.py join INVITE",
        )

    async def _begin_session(self) -> None:
        """Say who we are, then send again all that has no answer yet."""
        try:
            hello = Hello(PROTOCOL_VERSION, self._owner_token)
            frames = await self._exchange(Operation.HELLO, hello, None, BROKER, 0)
            reply = _read_reply(frames, Welcome, BROKER)
            if reply is None:
                raise UnreachableError(f"the broker at {self.address} is busy")
            self._granted = reply.header
        except TesseraError as error:
            self._fail(error)
            return
        if not self._first_session.done():
            self._window = Window(min(self._granted.requests, HIGH_WATER_MARK), self._granted.credit)
            self._first_session.set_result(None)
        self._in_session = True
        self._unsent.clear()
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                self._transmit(pending)

    def _fail(self, error: TesseraError) -> None:
        if not self._first_session.done():
            self._first_session.set_exception(error)
        self._fail_pending(error)

    def _fail_pending(self, error: TesseraError) -> None:
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(error)


def _read_reply(frames: list[zmq.Frame], shape: type[T], device: bytes) -> Optional[Reply[T]]:
    """The reply, or None where the answer was to ask again later."""
    if len(frames) not in (2, 3):
        raise ProtocolError(f"a message of {len(frames)} frames")
    header = unpack_header(frames[1].buffer, shape)
    answer = header.answer  # type: ignore[attr-defined]  # every reply begins with one
    if answer.code in (Code.BUSY, Code.NO_SESSION):
        return None
    if answer.code is not Code.GRANTED:
        raise DeclinedError(answer, device)
    return Reply(header, frames[2].buffer if len(frames) == 3 else memoryview(b""))


def run_with_link(work: Coroutine[Any, Any, R]) -> R:
    """Run a client's coroutine; on Windows with the selector loop, the only one that can watch ZeroMQ's sockets."""
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    return asyncio.run(work)
