"""Which brokers a worker is to be connected to, from what those it is connected to say; no socket and no clock.

A broker that was revoked may not know it and still name itself. So where several brokers answer, one is believed in if
another names it; where only one answers, that one's word is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.invite import BrokerAddress


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
