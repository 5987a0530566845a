"""Measures three ways in which a worker could keep small shares, in turn: a file each, rows of SQLite, packs.

    files    one file a share, as `worker/committing.py` makes them: written, fsynced, renamed, its folder fsynced
    rows     one row a share, in SQLite with a write-ahead log and `synchronous=FULL`
    packs    shares one behind the other in files of 64 MiB, one fsync a round; SQLite only says where each is, without
             fsyncs, and is made anew from the packs where it is lost or torn

Each keeps the same shares of random bytes, in rounds of 32 as they come from small puts, and each round is durable when
it ends. Then: how many are read a second in any order, how long opening takes, what half of them deleted gives back and
in which time, and how many shares a page of 4 KiB costs that has become zeros, anywhere in the store. Run:

    python -m bench.stores [--shares 20000] [--bytes 7700] [--rounds 3] [--into FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import resource
import sqlite3
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional, Protocol

from worker.disk import Disk
from worker.durability import Durability

ROUND = 32  # shares
PAGE = 4096  # bytes that rot at once
PACK = 64 << 20  # bytes
ROTTEN = 200  # pages, one at a time
READS = 5000
_FRAME = struct.Struct(">4sI16s32s")  # mark, length, key, SHA-256
_MARK = b"shar"

Key = bytes
Share = tuple[Key, bytes]


class Store(Protocol):
    def __init__(self, folder: Path) -> None: ...

    def commit(self, shares: Sequence[Share]) -> None: ...

    def read(self, key: Key) -> Optional[bytes]:
        """The share, checked; None where it is not there or damaged."""

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete many and give their room back; of packs not durably yet (a tombstone would be appended)."""

    def count(self) -> int: ...

    def close(self) -> None: ...


