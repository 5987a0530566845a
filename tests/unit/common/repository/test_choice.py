"""Whom to ask for a segment's blocks: pure, so any course of a gathering can be played through."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.repository.hedging import Choice, Holder

DEVICES = [bytes([number]) * 16 for number in range(8)]


def holders(*shares: int) -> list[Holder]:
    """Each share on a device of its own."""
    return [Holder(share, DEVICES[share]) for share in shares]


def ask_all(choice: Choice) -> list[int]:
    """The shares that are asked for a segment when every one fails, in order."""
    asked: list[Holder] = []
    while True:
        holder = choice.next(asked, [])
        if holder is None:
            return [holder.share for holder in asked]
        asked.append(holder)


def test_data_shares_come_first_and_in_order() -> None:
    assert ask_all(Choice(3, holders(5, 0, 3, 2, 4, 1))) == [0, 1, 2, 3, 4, 5]


def test_a_share_with_faults_goes_behind_those_without_and_is_not_given_up() -> None:
    choice = Choice(2, holders(0, 1, 2, 3))
    choice.fault(Holder(0, DEVICES[0]))
    assert ask_all(choice) == [1, 2, 3, 0]
    choice.fault(Holder(1, DEVICES[1]))
    choice.fault(Holder(1, DEVICES[1]))
    assert ask_all(choice) == [2, 3, 0, 1]


def test_a_slow_device_goes_behind_all_others_even_those_with_faults() -> None:
    choice = Choice(2, holders(0, 1, 2, 3))
    choice.fault(Holder(1, DEVICES[1]))
    asked: list[Holder] = []
    while (holder := choice.next(asked, [], {DEVICES[0], DEVICES[2]})) is not None:
        asked.append(holder)
    assert [holder.share for holder in asked] == [3, 1, 0, 2]


def test_a_device_that_is_gone_is_not_asked_again() -> None:
    choice = Choice(2, holders(0, 1, 2))
    choice.gone(DEVICES[1])
    assert ask_all(choice) == [0, 2]


def test_a_device_that_is_gone_takes_all_its_shares_along() -> None:
    choice = Choice(2, [Holder(0, DEVICES[0]), Holder(1, DEVICES[0]), Holder(2, DEVICES[2])])
    choice.gone(DEVICES[0])
    assert ask_all(choice) == [2]


def test_a_second_holder_of_a_share_is_asked_only_when_the_first_has_failed() -> None:
    first, second = Holder(0, DEVICES[0]), Holder(0, DEVICES[1])
    choice = Choice(2, [first, second])
    assert choice.next([], []) == first
    assert choice.next([first], [0]) is None
    assert choice.next([first], []) == second
    assert choice.next([first, second], []) is None


def test_with_nobody_to_ask_nobody_is_asked() -> None:
    assert Choice(2, []).next([], []) is None


@dataclass
class Course:
    """The gathering of some segments, one after the other, as far as the choice sees it."""

    choice: Choice
    k: int
    all: list[Holder]
    faults: dict[Holder, int] = field(default_factory=dict)
    gone: set[bytes] = field(default_factory=set)

    def segment(self, data: st.DataObject) -> None:
        asked: list[Holder] = []
        waiting: list[Holder] = []
        delivered: set[int] = set()
        while True:
            taken = [*delivered, *(holder.share for holder in waiting)]
            holder = self.choice.next(asked, taken) if len(taken) < self.k else None
            if holder is not None:
                self._check(holder, asked, taken)
                asked.append(holder)
                waiting.append(holder)
            elif not waiting:
                left = [h for h in self.all if self._may_be_asked(h, asked, taken)]
                assert len(delivered) == self.k or not left, "somebody was left unasked"
                return
            else:
                self._answer(data, waiting, delivered)

    def _check(self, holder: Holder, asked: list[Holder], taken: list[int]) -> None:
        assert holder in self.all
        assert self._may_be_asked(holder, asked, taken)
        better = [h for h in self.all if self._may_be_asked(h, asked, taken) and self._rank(h) < self._rank(holder)]
        assert better == [], "one with fewer faults, or a data share, was passed over"

    def _may_be_asked(self, holder: Holder, asked: list[Holder], taken: list[int]) -> bool:
        return holder not in asked and holder.share not in taken and holder.device not in self.gone

    def _rank(self, holder: Holder) -> tuple[int, bool]:
        return self.faults.get(holder, 0), holder.share >= self.k

    def _answer(self, data: st.DataObject, waiting: list[Holder], delivered: set[int]) -> None:
        holder = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        outcome = data.draw(st.sampled_from(["good", "bad", "gone"]))
        if outcome == "good":
            delivered.add(holder.share)
            return
        self.choice.fault(holder)
        self.faults[holder] = self.faults.get(holder, 0) + 1
        if outcome == "gone":
            self.choice.gone(holder.device)
            self.gone.add(holder.device)


@pytest.mark.one_python
@given(
    st.integers(1, 4),
    st.lists(st.builds(Holder, st.integers(0, 5), st.sampled_from(DEVICES)), unique=True, max_size=10),
    st.data(),
)
def test_however_it_goes_nobody_is_asked_twice_and_no_share_of_two_holders_at_once(
    k: int, held: list[Holder], data: st.DataObject
) -> None:
    course = Course(Choice(k, held), k, held)
    for _ in range(3):
        course.segment(data)
