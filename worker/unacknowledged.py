"""What was told to a broker and never answered: told again, as it is by then, since a message may be lost.

A broker answers in the order in which it is told. So what has no answer is overdue once something that was said later
has one, and not before: a broker that needs its time, as for 600,000 shares after its start, would only have more to
do if it were told again. What is said every second, the report, sees to it that there always is something later.

Statements are not repeated as they were: a share that was announced, and withdrawn since, is withdrawn. So it does no
harm where both messages came, nor in which order. Pure: time comes in as rounds, one a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from common.protocol.messages import Tombstone

ShareKey = tuple[bytes, int]  # encoding id, share


@dataclass
class Said:
    """What a statement was about; `complete`: it was the last of all that this device holds."""

    shares: list[ShareKey] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    complete: bool = False


class Unacknowledged:
    def __init__(self) -> None:
        self._said: dict[bytes, Said] = {}  # by request id, in the order in which it was said
        self._passed_over: dict[bytes, Said] = {}  # something later was answered, in this round
        self._late: dict[bytes, Said] = {}  # or in the one before

    def said(self, request_id: bytes, said: Said) -> None:
        self._said[request_id] = said

    def heard(self, request_id: bytes) -> None:
        """An answer came, whatever it is."""
        self._passed_over.pop(request_id, None)
        self._late.pop(request_id, None)
        if request_id not in self._said:
            return
        earlier = list(itertools.takewhile(lambda said: said != request_id, self._said))
        self._passed_over.update((each, self._said.pop(each)) for each in earlier)
        del self._said[request_id]

    def clear(self) -> None:
        """All is told anew, or nobody is there to be told."""
        for statements in (self._said, self._passed_over, self._late):
            statements.clear()

    def overdue(self) -> Said:
        """End a round: all that was passed over in the one before, and still has no answer; it waits no more."""
        together = _together(self._late.values())
        self._late, self._passed_over = self._passed_over, {}
        return together


def _together(parts: Iterable[Said]) -> Said:
    whole = Said()
    for part in parts:
        whole.shares += part.shares
        whole.tombstones += part.tombstones
        whole.complete = whole.complete or part.complete
    whole.shares = list(dict.fromkeys(whole.shares))
    return whole
