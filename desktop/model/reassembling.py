"""The progress of reassembling one image: how much of it has come, and what each device gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from common.process.events import BytesDone
from common.vault.mapping import Mapping
from consumer.events import Attempt, BytesReceived, Event, Missing
from viewer.process import Pixels


@dataclass
class DeviceShare:
    """What came from one device, and what was missing."""

    name: str
    came: int = 0  # bytes
    missing: list[str] = field(default_factory=list)  # why, each once


@dataclass
class Reassembly:
    mapping: Optional[Mapping] = None
    thumbnail: Optional[Pixels] = None
    k: int = 0
    n: int = 0
    devices: dict[str, DeviceShare] = field(default_factory=dict)
    here: int = 0  # bytes of the image, of this attempt
    sha256: str = ""  # once it is proven

    @property
    def part(self) -> float:
        """The fraction of the image that has come."""
        if self.sha256:
            return 1.0
        if self.mapping is None or not self.mapping.image_size:
            return 0.0
        return min(1.0, self.here / self.mapping.image_size)

    @property
    def missing(self) -> list[DeviceShare]:
        return [device for device in self.devices.values() if device.missing]

    def again(self) -> None:
        """Start another attempt: clear what was missing; what came stays."""
        for device in self.devices.values():
            device.missing.clear()

    def begin(self, mapping: Mapping) -> None:
        """The mapping is known: count the bytes of this attempt from 0."""
        self.mapping = mapping
        self.here = 0

    def take(self, event: Event) -> None:
        """Apply an event of the consumer."""
        if isinstance(event, Attempt):
            self.k, self.n = event.k, event.n
            for name in event.devices:
                self.devices.setdefault(name, DeviceShare(name))
            for name in event.away:
                self._lacks(name, "not connected")
        elif isinstance(event, BytesReceived):
            self.devices.setdefault(event.device, DeviceShare(event.device)).came += event.count
        elif isinstance(event, Missing):
            self._lacks(event.device, event.why)
        elif isinstance(event, BytesDone):
            self.here += event.count

    def _lacks(self, name: str, why: str) -> None:
        device = self.devices.setdefault(name, DeviceShare(name))
        if why not in device.missing:
            device.missing.append(why)
