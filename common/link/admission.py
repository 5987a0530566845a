"""How much may be under way at a time: so many requests, and so many bytes of payload. Pure: no event loop."""

from __future__ import annotations

from collections import deque
from typing import Callable, Generic, TypeVar

T = TypeVar("T")


class Admission(Generic[T]):
    """Admits requests in the order in which they came, as long as both limits hold.

    A single request larger than the whole credit is admitted alone, so that nothing waits for ever.
    """

    def __init__(self, requests: int, credit: int, admitted: Callable[[T], object]) -> None:
        """`admitted` is called with each request that may begin, also within `enter` and `leave`."""
        self._requests = requests
        self._credit = credit
        self._admitted = admitted
        self._under_way = 0
        self._bytes = 0
        self._waiting: deque[tuple[T, int, int]] = deque()

    def enter(self, request: T, size: int, count: int = 1) -> None:
        """A request with `size` bytes of payload (both ways together) wants to begin.

        `count`: as how many it counts, which begin together and `leave` one by one.
        """
        self._waiting.append((request, size, count))
        self._admit()

    def enter_now(self, size: int) -> bool:
        """Admit a request if that can be at once; it waits for nothing otherwise."""
        if self._waiting or not self._fits(size, 1):
            return False
        self._take(size, 1)
        return True

    def leave(self, size: int, count: int = 1) -> None:
        """One that was admitted is answered or given up, or `count` of those that it counts as."""
        self._under_way -= count
        self._bytes -= size
        self._admit()

    def give_up(self, request: T, size: int, count: int = 1) -> None:
        """A request leaves, whether it was admitted or still waits."""
        if (request, size, 1) in self._waiting:
            self._waiting.remove((request, size, 1))
            self._admit()
        else:
            self.leave(size, count)

    def _admit(self) -> None:
        while self._waiting and self._fits(*self._waiting[0][1:]):
            request, size, count = self._waiting.popleft()
            self._take(size, count)
            self._admitted(request)

    def _take(self, size: int, count: int) -> None:
        self._under_way += count
        self._bytes += size

    def _fits(self, size: int, count: int) -> bool:
        if self._under_way == 0:
            return True
        return self._under_way + count <= self._requests and self._bytes + size <= self._credit
