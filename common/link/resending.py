"""When to send a request again that has no answer: late enough not to double what is only slow. Pure: no clock.

Behind TCP a message is rarely lost, but a program that is ended, a connection that breaks and a pipe that is full do
lose some. Asked again is what took more than three times as long as answers took lately, and 2 s at least; then ever
more rarely. As Karn and Partridge found ("Improving Round-Trip Time Estimates", SIGCOMM 1987), the answer to a request
that was sent twice tells nothing of how long answers take, so it is not counted.
"""

from __future__ import annotations

SOONEST = 2.0  # seconds
_FACTOR = 3.0
_DECAY = 0.95  # of the longest time that an answer took, with every answer


class Resending:
    def __init__(self) -> None:
        self._longest = 0.0  # seconds, decaying

    def answered(self, seconds: float, times_sent: int) -> None:
        """An answer came so many seconds after its request was first sent."""
        if times_sent == 1:
            self._longest = max(self._longest * _DECAY, seconds)

    def due_after(self, times_sent: int) -> float:
        """Seconds after it was last sent until a request without an answer is sent once more."""
        return max(SOONEST, _FACTOR * self._longest) * float(2 ** (times_sent - 1))
