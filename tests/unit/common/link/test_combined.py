"""Several devices asked by one message: together where they may be, and each by itself from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from common.errors import UnreachableError
from common.link.admission import Admission
from common.link.client_protocol import RESEND_AFTER, DeviceRequest, Request
from common.link.connection import Change
from common.link.replies import DeclinedError, Reply
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import GRANTED, Acknowledged, Answer, Code, Empty, Message, Welcome
from common.protocol.operations import Of, Spec
from tests.unit.common.link.test_client_protocol import WELCOME, Client

TOGETHER = Spec(Operation.APPEND_SEGMENT, Empty, Acknowledged, frozenset(), Of.BROKER)
ALONE = Spec(Operation.APPEND, Empty, Acknowledged, frozenset(), Of.DEVICE)
DEVICES = [bytes([number]) * 16 for number in range(6)]
BLOCK = b"b" * 10
OF_TWO = BLOCK * 2  # the data blocks of a code of two


class Combining(Client):
    """A client that asks several devices at once; its broker grants 4 requests, 2 of a device, 1000 bytes."""

    def __init__(self, granted: Welcome = WELCOME) -> None:
        super().__init__()
        self.composed: list[dict[int, bytes]] = []  # the ids of each message that was made, by place
        self.change(Change.UP)
        self.answer(Operation.HELLO, granted)

    def ask_all(self, devices: Sequence[bytes], payload: bytes = OF_TWO, block: bytes = BLOCK) -> list[Request]:
        asked = [DeviceRequest(ALONE, Empty(), len(block), lambda: block, device) for device in devices]
        requests = self.protocol.request_combined(TOGETHER, self._header, payload, asked, self.now)
        self.act()
        return requests

    def _header(self, ids: Mapping[int, bytes]) -> Message:
        self.composed.append(dict(ids))
        return Empty()

    def together(self) -> list[Envelope]:
        return [envelope for envelope in self.sent if envelope.operation is Operation.APPEND_SEGMENT]

    def alone(self) -> list[bytes]:
        """The ids of what went to a device by itself."""
        return [envelope.request_id for envelope in self.sent if envelope.operation is Operation.APPEND]

    def reply(self, request: Request, header: Message) -> None:
        self.receive(Envelope(Kind.REPLY, Operation.APPEND, request.id, request.device), header)


@pytest.fixture
def client() -> Combining:
    return Combining()


def test_one_message_asks_all_and_each_answer_is_its_own(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:3])
    assert len(client.together()) == 1
    assert client.alone() == []
    assert client.composed == [{place: request.id for place, request in enumerate(requests)}]
    client.reply(requests[1], Acknowledged(GRANTED))
    client.reply(requests[2], Acknowledged(Answer(Code.NO_ROOM)))
    assert isinstance(client.outcomes[requests[1]], Reply)
    assert isinstance(client.outcomes[requests[2]], DeclinedError)
    assert requests[0] not in client.outcomes


def test_what_has_no_answer_in_time_is_sent_again_alone_under_its_id(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:3])
    client.reply(requests[0], Acknowledged(GRANTED))
    client.wait(RESEND_AFTER + 0.01)
    assert client.alone() == [requests[1].id, requests[2].id]
    assert len(client.together()) == 1


def test_whom_the_broker_finds_busy_is_asked_again_alone(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:3])
    client.reply(requests[1], Acknowledged(Answer(Code.BUSY)))
    client.wait(0.1)
    assert client.alone() == [requests[1].id]
    client.reply(requests[1], Acknowledged(GRANTED))
    assert isinstance(client.outcomes[requests[1]], Reply)


def test_after_a_lost_connection_each_goes_alone(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:3])
    client.reply(requests[0], Acknowledged(GRANTED))
    client.change(Change.DOWN)
    client.change(Change.UP)
    client.answer(Operation.HELLO, WELCOME)
    assert client.alone() == [requests[1].id, requests[2].id]


def test_what_is_asked_while_there_is_no_session_goes_alone_once_there_is_one(client: Combining) -> None:
    client.change(Change.DOWN)
    requests = client.ask_all(DEVICES[:3])
    assert client.together() == []
    client.change(Change.UP)
    client.answer(Operation.HELLO, WELCOME)
    assert client.alone() == [request.id for request in requests]


def test_they_wait_until_all_of_them_may_be_under_way(client: Combining) -> None:
    """One after the other they would begin in two parts, and half of a segment's blocks travel by themselves."""
    first, second = client.ask_all(DEVICES[:3]), client.ask_all(DEVICES[:3])
    assert len(client.together()) == 1
    for request in first[:2]:
        client.reply(request, Acknowledged(GRANTED))
    assert len(client.together()) == 2, "four requests at once: the third of the first, and these three"
    assert client.composed[1] == {place: request.id for place, request in enumerate(second)}
    assert client.alone() == []


