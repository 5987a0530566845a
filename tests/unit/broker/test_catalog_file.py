"""The catalog's file is a cache: whatever becomes of it costs that the devices announce anew, and nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Callable

import pytest

from broker import catalog_file, command
from broker.catalog import Catalog
from broker.catalog_file import CatalogFile
from broker.catalog_rows import CatalogDamaged, Storage
from broker.server import Server
from common.protocol.messages import AnnouncedShare, EncodingAt

OWNER = b"o" * 16
DEVICES = [bytes([number]) * 16 for number in range(1, 7)]
EPOCH = b"p" * 16


def share(number: int, index: int = 0) -> AnnouncedShare:
    return AnnouncedShare(
        number.to_bytes(16, "big"), index, number.to_bytes(32, "big"), OWNER, 4, 6, 1000, revision=1 + number % 3
    )


def listed(catalog: Catalog) -> list[EncodingAt]:
    return catalog.page(OWNER, b"", 10_000, lambda _: True)[0]


def write(path: Path, images: int = 400) -> list[EncodingAt]:
    """A file as a broker leaves it that was told to stop."""
    file = CatalogFile(path)
    catalog = Catalog(storage=file.open())
    for index, device in enumerate(DEVICES):
        catalog.announce(device, [share(number, index) for number in range(images)])
        catalog.know_up_to(device, EPOCH, 7)
    catalog.commit()
    before = listed(catalog)
    file.close()
    return before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


def test_what_was_known_is_known_again(path: Path) -> None:
    before = write(path)
    beside = {each.name for each in path.parent.iterdir()}
    assert beside == {path.name, f"{path.name}.blake3"}, "no log is left"
    file = CatalogFile(path)
    catalog = Catalog(storage=file.open())
    assert listed(catalog) == before
    assert len(before) == len(catalog) == 400
    assert catalog.codes == {(4, 6): 400}
    file.close()


def test_what_was_committed_before_the_process_was_killed_is_known_again(path: Path, tmp_path: Path) -> None:
    write(path)
    file = CatalogFile(path)
    catalog = Catalog(storage=file.open())
    catalog.announce(DEVICES[0], [share(1000)])
    catalog.commit()
    catalog.announce(DEVICES[0], [share(1001)])
    killed = tmp_path / "killed"
    killed.mkdir()
    for each in path.parent.glob("catalog*"):
        shutil.copy(each, killed / each.name)
    again = Catalog(storage=CatalogFile(killed / path.name).open())
    assert share(1000).encoding_id in again
    assert share(1001).encoding_id not in again
    assert again.shares_on(DEVICES[0]) == 401
    file.close()


def test_after_a_power_cut_nothing_of_it_is_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CatalogFile(path)
    catalog = Catalog(storage=file.open())
    catalog.announce(DEVICES[0], [share(1)])
    catalog.commit()
    monkeypatch.setattr(catalog_file, "_boot", lambda: b"the next boot")
    assert len(Catalog(storage=CatalogFile(path).open())) == 0


def without_the_digest(path: Path) -> None:
    """As of a broker that was killed, so that nothing says what the file was like."""
    path.with_name(f"{path.name}.blake3").unlink()


def no_file(path: Path) -> None:
    path.unlink()


def other_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def other_application(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 99")
    connection.close()


def no_database(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def no_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE owned")
    connection.close()


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


SPOILT = [no_file, other_version, other_application, no_database, no_bytes, no_tables, half]


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("killed", [False, True])
def test_a_file_that_cannot_be_believed_is_made_anew(path: Path, spoil: Callable[[Path], None], killed: bool) -> None:
    before = write(path)
    if killed:
        without_the_digest(path)
    spoil(path)
    assert announced_anew(path) == before


def announced_anew(path: Path) -> list[EncodingAt]:
    """What a broker with this file lists in the end, when its devices announced what they hold."""
    file = CatalogFile(path)
    for _ in range(3):
        try:
            catalog = Catalog(storage=file.open())
            for index, device in enumerate(DEVICES):
                catalog.register(device)
                catalog.announce(device, [share(number, index) for number in range(400)])
                catalog.end_announcing(device)
            catalog.commit()
            found = listed(catalog)
            file.close()
            return found
        except CatalogDamaged as damaged:
            file.lose(damaged)
    raise AssertionError("it was damaged time and again")


def test_rot_at_any_place_of_what_was_closed_changes_nothing_that_is_listed(path: Path) -> None:
    before = write(path)
    whole, noted = path.read_bytes(), path.with_name(f"{path.name}.blake3").read_bytes()
    for at in range(0, len(whole), 9973):
        path.write_bytes(rotten(whole, at))
        path.with_name(f"{path.name}.blake3").write_bytes(noted)
        assert announced_anew(path) == before, at


def test_rot_at_any_place_of_what_a_killed_broker_left_makes_nothing_wrong_listed(path: Path) -> None:
    before = {each.encoding_id: each for each in write(path)}
    whole = path.read_bytes()
    for at in range(0, len(whole), 997):
        path.write_bytes(rotten(whole, at))
        path.with_name(f"{path.name}.blake3").unlink(missing_ok=True)
        assert all(each == before.get(each.encoding_id) for each in announced_anew(path)), at


def rotten(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes((whole[at] ^ 0xFF,)) + whole[at + 1 :]


@pytest.mark.skipif(sys.platform == "win32", reason="a folder there cannot be made read-only")
def test_where_there_can_be_no_file_the_catalog_is_kept_in_memory(tmp_path: Path) -> None:
    file = CatalogFile(tmp_path / "missing" / "catalog.sqlite")
    storage = file.open()
    assert storage.room is None
    assert len(Catalog(storage=storage)) == 0
    file.close()


def test_what_the_system_does_not_let_it_write_is_kept_in_memory_from_then_on(path: Path) -> None:
    file = CatalogFile(path)
    storage = file.open()
    catalog = Catalog(storage=storage)
    storage.connection.execute("PRAGMA max_page_count = 20")  # as of a disk that is full
    with pytest.raises(CatalogDamaged) as full:
        catalog.announce(DEVICES[0], [share(number) for number in range(20_000)])
        catalog.commit()
    file.lose(full.value)
    assert file.open().room is None
    assert not path.exists()


def test_up_to_where_a_device_is_known_is_kept_with_its_rows(path: Path) -> None:
    file = CatalogFile(path)
    catalog = Catalog(storage=file.open())
    catalog.announce(DEVICES[0], [share(1)])
    catalog.know_up_to(DEVICES[0], EPOCH, 3)
    catalog.commit()
    catalog.announce(DEVICES[0], [share(2)])
    catalog.know_up_to(DEVICES[0], EPOCH, 4)
    file.close()  # without a commit
    again = Catalog(storage=CatalogFile(path).open())
    known = again.known_of(DEVICES[0])
    assert known is not None
    assert (known.epoch, known.sequence) == (EPOCH, 3)
    again.announce(DEVICES[0], [share(2)])
    assert again.known_of(DEVICES[0]) != known
    again.withdraw(DEVICES[0], [(share(2).encoding_id, 0)])
    assert again.known_of(DEVICES[0]) == known
    assert again.known_of(DEVICES[1]) is None


# --- a broker that comes upon it


class FakeServer(Server):
    """Serves, or meets damage, as it is told."""

    def __init__(self, storage: Storage, damaged: bool) -> None:
        self.catalog = Catalog(storage=storage)
        self.damaged, self.closed = damaged, False

    def serve(self, stopping: threading.Event) -> None:
        if self.damaged:
            raise CatalogDamaged("a row of the catalog is damaged")

    def close(self) -> None:
        self.closed = True


def test_a_broker_that_meets_damage_while_it_serves_goes_on_with_an_empty_catalog(path: Path) -> None:
    write(path)
    file = CatalogFile(path)
    server = FakeServer(file.open(), damaged=True)
    assert len(server.catalog) == 400
    assert not command._served(server, threading.Event(), file)
    assert server.closed, "its ports are free for the next"
    server = FakeServer(file.open(), damaged=False)
    assert len(server.catalog) == 0
    assert command._served(server, threading.Event(), file)
    file.close()


def test_a_broker_that_cannot_begin_with_its_catalog_begins_with_an_empty_one(path: Path) -> None:
    write(path)
    without_the_digest(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE devices SET counted = x'00'")
    connection.commit()
    connection.close()
    file = CatalogFile(path)
    server = command._with_catalog(file, lambda storage: FakeServer(storage, damaged=False))
    assert isinstance(server, FakeServer)
    assert len(server.catalog) == 0
    file.close()
