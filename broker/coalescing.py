"""What many devices are asked or tell about one thing, as one record with their number. No clock and no disk."""

from __future__ import annotations

from typing import Generic, TypeVar

_QUIET = 4.0  # seconds without another device, after which a record is complete
_MAX_OPEN = 1000  # records; beyond, the oldest goes out early

K = TypeVar("K")


class Coalesced(Generic[K]):
    """`now` is monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[K, tuple[float, set[bytes]]] = {}

    def tell(self, key: K, device: bytes, now: float, *, opens: bool = True) -> bool:
        """A device takes part in what `key` stands for; True where that opens a record, which only `opens` does."""
        opened = key not in self._open
        if opened and not opens:
            return False
        devices = set() if opened else self._open[key][1]
        self._open[key] = now, devices | {device}
        return opened

    def take(self, now: float) -> list[tuple[K, int]]:
        """The records that are complete, with the number of devices; each is handed out once."""
        surplus = len(self._open) - _MAX_OPEN
        ready = [key for at, (key, (last, _)) in enumerate(self._open.items()) if at < surplus or now - last >= _QUIET]
        return [(key, len(self._open.pop(key)[1])) for key in ready]
