"""A broker's loop, with real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import queries
from broker.audit import AuditLog
from broker.catalog import Catalog, in_memory
from broker.catalog_rows import Storage
from broker.listening import Listening
from broker.members import MembersFile
from broker.rights import Standing
from broker.server import Server
from broker.steward import steward
from broker.steward.assessment import State
from broker.steward.steward import Settings
from common.protocol.messages import AnnouncedShare
from tests.support.programs import wait_until
from tests.support.running_broker import RunningBroker
from tests.support.sample_broker import SampleBroker

ENCODINGS = 5000


class WithCatalog(RunningBroker):
    """A broker that finds encodings which all lack something."""

    def make_server(self) -> Server:
        listening = Listening("127.0.0.1", self.address.client_port, self.address.worker_port)
        storage = Storage(in_memory())
        filled = Catalog(storage=storage)
        ids = [number.to_bytes(32, "big") for number in range(ENCODINGS)]
        filled.announce(b"d" * 16, [AnnouncedShare(each[16:], 0, each, b"o" * 16, 2, 3, 100) for each in ids])
        filled.commit()
        audit = AuditLog(self._folder)
        return Server(listening, self.pair, MembersFile(self._folder), Settings(), audit, storage=storage)

    @property
    def unrecoverable(self) -> int:
        return self._server._steward.survey.count(State.UNRECOVERABLE)


def test_while_nobody_asks_anything_all_is_looked_at_without_waiting_for_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steward, "_LOOKS", 0)  # at a tick
    monkeypatch.setattr(queries, "_FORGOTTEN", 0)  # of a device that is no member
    broker = WithCatalog(tmp_path)
    try:
        wait_until(lambda: broker.unrecoverable == ENCODINGS, "all is looked at")
    finally:
        broker.stop()


def test_while_a_device_announces_everything_nothing_is_surveyed_between_ticks() -> None:
    broker = SampleBroker()
    worker = broker.admit(Standing.WORKER, "attic")
    worker.register()
    assert not broker.steward.survey.current
    assert not broker.steward.has_to_look
    worker.announce()
    assert broker.steward.has_to_look
    broker.tick()
    assert not broker.steward.has_to_look
