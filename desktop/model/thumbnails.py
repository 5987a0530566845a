"""Thumbnails for what is in sight: opened and decoded beside the window's thread, and only in memory.

A thumbnail is small and was made by `producer`, but an image that another shares with this vault brings one of theirs.
So the viewer's process decodes it, as it does all images.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable, Optional

from viewer.process import Pixels

EDGE = 160  # pixels; `producer` makes none with more, across or down


class Thumbnails:
    """Makes thumbnails in a thread of its own, those asked for last and no others; it keeps none.

    `make`: what makes one by its key, called in the thread; it must not raise. `deliver`: what is told of it, called
    there too.
    """

    def __init__(
        self, make: Callable[[str], Optional[Pixels]], deliver: Callable[[str, Optional[Pixels]], None]
    ) -> None:
        self._make = make
        self._deliver = deliver
        self._wanted: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="thumbnails", daemon=True)
        self._thread.start()

    def want(self, keys: Sequence[str]) -> None:
        """From now on these are to be made, in this order, and none that was asked for before."""
        with self._changed:
            self._wanted = list(reversed(keys))
            self._changed.notify()

    def close(self) -> None:
        """Make no more. The thread ends with the one that it is at, and nobody waits for that."""
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
                key = self._wanted.pop()
            self._deliver(key, self._make(key))
