"""The index is in step with a real broker's catalog after each question, however the broker can answer it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from common.link import questions
from common.link.link import Link
from common.link.replies import Reply
from common.protocol.codec import unpack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import AnnouncedShare, Message
from common.protocol.operations import Spec
from common.repository import catching_up
from common.repository.catching_up import catch_up
from common.vault.index import FullListing, VaultIndex
from tests.support.sample_broker import SampleBroker, SamplePeer, only
from tests.support.sample_images import KEY


class Machine:
    """A client's index, and the broker that it asks."""

    def __init__(self, folder: Path) -> None:
        self.index = VaultIndex(folder, KEY)
        self.asked: list[Operation] = []
        self.on_asked: Callable[[], object] = lambda: None
        self.start_broker()

    def start_broker(self) -> None:
        broker = SampleBroker()
        self.client, self.worker = broker.client(KEY), broker.worker("attic")
        self.catalog = broker.queries.catalog

    async def request(self, spec: Spec[Any, Any], header: Message) -> Reply[Any]:
        self.asked.append(spec.number)
        self.on_asked()
        message = only(self.client.ask(spec.number, header))
        return Reply(unpack_header(message.header, spec.reply), memoryview(message.payload or b""))

    def follow(self) -> list[Operation]:
        """Bring the index in step, and have it compared with what the broker lists; what was asked."""
        self.asked = []
        asyncio.run(catch_up(cast(Link, self), self.index))
        assert self.index.encodings(frozenset({self.worker.device})) == self.client.objects()
        return self.asked


def shares(*numbers: int, index: int = 0) -> list[AnnouncedShare]:
    owner = KEY.owner_id()
    return [AnnouncedShare(b"e" * 15 + bytes([n]), index, b"o" * 31 + bytes([n]), owner, 2, 3, 100) for n in numbers]


def withdraw(worker: SamplePeer, *numbers: int) -> None:
    worker.withdraw(*(ShareName(share.encoding_id, share.share) for share in shares(*numbers)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(questions, "_PAGE", 2)
    monkeypatch.setattr(catching_up, "_PAGE", 2)
    made = Machine(tmp_path)
    made.worker.announce(shares(*range(5)))
    return made


def test_a_new_index_lists_all_and_then_only_what_changed(machine: Machine) -> None:
    assert machine.follow().count(Operation.LIST) == 3
    assert machine.follow() == [Operation.CHANGES]
    machine.worker.announce(shares(*range(5, 10), index=1), complete=False)
    withdraw(machine.worker, 0, 3)
    assert machine.follow() == [Operation.CHANGES] * 4
    assert machine.follow() == [Operation.CHANGES]


def test_the_next_page_is_asked_for_while_one_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked_for = FullListing.add, threading.Event()
    later = iter([True, True, False])  # whether there is another page

    def add(listing: FullListing, page: Any) -> None:
        if next(later):
            assert asked_for.wait(30)
        asked_for.clear()
        real(listing, page)

    monkeypatch.setattr(FullListing, "add", add)
    machine.on_asked = lambda: asked_for.set() if machine.asked.count(Operation.LIST) > 1 else None
    assert machine.follow().count(Operation.LIST) == 3


def test_what_another_broker_has_takes_the_place_of_all(machine: Machine) -> None:
    machine.follow()
    machine.start_broker()
    machine.worker.announce(shares(4, 5))
    assert Operation.LIST in machine.follow()
    assert len(machine.client.objects()) == 2


def test_where_the_broker_has_forgotten_all_is_listed(machine: Machine) -> None:
    machine.follow()
    machine.catalog.changes._limit = 3
    withdraw(machine.worker, *range(5))
    machine.worker.announce(shares(7), complete=False)
    assert Operation.LIST in machine.follow()


def test_an_index_put_back_from_an_older_copy_follows_all_the_same(machine: Machine) -> None:
    machine.follow()
    machine.index.close()
    older = machine.index.path.read_bytes()
    withdraw(machine.worker, 1, 2)
    machine.follow()
    machine.index.close()
    machine.index.path.write_bytes(older)
    assert machine.follow() == [Operation.CHANGES]


def test_two_programs_with_one_index_follow_in_turn(machine: Machine, tmp_path: Path) -> None:
    machine.follow()
    first, second = machine.index, VaultIndex(tmp_path, KEY)
    for number in range(4):
        withdraw(machine.worker, number)
        machine.index = (first, second)[number % 2]
        assert machine.follow() == [Operation.CHANGES]
