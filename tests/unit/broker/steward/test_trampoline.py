"""Steps that ask: sent what came of it, side by side where they say so, and ended once, all together."""

from __future__ import annotations

from typing import Optional

import pytest

from broker.steward.requests import Reply, Request, Then
from broker.steward.trampoline import Enough, GaveUp, Steps, Trampoline
from common.protocol.envelope import Operation
from common.protocol.messages import GRANTED, Answer, Code, Empty


class Asked:
    """Runs steps, and answers what they ask when a test says so."""

    def __init__(self, steps: Steps[None]) -> None:
        self.waiting: dict[bytes, Then] = {}
        self.reason: Optional[str] = None
        self.trampoline = Trampoline(self.ask, self.ended)
        self.trampoline.begin(steps, 0.0)

    def ask(self, request: Request, then: Then) -> None:
        self.waiting[request.device] = then

    def ended(self, reason: str, now: float) -> None:
        assert self.reason is None, "it ended twice"
        self.reason = reason

    def answer(self, device: bytes, answer: Answer = GRANTED) -> None:
        self.waiting.pop(device)(Reply(answer), 0.0)


def ask(device: bytes) -> Steps[Code]:
    reply: Reply = yield Request(device, b"o" * 16, Operation.CHECK, Empty())
    if reply.code is Code.CONFLICT:
        raise GaveUp(device.decode())
    return reply.code


def test_steps_side_by_side_are_asked_at_once_and_told_in_order_when_all_ended() -> None:
    told: list[Code] = []

    def steps() -> Steps[None]:
        told.extend((yield [ask(b"nas"), ask(b"pi")]))
        told.append((yield from ask(b"desk")))

    asked = Asked(steps())
    assert asked.waiting.keys() == {b"nas", b"pi"}
    asked.answer(b"pi", Answer(Code.GONE))
    assert told == []
    assert asked.waiting.keys() == {b"nas"}
    asked.answer(b"nas")
    assert told == [Code.GRANTED, Code.GONE]
    asked.answer(b"desk")
    assert (told[2:], asked.reason) == ([Code.GRANTED], "")


def test_once_it_is_enough_nobody_waits_for_the_rest_whatever_comes_of_it() -> None:
    told: list[Code] = []

    def asking(device: bytes) -> Steps[None]:
        reply: Reply = yield Request(device, b"o" * 16, Operation.CHECK, Empty())
        told.append(reply.code)

    def steps() -> Steps[None]:
        yield Enough([asking(b"nas"), asking(b"pi"), asking(b"desk")], lambda: len(told) >= 2)
        yield from ask(b"last")

    asked = Asked(steps())
    asked.answer(b"nas")
    asked.answer(b"desk")
    assert asked.waiting.keys() == {b"pi", b"last"}
    asked.answer(b"pi")
    assert (asked.reason, len(told)) == (None, 3)
    asked.answer(b"last")
    assert asked.reason == ""


def test_time_may_make_it_enough_and_so_may_what_nobody_waits_for() -> None:
    told: list[Code] = []
    late = False

    def asking(device: bytes) -> Steps[None]:
        reply: Reply = yield Request(device, b"o" * 16, Operation.CHECK, Empty())
        told.append(reply.code)

    def steps() -> Steps[None]:
        yield Enough([asking(b"nas")], lambda: late)
        yield Enough([], lambda: bool(told))
        yield from ask(b"last")

    asked = Asked(steps())
    asked.trampoline.look(0.0)
    assert asked.waiting.keys() == {b"nas"}
    late = True
    asked.trampoline.look(0.0)
    assert asked.waiting.keys() == {b"nas"}
    asked.answer(b"nas")
    assert asked.waiting.keys() == {b"last"}
    asked.answer(b"last")
    asked.trampoline.look(0.0)
    assert asked.reason == ""


def test_one_that_gives_up_ends_all() -> None:
    def steps() -> Steps[None]:
        yield [ask(b"nas"), ask(b"pi")]
        pytest.fail("it went on")

    asked = Asked(steps())
    asked.answer(b"pi", Answer(Code.CONFLICT))
    assert asked.reason == "pi"


def test_any_number_of_steps_that_ask_nothing_end_at_once() -> None:
    def nothing() -> Steps[None]:
        yield []

    def steps() -> Steps[None]:
        yield [nothing() for _ in range(10_000)]
        for _ in range(10_000):
            yield []

    assert Asked(steps()).reason == ""
