"""Drives generators that yield what they want done and are sent what came of it, so that their steps read downwards.

A generator yields a `Request` and is sent its `Reply`; or it yields a list of generators, which go on side by side, and
is sent the list of what they returned; or `Enough`, to go on before all of them returned. It raises `GaveUp` where
nothing more can be done: that ends all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional, TypeVar, Union

from broker.steward.requests import Reply, Request, Then

T = TypeVar("T")
Side = Sequence[Generator[Any, Any, Any]]  # steps side by side
Steps = Generator[Union[Request, Side, "Enough"], Any, T]


class GaveUp(Exception):
    """Why the steps end here."""


@dataclass(frozen=True)
class Enough:
    """Steps side by side, which are waited for until `enough` says so; the rest go on, and nobody waits for them.

    It is asked whenever anything came, of whatever steps, and by `Trampoline.look`. Where there are no steps, it is
    waited for what it says alone.
    """

    steps: Side
    enough: Callable[[], bool]


@dataclass(eq=False)
class _Group:
    """Steps side by side, and who waits for what they return; `over`: nobody does any more."""

    parent: _Running
    results: list[Any]
    outstanding: int
    enough: Optional[Callable[[], bool]] = None
    over: bool = False


@dataclass(eq=False)
class _Running:
    """A generator, and the group that it is one of."""

    steps: Steps[Any]
    group: Optional[_Group] = None
    number: int = 0


class Trampoline:
    """`ask` sends a request, and calls back with its reply; once `ended` was called, with the reason why the steps gave
    up or "", replies that are still to come are to be dropped. `now` is monotonic seconds.
    """

    def __init__(self, ask: Callable[[Request, Then], None], ended: Callable[[str, float], None]) -> None:
        self._ask = ask
        self._ended = ended
        self._ready: deque[tuple[_Running, Any]] = deque()  # and what each is sent
        self._until_enough: list[_Group] = []

    def begin(self, steps: Steps[None], now: float) -> None:
        self._ready.append((_Running(steps), None))
        self._go_on(now)

    def look(self, now: float) -> None:
        """Time passed: what is waited for may be enough now."""
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Until all wait for replies."""
        try:
            while self._ready or self._has_enough():
                running, value = self._ready.popleft()
                try:
                    wanted = running.steps.send(value)
                except StopIteration as end:
                    self._returned(running, end.value, now)
                else:
                    self._see_to(running, wanted)
        except GaveUp as reason:
            self._end(str(reason), now)

    def _has_enough(self) -> bool:
        """Whether any goes on that waited until it was enough."""
        for group in [group for group in self._until_enough if group.enough is not None and group.enough()]:
            self._conclude(group)
        return bool(self._ready)

    def _see_to(self, running: _Running, wanted: Union[Request, Side, Enough]) -> None:
        if isinstance(wanted, Request):
            self._ask(wanted, partial(self._came, running))
            return
        side, enough = (wanted.steps, wanted.enough) if isinstance(wanted, Enough) else (wanted, None)
        group = _Group(running, [None] * len(side), len(side), enough)
        self._ready.extend((_Running(steps, group, number), None) for number, steps in enumerate(side))
        if enough is not None:
            self._until_enough.append(group)
        elif not side:
            self._ready.append((running, []))

    def _came(self, running: _Running, reply: Reply, now: float) -> None:
        self._ready.append((running, reply))
        self._go_on(now)

    def _returned(self, running: _Running, value: Any, now: float) -> None:
        group = running.group
        if group is None:
            self._end("", now)
            return
        group.results[running.number] = value
        group.outstanding -= 1
        if not group.over and group.outstanding == 0:
            self._conclude(group)

    def _conclude(self, group: _Group) -> None:
        """Who waited for these steps goes on."""
        group.over = True
        if group.enough is not None:
            self._until_enough.remove(group)
        self._ready.append((group.parent, group.results))

    def _end(self, reason: str, now: float) -> None:
        self._ready.clear()
        self._until_enough.clear()
        self._ended(reason, now)
