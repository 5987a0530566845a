"""How much of what is announced is looked at, whoever announces however much. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from common.finding.addresses import BrokerAddress
from common.finding.announcement import instance_of

AT_A_TIME = 32  # announcements that are looked into
MAX_NAMES = 1000  # announcements that are looked into in one search
MAX_FOUND = 64  # addresses that one search gives


class Sightings:
    def __init__(self, keys: Optional[Collection[bytes]] = None) -> None:
        """`keys`: the public keys of the brokers that are wanted; None for any broker's."""
        self._keys = None if keys is None else frozenset(keys)
        self._instances = None if keys is None else frozenset(instance_of(key) for key in keys)
        self._looked_into: set[str] = set()
        self._under_way: set[str] = set()
        self._given: set[BrokerAddress] = set()

    def begin(self, instance: str) -> bool:
        """An announcement is seen; whether to look into it."""
        name = instance.lower()
        if self._instances is not None and name not in self._instances:
            return False
        if name in self._under_way or len(self._under_way) >= AT_A_TIME:
            return False
        if name not in self._looked_into and len(self._looked_into) >= MAX_NAMES:
            return False
        self._looked_into.add(name)
        self._under_way.add(name)
        return True

    def end(self, instance: str, brokers: Collection[BrokerAddress] = ()) -> list[BrokerAddress]:
        """It was looked into; returns what is new of what that gave."""
        self._under_way.discard(instance.lower())
        new: list[BrokerAddress] = []
        for broker in brokers:
            wanted = self._keys is None or broker.public_key in self._keys
            if wanted and broker not in self._given and len(self._given) < MAX_FOUND:
                self._given.add(broker)
                new.append(broker)
        return new
