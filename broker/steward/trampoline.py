"""Drives generators that yield what they want done and are sent what came of it, so that their steps read downwards.

A generator yields a `Request` and is sent its `Reply`; or it yields a list of generators, which go on side by side, and
is sent the list of what they returned. It raises `GaveUp` where nothing more can be done: that ends all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Optional, TypeVar, Union

from broker.steward.requests import Reply, Request, Then

T = TypeVar("T")
Steps = Generator[Union[Request, Sequence[Generator[Any, Any, Any]]], Any, T]


class GaveUp(Exception):
    """Why the steps end here."""


@dataclass(eq=False)
class _Running:
    """A generator, and who waits for it, as which of several. `results`: of those that it waits for itself."""

    steps: Steps[Any]
    parent: Optional[_Running] = None
    number: int = 0
    results: list[Any] = field(default_factory=list)
    outstanding: int = 0


class Trampoline:
    """`ask` sends a request, and calls back with its reply; once `ended` was called, with the reason why the steps gave
    up or "", replies that are still to come are to be dropped. `now` is monotonic seconds.
    """

    def __init__(self, ask: Callable[[Request, Then], None], ended: Callable[[str, float], None]) -> None:
        self._ask = ask
        self._ended = ended
        self._ready: deque[tuple[_Running, Any]] = deque()  # and what each is sent

    def begin(self, steps: Steps[None], now: float) -> None:
        self._ready.append((_Running(steps), None))
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Until all wait for replies."""
        try:
            while self._ready:
                running, value = self._ready.popleft()
                try:
                    wanted = running.steps.send(value)
                except StopIteration as end:
                    self._returned(running, end.value, now)
                else:
                    self._see_to(running, wanted)
        except GaveUp as reason:
            self._ready.clear()
            self._ended(str(reason), now)

    def _see_to(self, running: _Running, wanted: Union[Request, Sequence[Generator[Any, Any, Any]]]) -> None:
        if isinstance(wanted, Request):
            self._ask(wanted, partial(self._came, running))
            return
        running.results, running.outstanding = [None] * len(wanted), len(wanted)
        self._ready.extend((_Running(steps, running, number), None) for number, steps in enumerate(wanted))
        if not wanted:
            self._ready.append((running, []))

    def _came(self, running: _Running, reply: Reply, now: float) -> None:
        self._ready.append((running, reply))
        self._go_on(now)

    def _returned(self, running: _Running, value: Any, now: float) -> None:
        parent = running.parent
        if parent is None:
            self._ended("", now)
            return
        parent.results[running.number] = value
        parent.outstanding -= 1
        if parent.outstanding == 0:
            self._ready.append((parent, parent.results))
