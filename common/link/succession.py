"""Which broker a client uses, which one is next when that is lost, and whether any is left; no socket and no clock.

The brokers of a cluster are equal, so they are taken in turn. A refusal by one is no reason to end: its list of members
may be a moment behind the others'. It is one when all of them refused since a session was last begun.

An address that was found on the LAN is somebody's word. It is tried beside the known ones, and who turns us away there
has refused nothing, unless he has the broker's key.
"""

from __future__ import annotations

from typing import Optional

from common.errors import TesseraError
from common.finding.addresses import BrokerAddress

MAX_FOUND = 3  # addresses that are tried beside the known ones


class Succession:
    def __init__(self, brokers: list[BrokerAddress]) -> None:
        """The first of `brokers` is used first."""
        self._brokers = list(brokers)
        self._found: list[BrokerAddress] = []
        self._refusals: dict[bytes, TesseraError] = {}

    @property
    def brokers(self) -> list[BrokerAddress]:
        """All brokers, the one in use first."""
        return list(self._brokers)

    @property
    def current(self) -> BrokerAddress:
        return self._brokers[0]

    @property
    def alone(self) -> bool:
        """Whether there is no other to go to."""
        return len(self._brokers) == 1

    def add(self, found: BrokerAddress) -> bool:
        """Try a broker there next, too; whether that is one of ours, at an address that is new. A few are kept."""
        if found in self._brokers or all(found.public_key != broker.public_key for broker in self._brokers):
            return False
        if len(self._found) >= MAX_FOUND:
            return False
        self._found.append(found)
        self._brokers.insert(1, found)
        return True

    @property
    def is_found(self) -> bool:
        """Whether the broker in use is at an address that was only found."""
        return self.current in self._found

    def drop(self) -> BrokerAddress:
        """Try the address in use, which was only found, no more; returns the broker to use now."""
        self._found.remove(self.current)
        del self._brokers[0]
        return self._brokers[0]

    def advance(self) -> BrokerAddress:
        """Give the broker in use the last place; returns the one to use now."""
        self._brokers.append(self._brokers.pop(0))
        return self._brokers[0]

    def begun(self) -> None:
        """The broker in use admits us, so what others said before is to be asked again, and that is where it is."""
        self._refusals.clear()
        others = [b for b in self._brokers[1:] if b not in self._found and b.public_key != self.current.public_key]
        self._brokers = [self.current, *others]
        self._found.clear()

    def refused(self, error: TesseraError) -> None:
        """The broker in use will not have us."""
        self._refusals[self.current.public_key] = error

    @property
    def refusal(self) -> Optional[TesseraError]:
        """What the broker that was asked first answered, where not all of those who answered admit us."""
        return next(iter(self._refusals.values()), None)

    @property
    def over(self) -> bool:
        """Whether all have refused."""
        return all(broker.public_key in self._refusals for broker in self._brokers)

    def renew(self, named: list[BrokerAddress]) -> None:
        """Take over the list that the broker in use gave.

        The broker in use stays first, at the address that we reach it at, whatever it is called elsewhere.
        """
        others = {broker.public_key: broker for broker in named if broker.public_key != self.current.public_key}
        former = [broker.public_key for broker in self._brokers]
        order = sorted(others, key=lambda key: former.index(key) if key in former else len(former))
        self._brokers = [self.current, *(others[key] for key in order)]
