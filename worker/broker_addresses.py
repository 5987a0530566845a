"""A worker's brokers: which it is to be connected to, and where each may be; no socket and no clock.

Which they are, those say that it is connected to. A broker that was revoked may not know it and still name itself. So
where several brokers answer, one is believed in if another names it; where only one answers, that one's word is all
there is.

Where one may be: at the address that it is known at, and at others that were found on the LAN. Such an address is
somebody's word. It is tried in turn with the known one, never in its place, and becomes the known one only when the
broker, by its key, has registered this worker there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from common.finding.addresses import BrokerAddress

MAX_FOUND = 3  # addresses of one broker; a newer one takes the place of the oldest


def agreed(known: Sequence[BrokerAddress], told: Mapping[bytes, Sequence[BrokerAddress]]) -> list[BrokerAddress]:
    """The brokers to be connected to, those that are known already first.

    `told`: for each broker that this worker is registered with, by public key, the brokers that it names. A broker that
    answers keeps the address at which it does, whatever others call it.
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
    known_keys = {broker.public_key for broker in known}
    return kept + [broker for key, broker in named.items() if key not in known_keys]


class BrokerAddresses:
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
