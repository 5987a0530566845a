"""What one job is to do, and what became of it: plain values, made by the plan, carried out by `job`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from broker.catalog import Claim, Place
from broker.steward.requests import Ask
from common.erasure import ErasureCode
from common.protocol.messages import AnnouncedShare

LEASE = 15  # seconds for which no other broker is promised an encoding; every FETCH renews it


class Kind(enum.Enum):
    REBUILD = "rebuild"  # from k others
    MOVE = "move"  # from the device that holds it
    CHECK = "check"  # read it whole


@dataclass(frozen=True)
class Discard:
    """A share that is not needed any more."""

    encoding_id: bytes
    owner: bytes
    place: Place


@dataclass(frozen=True)
class Task:
    """One encoding's work.

    sources: sound shares at hand, on different devices. targets: what is to be stored where. donors: for a share to be
    moved, the device that has it. reads: shares to be read whole; discards: what goes after these, and the targets,
    were found good.
    """

    kind: Kind
    claim: Claim
    sources: tuple[Place, ...]
    targets: tuple[Place, ...] = ()
    donors: dict[int, bytes] = field(default_factory=dict)
    reads: tuple[Place, ...] = ()
    discards: tuple[Discard, ...] = ()


@dataclass
class Outcome:
    """What a job came to; `reason` says why it did not do all."""

    reason: str = ""
    conflict: bool = False  # another broker mends this encoding
    placed: list[Place] = field(default_factory=list)
    refused: list[Place] = field(default_factory=list)
    discarded: list[Discard] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not self.reason


class Surroundings(Protocol):
    """What a job needs of the steward."""

    def ask(self, ask: Ask) -> None:
        """Send a request; its `then` is called once, unless the job ends before."""

    def code(self, k: int, n: int) -> ErasureCode:
        """The erasure code of k of n."""

    def found_bad(self, encoding_id: bytes, place: Place) -> None:
        """This share gave a bad block."""

    def stored(self, share: AnnouncedShare, device: bytes) -> None:
        """A share is durable on a device."""

    def may_discard(self, task: Task) -> list[Discard]:
        """Those of a task's discards that may still go, as the catalog has it now."""
