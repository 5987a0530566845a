"""What a view shows of the cluster says of what time it is, as soon as the broker is not reached any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.errors import UnreachableError
from common.link.link import Link
from desktop.background import Background
from desktop.model import following
from desktop.model.following import Following
from desktop.model.model import Model
from desktop.session import Session
from tests.support.desktop_models import deliver_until

TEN_PAST_TWO = 1_800_000_000


class _Broker:
    """A broker that answers, or is gone without a word; and links to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = True
        self.looks = 0
        self.address = "broker:5570"
        monkeypatch.setattr(following, "list_devices", self._devices)
        monkeypatch.setattr(following, "_PULSE_EVERY", 0.01)
        monkeypatch.setattr(following, "_PULSE_TIMEOUT", 0.05)
        monkeypatch.setattr(following, "_AGAIN_AFTER", 0.01)

    async def _devices(self, _: object) -> list[object]:
        if not self.there:
            await asyncio.Event().wait()
        return []

    async def look(self, _: object) -> None:
        if not self.there:
            await asyncio.Event().wait()
        self.looks += 1

    async def __aenter__(self) -> _Broker:
        if not self.there:
            raise UnreachableError("no answer from the broker")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def link(self) -> Link:
        return cast(Link, self)


def test_a_broker_gone_is_noticed_and_one_that_is_back_is_looked_at_at_once(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, clock = _Broker(monkeypatch), SimpleNamespace(now=float(TEN_PAST_TWO))
    model = Model(session, background)
    seen = Following(model, broker.link, broker.look, 3600.0, clock=lambda: cast(float, clock.now))
    assert seen.notice == ""
    seen.begin()
    deliver_until(background, lambda: broker.looks == 1 and seen._reached)
    assert (seen.notice, model.error) == ("", None)

    broker.there = False
    deliver_until(background, lambda: seen.notice)
    assert seen.notice == f"as of {following._moment(TEN_PAST_TWO, TEN_PAST_TWO)}, the broker is not reached"
    assert model.error is not None
    assert "no answer from the broker at broker:5570" in str(model.error)

    broker.there = True
    deliver_until(background, lambda: not seen.notice)
    assert broker.looks == 2
    assert model.error is None
    seen.stop()


def test_where_no_answer_ever_came_nothing_is_said_to_be_of_some_time(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = _Broker(monkeypatch)
    broker.there = False
    model = Model(session, background)
    seen = Following(model, broker.link, broker.look, 3600.0)
    seen.begin()
    deliver_until(background, lambda: seen.notice)
    assert seen.notice == "the broker is not reached"
    seen.stop()


def test_what_was_seen_long_ago_is_of_its_time_until_the_broker_answers_again(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, clock = _Broker(monkeypatch), SimpleNamespace(now=float(TEN_PAST_TWO))
    model = Model(session, background)
    seen = Following(model, broker.link, broker.look, 3600.0, clock=lambda: cast(float, clock.now))
    seen.begin()
    deliver_until(background, lambda: seen._reached)
    seen.stop()
    seen.begin()
    assert seen.notice == "", "a moment later it still holds"
    seen.stop()
    clock.now += 24 * 3600
    seen.begin()
    day: Any = following._moment(TEN_PAST_TWO, clock.now)
    assert seen.notice == f"as of {day}, asking the broker …"
    assert day.startswith("2027-01-1"), "of another day, the day is said"
    deliver_until(background, lambda: not seen.notice)
    seen.stop()