def test_a_device_with_enough_under_way_is_left_out_and_asked_alone_later(client: Combining) -> None:
    slow = [client.ask(DEVICES[0]) for _ in range(2)]
    requests = client.ask_all([DEVICES[0], DEVICES[1]], payload=b"")
    assert client.composed == [{1: requests[1].id}]
    client.reply(requests[1], Acknowledged(GRANTED))
    assert client.alone() == []
    client.receive(Envelope(Kind.REPLY, Operation.FETCH, slow[0].id, DEVICES[0]), Acknowledged(GRANTED))
    assert client.alone() == [requests[0].id]


def test_where_the_message_were_no_shorter_than_what_it_asks_each_goes_alone(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:2])
    assert (client.together(), client.composed) == ([], [])
    assert client.alone() == [request.id for request in requests]


def test_whoever_is_not_waited_for_any_more_leaves_room_for_others_and_is_not_sent(client: Combining) -> None:
    held = client.ask_all(DEVICES[:4])
    waiting = client.ask_all(DEVICES[:4])
    for request in [*held, *waiting]:
        client.protocol.cancel(request, client.now)
    client.act()
    last = client.ask_all(DEVICES[:4])
    assert client.composed[-1] == {place: request.id for place, request in enumerate(last)}
    assert len(client.together()) == 2


def test_who_is_given_up_while_the_others_wait_is_not_in_their_message(client: Combining) -> None:
    held = client.ask_all(DEVICES[:4])
    waiting = client.ask_all(DEVICES[:4])
    client.protocol.cancel(waiting[2], client.now)
    for request in held:
        client.reply(request, Acknowledged(GRANTED))
    assert client.composed[-1] == {place: waiting[place].id for place in (0, 1, 3)}
    more = client.ask(DEVICES[5])
    assert more.id, "its place is free"


def test_each_has_its_own_deadline(client: Combining) -> None:
    requests = client.ask_all(DEVICES[:3])
    client.reply(requests[0], Acknowledged(GRANTED))
    for _ in range(int(ALONE.timeout) + 1):
        client.wait(1.0)
        client.receive(Envelope(Kind.PROBE, Operation.PROBE, bytes(16)), Empty())
    assert isinstance(client.outcomes[requests[1]], UnreachableError)
    assert isinstance(client.outcomes[requests[2]], UnreachableError)


def test_once_all_is_over_each_fails(client: Combining) -> None:
    client.protocol.end(UnreachableError("closed"))
    requests = client.ask_all(DEVICES[:3])
    assert {str(client.outcomes[request]) for request in requests} == {"closed"}
    assert client.together() == []


def test_no_more_of_them_begin_than_a_device_may_have_under_way() -> None:
    """As of three devices, where 16 requests are five times as many as a device takes: each fifth would go alone."""
    client = Combining(Welcome(GRANTED, requests=16, requests_per_device=4, credit=10_000))
    asked = [client.ask_all(DEVICES[:3]) for _ in range(9)]
    assert len(client.together()) == 4
    for requests in asked:
        for request in requests:
            client.reply(request, Acknowledged(GRANTED))
    assert len(client.together()) == 9
    assert client.alone() == []


# --- the window


def test_requests_that_count_as_several_wait_for_all_their_places_in_turn() -> None:
    admitted: list[str] = []
    window: Admission[str] = Admission(4, 100, admitted.append)
    window.enter("three", 30, 3)
    window.enter("two", 20, 2)
    window.enter("one", 10)
    assert admitted == ["three"]
    assert not window.enter_now(1), "others wait before it"
    window.leave(10)
    assert admitted == ["three", "two"]
    window.leave(10)
    assert admitted == ["three", "two", "one"]
    assert not window.enter_now(1)
    window.leave(10)
    assert window.enter_now(1)


def test_what_may_enter_now_keeps_to_bytes_too() -> None:
    window: Admission[str] = Admission(4, 100, lambda _: None)
    window.enter("most", 90)
    assert not window.enter_now(11)
    assert window.enter_now(10)
