"""Nobody's work waits for all of another's: lacking encodings, complaints and deletions are seen to in turns."""

from __future__ import annotations

import random

from broker.catalog import Catalog
from broker.steward.deletion_propagation import DeletionPropagation
from broker.steward.requests import Reply, Request, Requests, Then
from broker.steward.turns import Turns
from common.protocol.messages import AnnouncedShare, Answer, Code, ToldTombstone
from common.vault.keys import VaultKey

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
DEVICE, OTHER_DEVICE = b"d" * 16, b"e" * 16
OBJECT = b"o" * 32


def test_owners_take_turns_and_of_each_the_most_urgent_comes_first() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add("many", f"many {number}", urgency=-number)
    turns.add("one", "one")
    assert [turns.take() for _ in range(5)] == ["many 2", "one", "many 1", "many 0", None]


def test_what_comes_later_waits_for_one_of_anothers_only() -> None:
    turns: Turns[int] = Turns()
    for number in range(1000):
        turns.add("many", number)
    turns.take()
    turns.add("one", -1)
    assert -1 in [turns.take() for _ in range(2)]
    assert (turns.count("many"), turns.count("one"), turns.count()) == (998, 0, 998)


class Asked(Requests):
    """Requests that are kept, to be answered by hand."""

    def __init__(self) -> None:
        super().__init__(1, random.Random(1))  # noqa: S311
        self.told: list[tuple[Request, Then]] = []

    def add(self, request: Request, then: Then = lambda reply, now: None, asker: object = None) -> None:
        self.told.append((request, then))

    def answer(self, code: Code) -> list[bytes]:
        """Answer all, and return their owners."""
        told, self.told = self.told, []
        for _, then in told:
            then(Reply(Answer(code)), 0.0)
        return [request.owner for request, _ in told]


def delete(catalog: Catalog, key: VaultKey, number: int) -> bytes:
    """An encoding of the device that its owner deleted, as another device tells."""
    encoding_id = number.to_bytes(16, "big")
    catalog.announce(DEVICE, [AnnouncedShare(encoding_id, 0, OBJECT, key.owner_id(), 2, 3, 10)])
    told = ToldTombstone(key.tombstone(OBJECT, encoding_id, 1, 0), 0, 1000)
    catalog.add_tombstones(OTHER_DEVICE, [told], 0)
    return encoding_id


def test_deletions_that_a_device_refuses_hold_up_no_others() -> None:
    catalog, asked = Catalog(), Asked()
    propagation = DeletionPropagation(catalog, asked)
    for number in range(60):
        propagation.look(delete(catalog, KEY, number))
    propagation.tick(0.0, lambda _: True)
    assert len(asked.answer(Code.FAULT)) == 50
    propagation.look(delete(catalog, OTHER_KEY, 60))
    propagation.tick(1.0, lambda device: True)
    owners = asked.answer(Code.GRANTED)
    assert len(owners) == 11, "those that were refused come later"
    assert OTHER_KEY.owner_id() in owners[:2]
    propagation.tick(10.0, lambda _: True)
    assert KEY.owner_id() in asked.answer(Code.GRANTED)
