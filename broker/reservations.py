"""What each client has opened at devices and not finished: a device's places and room are nobody's alone.

A worker knows owners only, which cost nothing to make up; the broker knows the client by its key. Where others use the
cluster, one client has at most a quarter of a device's places under way, and no more room than half of what the device
has free. An opened share counts until its device announces it, it is given up, or nothing came for so long that the
device lets others have its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from common.protocol.messages import Answer, Code

MAX_PLACES = 128  # of one client at one device
IDLE_AFTER = 15 * 60.0  # seconds, as at the worker


class Opened(NamedTuple):
    """A share that is being stored for an owner."""

    owner: bytes
    encoding_id: bytes
    share: int


@dataclass
class _Reservation:
    size: int  # expected bytes
    touched: float
    request_id: bytes  # of the OPEN


class Reservations:
    """Clients by public key, devices by device id; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[tuple[bytes, bytes], dict[Opened, _Reservation]] = {}  # client, device

    def refusal(self, client: bytes, device: bytes, opened: Opened, size: int, free: int) -> Optional[Answer]:
        """The refusal to open a share of `size` bytes at a device with so many free."""
        mine = self._open.get((client, device), {})
        if opened in mine:
            return None
        if len(mine) >= MAX_PLACES:
            return Answer(Code.BUSY, "this client stores too many shares at once")
        under_way = sum(reservation.size for reservation in mine.values())
        if size and under_way + size > free // 2:
            code = Code.BUSY if under_way else Code.NO_ROOM
            return Answer(code, "one client may have half of a device's free room under way, where others use it too")
        return None

    def open(self, client: bytes, device: bytes, opened: Opened, size: int, request_id: bytes, now: float) -> None:
        """A client opens a share at a device."""
        self._open.setdefault((client, device), {})[opened] = _Reservation(size, now, request_id)

    def refused(self, client: bytes, device: bytes, request_id: bytes) -> None:
        """The device did not take what this request opens."""
        mine = self._open.get((client, device), {})
        for opened in [each for each, reservation in mine.items() if reservation.request_id == request_id]:
            self.abandon(client, device, opened)

    def touch(self, client: bytes, device: bytes, opened: Opened, now: float) -> None:
        """A block of it comes."""
        reservation = self._open.get((client, device), {}).get(opened)
        if reservation is not None:
            reservation.touched = now

    def abandon(self, client: bytes, device: bytes, opened: Opened) -> None:
        """A client gives it up."""
        mine = self._open.get((client, device), {})
        mine.pop(opened, None)
        if not mine:
            self._open.pop((client, device), None)

    def announced(self, device: bytes, opened: Opened) -> None:
        """The device has it whole."""
        for client, where in list(self._open):
            if where == device:
                self.abandon(client, device, opened)

    def expire(self, now: float) -> None:
        """Forget what its device gives to others by now."""
        for (client, device), mine in list(self._open.items()):
            for opened in [each for each, reservation in mine.items() if now - reservation.touched > IDLE_AFTER]:
                self.abandon(client, device, opened)
