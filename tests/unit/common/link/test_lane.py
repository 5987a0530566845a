"""What travels on a lane is what was sent, in its order, or the lane ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.link import lane
from common.link.lane import REFUSAL, Grant, Opener, Sealer, agree, ask, is_answer, new_secret, read_ask, read_grant

KEY = bytes(range(32))
messages = st.lists(
    st.one_of(
        st.tuples(st.binary(min_size=60, max_size=76), st.binary(max_size=200)),
        st.tuples(st.binary(min_size=60, max_size=76), st.binary(max_size=200), st.binary(max_size=5000)),
    ),
    min_size=1,
    max_size=8,
)
Message = tuple[bytes, ...]


def views(frames: Sequence[bytes]) -> list[memoryview]:
    return [memoryview(frame) for frame in frames]


def sealed(count: int, sealer: Sealer) -> list[list[bytes]]:
    made = []
    for number in range(count):
        made.append(sealer.seal([b"envelope" * 8, b"header %d" % number, b"payload %d" % number]))
        sealer.sent()
    return made


@given(messages)
def test_what_was_sealed_opens_to_what_it_was(sent: list[Message]) -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    for message in sent:
        frames = sealer.seal(message)
        sealer.sent()
        assert [bytes(each) for each in opener.open(views(frames))] == list(message)
        assert not any(part and len(part) > 8 and part in b"".join(frames) for part in message)


@given(messages, st.data())
def test_messages_that_a_full_socket_refused_leave_no_gap(sent: list[Message], data: Any) -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    for message in sent:
        frames = sealer.seal(message)
        if data.draw(st.booleans()):
            continue  # refused
        sealer.sent()
        assert [bytes(each) for each in opener.open(views(frames))] == list(message)


def test_no_counter_serves_twice_though_its_message_was_not_sent() -> None:
    sealer = Sealer(KEY)
    made = [sealer.seal([b"e" * 60, b"the same"])[0] for _ in range(3)]
    assert len({each[:8] for each in made}) == 3
    assert len({each[8:] for each in made}) == 3


def test_a_bit_flipped_at_any_offset_ends_the_lane() -> None:
    (frames,) = sealed(1, Sealer(KEY))
    for which, frame in enumerate(frames):
        for offset in range(8 * len(frame)):
            changed = bytearray(frame)
            changed[offset // 8] ^= 1 << offset % 8
            with pytest.raises(ProtocolError):
                Opener(KEY).open(views([*frames[:which], bytes(changed), *frames[which + 1 :]]))


@pytest.mark.parametrize(
    "order", [[1], [0, 0], [0, 2], [0, 2, 1], [1, 0], [0, 1, 0], [0, 1, 3]], ids=lambda order: "".join(map(str, order))
)
def test_what_is_left_out_repeated_or_reordered_ends_the_lane(order: list[int]) -> None:
    made, opener = sealed(4, Sealer(KEY)), Opener(KEY)
    *before, last = order
    good = [number for number in before if number == before.index(number)]
    for number in good:
        opener.open(views(made[number]))
    with pytest.raises(ProtocolError):
        for number in [*before[len(good) :], last]:
            opener.open(views(made[number]))


@pytest.mark.parametrize("frames", [[], [b""], [b"short"], [b"x" * 8], [b"x" * 40], [b"x" * 40, b"", b""]])
def test_what_is_no_message_of_a_lane_ends_it(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        Opener(KEY).open(views(frames))


def test_a_payload_swapped_taken_away_or_added_ends_the_lane() -> None:
    sealer = Sealer(KEY)
    first, second = sealed(2, sealer)
    without = sealer.seal([b"e" * 60, b"no payload"])
    for frames in ([first[0], second[1]], [first[0]]):
        with pytest.raises(ProtocolError):
            Opener(KEY).open(views(frames))
    opener = Opener(KEY)
    for frames in (first, second):
        opener.open(views(frames))
    with pytest.raises(ProtocolError):
        opener.open(views([*without, second[1]]))


def test_a_frame_of_another_direction_or_another_lane_does_not_open() -> None:
    grant = Grant(bytes(16), bytes(32), bytes(32), 5572)
    keys, other = agree(bytes(32), grant), agree(bytes(31) + b"\1", grant)
    assert len({*keys, *other}) == 4
    (frames,) = sealed(1, Sealer(keys.to_broker))
    for key in (keys.from_broker, *other):
        with pytest.raises(ProtocolError):
            Opener(key).open(views(frames))


def test_a_lane_is_spent_before_its_counters_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "MAX_MESSAGES", 3)
    sealer = Sealer(KEY)
    sealed(3, sealer)
    assert sealer.is_spent
    with pytest.raises(ProtocolError, match="as many messages"):
        sealer.seal([b"e" * 60, b"header"])


def test_both_sides_read_what_the_other_asks_and_grants() -> None:
    secret = new_secret()
    assert read_ask(memoryview(ask(secret))) == secret
    grant = Grant(b"l" * 16, b"t" * 32, b"s" * 32, 5572)
    assert read_grant(memoryview(grant.encode())) == grant
    assert read_grant(memoryview(REFUSAL)) is None
    assert is_answer(views([REFUSAL]))
    assert is_answer(views([grant.encode()]))
    assert not is_answer(views([b"not an answer"]))


@given(st.binary(max_size=120))
def test_nothing_else_is_read_as_an_ask_or_a_grant(frame: bytes) -> None:
    if not frame.startswith(b"TSL1"):
        assert read_ask(memoryview(frame)) is None
        assert read_grant(memoryview(frame)) is None
