"""Thumbnails of visible tiles: opened and decoded in another thread, in memory only.

The viewer's process decodes them, as all images: one that another shares with this vault is not to be trusted.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable, Generic, Optional, TypeVar

from viewer.process import Pixels

T = TypeVar("T")

EDGE = 160  # pixels; `producer` makes none with more, across or down


class Thumbnails(Generic[T]):
    """Makes thumbnails in a thread, only those asked for last; it keeps none.

    `make`: makes one of what was asked for; must not raise. `deliver`: gets it. Both are called in the thread.
    """

    def __init__(self, make: Callable[[T], Optional[Pixels]], deliver: Callable[[T, Optional[Pixels]], None]) -> None:
        self._make = make
        self._deliver = deliver
        self._wanted: list[T] = []
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="thumbnails", daemon=True)
        self._thread.start()

    def want(self, wanted: Sequence[T]) -> None:
        """Make these, in this order, in place of those asked for before."""
        with self._changed:
            self._wanted = list(reversed(wanted))
            self._changed.notify()

    def close(self) -> None:
        """Make no more. The thread ends after the present one; does not wait."""
        with self._changed:
            self._over = True
            self._wanted = []
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._over:
                    self._changed.wait()
                if self._over:
                    return
                one = self._wanted.pop()
            self._deliver(one, self._make(one))
