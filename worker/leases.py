"""Which broker repairs an encoding: of several, one at a time, so that none repeats another's work.

A lease is advisory: should two brokers repair one encoding after all, nothing breaks. It is kept in memory only, and
expires.
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
        """Grant a lease of an encoding; False where another broker has it."""
        held = self._leases.get(encoding_id)
        if held is not None and held.broker != broker and now < held.ends:
            return False
        self._leases[encoding_id] = _Lease(broker, seconds, now + seconds)
        return True

    def renew(self, encoding_id: bytes, broker: int, now: float) -> None:
        """Renew the broker's lease, if it has one."""
        held = self._leases.get(encoding_id)
        if held is not None and held.broker == broker and now < held.ends:
            self._leases[encoding_id] = held._replace(ends=now + held.seconds)

    def release(self, broker: int) -> None:
        """The connection is lost: end all leases granted over it."""
        self._leases = {e: lease for e, lease in self._leases.items() if lease.broker != broker}

    def expire(self, now: float) -> None:
        self._leases = {e: lease for e, lease in self._leases.items() if now < lease.ends}
