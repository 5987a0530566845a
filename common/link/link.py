"""A client's way to the cluster: requests out, answers in, in any order, each with a deadline.

ZeroMQ's send is not delivery. So every request is kept until its answer is here, and sent again, under the same request
id, when the connection was lost in between; that is safe, since every operation may be repeated. Where the broker does
not come back soon, the link goes on with the next one that it knows: devices are registered with all brokers, and know
a share by its owner and its name, whoever asks. A busy broker or device is asked again after a pause. Nothing here
knows what is stored: producer, consumer and admin put meaning to the operations.

    async with Link(identity, owner_token) as link:
        reply = await link.request(STATUS, Empty())
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Optional, TypeVar

import zmq

from common.errors import ProtocolError, RefusedError, TesseraError, UnreachableError
from common.finding.addresses import BrokerAddress, as_address
from common.home import ClientIdentity
from common.link.attachment import Attachment, Payload, Pending
from common.link.connection import Change
from common.link.replies import DeclinedError, Reply, read_reply
from common.link.resending import Resending
from common.link.seeking import Seeking
from common.link.succession import Succession
from common.link.unreached import unreached
from common.link.window import Window
from common.process.events import Emit, ignore, waiting
from common.process.interruption import run_until_interrupted
from common.protocol.codec import MAX_PAYLOAD, pack_header, unpack
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    HIGH_WATER_MARK,
    PROTOCOL_VERSION,
    Brokers,
    Empty,
    Hello,
    KnownBrokers,
    Message,
    Welcome,
)
from common.protocol.operations import H, R, Role, Spec

CONNECT_PATIENCE = 6.0  # seconds for all brokers together
# A broker that is started again needs 0.7 s and is mostly back by then, so that its clients stay; more would only hold
# up a put that another broker can go on with. One that hangs is noticed by heartbeats, 3 s before this begins.
FAILOVER_PATIENCE = 1.5  # seconds without a session after which the next broker is tried
BROKERS_PERIOD = 10.0  # seconds between two questions which brokers there are
OUTAGE_PATIENCE = 120.0  # seconds for a broker that was reached and is away
_SAY_AFTER = 3.0  # seconds without a broker; one that is only started again is back by then
_BUSY_PAUSE = 0.02  # seconds, doubled up to
_BUSY_PAUSE_MAX = 0.5
_AGAIN = "run it again when the broker is back"
_LISTEN = 0.5  # seconds between two looks whether the broker in use is silent for too long

log = logging.getLogger(__name__)

T = TypeVar("T")


class Link:
    """One client's connection to its cluster: to one broker, and to the next where that one is lost."""

    def __init__(
        self,
        identity: ClientIdentity,
        owner_token: Optional[bytes],
        *,
        deposit_token: Optional[bytes] = None,
        emit: Emit = ignore,
    ) -> None:
        """`owner_token`: the vault's. `deposit_token`: that of a vault that is only stored for. None of them for a
        client that only looks at the devices; never both. `emit` is told what the broker is waited for.
        """
        self.emit = emit
        self._identity = identity
        self._hello = Hello(PROTOCOL_VERSION, owner_token, deposit_token)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._prefix = secrets.token_bytes(8)  # with the counter: a request id that nobody else can guess
        self._counter = itertools.count()
        self._pending: dict[bytes, Pending] = {}
        self._device_windows: dict[bytes, Window] = {}
        self._succession = Succession(identity.brokers)
        self._seeking = Seeking(self._found)
        self._resending = Resending()
        self._kept = identity.brokers
        self._in_session = False
        self._seen: dict[str, Change] = {}  # by endpoint, what the last handshake there came to
        self._over: Optional[TesseraError] = None
        self._patience: Optional[asyncio.TimerHandle] = None
        self._greeting: Optional[asyncio.Task[None]] = None
        self._following: Optional[asyncio.Task[None]] = None
        self._listening: Optional[asyncio.TimerHandle] = None
        self._outage: Optional[asyncio.Task[None]] = None
        self._away_since: Optional[float] = None  # in the loop's time; None while there is a session
        self._away = 0.0  # seconds, of all earlier times without one

    async def __aenter__(self) -> Link:
        self._first_session: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._attach(self._succession.current)
        self._listen()
        try:
            await asyncio.wait_for(asyncio.shield(self._first_session), CONNECT_PATIENCE)
        except BaseException as error:
            await self.__aexit__()
            if not isinstance(error, asyncio.TimeoutError):
                raise
            if self._succession.refusal is not None:
                raise self._succession.refusal from None
            raise await asyncio.to_thread(unreached, self._succession.brokers, Role.CLIENT, self._seen) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._first_session.cancel()
        self._end_outage()
        self._seeking.end()
        if self._listening is not None:
            self._listening.cancel()
        self._end(UnreachableError("the link was closed"))
        self._detach()
        self._context.term()

    # --- asking

    @property
    def public_key(self) -> bytes:
        """This machine's, as the list of members has it."""
        return self._identity.key_pair.public

    async def request(
        self,
        operation: Spec[H, R],
        header: H,
        *,
        payload: Optional[Payload] = None,
        device: bytes = BROKER,
        reply_bytes: Optional[int] = None,
        timeout: Optional[float] = None,
        hurried: bool = False,
    ) -> Reply[R]:
        """Ask the broker, or a device through it, and wait for the answer.

        `reply_bytes` is the most that the answer's payload may have, `timeout` seconds; both are the operation's where
        they are left out. DeclinedError when the answer is no (GONE: the device is not there), UnreachableError when
        none came in time, ProtocolError when it is not of the operation's form. Time without a broker does not count,
        unless it is `hurried`: after OUTAGE_PATIENCE all ends.
        """
        sent = memoryview(payload).nbytes if payload is not None else 0
        most = operation.reply_payload if reply_bytes is None else reply_bytes
        seconds = operation.timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        now = loop.time if hurried else self.time
        end = now() + seconds
        size = min(sent + most, MAX_PAYLOAD)
        work = loop.create_task(self._request(operation, header, payload, device, size))
        work.add_done_callback(_seen)
        try:
            while not work.done():
                left = end - now()
                if left <= 0:
                    whom = "a device" if device != BROKER else "the broker"
                    raise UnreachableError(f"no answer from {whom} ({self.address}) within {seconds:g} s")
                await asyncio.wait({work}, timeout=left if self._in_session else max(left, _LISTEN))
            return work.result()
        finally:
            work.cancel()

    def time(self) -> float:
        """Seconds since some moment in which a broker was reached: what others may be late by."""
        now = asyncio.get_running_loop().time() if self._away_since is None else self._away_since
        return now - self._away

    def cause(self, error: TesseraError, of: str = "") -> TesseraError:
        """Why something failed: that nothing can be asked any more, where that is so; else the `error` that it met.

        `of`: what failed, as a user would name it.
        """
        if self._over is None:
            return error
        return type(self._over)(f"{of}: {self._over}" if of else str(self._over), advice=self._over.advice)

    @contextmanager
    def explaining(self, of: str = "") -> Iterator[None]:
        """Whatever fails within, fails with its `cause`."""
        try:
            yield
        except TesseraError as error:
            cause = self.cause(error, of)
            if cause is error:
                raise
            raise cause from error

    async def _request(
        self,
        operation: Spec[H, R],
        header: H,
        payload: Optional[Payload],
        device: bytes,
        size: int,
    ) -> Reply[R]:
        window = self._device_windows.get(device)
        if window is None:
            window = self._device_windows[device] = Window(self._granted.requests_per_device, self._granted.credit)
        await window.enter(size)
        try:
            await self._window.enter(size)
            try:
                pause = _BUSY_PAUSE
                while True:
                    frames = await self._exchange(operation.number, header, payload, device, size)
                    reply = read_reply(_views(frames), operation.reply, device)
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
        header: Message,
        payload: Optional[Payload],
        device: bytes,
        credit: int,
    ) -> list[zmq.Frame]:
        request_id = self._prefix + next(self._counter).to_bytes(8, "big")
        envelope = Envelope(Kind.REQUEST, operation, request_id, device, credit)
        frames: list[Payload] = [envelope.encode(), pack_header(header)]
        if payload is not None:
            frames.append(payload)
        if self._over is not None:
            raise self._over
        pending = Pending(frames, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        try:
            return await self._answer(pending, operation)
        finally:
            del self._pending[request_id]
            if not pending.answer.cancel():
                pending.answer.exception()  # seen, though whoever asked may be gone by now

    async def _answer(self, pending: Pending, operation: Operation) -> list[zmq.Frame]:
        """Send a request, again where its answer is overdue (every operation may be repeated), until it is answered."""
        loop = asyncio.get_running_loop()
        began = last = loop.time()
        times_sent = 0
        while not pending.answer.done():
            overdue = last + self._resending.due_after(times_sent) if times_sent else last
            wait = overdue - loop.time()
            if wait > 0:
                await asyncio.wait({pending.answer}, timeout=wait)
                continue
            if self._in_session or operation is Operation.HELLO:
                self._attachment.send(pending)
            last, times_sent = loop.time(), times_sent + 1
        self._resending.answered(loop.time() - began, times_sent)
        return pending.answer.result()

    # --- receiving

    def _accept(self, frames: list[zmq.Frame]) -> None:
        try:
            envelope = decode_envelope(frames[0].buffer)
        except ProtocolError:
            return  # the broker is authenticated, so this is a fault, and the request's deadline reports it
        if envelope.kind is Kind.REPLY and envelope.operation is Operation.PROBE:
            self._refused(self._not_admitted())  # revoked: the broker says so, once, before it forgets us
            return
        pending = self._pending.get(envelope.request_id)
        if envelope.kind is Kind.REPLY and pending is not None and not pending.answer.done():
            pending.answer.set_result(frames)

    # --- the connection

    @property
    def address(self) -> str:
        """The broker in use, or all that are tried, as a person would name them."""
        brokers = [self._succession.current] if self._in_session else self._succession.brokers
        return ", ".join(broker.endpoint(Role.CLIENT) for broker in brokers)

    def _attach(self, broker: BrokerAddress) -> None:
        self._attachment = Attachment(self._context, self._identity.key_pair, broker, self._accept, self._changed)
        self._give_time()

    def _detach(self) -> None:
        self._lose_session()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._attachment.close()

    def _changed(self, change: Change) -> None:
        if change is not Change.DOWN:
            self._seen[self._attachment.broker.endpoint(Role.CLIENT)] = change
        if change is Change.UP:
            self._greeting = asyncio.get_running_loop().create_task(self._begin_session())
        elif change is Change.DOWN:
            self._lose_session()
            self._give_time()
        elif change is Change.NOT_ADMITTED and self._succession.is_found:
            self._turned_away()
        elif change is Change.NOT_ADMITTED:
            self._refused(self._not_admitted())

    def _listen(self) -> None:
        """Give up a connection at whose other end nobody is, for the next broker, be it the same."""
        if self._attachment.is_silent():
            self._go_on()
        self._listening = asyncio.get_running_loop().call_later(_LISTEN, self._listen)

    def _lose_session(self) -> None:
        if self._in_session and self._over is None:
            self._seen.clear()
            self._away_since = asyncio.get_running_loop().time()
            self._outage = asyncio.get_running_loop().create_task(self._sit_out())
        self._in_session = False
        for task in (self._greeting, self._following):
            if task is not None:
                task.cancel()

    async def _sit_out(self) -> None:
        """Say that there is no broker, where that lasts, and end where none comes."""
        await asyncio.sleep(_SAY_AFTER)
        log.warning("no broker is reached; waiting for up to %g s", OUTAGE_PATIENCE)
        try:
            await asyncio.sleep(OUTAGE_PATIENCE - _SAY_AFTER)
            why = await asyncio.to_thread(unreached, self._succession.brokers, Role.CLIENT, self._seen)
            self._end(UnreachableError(f"no broker was reached for {OUTAGE_PATIENCE:g} s: {why}", advice=_AGAIN))
        except asyncio.CancelledError:
            if self._in_session:
                log.warning("a broker is reached again, at %s", self.address)
            raise

    def _end_outage(self) -> None:
        if self._outage is not None:
            self._outage.cancel()
            self._outage = None
        if self._away_since is not None:
            self._away += asyncio.get_running_loop().time() - self._away_since
            self._away_since = None

    def _give_time(self) -> None:
        """Leave the broker in use some time to begin a session; then the next is tried, if there is one.

        Meanwhile they are looked for on the LAN: their addresses may have changed.
        """
        if self._over is None:
            self._seeking.begin(self._succession.brokers)
        if self._patience is None and not self._succession.alone:
            self._patience = asyncio.get_running_loop().call_later(FAILOVER_PATIENCE, self._go_on)

    def _go_on(self) -> None:
        if self._over is None:
            self._detach()
            self._attach(self._succession.advance())

    def _found(self, broker: BrokerAddress) -> None:
        """A broker with one of the keys that we know is announced there."""
        if not self._in_session and self._over is None and self._succession.add(broker):
            self._go_on()

    def _turned_away(self) -> None:
        """Somebody ended the handshake at an address that was only found; he need not have the broker's key."""
        attachment = self._attachment

        def act() -> None:  # later, as below
            if self._attachment is attachment and self._over is None:
                self._detach()
                self._attach(self._succession.drop())

        asyncio.get_running_loop().call_soon(act)

    def _refused(self, error: TesseraError) -> None:
        """The broker in use will not have us: go to the next, or end where there is none that might."""
        attachment = self._attachment
        self._lose_session()

        def act() -> None:  # later: the attachment is in the midst of its messages
            if self._attachment is not attachment or self._over is not None:
                return
            self._succession.refused(error)
            if self._succession.over:
                self._end(error)
            else:
                self._go_on()

        asyncio.get_running_loop().call_soon(act)

    def _not_admitted(self) -> RefusedError:
        return RefusedError(
            f"the broker at {self._attachment.broker.endpoint(Role.CLIENT)} does not admit this machine",
            advice="get an invite there (python broker/broker.py invite client) "
            "and run: python admin/admin.py join INVITE",
        )

    async def _begin_session(self) -> None:
        """Say who we are, then send again all that has no answer yet."""
        try:
            frames = await self._exchange(Operation.HELLO, self._hello, None, BROKER, 0)
            reply = read_reply(_views(frames), Welcome, BROKER)
            if reply is None:
                raise UnreachableError(f"the broker at {self.address} is busy")
        except TesseraError as error:
            self._refused(error)
            return
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._granted = reply.header
        if not self._first_session.done():
            self._window = Window(min(self._granted.requests, HIGH_WATER_MARK), self._granted.credit)
            self._first_session.set_result(None)
        self._seeking.end()
        self._succession.begun()
        self._in_session = True
        self._end_outage()
        self._attachment.drop_unsent()
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                self._attachment.send(pending)
        self._following = asyncio.get_running_loop().create_task(self._follow_brokers())

    async def _follow_brokers(self) -> None:
        """Ask which brokers there are, again and again, as long as the session stands."""
        while True:
            try:
                frames = await self._exchange(Operation.BROKERS, Empty(), None, BROKER, MAX_PAYLOAD)
                reply = read_reply(_views(frames), Brokers, BROKER)
                named = [] if reply is None else unpack(reply.payload, KnownBrokers)
            except (DeclinedError, ProtocolError):
                named = []  # then those that are known stay
            if named:
                self._succession.renew([as_address(broker) for broker in named])
            if self._succession.brokers != self._kept:
                self._kept = self._succession.brokers  # the one that answers first: the next program begins there
                self._identity.keep(self._kept)
            await asyncio.sleep(BROKERS_PERIOD)

    def _end(self, error: TesseraError) -> None:
        """Nothing more can be asked."""
        self._over = error
        self._end_outage()
        if not self._first_session.done():
            self._first_session.set_exception(error)
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(error)


@asynccontextmanager
async def reached(link: Link) -> AsyncIterator[Link]:
    """The link, once it is up: what a command that a person runs has in place of the link alone."""
    async with AsyncExitStack() as stack:
        with waiting(link.emit, f"reaching the broker at {link.address}"):
            await stack.enter_async_context(link)
        with link.explaining():
            yield link


def _seen(work: asyncio.Task[Any]) -> None:
    """Its error was told, or nobody waits for it any more."""
    if not work.cancelled():
        work.exception()


def _views(frames: list[zmq.Frame]) -> list[memoryview]:
    return [frame.buffer for frame in frames]


def run_with_link(work: Coroutine[Any, Any, T]) -> T:
    """Run a client's coroutine."""
    return run_until_interrupted(work)
