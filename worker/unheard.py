"""What was told to a broker and not answered yet: told again, as it is by then, since a message may be lost.

Statements are not repeated as they were: a share that was announced, and withdrawn since, is withdrawn. So it does no
harm where both messages came, nor in which order. Pure: time comes in as rounds, one a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from common.protocol.messages import Tombstone

_ROUNDS = 2  # without an answer, then it is told again
ShareKey = tuple[bytes, int]  # encoding id, share


@dataclass
class Said:
    """What a statement was about; `complete`: it was the last of all that this device holds."""

    shares: list[ShareKey] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    complete: bool = False


class Unheard:
    def __init__(self) -> None:
        self._said: dict[bytes, tuple[Said, int]] = {}  # request id → what, and for how many rounds it waited

    def said(self, request_id: bytes, said: Said) -> None:
        self._said[request_id] = (said, 0)

    def heard(self, request_id: bytes) -> None:
        """An answer came, whatever it is."""
        self._said.pop(request_id, None)

    def clear(self) -> None:
        """All is told anew, or nobody is there to be told."""
        self._said.clear()

    def overdue(self) -> Said:
        """End a round: all that has waited for too long, which now waits no more."""
        late = [request_id for request_id, (_, rounds) in self._said.items() if rounds + 1 >= _ROUNDS]
        together = _together(self._said.pop(request_id)[0] for request_id in late)
        self._said = {request_id: (said, rounds + 1) for request_id, (said, rounds) in self._said.items()}
        return together


def _together(parts: Iterable[Said]) -> Said:
    whole = Said()
    for part in parts:
        whole.shares += part.shares
        whole.tombstones += part.tombstones
        whole.complete = whole.complete or part.complete
    whole.shares = list(dict.fromkeys(whole.shares))
    return whole
