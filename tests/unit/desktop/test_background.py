"""Work beside the window's thread: what comes of it comes there, once, and not after it was broken off."""

from __future__ import annotations

import asyncio
import threading

from common.errors import RefusedError, TesseraError
from desktop.background import Background
from tests.support.desktop_models import deliver_until


def unexpected(error: TesseraError) -> None:
    raise AssertionError(error)


def test_a_call_runs_elsewhere_and_its_result_comes_here(background: Background) -> None:
    came: list[tuple[int, int]] = []
    background.run(threading.get_ident, done=lambda i: came.append((i, threading.get_ident())), failed=unexpected)
    deliver_until(background, lambda: came)
    ((ran, delivered),) = came
    assert delivered == threading.get_ident()
    assert ran != delivered


def test_an_error_comes_as_it_is_and_what_nobody_foresaw_with_advice(background: Background) -> None:
    errors: list[TesseraError] = []

    def refuse() -> None:
        raise RefusedError("no")

    async def fall() -> None:
        raise ZeroDivisionError("by nothing")

    background.run(refuse, done=lambda _: None, failed=errors.append)
    deliver_until(background, lambda: errors)
    background.start(fall, done=lambda _: None, failed=errors.append)
    deliver_until(background, lambda: len(errors) == 2)
    assert isinstance(errors[0], RefusedError)
    assert "ZeroDivisionError" in str(errors[1])
    assert "--debug" in (errors[1].advice or "")


def test_a_cancelled_coroutine_leaves_things_in_order_and_then_says_so(background: Background) -> None:
    said: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            background.post(said.append, "in order")

    task = background.start(
        work, done=lambda _: said.append("done"), failed=unexpected, cancelled=lambda: said.append("cancelled")
    )
    assert begun.wait(20)
    task.cancel()
    deliver_until(background, lambda: "cancelled" in said)
    assert said == ["in order", "cancelled"]


def test_what_is_cancelled_before_it_began_or_as_it_ends_says_so_too(background: Background) -> None:
    said: list[str] = []
    ended = threading.Event()

    async def work() -> None:
        ended.set()

    before = background.start(
        work, done=lambda _: said.append("done"), failed=unexpected, cancelled=lambda: said.append("1")
    )
    before.cancel()
    deliver_until(background, lambda: said)
    ended.clear()
    after = background.start(
        work, done=lambda _: said.append("done"), failed=unexpected, cancelled=lambda: said.append("2")
    )
    assert ended.wait(20)
    after.cancel()  # it has ended, and nothing of that was delivered yet
    deliver_until(background, lambda: len(said) == 2)
    assert said == ["1", "2"]


def test_a_cancelled_call_only_loses_its_outcome(background: Background) -> None:
    said: list[str] = []
    go_on = threading.Event()
    task = background.run(lambda: go_on.wait(20), done=lambda _: said.append("first"), failed=unexpected)
    task.cancel()
    go_on.set()
    background.run(lambda: None, done=lambda _: said.append("second"), failed=unexpected)
    deliver_until(background, lambda: said)
    assert said == ["second"]


def test_delivering_takes_no_longer_than_it_may(background: Background) -> None:
    for _ in range(3):
        background.post(lambda: void_for(0.02))
    assert background.deliver(0.01), "the rest waits for the next time"
    while background.deliver(0.01):
        pass


def void_for(seconds: float) -> None:
    threading.Event().wait(seconds)
