"""A client's way to the cluster: requests out, answers in, in any order, each with a deadline.

What is sent when, and to which broker, decides `client_protocol`; here are the socket, the event loop and the clock.
Nothing here knows what is stored: producer, consumer and admin put meaning to the operations.

    async with Link(identity, proof) as link:
        reply = await link.request(STATUS, Empty())
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Callable, Optional, TypeVar

import zmq

from common.discovery.addresses import BrokerAddress
from common.discovery.search import browse
from common.errors import RefusedError, TesseraError, UnreachableError
from common.link.broker_list import SEARCH_TIME
from common.link.channel import Channel
from common.link.client_protocol import ClientProtocol, DeviceRequest, Payload, Request
from common.link.diagnosis import diagnose
from common.link.replies import Reply
from common.membership.identity import ClientIdentity, KeyPair
from common.process.events import Emit, ignore, waiting
from common.process.interruption import run_until_interrupted
from common.process.running_time import RunningTime
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.identifiers import BROKER
from common.protocol.messages import PROTOCOL_VERSION, Hello, Message, OwnerProof
from common.protocol.operations import H, R, Role, Spec

_BEAT = 0.5  # seconds, at most, between two looks at the clock

T = TypeVar("T")


class Attachment:
    """One channel to one broker: what is to be sent goes out, what comes is handed to the protocol."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        pair: KeyPair,
        protocol: ClientProtocol,
        time: RunningTime,
        happened: Callable[[], None],
    ) -> None:
        """Connects to the broker that is in use; `happened` is called after whatever was handed over."""
        self._protocol = protocol
        self._number = protocol.connection
        self._time = time
        self._happened = happened
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(
            context, pair, protocol.broker, Role.CLIENT, heartbeats=True, opened=self._wait_for, closing=self._ignore
        )
        with contextlib.suppress(zmq.ZMQError):  # no address at all: then nothing ever comes, as where nobody is
            self._channel.connect()

    def _wait_for(self, socket: zmq.Socket[bytes]) -> None:
        self._loop.add_reader(socket.FD, self._on_event)
        self._loop.call_soon(self._on_event)

    def _ignore(self, socket: zmq.Socket[bytes]) -> None:
        self._loop.remove_reader(socket.FD)

    @property
    def in_use(self) -> bool:
        """Whether the protocol has not gone on to another connection."""
        return self._number == self._protocol.connection and not self._closed

    def exchange(self) -> None:
        """Do all that there is to do: take note of what changed, send what waits and take what has come.

        The sockets' descriptors tell of an event once, at the edge, and any call on a socket may swallow what announces
        another kind, so it goes on until nothing is left.
        """
        while self.in_use:
            for change in self._channel.changes(self._time()):
                if self.in_use:
                    self._protocol.changed(change, self._time())
            self._send()
            self._receive()
            if not self.in_use or self._channel.is_spoilt:
                continue
            if not self._channel.has_messages() and not (self._protocol.to_send() and self._channel.has_room()):
                return

    def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _on_event(self) -> None:
        self.exchange()
        self._happened()

    def _send(self) -> None:
        while (frames := self._protocol.to_send()) is not None:
            try:
                self._channel.send(frames)
            except zmq.Again:
                return  # full, or the connection is down: then all is sent again when there is one
            self._protocol.sent()

    def _receive(self) -> None:
        while self.in_use:
            try:
                frames = self._channel.receive()
            except zmq.Again:
                return
            self._protocol.received(frames, self._time())


