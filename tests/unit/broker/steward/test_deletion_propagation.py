"""Every device with a share learns what its owner signed of its deletion, and nothing holds up the rest."""

from __future__ import annotations

from typing import Callable, cast

import pytest

from broker.catalog import Catalog
from broker.steward.deletion_propagation import DeletionPropagation
from broker.steward.requests import Reply, Request, Requests
from common.protocol.messages import AnnouncedShare, Answer, Code, Tombstone
from tests.support.sample_shares import KEY, OWNER
from tests.support.tombstones import told

DEVICE, OTHER = b"nas!" * 4, b"box!" * 4
IDS = [bytes([number]) * 16 for number in range(60)]


class Scene:
    """A device with shares of sixty encodings, and what it is sent."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.sent: list[tuple[Request, Callable[[Reply, float], None]]] = []
        self.propagation = DeletionPropagation(self.catalog, cast(Requests, self))
        self.catalog.announce(DEVICE, [AnnouncedShare(each, 0, each * 2, OWNER, 2, 3, 1000) for each in IDS])

    def add(self, request: Request, then: Callable[[Reply, float], None]) -> None:
        self.sent.append((request, then))

    def tell(self, *stones: Tombstone) -> None:
        self.catalog.add_tombstones(OTHER, map(told, stones), 0)

    def tick(self, now: float) -> list[tuple[Request, Callable[[Reply, float], None]]]:
        """What is sent now."""
        self.sent = []
        self.propagation.tick(now, lambda device: True)
        return self.sent


@pytest.fixture
def scene() -> Scene:
    return Scene()


def stone(encoding_id: bytes, generation: int) -> Tombstone:
    return KEY.tombstone(encoding_id * 2, encoding_id, generation)


def reply(code: Code) -> Reply:
    return Reply(Answer(code), None)


def test_what_a_device_did_not_do_comes_again_later_and_holds_up_nothing_else(scene: Scene) -> None:
    scene.tell(*(stone(each, 1) for each in IDS))
    first = scene.tick(0.0)
    assert len(first) == 50
    assert scene.tick(0.0) == []
    for _, then in first:
        then(reply(Code.FAULT), 0.0)
    assert len(scene.tick(0.1)) == 10
    assert len(scene.tick(6.0)) == 40, "fifty at once, with those that are not answered yet"


def test_whoever_has_a_share_is_told_once_that_a_deletion_was_taken_back(scene: Scene) -> None:
    scene.tell(stone(IDS[0], 2))
    ((request, then),) = scene.tick(0.0)
    assert (request.device, request.header) == (DEVICE, stone(IDS[0], 2))
    then(reply(Code.GRANTED), 0.0)
    scene.tell(stone(IDS[0], 2))
    assert scene.tick(1000.0) == []


def test_others_who_delete_under_an_id_keep_no_device_from_being_told_by_its_owner(scene: Scene) -> None:
    strangers = [Tombstone(IDS[0], bytes(32), number.to_bytes(32, "big"), 1, 0, bytes(64)) for number in range(1000)]
    scene.tell(*strangers, stone(IDS[0], 1))
    ((request, _),) = scene.tick(0.0)
    assert request.header == stone(IDS[0], 1)