class Files:
    def __init__(self, folder: Path) -> None:
        self._disk = Disk()
        self._durability = Durability(self._disk, folder)
        self._staging, self._shares = folder / "staging", folder / "shares"
        self._durability.prepare(folder, (self._staging, self._shares))
        self._keys = {
            bytes.fromhex(name) for _, _, names in os.walk(self._shares) for name in names
        }  # a worker lists its folders at its start

    def _path(self, key: Key) -> Path:
        name = key.hex()
        return self._shares / name[:2] / name[2:4] / name

    def commit(self, shares: Sequence[Share]) -> None:
        written = []
        for key, content in shares:
            descriptor = self._disk.create(self._staging / key.hex())
            self._disk.append(descriptor, hashlib.sha256(content).digest() + content)
            written.append(descriptor)
        folders = {self._path(key).parent for key, _ in shares}
        self._durability.make_folders(folders)
        assert not any(self._durability.sync_files(written))
        for descriptor, (key, _) in zip(written, shares):
            self._disk.close(descriptor)
            self._disk.rename_new(self._staging / key.hex(), self._path(key))
        for folder in folders:
            self._durability.sync_folder(folder)
        self._keys.update(key for key, _ in shares)

    def read(self, key: Key) -> Optional[bytes]:
        content = self._path(key).read_bytes()
        return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None

    def delete(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self._path(key).unlink()
        for folder in {self._path(key).parent for key in keys}:
            self._durability.sync_folder(folder)
        self._keys.difference_update(keys)

    def count(self) -> int:
        return len(self._keys)

    def close(self) -> None:
        self._keys.clear()


class Rows:
    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "shares.sqlite", isolation_level=None)
        for pragma in ("page_size=16384", "auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS share (number INTEGER PRIMARY KEY, key BLOB UNIQUE, digest BLOB, content BLOB)"
        )

    def commit(self, shares: Sequence[Share]) -> None:
        rows = [(key, hashlib.sha256(content).digest(), content) for key, content in shares]
        with _transaction(self._database):
            self._database.executemany("INSERT INTO share (key, digest, content) VALUES (?, ?, ?)", rows)

    def read(self, key: Key) -> Optional[bytes]:
        try:
            found = self._database.execute("SELECT digest, content FROM share WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return found[1] if found is not None and hashlib.sha256(found[1]).digest() == found[0] else None

    def delete(self, keys: Sequence[Key]) -> None:
        with _transaction(self._database):
            self._database.executemany("DELETE FROM share WHERE key = ?", [(key,) for key in keys])
        self._database.execute("PRAGMA incremental_vacuum").fetchall()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM share").fetchone()[0])

    def close(self) -> None:
        self._database.close()


class Packs:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = Disk()
        self._packs: dict[int, int] = {}  # number → descriptor
        self._size = PACK
        for path in folder.glob("*.pack"):
            self._packs[int(path.stem)] = self._disk.reopen(path)
        if self._packs:
            self._size = self._disk.size(self._packs[max(self._packs)])
        try:
            self._index = self._opened()
            if not self.count():
                self._scan()
        except sqlite3.DatabaseError:
            self.rebuild()

    def _opened(self) -> sqlite3.Connection:
        index = sqlite3.connect(self._folder / "index.sqlite", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=OFF"):
            index.execute(f"PRAGMA {pragma}")
        index.execute(
            "CREATE TABLE IF NOT EXISTS place (key BLOB PRIMARY KEY, pack INT, offset INT, length INT) WITHOUT ROWID"
        )
        return index

    def _drop_index(self) -> None:
        for path in self._folder.glob("index.sqlite*"):
            path.unlink()

    def rebuild(self) -> None:
        """Make the index anew from the packs alone."""
        with contextlib.suppress(AttributeError):  # it could not be opened
            self._index.close()
        self._drop_index()
        self._index = self._opened()
        self._scan()

    def _scan(self) -> None:
        with _transaction(self._index):
            for number in sorted(self._packs):
                self._index.executemany(
                    "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)",
                    ((key, number, offset, length) for key, offset, length in _shares_in(self._path(number))),
                )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.pack"

    def commit(self, shares: Sequence[Share]) -> None:
        if self._size >= PACK:
            number = max(self._packs, default=0) + 1
            self._packs[number] = self._disk.create(self._path(number))
            self._disk.sync_folder(self._folder)
            self._size = 0
        number = max(self._packs)
        frames, places = [], []
        for key, content in shares:
            frames += [_FRAME.pack(_MARK, len(content), key, hashlib.sha256(content).digest()), content]
            places.append((key, number, self._size, len(content)))
            self._size += _FRAME.size + len(content)
        self._disk.append(self._packs[number], b"".join(frames))
        self._disk.sync(self._packs[number])
        with _transaction(self._index):
            self._index.executemany("INSERT INTO place VALUES (?, ?, ?, ?)", places)

    def read(self, key: Key) -> Optional[bytes]:
        try:
            place = self._index.execute("SELECT pack, offset, length FROM place WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        if place is None:
            return None
        pack, offset, length = place
        frame = self._disk.read_at(self._packs[pack], offset, _FRAME.size + length)
        content = memoryview(frame)[_FRAME.size :]
        mark, said, whose, digest = _FRAME.unpack_from(frame)
        good = (mark, said, whose) == (_MARK, length, key) and hashlib.sha256(content).digest() == digest
        return bytes(content) if good else None

    def delete(self, keys: Sequence[Key]) -> None:
        """Every pack that loses a fifth is written anew without them."""
        with _transaction(self._index):
            self._index.executemany("DELETE FROM place WHERE key = ?", [(key,) for key in keys])
        self._size = PACK  # no pack is written anew into itself
        for number in sorted(self._packs):
            kept = self._index.execute("SELECT key FROM place WHERE pack = ? ORDER BY offset", (number,)).fetchall()
            (used,) = self._index.execute("SELECT sum(length) FROM place WHERE pack = ?", (number,)).fetchone()
            if (used or 0) > 0.8 * self._disk.size(self._packs[number]):
                continue
            living = [(key, content) for (key,) in kept if (content := self.read(key)) is not None]
            with _transaction(self._index):
                self._index.execute("DELETE FROM place WHERE pack = ?", (number,))
            for first in range(0, len(living), 1024):
                self.commit(living[first : first + 1024])
            self._disk.close(self._packs.pop(number))
            self._path(number).unlink()
        self._disk.sync_folder(self._folder)

    def count(self) -> int:
        return int(self._index.execute("SELECT count(*) FROM place").fetchone()[0])

    def close(self) -> None:
        self._index.close()
        for descriptor in self._packs.values():
            self._disk.close(descriptor)


def _shares_in(pack: Path) -> Iterator[tuple[Key, int, int]]:
    """Key, offset and length of the good shares of a pack; behind a damaged one it goes on at the next mark."""
    content, offset = pack.read_bytes(), 0
    while (offset := content.find(_MARK, offset)) >= 0 and offset + _FRAME.size <= len(content):
        _, length, key, digest = _FRAME.unpack_from(content, offset)
        end = offset + _FRAME.size + length
        if end <= len(content) and hashlib.sha256(content[offset + _FRAME.size : end]).digest() == digest:
            yield key, offset, length
            offset = end
        else:
            offset += 1


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def files_in(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def written_by_us() -> int:
    """Bytes that this process had the block layer write; 0 where /proc does not tell, or nothing gets there."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def lost_by_rot(kind: type[Store], folder: Path, keys: Sequence[Key], drawn: random.Random) -> list[int]:
    """For each of some pages that became zeros: how many shares are not given out any more."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size >= PAGE)
    pages = [size // PAGE for size in (path.stat().st_size for path in files)]
    lost = []
    for path in drawn.choices(files, pages, k=ROTTEN):
        offset = drawn.randrange(path.stat().st_size // PAGE) * PAGE
        with open(path, "r+b") as file:
            file.seek(offset)
            before = file.read(PAGE)
            file.seek(offset)
            file.write(bytes(PAGE))
        store: Optional[Store] = None
        try:
            store = kind(folder)
            missing = [key for key in keys if store.read(key) is None]
        except (sqlite3.DatabaseError, OSError):
            missing = list(keys)
        if missing and isinstance(store, Packs):  # as a worker would, and announce what is still missing
            store.rebuild()
            missing = [key for key in missing if store.read(key) is None]
        lost.append(len(missing))
        if store is not None:
            store.close()
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(before)
    return lost


def measure(kind: type[Store], folder: Path, shares: int, size: int, seed: int) -> dict[str, float]:
    drawn = random.Random(seed)
    store, keys, noise = kind(folder), [drawn.randbytes(16) for _ in range(shares)], drawn.randbytes(1 << 20)

    def content(number: int) -> bytes:
        start = number * 4099 % (len(noise) - size)
        return noise[start : start + size]

    rounds = [range(first, min(first + ROUND, shares)) for first in range(0, shares, ROUND)]
    used, written = processor_seconds(), written_by_us()
    started = time.perf_counter()
    for each in rounds:
        store.commit([(keys[n], content(n)) for n in each])
    took = time.perf_counter() - started
    found = {
        "commits/s": shares / took,
        "processor µs a commit": (processor_seconds() - used) / shares * 1e6,
        "bytes written a byte": (written_by_us() - written) / (shares * size),
        "bytes on disk a byte": bytes_in(folder) / (shares * size),
        "files": files_in(folder),
    }
    wanted = drawn.choices(keys, k=READS)
    found["reads/s"] = READS / seconds(lambda: [store.read(key) for key in wanted])
    store.close()
    opened: list[Store] = []
    found["opening, ms"] = 1e3 * seconds(lambda: opened.append(kind(folder)))
    store = opened[0]
    assert store.count() == shares
    if isinstance(store, Packs):
        found["index made anew, ms"] = 1e3 * seconds(store.rebuild)
        assert store.count() == shares
    found["half deleted, ms"] = 1e3 * seconds(lambda: store.delete(keys[::2]))
    assert store.count() == shares - len(keys[::2])
    assert all(store.read(keys[n]) == content(n) for n in range(1, shares, 2))
    found["bytes on disk a byte, then"] = bytes_in(folder) / (store.count() * size)
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=7700)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--into", type=Path, help="where the stores are made (the system's temporary folder)")
    said = parser.parse_args()
    kinds: list[type[Store]] = [Files, Rows, Packs]
    found: dict[str, dict[str, list[float]]] = {kind.__name__: {} for kind in kinds}
    for number in range(said.rounds):
        for kind in kinds:
            with tempfile.TemporaryDirectory(dir=said.into) as folder:
                for name, value in measure(kind, Path(folder), said.shares, said.bytes, number).items():
                    found[kind.__name__].setdefault(name, []).append(value)
    for kind in (Rows, Packs):
        with tempfile.TemporaryDirectory(dir=said.into) as folder:
            drawn = random.Random(kind.__name__)
            keys, few = [drawn.randbytes(16) for _ in range(2000)], kind(Path(folder))
            for first in range(0, len(keys), ROUND):
                few.commit([(key, drawn.randbytes(said.bytes)) for key in keys[first : first + ROUND]])
            few.close()
            lost = lost_by_rot(kind, Path(folder), keys, drawn)
            found[kind.__name__]["shares of 2000 that a rotten page costs, mean"] = [statistics.mean(lost)]
            found[kind.__name__]["at most"] = [max(lost)]
    print(f"{said.shares} shares of {said.bytes} bytes, in {said.into or tempfile.gettempdir()}")
    print(f"{'':46}" + "".join(f"{kind.__name__.lower():>14}" for kind in kinds))
    for name in dict.fromkeys(name for each in found.values() for name in each):
        values = [found[kind.__name__].get(name) for kind in kinds]
        shown = ("–" if each is None else f"{statistics.median(each):,.2f}" for each in values)
        print(f"{name:46}" + "".join(f"{each:>14}" for each in shown))


if __name__ == "__main__":
    main()
