"""A client's side of the protocol: requests out, answers in, and on to the next broker where one is lost.

Sans I/O, as h11 and websockets are: no socket, no event loop, no clock. Whoever has them (`link`) tells what happened
and when, sends what is to be sent to the broker in use, gives out what has come of requests, and comes back at the next
deadline:

    DOWN ──connected──▶ GREETING ──welcomed──▶ UP        and from each of them to OVER: refused by all brokers, none
      ▲                     │                   │        reached for too long, or the link is closed
      └──────── lost ───────┴───────────────────┘

A connection is lost when it breaks, when the broker refuses us or is silent for too long, and when it takes too long to
greet. Then the next broker is tried, if there is one: devices are registered with all brokers, and know a share by its
owner and its name, whoever asks.

ZeroMQ's send is not delivery. So every request is kept until its answer is here, and sent again, under the same request
id, when it is overdue and when the connection was lost in between; that is safe, since every operation may be repeated.
A busy broker or device is asked again after a pause.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

import msgspec

from common.discovery.addresses import BrokerAddress, as_address, is_loopback
from common.errors import ProtocolError, RefusedError, TesseraError, UnreachableError
from common.link.admission import Admission
from common.link.broker_list import BrokerList
from common.link.connection import Change, Silence
from common.link.replies import Reply, read_reply
from common.protocol.codec import pack_header, unpack
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import BROKER
from common.protocol.messages import HIGH_WATER_MARK, Empty, Hello, KnownBrokers, Message, Welcome
from common.protocol.operations import BROKERS, HELLO, Role, Spec

CONNECT_TIMEOUT = 6.0  # seconds for all brokers together
# A broker that is started again needs 0.7 s and is mostly back by then, so that its clients stay; more would only hold
# up a put that another broker can go on with. One that hangs is noticed by heartbeats, 3 s before this begins.
FAILOVER_TIMEOUT = 1.5  # seconds without a session after which the next broker is tried
SEARCH_AFTER = 1.5  # seconds without a session after which brokers are looked for on the LAN
BROKERS_PERIOD = 10.0  # seconds between two questions which brokers there are
OUTAGE_TIMEOUT = 120.0  # seconds for a broker that was reached and is away
WARN_AFTER = 3.0  # seconds without a broker; one that is only started again is back by then
RESEND_AFTER = 2.0  # seconds without an answer, at least
_BUSY_PAUSE = 0.02  # seconds, doubled up to
_BUSY_PAUSE_MAX = 0.5
_AGAIN = "run it again when the broker is back"

log = logging.getLogger(__name__)

Payload = Union[bytes, bytearray, memoryview, Any]  # anything with a buffer, such as a numpy array


class State(enum.Enum):
    DOWN = "down"  # no connection stands
    GREETING = "greeting"  # one does; the broker did not admit us yet
    UP = "up"
    OVER = "over"  # nothing more can be asked


class Event(enum.Enum):
    CONNECTED = "connected"
    WELCOMED = "welcomed"
    LOST = "lost"
    ENDED = "ended"


TRANSITIONS = {
    (State.DOWN, Event.CONNECTED): State.GREETING,
    (State.DOWN, Event.ENDED): State.OVER,
    (State.GREETING, Event.WELCOMED): State.UP,
    (State.GREETING, Event.LOST): State.DOWN,
    (State.GREETING, Event.ENDED): State.OVER,
    (State.UP, Event.LOST): State.DOWN,
    (State.UP, Event.ENDED): State.OVER,
}


@dataclass(eq=False)
class Request:
    """One request, from when it is asked until there is an outcome; times are seconds."""

    spec: Spec[Any, Any]
    header: bytes
    payload: Union[Payload, Callable[[], Payload], None]
    device: bytes
    credit: int  # bytes of payload, both ways together
    places: int = 1  # as how many requests it counts
    timeout: Optional[float] = None
    hurried: bool = False  # time without a broker counts
    ends: float = 0.0
    id: bytes = b""
    frames: list[Payload] = field(default_factory=list)
    times_sent: int = 0
    first_sent: float = 0.0
    next_at: Optional[float] = None  # when it is sent again
    pause: float = _BUSY_PAUSE
    admissions: tuple[Admission[Any], ...] = ()  # where it waits or was admitted
    outcome: Union[Reply[Any], TesseraError, None] = None

    def begin(self, request_id: bytes) -> None:
        """It is asked, or asked anew, under this id."""
        self.id, self.frames = request_id, []
        self.times_sent, self.next_at = 0, None

    def message(self) -> list[Payload]:
        """Its frames, which are made where it is sent by itself."""
        if not self.frames:
            envelope = Envelope(Kind.REQUEST, self.spec.number, self.id, self.device, self.credit)
            self.frames = [envelope.encode(), self.header]
            if self.payload is not None:
                self.frames.append(self.payload() if callable(self.payload) else self.payload)
        return self.frames


@dataclass(frozen=True)
class DeviceRequest:
    """What one device is asked, among several that are asked by one message."""

    spec: Spec[Any, Any]
    header: Message
    size: int  # bytes of its payload
    payload: Union[Payload, Callable[[], Payload]]  # or what makes it, where it is sent alone
    device: bytes


@dataclass(eq=False)
class Combined:
    """Requests to several devices that one message to the broker stands for.

    They begin together, and go alone where they have to be sent again. A device that has enough under way gets its
    request alone, later: the others do not wait for it.
    """

    spec: Spec[Any, Any]
    payload: Payload
    header: Callable[[Mapping[int, bytes]], Message]  # of the request ids, by place, of those that it stands for
    requests: list[Request]
    begun: list[Request] = field(default_factory=list)  # those in its message
    frames: list[Payload] = field(default_factory=list)

    def begin(self, request_id: bytes, requests: Mapping[int, Request]) -> bool:
        """Make the message of these, by place; False where its payload is no shorter than theirs."""
        size = memoryview(self.payload).nbytes
        if sum(request.credit for request in requests.values()) <= size:
            return False
        header = pack_header(self.header({place: request.id for place, request in requests.items()}))
        envelope = Envelope(Kind.REQUEST, self.spec.number, request_id, BROKER, size)
        self.begun, self.frames = list(requests.values()), [envelope.encode(), header, self.payload]
        return True


class Resending:
    """When to send a request again that has no answer: late enough not to double what is only slow.

    Behind TCP a message is rarely lost, but a program that is ended, a connection that breaks and a pipe that is full
    do lose some. Asked again is what took more than three times as long as answers took lately, and 2 s at least; then
    ever more rarely. As Karn and Partridge found ("Improving Round-Trip Time Estimates", SIGCOMM 1987), the answer to a
    request that was sent twice tells nothing of how long answers take, so it is not counted.
    """

    _FACTOR = 3.0
    _DECAY = 0.95  # of the longest time that an answer took, with every answer

    def __init__(self) -> None:
        self._longest = 0.0  # seconds, decaying

    def answered(self, seconds: float, times_sent: int) -> None:
        """An answer came so many seconds after its request was first sent."""
        if times_sent == 1:
            self._longest = max(self._longest * self._DECAY, seconds)

    def due_after(self, times_sent: int) -> float:
        """Seconds after it was last sent until a request without an answer is sent once more."""
        return max(RESEND_AFTER, self._FACTOR * self._longest) * float(2 ** (times_sent - 1))


class ClientProtocol:
    """One client's requests, and the broker that they go to. `now`: seconds that never go back."""

    def __init__(
        self,
        brokers: list[BrokerAddress],
        hello: Hello,
        id_prefix: bytes,
        mark_of: Callable[[bytes], Optional[bytes]] = lambda _: None,
    ) -> None:
        """`brokers`: the first is tried first. `id_prefix`: 8 random bytes; request ids begin with them.

        `mark_of`: what a broker gave last for its list of members, by its public key.
        """
        self.state = State.DOWN
        self.connection = 0  # a number; another one: close the socket, and connect to `broker`
        self.looking_for: Optional[frozenset[bytes]] = None  # public keys of brokers to look for on the LAN
        self.gave_up = False  # no broker was reached in time: to be ended by `give_up`
        self.over: Optional[TesseraError] = None  # why nothing more can be asked
        self.was_up = False  # whether there ever was a session
        self.adds_only = False  # what the broker in use said last of this machine's rights
        self.seen: dict[str, Change] = {}  # by endpoint, what the last handshake there came to
        self.known = list(brokers)  # as the broker in use named them, itself first
        self.told_marks: dict[bytes, bytes] = {}  # of brokers' lists of members, by public key; to be kept
        self._mark_of = mark_of
        self._brokers = BrokerList(brokers)
        self._hello = hello
        self._ids = (id_prefix + number.to_bytes(8, "big") for number in itertools.count())
        self._now = 0.0
        self._silence = Silence()
        self._resending = Resending()
        self._requests: dict[Request, None] = {}  # all without an outcome, in the order in which they were asked
        self._under_way: dict[bytes, Request] = {}  # those that were or are to be sent, by id
        self._unsent: deque[Union[Request, Combined]] = deque()
        self._finished: list[Request] = []
        self._greeting: Optional[Request] = None
        self._asking: Optional[Request] = None
        self._window: Admission[Union[Request, Combined]] = Admission(1, 0, self._admitted)  # until more is granted
        self._request_limit = 1
        self._device_limits = (1, 0)
        self._device_windows: dict[bytes, Admission[Request]] = {}
        self._away_since: Optional[float] = 0.0  # None while there is a session
        self._away = 0.0  # seconds, of all earlier times without one
        self._failover_at: Optional[float] = None
        self._look_at: Optional[float] = None
        self._warn_at: Optional[float] = None
        self._warned = False
        self._give_up_at: Optional[float] = None
        self._ask_at: Optional[float] = None

    def start(self, now: float) -> None:
        """A connection to `broker` is made from now on."""
        self._now = self._away_since = now
        self._give_up_at = now + CONNECT_TIMEOUT
        self._give_time()

    # --- what to do

    @property
    def broker(self) -> BrokerAddress:
        """The one in use."""
        return self._brokers.current

    @property
    def brokers(self) -> list[BrokerAddress]:
        """All, the one in use first."""
        return self._brokers.brokers

    @property
    def address(self) -> str:
        """The broker in use, or all that are tried, as a person would name them."""
        brokers = [self.broker] if self.state is State.UP else self.brokers
        return ", ".join(broker.endpoint(Role.CLIENT) for broker in brokers)

    def time(self, now: float) -> float:
        """Seconds in which there was a session."""
        return (now if self._away_since is None else self._away_since) - self._away

    def to_send(self) -> Optional[list[Payload]]:
        """The message to send to the broker in use now; the same again until it is `sent`."""
        while self._unsent:
            first = self._unsent[0]
            if isinstance(first, Request):
                return first.message()
            if any(request in self._requests for request in first.begun):
                return first.frames
            self._unsent.popleft()  # nobody waits for any of its answers any more
        return None

    def sent(self) -> None:
        self._unsent.popleft()

    def finished(self) -> list[Request]:
        """Requests with an outcome, each once."""
        finished, self._finished = self._finished, []
        return finished

    def next_deadline(self) -> Optional[float]:
        """When to call `time_passed` next; earlier does no harm."""
        if self.state is State.OVER:
            return None
        moments = [self._failover_at, self._look_at, self._warn_at, self._give_up_at, self._ask_at, self._silence.ends]
        for request in self._requests:
            moments += [request.next_at, self._deadline(request)]
        return min((moment for moment in moments if moment is not None), default=None)

    # --- what was asked

    def request(
        self,
        spec: Spec[Any, Any],
        header: Message,
        payload: Optional[Payload],
        device: bytes,
        credit: int,
        timeout: float,
        hurried: bool,
        now: float,
    ) -> Request:
        """Ask; once there has been a session. `timeout`: seconds, those without a broker left out, unless `hurried`."""
        self._now = now
        request = self._new_request(spec, header, payload, device, credit, timeout, hurried)
        if request in self._requests:
            self._enter(request)
        return request

    def request_combined(
        self,
        spec: Spec[Any, Any],
        header: Callable[[Mapping[int, bytes]], Message],
        payload: Payload,
        asked: Sequence[DeviceRequest],
        now: float,
    ) -> list[Request]:
        """Ask several devices by one message, of the operation `spec`; the requests as if each were asked alone.

        `header` makes the message's of the request ids, by place in `asked`; it has `payload`. Replies have none.
        """
        self._now = now
        requests = []
        for each in asked:
            timeout = each.spec.timeout
            requests.append(self._new_request(each.spec, each.header, each.payload, each.device, each.size, timeout))
        if requests and self.over is None:
            # No more at a time than a device may have under way: else those that follow would find all devices busy.
            most, of_a_device = self._request_limit, self._device_limits[0]
            requests[0].places = max(1, 1 + -(-most // of_a_device) - len(requests))
            combined, places = Combined(spec, payload, header, requests), sum(request.places for request in requests)
            self._window.enter(combined, sum(request.credit for request in requests), places)
        return requests

    def _new_request(
        self,
        spec: Spec[Any, Any],
        header: Message,
        payload: Union[Payload, Callable[[], Payload], None],
        device: bytes,
        credit: int,
        timeout: float,
        hurried: bool = False,
    ) -> Request:
        """A request that is still to enter the windows; one that is finished where all is over."""
        request = Request(spec, pack_header(header), payload, device, credit, timeout=timeout, hurried=hurried)
        request.ends = timeout + (self._now if hurried else self.time(self._now))
        self._requests[request] = None
        if self.over is not None:
            self._finish(request, self.over)
        return request

    def cancel(self, request: Request, now: float) -> None:
        """Nobody waits for it any more."""
        self._now = now
        if request in self._requests:
            self._drop(request)

    def _enter(self, request: Request) -> None:
        window = self._device_window(request.device)
        request.admissions = (window,)
        window.enter(request, request.credit)

    def _device_window(self, device: bytes) -> Admission[Request]:
        window = self._device_windows.get(device)
        if window is None:
            window = self._device_windows[device] = Admission(*self._device_limits, self._enter_window)
        return window

    def _enter_window(self, request: Request) -> None:
        request.admissions = (self._window, *request.admissions)
        self._window.enter(request, request.credit)

    def _admitted(self, entered: Union[Request, Combined]) -> None:
        if isinstance(entered, Combined):
            self._begin_combined(entered)
        else:
            self._begin(entered)

    def _begin_combined(self, combined: Combined) -> None:
        """Begin those whose devices may have more under way now; the others wait for that, each alone."""
        begun: dict[int, Request] = {}
        left = []
        for place, request in enumerate(combined.requests):
            window = self._device_window(request.device)
            if request in self._requests and window.enter_now(request.credit):
                request.admissions = (self._window, window)
                request.begin(next(self._ids))
                self._under_way[request.id] = begun[place] = request
            else:
                left.append(request)
        if self.state is State.UP and combined.begin(next(self._ids), begun):
            self._unsent.append(combined)
            for request in begun.values():
                self._note_sent(request)
        else:
            for request in begun.values():
                self._send(request)
        for request in left:
            places, request.places = request.places, 1
            if request in self._requests:
                self._enter(request)
            self._window.leave(request.credit, places)

    def _begin(self, request: Request) -> None:
        request.begin(next(self._ids))
        self._under_way[request.id] = request
        self._send(request)

    def _send(self, request: Request) -> None:
        """Send a request, or once more; without a session it is sent when there is one."""
        if self.state is not State.UP and request is not self._greeting:
            return
        self._note_sent(request)
        if request not in self._unsent:
            self._unsent.append(request)

    def _note_sent(self, request: Request) -> None:
        request.times_sent += 1
        if request.times_sent == 1:
            request.first_sent = self._now
        request.next_at = self._now + self._resending.due_after(request.times_sent)

    def _finish(self, request: Request, outcome: Union[Reply[Any], TesseraError]) -> None:
        self._drop(request)
        if request is self._greeting:
            self._greeting = None
            self._greeted(outcome)
        elif request is self._asking:
            self._asking = None
            self._told(outcome)
        else:
            request.outcome = outcome
            self._finished.append(request)

    def _drop(self, request: Request) -> None:
        del self._requests[request]
        self._put_off(request)
        for window in reversed(request.admissions):  # its device's first: what begins then may need that
            window.give_up(request, request.credit, request.places if window is self._window else 1)

    def _put_off(self, request: Request) -> None:
        self._under_way.pop(request.id, None)
        if request in self._unsent:
            self._unsent.remove(request)

    def _deadline(self, request: Request) -> Optional[float]:
        if request.timeout is None:
            return None
        if request.hurried:
            return request.ends
        return request.ends + self._away if self._away_since is None else None

    # --- what came

    def received(self, frames: Sequence[memoryview], now: float) -> None:
        """A message of the broker in use."""
        self._now = now
        self._silence.heard(now)
        try:
            envelope = decode_envelope(frames[0])
        except ProtocolError:
            return  # the broker is authenticated, so this is a fault, and the request's deadline reports it
        if envelope.kind is not Kind.REPLY or self.state is State.OVER:
            return
        if envelope.operation is Operation.PROBE:
            self._refused(self._not_admitted())  # revoked: the broker says so, once, before it forgets us
            return
        request = self._under_way.get(envelope.request_id)
        if request is not None:
            self._answered(request, frames)

    def _answered(self, request: Request, frames: Sequence[memoryview]) -> None:
        self._resending.answered(self._now - request.first_sent, request.times_sent)
        try:
            reply = read_reply(frames, request.spec.reply, request.device)
        except TesseraError as error:
            self._finish(request, error)
            return
        if reply is not None:
            self._finish(request, reply)
        elif request is self._greeting or request is self._asking:
            self._finish(request, UnreachableError(f"the broker at {self.address} is busy"))
        else:
            self._put_off(request)
            request.next_at = self._now + request.pause
            request.pause = min(2 * request.pause, _BUSY_PAUSE_MAX)

    def time_passed(self, now: float, woke: float) -> None:
        """It is so late now; `woke`: when this program last went on after it had stood still (`RunningTime`)."""
        self._now = now
        if self.state is State.OVER:
            return
        if self._silence.is_over(now, woke) or self._is_due(self._failover_at):
            self._go_on()
        if self._is_due(self._look_at):
            self._look_at = None
            self.looking_for = frozenset(broker.public_key for broker in self.brokers)
        if self._is_due(self._warn_at):
            self._warn_at, self._warned = None, True
            log.warning("no broker is reached; waiting for up to %g s", OUTAGE_TIMEOUT)
        if self._is_due(self._give_up_at):
            self._give_up_at, self.gave_up = None, True
            if not self.was_up and self._brokers.refusal is not None:
                self.end(self._brokers.refusal)
                return
        if self._is_due(self._ask_at):
            self._ask_for_brokers()
        for request in list(self._requests):
            if self._is_due(self._deadline(request)):
                whom = "a device" if request.device != BROKER else "the broker"
                why = f"no answer from {whom} ({self.address}) within {request.timeout:g} s"
                self._finish(request, UnreachableError(why))
            elif self._is_due(request.next_at):
                again = self._send if request.id in self._under_way else self._begin
                again(request)

    def _is_due(self, moment: Optional[float]) -> bool:
        return moment is not None and self._now >= moment

    # --- the connection

    def changed(self, change: Change, now: float) -> None:
        """What happened to the connection to the broker in use."""
        self._now = now
        if self.state is State.OVER:
            return
        if change is not Change.DOWN:
            self.seen[self.broker.endpoint(Role.CLIENT)] = change
        if change is Change.UP:
            self._connected()
        elif change is Change.DOWN:
            self._lose()
            self._give_time()
        elif change is Change.NOT_ADMITTED and self._brokers.is_found:
            self._lose()  # by somebody at an address that was only found, who need not have the broker's key
            self._brokers.drop()
            self._connect()
        elif change is Change.NOT_ADMITTED:
            self._refused(self._not_admitted())

    def found(self, broker: BrokerAddress, now: float) -> None:
        """A broker with one of the keys that we look for is announced there."""
        self._now = now
        if self.state in (State.DOWN, State.GREETING) and self._brokers.add(broker):
            self._go_on()

    def give_up(self, why: UnreachableError) -> None:
        """End where no broker was reached in time and none is by now; `why` that is, as each address tells."""
        if not self.gave_up:
            return
        if not self.was_up:
            self.end(why)
        else:
            self.end(UnreachableError(f"no broker was reached for {OUTAGE_TIMEOUT:g} s: {why}", advice=_AGAIN))

    def end(self, error: TesseraError) -> None:
        """Nothing more can be asked; what was, and has no answer, fails with the error."""
        if not self._move(Event.ENDED):
            return
        self.over, self.looking_for = error, None
        self._greeting = self._asking = None
        for request in list(self._requests):
            if request.timeout is None:
                self._drop(request)
            else:
                self._finish(request, error)

    def _move(self, event: Event) -> bool:
        """Whether the event means anything in this state, which is another one then."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True

    def _connected(self) -> None:
        self._lose()
        if self._move(Event.CONNECTED):
            self._silence.begin(self._now)
            self._greet()

    def _end_outage(self) -> None:
        if self._warned:
            log.warning("a broker is reached again, at %s", self.address)
        if self._away_since is not None:
            self._away += self._now - self._away_since
        self._away_since = self._warn_at = self._give_up_at = None
        self._warned = self.gave_up = False

    def _lose(self) -> None:
        """The connection is lost, or is given up."""
        was_up = self.state is State.UP
        if not self._move(Event.LOST):
            return
        self._silence.end()
        for request in (self._greeting, self._asking):
            if request is not None:
                self._drop(request)
        self._greeting = self._asking = self._ask_at = None
        self._unsent.clear()
        for request in self._under_way.values():
            request.next_at = None
        if was_up:
            self.seen.clear()
            self._away_since = self._now
            self._warn_at, self._give_up_at = self._now + WARN_AFTER, self._now + OUTAGE_TIMEOUT

    def _give_time(self) -> None:
        """Leave the broker in use some time to begin a session; then the next is tried, if there is one.

        Meanwhile they are looked for on the LAN: their addresses may have changed.
        """
        here = all(is_loopback(broker.host) for broker in self.brokers)
        if self._look_at is None and self.looking_for is None and not here:
            self._look_at = self._now + SEARCH_AFTER
        if self._failover_at is None and not self._brokers.alone:
            self._failover_at = self._now + FAILOVER_TIMEOUT

    def _connect(self) -> None:
        self.connection += 1
        self._failover_at = None
        self._give_time()

    def _go_on(self) -> None:
        self._lose()
        self._brokers.advance()
        self._connect()

    def _refused(self, error: TesseraError) -> None:
        """The broker in use will not have us: go to the next, or end where there is none that might."""
        self._lose()
        self._brokers.refused(error)
        if self._brokers.over:
            self.end(error)
        else:
            self._go_on()

    def _not_admitted(self) -> RefusedError:
        return RefusedError(
            f"the broker at {self.broker.endpoint(Role.CLIENT)} does not admit this machine",
            advice="get an invite there (python broker/broker.py invite client) "
            "and run: python admin/admin.py join INVITE",
        )

    # --- asking the broker in use for the link itself

    def _own_request(self, spec: Spec[Any, Any], header: Message) -> Request:
        request = Request(spec, pack_header(header), None, BROKER, spec.reply_payload)
        self._requests[request] = None
        return request

    def _greet(self) -> None:
        key = self.broker.public_key
        mark = self.told_marks.get(key) or self._mark_of(key)
        self._greeting = self._own_request(HELLO, msgspec.structs.replace(self._hello, list_mark=mark))
        self._begin(self._greeting)

    def _greeted(self, outcome: Union[Reply[Any], TesseraError]) -> None:
        if isinstance(outcome, TesseraError):
            self._refused(outcome)
            return
        self._move(Event.WELCOMED)
        granted: Welcome = outcome.header
        if not self.was_up:
            self._request_limit = min(granted.requests, HIGH_WATER_MARK)
            self._window = Admission(self._request_limit, granted.credit, self._admitted)
        self._device_limits = granted.requests_per_device, granted.credit
        self.adds_only = granted.adds_only
        self.was_up = True
        self._brokers.begun()
        self._end_outage()
        self._failover_at = self._look_at = self.looking_for = None
        for request in list(self._under_way.values()):
            self._send(request)
        self._ask_for_brokers()

    def _ask_for_brokers(self) -> None:
        self._ask_at = None
        self._asking = self._own_request(BROKERS, Empty())
        self._begin(self._asking)

    def _told(self, outcome: Union[Reply[Any], TesseraError]) -> None:
        """Which brokers there are; where that is not told, those that are known stay."""
        if isinstance(outcome, Reply):
            if outcome.header.list_mark is not None:
                self.told_marks[self.broker.public_key] = outcome.header.list_mark
            with contextlib.suppress(ProtocolError):
                named = unpack(outcome.payload, KnownBrokers)
                if named:
                    self._brokers.renew([as_address(broker) for broker in named])
        self.known = self.brokers
        self._ask_at = self._now + BROKERS_PERIOD
