"""Who is granted a lane, whose token admits to it, and what ends it."""

from __future__ import annotations

from typing import Callable

import pytest

from broker import lanes as module
from broker.lanes import HALF_OPEN, Lanes
from broker.sessions import Side
from common.errors import ProtocolError
from common.link.lane import REFUSAL, Grant, Sealer, agree, new_secret, read_grant

KEY, OTHER = b"k" * 32, b"o" * 32
SECRET = new_secret()


def anybody(_: bytes) -> bool:
    return True


@pytest.fixture
def lanes() -> Lanes:
    made = Lanes()
    made.port = 5572
    return made


def granted(lanes: Lanes, routing_id: bytes = b"r", key: bytes = KEY, now: float = 0.0) -> Grant:
    answer, _ = lanes.grant(Side.CLIENTS, routing_id, key, SECRET, now)
    grant = read_grant(memoryview(answer))
    assert grant is not None
    return grant


def admits(lanes: Lanes, grant: Grant) -> bool:
    return lanes.admits(grant.lane_id.hex(), grant.token.hex())


def first_message(grant: Grant) -> list[memoryview]:
    frames = Sealer(agree(SECRET, grant).to_broker).seal([b"e" * 60, b"header"])
    return [memoryview(frame) for frame in frames]


def open_one(lanes: Lanes, grant: Grant, routing_id: bytes = b"on lane") -> list[memoryview]:
    lane = lanes.find(grant.lane_id)
    assert lane is not None
    return lanes.open(lane, routing_id, first_message(grant))


def test_a_token_admits_once_and_what_is_sealed_is_read(lanes: Lanes) -> None:
    grant = granted(lanes)
    assert admits(lanes, grant)
    assert [bytes(each) for each in open_one(lanes, grant)] == [b"e" * 60, b"header"]
    assert not admits(lanes, grant), "a stolen token, used a second time"


def test_no_token_another_lanes_or_a_part_of_one_admits_nobody(lanes: Lanes) -> None:
    first, second = granted(lanes, b"1"), granted(lanes, b"2")
    lane_id, token = first.lane_id.hex(), first.token.hex()
    for wrong in (("", ""), (lane_id, ""), (lane_id, second.token.hex()), (second.lane_id.hex(), token)):
        assert not lanes.admits(*wrong)
    for wrong in ((lane_id, token[:-1]), (lane_id, token + "0"), ("not hexadecimal", token), (lane_id, "\N{SNOWMAN}")):
        assert not lanes.admits(*wrong)
    assert admits(lanes, first)


def test_a_broker_without_a_port_for_lanes_grants_none() -> None:
    assert Lanes().grant(Side.CLIENTS, b"r", KEY, SECRET, 0.0) == (REFUSAL, None)


def test_who_asks_again_has_the_new_lane_alone(lanes: Lanes) -> None:
    first = granted(lanes)
    lane = lanes.find(first.lane_id)
    answer, former = lanes.grant(Side.CLIENTS, b"r", KEY, SECRET, 0.0)
    assert former is lane
    assert lanes.find(first.lane_id) is None
    assert not admits(lanes, first)
    second = read_grant(memoryview(answer))
    assert second is not None
    assert admits(lanes, second)


def test_a_lane_that_is_never_opened_is_forgotten(lanes: Lanes) -> None:
    unused, admitted, opened = (granted(lanes, bytes([number])) for number in range(3))
    assert admits(lanes, admitted)
    assert admits(lanes, opened)
    open_one(lanes, opened)
    lanes.expire(HALF_OPEN - 0.1, anybody)
    assert len(lanes) == 3
    lanes.expire(HALF_OPEN, anybody)
    assert len(lanes) == 1
    assert not admits(lanes, unused)
    assert lanes.find(admitted.lane_id) is None


def test_tokens_without_end_take_no_more_room_than_there_is(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HALF_OPEN", 10)
    grants = [granted(lanes, number.to_bytes(4, "big"), number.to_bytes(32, "big")) for number in range(100)]
    assert len(lanes) == 10
    assert not admits(lanes, grants[0])
    assert admits(lanes, grants[-1])


def test_one_member_has_only_so_many_and_others_theirs(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_KEY", 3)
    for number in range(3):
        open_one(lanes, granted(lanes, bytes([number])))
    assert lanes.grant(Side.CLIENTS, b"4", KEY, SECRET, 0.0) == (REFUSAL, None)
    granted(lanes, b"4", OTHER)


def test_who_is_no_member_any_more_has_no_lane(lanes: Lanes) -> None:
    first, second = granted(lanes, b"1", KEY), granted(lanes, b"2", OTHER)
    for grant in (first, second):
        open_one(lanes, grant)
    lanes.expire(0.25, lambda key: key == OTHER)
    assert lanes.find(first.lane_id) is None
    assert lanes.find(second.lane_id) is not None


@pytest.mark.parametrize(
    "again",
    [
        lambda grant: (b"on lane", first_message(grant)),
        lambda grant: (b"on lane", [memoryview(b"")]),
        lambda grant: (b"another connection", first_message(grant)),
    ],
    ids=["repeated", "nothing", "from elsewhere"],
)
def test_what_does_not_come_next_ends_the_lane(
    lanes: Lanes, again: Callable[[Grant], tuple[bytes, list[memoryview]]]
) -> None:
    grant = granted(lanes)
    lane = lanes.find(grant.lane_id)
    assert lane is not None
    open_one(lanes, grant)
    with pytest.raises(ProtocolError):
        lanes.open(lane, *again(grant))
    assert lanes.find(grant.lane_id) is None
    assert len(lanes) == 0
