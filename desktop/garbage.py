"""Garbage collection in the window's thread only.

Python collects in whichever thread makes an object. A font or a picture of the window that is freed there calls Tk, and
waits for the window's thread. So the collector is disabled, and the window's thread collects in between.
"""

from __future__ import annotations

import gc


class WindowCollects:
    """From now on only `step` collects, until `end`."""

    def __init__(self) -> None:
        gc.disable()
        gc.collect()
        gc.freeze()  # objects of the imported code stay, and need not be scanned again

    def step(self) -> None:
        """Collect what is due, one generation at a time."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if counts[generation] > thresholds[generation]:
                gc.collect(generation)
                return

    def end(self) -> None:
        gc.unfreeze()
        gc.enable()
