"""What the steward says in the log: what is lacking, what is being done, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Optional

from broker.claims import Place
from broker.devices import Devices
from broker.steward.assessment import State
from broker.steward.plan import Task
from broker.steward.repair import Outcome

log = logging.getLogger(__name__)

_SAY_AGAIN = 60.0  # seconds, for what may go on for long
_SETTLED = 5.0  # seconds


class Log:
    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._said_no_place: Optional[float] = None
        self._said = (0, 0, 0)  # lacking, waiting, unrecoverable
        self._lately_lacking = False
        self._since = 0.0  # when anything began, or ceased, to be lacking
        self._next = 0.0

    def state(self, counts: Mapping[State, int], now: float) -> None:
        """Say what is lacking when that has changed, and was not over at once: images being stored lack shares, too."""
        state = (counts[State.LACKING], counts[State.WAITING], counts[State.UNRECOVERABLE])
        if any(state) is not self._lately_lacking:
            self._lately_lacking, self._since = any(state), now
        if state == self._said or now - self._since < _SETTLED or now < self._next:
            return
        self._said, self._next = state, now + (_SAY_AGAIN if any(state) else 0.0)
        if any(state):
            log.warning(
                "encodings: %d whole, %d lack shares, %d wait for devices that are away, %d have too few shares "
                "here to be restored",
                counts[State.WHOLE],
                *state,
            )
        else:
            log.info("encodings: all %d are whole", counts[State.WHOLE])

    def begins(self, task: Task) -> None:
        where = ", ".join(f"{target.share} on {self._devices.name(target.device)}" for target in task.targets)
        what = f"shares {where}" if where else f"{len(task.reads)} shares"
        log.info("%s of %s begins: %s", task.kind.value, _short(task.claim.encoding_id), what)

    def ended(self, task: Task, outcome: Outcome) -> None:
        name, size = _short(task.claim.encoding_id), task.claim.share_bytes
        for discard in outcome.discarded:
            device = self._devices.name(discard.device)
            log.info("share %d of %s on %s is not needed any more, and was discarded", discard.share, name, device)
        if outcome.done:
            log.info("%s of %s is done: %d shares of %d bytes stored", task.kind.value, name, len(outcome.placed), size)
        else:
            log.warning("%s of %s is put off: %s", task.kind.value, name, outcome.reason)

    def bad(self, encoding_id: bytes, place: Place) -> None:
        device = self._devices.name(place.device)
        log.warning("share %d of %s on %s is not good", place.share, _short(encoding_id), device)

    def no_place(self, now: float) -> None:
        if self._said_no_place is None or now - self._said_no_place >= _SAY_AGAIN:
            self._said_no_place = now
            log.warning("encodings lack shares, and no device with room can take them: add one, or bring one back")


def _short(identifier: bytes) -> str:
    return identifier.hex()[:8]
