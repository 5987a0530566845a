"""Python's garbage, collected in the window's thread only.

Python collects in whichever thread happens to make an object. What it finds may be a font or a picture of the window,
which then tells Tk, from there, that it is gone, and waits for the window's thread to listen. So the collector is off,
and the window's thread does its work between others.
"""

from __future__ import annotations

import gc


class WindowCollects:
    """From now on nothing is collected but by `step`, until `end`."""

    def __init__(self) -> None:
        gc.disable()
        gc.collect()
        gc.freeze()  # what the programs' code is made of stays for good, and is not looked at again

    def step(self) -> None:
        """Collect what the collector would have by now, one generation at a time."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if counts[generation] > thresholds[generation]:
                gc.collect(generation)
                return

    def end(self) -> None:
        gc.unfreeze()
        gc.enable()
