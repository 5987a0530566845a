"""Which broker mends an encoding: of several, one at a time, so that none does in vain what another does.

A lease is advisory: should two brokers mend one encoding after all, nothing breaks. It is kept in memory
only, and ends by itself.
"""

from __future__ import annotations

from typing import NamedTuple


class _Lease(NamedTuple):
    broker: int
    seconds: float  # for which it is renewed
    ends: float  # monotonic seconds


class Leases:
    """`broker` is the number of the connection that a request came over, `now` monotonic seconds."""

    def __init__(self) -> None:
        self._leases: dict[bytes, _Lease] = {}

    def ask(self, encoding_id: bytes, broker: int, seconds: float, now: float) -> bool:
        """Promise an encoding to a broker; False where another has it."""
        held = self._leases.get(encoding_id)
        if held is not None and held.broker != broker and now < held.ends:
            return False
        self._leases[encoding_id] = _Lease(broker, seconds, now + seconds)
        return True

    def renew(self, encoding_id: bytes, broker: int, now: float) -> None:
        """The broker is at work still; nothing where the encoding is not promised to it."""
        held = self._leases.get(encoding_id)
        if held is not None and held.broker == broker and now < held.ends:
            self._leases[encoding_id] = held._replace(ends=now + held.seconds)

    def release(self, broker: int) -> None:
        """The connection is lost, and with it all that was promised over it."""
        self._leases = {e: lease for e, lease in self._leases.items() if lease.broker != broker}

    def expire(self, now: float) -> None:
        self._leases = {e: lease for e, lease in self._leases.items() if now < lease.ends}
