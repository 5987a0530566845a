"""The brokers of a cluster: which there are, where each may be, and which one is used next; no socket and no clock.

They are equal. A client uses one of them (`BrokerList`), a worker is connected to all (`BrokerAddresses`).

Which they are, those say that answer. A broker that was revoked may not know it and still name itself. So where several
brokers answer, one is believed in if another names it; where only one answers, that one's word is all there is.

Where one may be: at the address that it is known at, and at others that were found on the LAN. Such an address is
somebody's claim. It is tried beside the known one, never in its place, and becomes the known one only when the broker,
by its key, has admitted us there. Who turns us away there has refused nothing, unless it has the broker's key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Optional

from common.discovery.addresses import BrokerAddress
from common.errors import TesseraError

# Addresses that are tried beside the known ones. A client, and whoever joins, goes to each at once, so that the first
# stay: else a flood of them would keep it from the known one. A worker takes them in turn, so that the newest stay, of
# each broker.
MAX_FOUND = 3
SEARCH_TIME = 60.0  # seconds until a search is given up for another, which begins with nothing that the first heard


def agreed(known: Sequence[BrokerAddress], told: Mapping[bytes, Sequence[BrokerAddress]]) -> list[BrokerAddress]:
    """The brokers to be connected to, those that are known already first.

    `told`: for each broker that answers, by public key, the brokers that it names. A broker that answers keeps the
    address at which it does, whatever others call it.
    """
    named: dict[bytes, BrokerAddress] = {}
    for teller, brokers in told.items():
        for broker in brokers:
            if broker.public_key != teller or len(told) == 1:
                named.setdefault(broker.public_key, broker)
    if not named:
        return list(known)
    if len(told) == 1:
        named.update((broker.public_key, broker) for broker in known if broker.public_key in told)
    kept = [b if b.public_key in told else named[b.public_key] for b in known if b.public_key in named]
    return list(dict.fromkeys(kept)) + [b for b in named.values() if all(b.public_key != k.public_key for k in known)]


class BrokerList:
    """A client's brokers, the one in use first.

    They are taken in turn. A refusal by one is no reason to end: its list of members may be a moment behind the
    others'. It is one when all of them refused since a session was last begun.
    """

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
        self._brokers = agreed(self._brokers, {self.current.public_key: [*named, self.current]})


class BrokerAddresses:
    """Where each of a worker's brokers may be: it is connected to all of them at a time."""

    def __init__(self, brokers: Sequence[BrokerAddress]) -> None:
        """`brokers` as they are known."""
        self._known = {broker.public_key: broker for broker in brokers}
        self._found: dict[bytes, deque[BrokerAddress]] = {}

    @property
    def known(self) -> list[BrokerAddress]:
        return list(self._known.values())

    def renew(self, brokers: Sequence[BrokerAddress]) -> None:
        """These are the brokers now, as those that answer say."""
        self._known = {broker.public_key: broker for broker in brokers}
        self._found = {key: found for key, found in self._found.items() if key in self._known}

    def is_known(self, broker: BrokerAddress) -> bool:
        return self._known.get(broker.public_key) == broker

    def heard(self, broker: BrokerAddress) -> bool:
        """A broker is said to be there; whether that is one of ours, at an address that is new."""
        key = broker.public_key
        if key not in self._known or self.is_known(broker) or broker in self._found.get(key, ()):
            return False
        self._found.setdefault(key, deque(maxlen=MAX_FOUND)).append(broker)
        return True

    def reached(self, broker: BrokerAddress) -> bool:
        """The broker was reached there; whether it was known to be elsewhere before."""
        self._found.pop(broker.public_key, None)
        if broker.public_key not in self._known or self.is_known(broker):
            return False
        self._known[broker.public_key] = broker
        return True

    def following(self, tried: Sequence[BrokerAddress]) -> list[BrokerAddress]:
        """Where to try each broker next, after it was tried there in vain."""
        return [self._after(broker) for broker in tried]

    def _after(self, broker: BrokerAddress) -> BrokerAddress:
        found = self._found.get(broker.public_key)
        if not found:
            return self._known.get(broker.public_key, broker)
        candidates = [self._known[broker.public_key], *found]
        place = candidates.index(broker) if broker in candidates else -1
        return candidates[(place + 1) % len(candidates)]
