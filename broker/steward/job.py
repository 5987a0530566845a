"""One job: what the steward does for one encoding, from the first question to the last discarded share.

    lease → inspect → open → transfer → commit → read → discard

- *lease*: the first holder, in an order that all brokers share, is asked for the commitment and to let no other broker
  mend this encoding meanwhile; where one does already, the job ends before it asked anything of the others;
- *inspect*: the other holders, likewise. At least k must have identical commitments: `agreement`;
- the rest is in `mending`.

A job has no socket, clock or disk: it is told replies, and asks. It ends once, with an `Outcome`.
"""

from __future__ import annotations

from typing import Callable, Optional

from broker.catalog import Place
from broker.steward.agreement import agree, revision_of
from broker.steward.mending import Mending
from broker.steward.requests import Ask, Reply
from broker.steward.task import LEASE, Outcome, Surroundings, Task
from broker.steward.transfer import fits
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.device_messages import Inspect
from common.protocol.envelope import Operation
from common.protocol.messages import Code


class Job:
    """`ended` is called once, when nothing more will be asked."""

    def __init__(self, task: Task, surroundings: Surroundings, ended: Callable[[Job, Outcome, float], None]) -> None:
        self.task = task
        self._around = surroundings
        self._ended = ended
        self._outcome = Outcome()
        self._over = False
        self._commitments: dict[bytes, bytes] = {}  # device → packed
        self._outstanding = 0
        self._mending: Optional[Mending] = None

    @property
    def segments(self) -> int:
        return self._mending.segments if self._mending is not None else 0

    @property
    def segments_done(self) -> int:
        return self._mending.segments_done if self._mending is not None else 0

    def begin(self, now: float) -> None:
        first = min(self.task.sources, key=lambda place: place.device, default=None)
        if first is None:
            self._end("no device that holds it is here", now)
            return
        self._inspect(first, lambda now: self._inspect_others(first, now))

    def _inspect_others(self, first: Place, now: float) -> None:
        others = [place for place in self.task.sources if place != first]
        self._outstanding = len(others)
        for place in others:
            self._inspect(place, self._one_inspected)
        if not others:
            self._compare(now)

    def _inspect(self, place: Place, then: Callable[[float], None]) -> None:
        def came(reply: Reply, now: float) -> None:
            if reply.code is Code.CONFLICT:
                self._outcome.conflict = True
                self._end("another broker mends it", now)
                return
            if reply.answer.granted and reply.payload is not None:
                self._commitments[place.device] = bytes(reply.payload)
            elif reply.code is Code.DAMAGED:
                self._around.found_bad(self.task.claim.encoding_id, place)
            then(now)

        header = Inspect(self.task.claim.encoding_id, place.share, LEASE)
        owner = self.task.claim.owner
        self._around.ask(Ask(self, place.device, owner, Operation.INSPECT, header, came, credit=MAX_PAYLOAD))

    def _one_inspected(self, now: float) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._compare(now)

    def _compare(self, now: float) -> None:
        agreed = agree(self._commitments, self.task.claim)
        if isinstance(agreed, str):
            self._end(agreed, now)
            return
        for place in self.task.sources:
            packed = self._commitments.get(place.device)
            older = packed is not None and 0 < revision_of(packed) < agreed.commitment.revision
            if packed is not None and not older and place.device not in agreed.devices:
                self._around.found_bad(self.task.claim.encoding_id, place)
        if not fits(agreed.recipe, len(self.task.targets)):
            self._end("its segments are too large to be rebuilt here", now)
            return
        self._mending = Mending(self, self.task, agreed, self._around, self._outcome, self._end)
        self._mending.begin(now)

    def _end(self, reason: str, now: float) -> None:
        if not self._over:
            self._over = True
            self._outcome.reason = reason
            self._ended(self, self._outcome, now)

    def abandonments(self, then: Callable[[Reply, float], None]) -> list[Ask]:
        """What tells the places to forget what they were given: of an encoding that is not to be mended any more."""
        return self._mending.abandonments(then) if self._mending is not None else []
