"""A client's protocol without socket and clock: all that may happen in every state, and requests through it."""

from __future__ import annotations

from typing import Any, Callable, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.discovery.addresses import BrokerAddress
from common.errors import RefusedError, TesseraError, UnreachableError
from common.link import client_protocol
from common.link.client_protocol import ClientProtocol, Request, State
from common.link.connection import LIMIT, Change
from common.link.replies import Reply
from common.protocol.codec import pack, pack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Answer,
    Brokers,
    Code,
    Empty,
    Hello,
    KnownBroker,
    Message,
    Welcome,
)
from common.protocol.operations import Of, Spec

A, B, C = (BrokerAddress(f"{name}.lan", 5570, 5571, name.encode() * 32) for name in "abc")
DEVICE, OTHER_DEVICE = b"d" * 16, b"o" * 16
NEVER = float("-inf")
WELCOME = Welcome(GRANTED, requests=4, requests_per_device=2, credit=1000)
ASKED = Spec(Operation.FETCH, Empty, Acknowledged, frozenset(), Of.DEVICE)


class Client:
    """A protocol, the time, and what a shell would do."""

    def __init__(self, *brokers: BrokerAddress) -> None:
        self.protocol = ClientProtocol(list(brokers or (A, B)), Hello(PROTOCOL_VERSION, None), b"prefix--")
        self.now = 100.0
        self.sent: list[Envelope] = []
        self.outcomes: dict[Request, Any] = {}
        self.protocol.start(self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, and wake the protocol when it wants to be."""
        end = self.now + seconds
        while (deadline := self.protocol.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.protocol.time_passed(self.now, NEVER)
            following = self.protocol.next_deadline()
            assert following is None or following > self.now, "nothing is left that is due"
        self.now = end
        self.act()

    def change(self, change: Change) -> None:
        self.protocol.changed(change, self.now)
        self.act()

    def act(self) -> None:
        while (frames := self.protocol.to_send()) is not None:
            self.sent.append(decode_envelope(bytes(frames[0])))
            self.protocol.sent()
        for request in self.protocol.finished():
            assert request not in self.outcomes, "each has one outcome"
            self.outcomes[request] = request.outcome

    def receive(self, envelope: Envelope, header: Message, payload: Optional[bytes] = None) -> None:
        frames = [envelope.encode(), pack_header(header), *([] if payload is None else [payload])]
        self.protocol.received([memoryview(frame) for frame in frames], self.now)
        self.act()

    def answer(self, operation: Operation, header: Message, payload: Optional[bytes] = None) -> None:
        """Answer the latest request of this operation."""
        asked = [envelope for envelope in self.sent if envelope.operation is operation]
        envelope = asked[-1] if asked else Envelope(Kind.REQUEST, operation, bytes(16))
        self.receive(envelope.reply(), header, payload)

    def welcome(self) -> None:
        self.change(Change.UP)
        self.answer(Operation.HELLO, WELCOME)

    def ask(self, device: bytes = DEVICE, credit: int = 1, timeout: float = 30.0, hurried: bool = False) -> Request:
        request = self.protocol.request(ASKED, Empty(), b"x", device, credit, timeout, hurried, self.now)
        self.act()
        return request

    def fetches(self) -> list[bytes]:
        return [envelope.request_id for envelope in self.sent if envelope.operation is Operation.FETCH]


def client_in(state: State) -> Client:
    client = Client()
    if state is State.UP:
        client.welcome()
    elif state is State.GREETING:
        client.change(Change.UP)
    elif state is State.OVER:
        client.protocol.end(UnreachableError("closed"))
    assert client.protocol.state is state
    return client


# --- every state and what may happen in it

REVOKED = Envelope(Kind.REPLY, Operation.PROBE, bytes(16))
EVENTS: dict[str, Callable[[Client], object]] = {
    "connected": lambda c: c.change(Change.UP),
    "disconnected": lambda c: c.change(Change.DOWN),
    "no handshake": lambda c: c.change(Change.NO_HANDSHAKE),
    "not admitted": lambda c: c.change(Change.NOT_ADMITTED),
    "welcomed": lambda c: c.answer(Operation.HELLO, WELCOME),
    "greeting declined": lambda c: c.answer(Operation.HELLO, Welcome(Answer(Code.MALFORMED))),
    "revoked": lambda c: c.receive(REVOKED, Acknowledged(Answer(Code.NOT_ALLOWED))),
    "silence": lambda c: c.wait(LIMIT),
    "found elsewhere": lambda c: c.protocol.found(BrokerAddress("found.lan", 1, 1, A.public_key), c.now),
    "closed": lambda c: c.protocol.end(UnreachableError("closed")),
}
SAME, NEXT = 0, 1  # the connection in use stays, or another one is to be made
TABLE = {
    State.DOWN: {
        "connected": (State.GREETING, SAME),
        "not admitted": (State.DOWN, NEXT),
        "revoked": (State.DOWN, NEXT),
        "found elsewhere": (State.DOWN, NEXT),
        "closed": (State.OVER, SAME),
    },
    State.GREETING: {
        "disconnected": (State.DOWN, SAME),
        "not admitted": (State.DOWN, NEXT),
        "welcomed": (State.UP, SAME),
        "greeting declined": (State.DOWN, NEXT),
        "revoked": (State.DOWN, NEXT),
        "found elsewhere": (State.DOWN, NEXT),
        "closed": (State.OVER, SAME),
    },
    State.UP: {
        "connected": (State.GREETING, SAME),
        "disconnected": (State.DOWN, SAME),
        "not admitted": (State.DOWN, NEXT),
        "revoked": (State.DOWN, NEXT),
        "silence": (State.DOWN, NEXT),
        "closed": (State.OVER, SAME),
    },
    State.OVER: {},
}


# Before a broker without a session is silent for too long, the next one is tried: see below.
CASES = [(s, e) for s in State for e in EVENTS if e != "silence" or s in (State.UP, State.OVER)]


@pytest.mark.parametrize(("state", "event"), CASES)
def test_every_state_and_what_may_happen_in_it(state: State, event: str) -> None:
    client = client_in(state)
    connection = client.protocol.connection
    EVENTS[event](client)
    following, another = TABLE[state].get(event, (state, SAME))
    assert client.protocol.state is following
    assert client.protocol.connection == connection + another


@pytest.mark.parametrize("state", [State.DOWN, State.GREETING])
def test_a_broker_that_does_not_greet_in_time_is_left_for_the_next(state: State) -> None:
    client = client_in(state)
    client.wait(client_protocol.FAILOVER_TIMEOUT)
    assert (client.protocol.state, client.protocol.connection, client.protocol.broker) == (State.DOWN, 1, B)


def test_the_only_broker_is_waited_for_until_it_is_too_late() -> None:
    client = Client(A)
    client.wait(client_protocol.CONNECT_TIMEOUT - 0.1)
    assert (client.protocol.connection, client.protocol.gave_up) == (0, False)
    client.wait(0.1)
    assert client.protocol.gave_up
    why = UnreachableError("nothing listens there")
    client.protocol.give_up(why)
    assert client.protocol.over is why


def test_whom_all_brokers_refuse_is_told_so_by_the_last() -> None:
    client = Client()
    client.change(Change.NOT_ADMITTED)
    assert client.protocol.broker is B
    client.change(Change.NOT_ADMITTED)
    assert client.protocol.state is State.OVER
    assert isinstance(client.protocol.over, RefusedError)


def test_brokers_are_looked_for_while_there_is_no_session() -> None:
    client = Client(A)
    client.wait(client_protocol.SEARCH_AFTER)
    assert client.protocol.looking_for == frozenset({A.public_key})
    client.welcome()
    assert client.protocol.looking_for is None


def test_which_brokers_there_are_is_asked_again_and_again() -> None:
    client = Client(A)
    client.welcome()
    told = [KnownBroker(b.host, b.client_port, b.worker_port, b.public_key) for b in (A, C)]
    client.answer(Operation.BROKERS, Brokers(GRANTED), pack(told))
    assert client.protocol.known == [A, C]
    asked = len(client.sent)
    client.protocol.received([memoryview(Envelope(Kind.PROBE, Operation.PROBE, bytes(16)).encode())], client.now)
    for _ in range(4):
        client.wait(client_protocol.BROKERS_PERIOD / 4)
        client.protocol.received([memoryview(Envelope(Kind.PROBE, Operation.PROBE, bytes(16)).encode())], client.now)
    assert [envelope.operation for envelope in client.sent[asked:]] == [Operation.BROKERS]
    client.answer(Operation.BROKERS, Brokers(GRANTED), b"\xc1")
    assert client.protocol.known == [A, C], "what is told as nonsense changes nothing"


# --- requests


def up() -> Client:
    client = Client()
    client.welcome()
    return client


def test_a_request_is_sent_at_once_and_its_answer_is_its_outcome() -> None:
    client = up()
    request = client.ask()
    client.answer(Operation.FETCH, Acknowledged(GRANTED), b"payload")
    assert client.outcomes == {request: Reply(Acknowledged(GRANTED), memoryview(b"payload"))}


def test_no_more_is_under_way_than_was_granted_for_a_device_and_for_all() -> None:
    client = up()
    for device in (DEVICE, OTHER_DEVICE, b"3" * 16):
        for _ in range(3):
            client.ask(device)
    assert len(client.fetches()) == 4
    client.answer(Operation.FETCH, Acknowledged(GRANTED))
    assert len(client.fetches()) == 5


def test_one_that_is_given_up_while_it_waits_or_is_under_way_makes_room() -> None:
    client = up()
    requests = [client.ask() for _ in range(4)]
    client.protocol.cancel(requests[2], client.now)
    client.protocol.cancel(requests[0], client.now)
    client.act()
    assert len(client.fetches()) == 3
    client.protocol.cancel(requests[0], client.now)  # once is enough
    assert client.outcomes == {}


def test_what_has_no_answer_is_sent_again_ever_more_rarely() -> None:
    client = up()
    client.ask(timeout=100.0)
    moments = []
    for _ in range(150):
        before = len(client.fetches())
        client.wait(0.1)
        client.protocol.received([memoryview(Envelope(Kind.PROBE, Operation.PROBE, bytes(16)).encode())], client.now)
        if len(client.fetches()) > before:
            moments.append(round(client.now - 100.0, 1))
    assert moments == pytest.approx([2.0, 6.0, 14.0], abs=0.15)
    assert len(set(client.fetches())) == 1


@pytest.mark.parametrize("code", [Code.BUSY, Code.NO_SESSION])
def test_whoever_is_busy_is_asked_again_after_a_pause_under_another_id(code: Code) -> None:
    client = up()
    client.ask()
    client.answer(Operation.FETCH, Acknowledged(Answer(code)))
    assert len(client.fetches()) == 1
    client.wait(0.02)
    first, second = client.fetches()
    assert first != second


def test_a_request_without_an_answer_ends_at_its_deadline() -> None:
    client = up()
    request = client.ask(timeout=1.0)
    client.wait(0.9)
    assert client.outcomes == {}
    client.wait(0.1)
    assert str(client.outcomes[request]) == "no answer from a device (tcp://a.lan:5570) within 1 s"


def test_time_without_a_broker_is_not_counted_unless_it_is_hurried() -> None:
    client = up()
    patient, hurried = client.ask(timeout=1.0), client.ask(timeout=1.0, hurried=True)
    client.wait(0.5)
    client.change(Change.DOWN)
    client.wait(50.0)
    assert list(client.outcomes) == [hurried]
    client.welcome()
    client.wait(0.4)
    assert list(client.outcomes) == [hurried]
    client.wait(0.2)
    assert list(client.outcomes) == [hurried, patient]


def test_what_has_no_answer_goes_to_the_next_broker_after_the_greeting() -> None:
    client = up()
    client.ask()
    client.change(Change.DOWN)
    client.ask()
    client.wait(client_protocol.FAILOVER_TIMEOUT)
    client.change(Change.UP)
    assert len(client.fetches()) == 1
    assert client.sent[-1].operation is Operation.HELLO
    client.answer(Operation.HELLO, WELCOME)
    first, again, second = client.fetches()
    assert first == again != second


def test_an_answer_to_what_was_answered_or_given_up_is_ignored() -> None:
    client = up()
    request = client.ask()
    client.answer(Operation.FETCH, Acknowledged(GRANTED))
    client.answer(Operation.FETCH, Acknowledged(Answer(Code.FAULT)))
    assert isinstance(client.outcomes[request], Reply)


def test_where_no_broker_comes_back_that_is_said_and_then_all_ends(caplog: pytest.LogCaptureFixture) -> None:
    client = up()
    request = client.ask()
    client.change(Change.DOWN)
    client.wait(client_protocol.WARN_AFTER)
    assert caplog.messages == ["no broker is reached; waiting for up to 120 s"]
    client.wait(client_protocol.OUTAGE_TIMEOUT)
    assert client.protocol.gave_up
    client.protocol.give_up(UnreachableError("no answer"))
    client.act()
    assert str(client.outcomes[request]) == "no broker was reached for 120 s: no answer"
    later = client.ask()
    assert client.outcomes[later] is client.protocol.over


def test_a_broker_that_comes_back_while_the_cause_is_sought_ends_nothing() -> None:
    client = up()
    client.change(Change.DOWN)
    client.wait(client_protocol.OUTAGE_TIMEOUT)
    assert client.protocol.gave_up
    client.welcome()
    client.protocol.give_up(UnreachableError("no answer"))
    assert client.protocol.state is State.UP


_STEPS = st.one_of(
    st.sampled_from([*EVENTS, "ask", "ask", "ask", "answer", "answer", "busy"]).filter(lambda event: event != "closed"),
    st.floats(0.01, 5.0),
    st.integers(0, 20),
)


@given(st.lists(_STEPS, max_size=60))
def test_whatever_happens_every_request_has_one_outcome(
    steps: list[Any],
) -> None:
    client = Client()
    asked: list[Request] = []
    given_up: set[Request] = set()
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        elif isinstance(step, int):
            for request in asked[step : step + 1]:
                given_up |= {request} - set(client.outcomes)
                client.protocol.cancel(request, client.now)
        elif step == "ask" and client.protocol.was_up:
            asked.append(client.ask(DEVICE if len(asked) % 2 else OTHER_DEVICE, credit=len(asked) * 100))
        elif step == "answer":
            client.answer(Operation.FETCH, Acknowledged(GRANTED))
        elif step == "busy":
            client.answer(Operation.FETCH, Acknowledged(Answer(Code.BUSY)))
        elif step in EVENTS:
            EVENTS[step](client)
        client.act()
    client.protocol.end(UnreachableError("closed"))
    client.act()
    assert set(client.outcomes) == set(asked) - given_up
    assert all(isinstance(outcome, (Reply, TesseraError)) for outcome in client.outcomes.values())
    assert client.protocol.next_deadline() is None
    assert client.protocol.to_send() is None
