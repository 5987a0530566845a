"""Devices that were admitted and lie: a way to lie each, or another one each time."""

from __future__ import annotations

import enum
from typing import Optional

from msgspec.structs import replace

from common.protocol.codec import pack
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import GRANTED, Acknowledged, AnnouncedShare, Answer, Code
from common.vault.keys import VaultKey
from tests.support.sample_shares import sign
from tests.unit.simulation.device import Answered, Device

LIARS_KEY = VaultKey(b"l" * 32)


class Lie(enum.Enum):
    CONFLICT = "says that another broker repairs it"
    SILENT = "answers nothing"
    DEAF = "does not show its commitment"
    OTHER = "shows another commitment, of a later revision"
    BLOCKS = "gives wrong blocks"
    LOSES = "acknowledges a share and forgets it"
    MANY = "says that it has every share"
    FALSE = "says that it has many shares of what there is not, under the same id"


class LyingDevice(Device):
    """`lie`: which; None for one by chance each time."""

    lie: Optional[Lie] = None

    def reply(
        self, broker: object, envelope: Envelope, header: bytes, payload: bytes, now: float
    ) -> Optional[Answered]:
        lie, operation = self.lie or self._rng.choice(list(Lie)), envelope.operation
        if lie is Lie.SILENT or (lie is Lie.DEAF and operation is Operation.INSPECT):
            return None
        if lie is Lie.CONFLICT and operation is Operation.INSPECT:
            return Acknowledged(Answer(Code.CONFLICT)), None
        if lie is Lie.LOSES and operation is Operation.COMMIT:
            return Acknowledged(GRANTED), None
        self.lies = lie is Lie.BLOCKS
        answered = super().reply(broker, envelope, header, payload, now)
        if lie is Lie.OTHER and operation is Operation.INSPECT and self.shares:
            other = self._rng.choice(list(self.shares.values())).commitment
            return Acknowledged(GRANTED), pack(sign(replace(other, mapping=b"another", revision=2**53 - 1), LIARS_KEY))
        return answered

    def announcement(self) -> list[AnnouncedShare]:
        said = super().announcement()
        lie = self.lie or self._rng.choice(list(Lie))
        if lie is Lie.MANY:
            said = [replace(one, share=share) for one in said for share in range(one.n)]
        if lie is Lie.FALSE:
            said = [replace(one, share=share, object_id=b"x" * 32, n=64) for one in said for share in range(10)]
        return said