class Link:
    """One client's connection to its cluster: to one broker, and to the next where that one is lost."""

    def __init__(
        self,
        identity: ClientIdentity,
        proof: Optional[OwnerProof],
        *,
        deposit_for: Optional[bytes] = None,
        takes_back: bool = False,
        emit: Emit = ignore,
    ) -> None:
        """`proof`: the owner's of the vault that this client speaks for; None where it only looks at the devices.
        `deposit_for`: the owner key of another vault, for which it only stores; the proof is then of who deposits.
        `takes_back`: also where the vault's key was replaced, to take back what was given away with it. `emit` is told
        what the broker is waited for.
        """
        self.emit = emit
        self._identity = identity
        hello = Hello(PROTOCOL_VERSION, proof, deposit_for, takes_back=takes_back)
        self._marks = identity.list_marks()
        self._protocol = ClientProtocol(identity.brokers, hello, secrets.token_bytes(8), self._marks.of)
        self._time = RunningTime()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._answers: dict[Request, asyncio.Future[Reply[Any]]] = {}
        self._kept = identity.brokers
        self._attachment: Optional[Attachment] = None
        self._acting: Optional[asyncio.Handle] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._search: Optional[asyncio.Task[None]] = None
        self._giving_up: Optional[asyncio.Task[None]] = None
        self._closed = False

    async def __aenter__(self) -> Link:
        self._first_session: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol.start(self._time())
        self._act()
        try:
            await self._first_session
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._protocol.end(UnreachableError("the link was closed"))
        self._give_out()
        self._closed = True
        for pending in (self._first_session, self._acting, self._timer, self._search, self._giving_up):
            if pending is not None:
                pending.cancel()
        if self._attachment is not None:
            self._attachment.close()
        self._context.term()

    # --- asking

    @property
    def public_key(self) -> bytes:
        """This machine's, as the list of members has it."""
        return self._identity.key_pair.public

    @property
    def address(self) -> str:
        """The broker in use, or all that are tried, as a person would name them."""
        return self._protocol.address

    def time(self) -> float:
        """Seconds since some moment in which a broker was reached: what others may be late by."""
        return self._protocol.time(self._time())

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
        unless it is `hurried`: after OUTAGE_TIMEOUT all ends.
        """
        if self._protocol.over is not None:
            raise self._protocol.over
        if Role.ADD_ONLY not in operation.roles:
            self.require_changes_allowed()
        sent = memoryview(payload).nbytes if payload is not None else 0
        most = operation.reply_payload if reply_bytes is None else reply_bytes
        seconds = operation.timeout if timeout is None else timeout
        request = self._protocol.request(
            operation, header, payload, device, min(sent + most, MAX_PAYLOAD), seconds, hurried, self._time()
        )
        answer: asyncio.Future[Reply[R]] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer
        self._act_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            self._protocol.cancel(request, self._time())
            self._act_soon()
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, though whoever asked is gone
            raise
        finally:
            self._answers.pop(request, None)

    def request_combined(
        self,
        operation: Spec[Any, Any],
        header: Callable[[Mapping[int, bytes]], Message],
        payload: Payload,
        asked: Sequence[DeviceRequest],
    ) -> list[asyncio.Future[Reply[Any]]]:
        """Ask several devices by one message, of which the broker makes a request to each; an answer for each.

        `header` makes the message's of the request ids that it is to name, by place in `asked`. Answers and errors are
        as of `request`; who cancels one waits for that device no more.
        """
        requests = self._protocol.request_combined(operation, header, payload, asked, self._time())
        self._act_soon()
        return [self._answer_of(request) for request in requests]

    def _answer_of(self, request: Request) -> asyncio.Future[Reply[Any]]:
        answer: asyncio.Future[Reply[Any]] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer

        def is_done(_: object) -> None:
            del self._answers[request]
            if answer.cancelled():
                self._protocol.cancel(request, self._time())
                self._act_soon()
            else:
                answer.exception()  # seen, though whoever asked may be gone

        answer.add_done_callback(is_done)
        return answer

    def require_changes_allowed(self) -> None:
        """RefusedError where the broker said, when the link came up, that this machine may add, and change nothing."""
        if self._protocol.adds_only:
            raise RefusedError(
                "this machine was let in to store and restore, and can neither delete nor change what is stored",
                advice="do it on another machine; or, at the broker, revoke this one and invite it without --add-only",
            )

    def cause(self, error: TesseraError, of: str = "") -> TesseraError:
        """Why something failed: that nothing can be asked any more, where that is so; else the `error` that it met.

        `of`: what failed, as a user would name it.
        """
        over = self._protocol.over
        if over is None:
            return error
        return type(over)(f"{of}: {over}" if of else str(over), advice=over.advice)

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

    # --- what the protocol asks for

    def _act_soon(self) -> None:
        """Once for all that happens in one turn of the loop."""
        if self._acting is None and not self._closed:
            self._acting = asyncio.get_running_loop().call_soon(self._act)

    def _act(self) -> None:
        """Do what the protocol asks for now."""
        self._acting = None
        if self._attachment is None or not self._attachment.in_use:
            if self._attachment is not None:
                self._attachment.close()
            pair = self._identity.key_pair
            self._attachment = Attachment(self._context, pair, self._protocol, self._time, self._act_soon)
        self._attachment.exchange()
        if not self._attachment.in_use:
            self._act_soon()
        self._give_out()
        if self._protocol.known != self._kept:
            self._kept = self._protocol.known  # the one that answers first: the next program begins there
            self._identity.keep(self._kept)
        for key, mark in self._protocol.told_marks.items():
            self._marks.keep(key, mark)
        self._look_for_brokers()
        if not self._protocol.gave_up:
            if self._giving_up is not None:
                self._giving_up.cancel()
            self._giving_up = None
        elif self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().create_task(self._give_up())
        self._set_timer()

    def _give_out(self) -> None:
        """What has come of requests, to whoever asked, and of the first session."""
        for request in self._protocol.finished():
            answer = self._answers.get(request)
            if answer is None or answer.done():
                continue
            if isinstance(request.outcome, TesseraError):
                answer.set_exception(request.outcome)
            elif request.outcome is not None:
                answer.set_result(request.outcome)
        if self._first_session.done():
            return
        if self._protocol.was_up:
            self._first_session.set_result(None)
        elif self._protocol.over is not None:
            self._first_session.set_exception(self._protocol.over)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._protocol.next_deadline()
        wait = _BEAT if deadline is None else min(max(0.0, deadline - self._time()), _BEAT)
        self._timer = asyncio.get_running_loop().call_later(wait, self._on_time)

    def _on_time(self) -> None:
        self._protocol.time_passed(self._time(), self._time.woke)
        self._act_soon()

    async def _give_up(self) -> None:
        """Say of each broker why it is not reached; all ends then, unless one is meanwhile."""
        protocol = self._protocol
        protocol.give_up(await asyncio.to_thread(diagnose, protocol.brokers, Role.CLIENT, protocol.seen))
        self._act_soon()

    def _look_for_brokers(self) -> None:
        keys = self._protocol.looking_for
        if keys is not None and self._search is None:
            self._search = asyncio.get_running_loop().create_task(self._look(keys))
        elif keys is None and self._search is not None:
            self._search.cancel()
            self._search = None

    async def _look(self, keys: Collection[bytes]) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                try:
                    await asyncio.wait_for(browse(self._found, keys), SEARCH_TIME)
                except UnreachableError:
                    return  # then the link's own error says that its brokers do not answer

    def _found(self, broker: BrokerAddress) -> None:
        self._protocol.found(broker, self._time())
        self._act_soon()


@asynccontextmanager
async def reached(link: Link) -> AsyncIterator[Link]:
    """The link, once it is up: what a command that a person runs has in place of the link alone."""
    async with AsyncExitStack() as stack:
        with waiting(link.emit, f"reaching the broker at {link.address}"):
            await stack.enter_async_context(link)
        with link.explaining():
            yield link


def run_with_link(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a client's coroutine, which `work` makes."""
    return run_until_interrupted(work)
