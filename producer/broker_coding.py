"""Whether the broker codes what this run sends, and what becomes of a broker that codes wrongly.

Where it does, only the data blocks come over this machine's link. Every device compares its block with the digest that
was made here, and refuses another one. Who changed it does not show by that: the broker, or the device that says so. So
the block is sent again as it was made here. Where that is taken, what the broker had coded was wrong, or the device
lied once: both are named, and this run codes for itself from then on. No device can end a put by saying so.
"""

from __future__ import annotations

import enum

from common.process.events import Emit, Warned
from common.text import printable


class CodeAt(enum.Enum):
    """Where parity is made that travels: at the client, which sends all blocks, or at the broker."""

    CLIENT = "client"
    BROKER = "broker"


class BrokerCoding:
    def __init__(self, emit: Emit, code_at: CodeAt = CodeAt.BROKER) -> None:
        self.in_use = code_at is CodeAt.BROKER
        self._emit = emit

    def was_wrong(self, broker: str, device: str) -> None:
        """A device refused a block that the broker coded, and took the one that was made here.

        broker: its address; device: its name.
        """
        if self.in_use:
            self.in_use = False
            self._emit(
                Warned(
                    f"{printable(device)} got a block that the broker at {broker} had coded wrongly, or says so: one "
                    "of the two is faulty or lies. Nothing wrong was stored; this run codes for itself now"
                )
            )
