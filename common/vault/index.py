"""The vault's index on this machine: what the cluster holds of the vault, mappings, and files that were stored.

A file of SQLite beside the key file, its rows sealed (`index_rows`): what is looked for in it is found by keyed names,
so that the file tells nothing but how many rows there are. It is a cache. Where it is lost, damaged or of another
version it is made anew, and where the disk refuses there is one in memory instead. Several programs may have it open at
once: each change is a transaction, and a reader of many rows takes them page by page.

    objects    what the broker told of each object last, and what its mapping says of it
    dates      of images, many in a row, so that all are put in order without opening each (`dates`)
    mappings   as they lie beside the shares; also of what the cluster has no more (`admin.verifying`)
    contents   of snapshots and of trees that are not large, which never change
    seen       files that were stored, by path (`seen`)
    meta       the file's salt, and how far the broker told what changed (`Cursor`)
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
import secrets
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Optional, TypeVar

import numpy as np

from common.chunks import chunks
from common.errors import IntegrityError, TesseraError, UnwritableError
from common.files import locked, make_folder
from common.protocol.messages import EncodingAt, shares_at_hand
from common.vault.dates import Dates, Numbers, PackedDates, dates_of
from common.vault.granting import open_any
from common.vault.index_rows import (
    SALT_SIZE,
    Described,
    KeptEncoding,
    MappingRow,
    ObjectRow,
    RowSealer,
    SeenRow,
)
from common.vault.keys import VaultKey, expand
from common.vault.mapping import PRUNE, SNAPSHOT, TREE, Kind
from common.vault.mapping import Mapping as ImageMapping

log = logging.getLogger(__name__)

VERSION = 2
_FILE_LABEL = b"tessera/v1/index/file"
_BUSY = 30.0  # seconds that another program's transaction is waited for
_PAGE = 1000  # rows
_AT_ONCE = 500  # names in one statement: less than any SQLite takes
_DIGITS = 4  # bytes of a SHA-256 by which it is looked for: all that `check_hash` asks for
_MOST_CONTENT = 256 << 10  # bytes
_TAIL = 250  # images whose dates are not in a row yet: their own rows are opened for them
_NUMBER_BITS = 48
_MOST_OPENED = 1000  # mappings
_KINDS = {None: 0, TREE: 1, SNAPSHOT: 2, PRUNE: 3}
_IMAGE, _SNAPSHOT = _KINDS[None], _KINDS[SNAPSHOT]

_OBJECT, _MAPPING, _SEEN, _META, _DIGIT, _CONTENT, _DATES = b"o", b"m", b"s", b"c", b"d", b"t", b"w"  # tables

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE, kind INTEGER, digits BLOB,
                      own BLOB, sealed BLOB NOT NULL);
CREATE INDEX objects_by_digits ON objects (digits);
CREATE INDEX objects_by_own ON objects (own) WHERE own IS NOT NULL;
CREATE INDEX objects_by_kind ON objects (kind);
CREATE INDEX objects_lacking ON objects (id) WHERE digits IS NULL;
CREATE TABLE dates (last INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE mappings (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE contents (name BLOB PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE seen (name BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
_MAPPINGS = "SELECT sealed FROM mappings WHERE name = ?"
_SEEN_ROWS = "SELECT name, sealed FROM seen WHERE name IN (?)"
_KEPT = "SELECT id, name, sealed FROM mappings WHERE id < ? ORDER BY id DESC LIMIT ?"
_NAMED = "SELECT name, sealed FROM objects WHERE name IN"
_ALL = "SELECT id, name, sealed FROM objects WHERE id > ? ORDER BY id LIMIT ?"
_OF_KIND = "SELECT id, name, sealed FROM objects WHERE kind = ? AND id > ? ORDER BY id LIMIT ?"
_LACKING = "SELECT id, name, sealed FROM objects WHERE digits IS NULL AND id > ? ORDER BY id LIMIT ?"
_ASKED = 100  # rows by number in one statement
_BY_NUMBER = f"SELECT id, name, sealed FROM objects WHERE id IN ({', '.join('?' * _ASKED)})"  # noqa: S608 - no value
_NUMBERS = "SELECT id FROM objects WHERE kind = ?"
_COUNT = "SELECT COUNT(*) FROM objects WHERE kind = ?"
_ALSO_OWN = "SELECT shared.id FROM objects shared JOIN objects own ON own.name = shared.own"
_COUNT_LACKING = "SELECT COUNT(*) FROM objects WHERE digits IS NULL"
_MAY_HAVE_GRANTED = """SELECT EXISTS (SELECT 1 FROM objects WHERE own IS NOT NULL)
                       OR EXISTS (SELECT 1 FROM objects WHERE digits IS NULL)"""

R = TypeVar("R")
MappingName = tuple[bytes, bytes]  # object id, encoding id


class Cursor(NamedTuple):
    """Up to where the index is in step with the cluster, as a broker counts changes."""

    epoch: bytes
    number: int


class Learned(NamedTuple):
    """A mapping that a device gave, sealed and opened."""

    object_id: bytes
    encoding_id: bytes
    sealed: bytes
    mapping: ImageMapping


class VaultIndex:
    """May be used from any thread."""

    def __init__(self, folder: Path, key: VaultKey) -> None:
        """`folder`: the vault's. Nothing is read or made before it is needed."""
        self._key = key
        self._path = folder / "index" / f"{expand(key.index_subkey(), _FILE_LABEL)[:8].hex()}.db"
        self._lock = threading.RLock()
        self._database: Optional[sqlite3.Connection] = None
        self._sealer = RowSealer(key.index_subkey(), bytes(SALT_SIZE))
        self._warned = False
        self._opened: dict[MappingName, ImageMapping] = {}  # to describe what is new; each until it is asked for

    @property
    def path(self) -> Path:
        return self._path

    def close(self) -> None:
        """Close the file; what is asked next opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None

    # --- the file

    def _do(self, work: Callable[[sqlite3.Connection], R], *, changes: bool = False) -> R:
        """Do a piece of work; one that changes something wholly or not at all, while nobody else does.

        Where the index turns out to be damaged, it is done with a new one; where the disk refuses, in memory.
        """
        with self._lock:
            for _ in range(3):
                try:
                    database = self._database or self._open()
                    return _transaction(database, work) if changes else work(database)
                except (sqlite3.OperationalError, OSError, UnwritableError) as error:
                    self._go_without(error)
                except (sqlite3.DatabaseError, IntegrityError) as error:
                    log.info("%s is made anew: %s", self._path, error)
                    self._make_anew()
            raise IntegrityError("the vault's index can be kept neither on the disk nor in memory")

    def _write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        return self._do(work, changes=True)

    def _open(self) -> sqlite3.Connection:
        make_folder(self._path.parent)
        with locked(self._path.with_suffix(".lock")):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            database = _connect(os.fspath(self._path))
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version != VERSION:
                    if version or database.execute("SELECT 1 FROM sqlite_master").fetchone():
                        raise IntegrityError(f"it has version {version}, this program reads version {VERSION}")
                    self._begin(database)
                self._take_salt(database)
            except BaseException:
                database.close()
                raise
        self._database = database
        return database

    def _begin(self, database: sqlite3.Connection) -> None:
        salt = os.urandom(SALT_SIZE)
        sealer = RowSealer(self._key.index_subkey(), salt)
        check = sealer.seal(_META, b"check", self._key.owner_id())
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("salt", salt), ("check", check)])
        # So that no number of a file's rows is one of another's, which was there before.
        database.execute("INSERT INTO sqlite_sequence VALUES ('objects', ?)", (secrets.randbits(_NUMBER_BITS),))
        database.execute("COMMIT")

    def _take_salt(self, database: sqlite3.Connection) -> None:
        found = dict(database.execute("SELECT name, value FROM meta WHERE name IN ('salt', 'check')"))
        if len(found) != 2 or len(found["salt"]) != SALT_SIZE:
            raise IntegrityError("it has no salt")
        self._sealer = RowSealer(self._key.index_subkey(), found["salt"])
        self._sealer.open(_META, b"check", found["check"], bytes)

    def _make_anew(self) -> None:
        self.close()
        try:
            _remove(self._path)
        except OSError as error:  # as on Windows, where another program has it open
            self._go_without(error)

    def _go_without(self, error: Exception) -> None:
        """Keep everything in memory from now on; what was kept is not read again."""
        if not self._warned:
            why = getattr(error, "strerror", None) or error
            log.warning("nothing can be kept in %s: %s; devices are asked again", self._path, why)
        self._warned = True
        self.close()
        database = _connect(":memory:")
        self._begin(database)
        self._take_salt(database)
        self._database = database

    # --- mappings

    def keep_mapping(
        self, object_id: bytes, encoding_id: bytes, sealed: bytes, content: Optional[bytes] = None
    ) -> None:
        """Keep a sealed mapping, not fsynced: the devices have it durably. Warns once where the disk refuses.

        `content`: of a snapshot or tree, to be kept as by `keep_content`.
        """
        self.keep_mappings([(MappingRow(object_id, encoding_id, sealed), content)])

    def keep_mappings(self, rows: Sequence[tuple[MappingRow, Optional[bytes]]]) -> None:
        """The same for several, each with its content."""

        def insert(database: sqlite3.Connection) -> None:
            self._insert_mappings(database, [row for row, _ in rows])
            for row, content in rows:
                if content is not None:
                    self._insert_content(database, row.object_id, content)

        self._write(insert)

    def _insert_mappings(self, database: sqlite3.Connection, rows: Iterable[MappingRow]) -> None:
        named = [(self._mapping_name(row.object_id, row.encoding_id), row) for row in rows]
        sealed = [(name, self._sealer.seal(_MAPPING, name, row)) for name, row in named]
        database.executemany("INSERT OR REPLACE INTO mappings (name, sealed) VALUES (?, ?)", sealed)

    def forget_mapping(self, object_id: bytes, encoding_id: bytes) -> None:
        """Remove a mapping that is not needed any more."""
        self._opened.pop((object_id, encoding_id), None)

        def delete(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM mappings WHERE name = ?", (self._mapping_name(object_id, encoding_id),))

        self._write(delete)

    def mapping(self, object_id: bytes, encoding_id: bytes) -> Optional[ImageMapping]:
        """A kept mapping, opened; None where there is none, or it does not open and has to be fetched."""
        opened = self._opened.pop((object_id, encoding_id), None)
        return opened or self._do(lambda database: self._mapping(database, object_id, encoding_id))

    def _mapping(self, database: sqlite3.Connection, object_id: bytes, encoding_id: bytes) -> Optional[ImageMapping]:
        name = self._mapping_name(object_id, encoding_id)
        found = database.execute(_MAPPINGS, (name,)).fetchone()
        if found is None:
            return None
        row = self._sealer.open(_MAPPING, name, found[0], MappingRow)
        try:
            return open_any(self._key, row.sealed, object_id, encoding_id)
        except TesseraError:
            return None

    def kept_mappings(self) -> Iterator[MappingName]:
        """The object id and encoding id of every mapping that is kept here, the latest kept first."""
        before = 2**63 - 1
        while True:
            page = self._do(partial(self._kept_before, before))
            yield from ((row.object_id, row.encoding_id) for _, row in page)
            if len(page) < _PAGE:
                return
            before = page[-1][0]

    def _kept_before(self, before: int, database: sqlite3.Connection) -> list[tuple[int, MappingRow]]:
        found = database.execute(_KEPT, (before, _PAGE))
        return [(number, self._sealer.open(_MAPPING, name, sealed, MappingRow)) for number, name, sealed in found]

    def _mapping_name(self, object_id: bytes, encoding_id: bytes) -> bytes:
        return self._sealer.name(_MAPPING, object_id + encoding_id)

    # --- files seen

    def seen(self, paths: Iterable[bytes]) -> dict[bytes, SeenRow]:
        """What is kept of the files with these paths, by path."""

        def find(database: sqlite3.Connection) -> dict[bytes, SeenRow]:
            named = {self._sealer.name(_SEEN, path): path for path in paths}
            found: dict[bytes, SeenRow] = {}
            for some in chunks(named, _AT_ONCE):
                asked = _SEEN_ROWS.replace("?", ", ".join("?" * len(some)))
                for name, sealed in database.execute(asked, some):
                    found[named[name]] = self._sealer.open(_SEEN, name, sealed, SeenRow)
            return found

        return self._do(find)

    def keep_seen(self, rows: Mapping[bytes, SeenRow]) -> None:
        """Keep these, by path."""

        def insert(database: sqlite3.Connection) -> None:
            named = [(self._sealer.name(_SEEN, path), row) for path, row in rows.items()]
            sealed = [(name, self._sealer.seal(_SEEN, name, row)) for name, row in named]
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", sealed)

        self._write(insert)

    # --- in step with the cluster

    @property
    def cursor(self) -> Optional[Cursor]:
        """Up to where this is in step; None where everything has to be listed."""

        def find(database: sqlite3.Connection) -> Optional[Cursor]:
            found = database.execute("SELECT value FROM meta WHERE name = 'cursor'").fetchone()
            return None if found is None else Cursor(*self._sealer.open(_META, b"cursor", found[0], tuple[bytes, int]))

        return self._do(find)

    def _set_cursor(self, database: sqlite3.Connection, cursor: Cursor) -> None:
        sealed = self._sealer.seal(_META, b"cursor", tuple(cursor))
        database.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (sealed,))

    def apply(self, objects: Mapping[bytes, Sequence[EncodingAt]], cursor: Optional[Cursor] = None) -> None:
        """The cluster has these encodings of these objects, by object id; of what has none it has nothing any more.

        `cursor`: up to where the index is in step then.
        """

        def change(database: sqlite3.Connection) -> None:
            self._apply(database, objects)
            if cursor is not None:
                self._set_cursor(database, cursor)

        self._write(change)

    def list_anew(self) -> FullListing:
        """To be told all that the cluster has."""
        return FullListing(self)

    def _apply(self, database: sqlite3.Connection, objects: Mapping[bytes, Sequence[EncodingAt]]) -> None:
        names = {self._sealer.name(_OBJECT, object_id): object_id for object_id in objects}
        known = self._rows(database, names)
        gone, changed, new = [], [], []
        for name, object_id in names.items():
            kept = sorted(map(KeptEncoding.of, objects[object_id]), key=lambda each: (each.encoding_id, each.places))
            row = known.get(name)
            if not kept:
                gone.append((name,))
            elif row is None or not _describes(row.described, kept):
                if row is not None:
                    gone.append((name,))
                new.append(ObjectRow(object_id, kept, self._describe(database, object_id, kept)))
            elif row.encodings != kept:
                now = ObjectRow(object_id, kept, row.described, row.paths)
                changed.append((self._sealer.seal(_OBJECT, name, now), name))
        database.executemany("DELETE FROM objects WHERE name = ?", gone)
        database.executemany("DELETE FROM contents WHERE name = ?", gone)
        database.executemany("UPDATE objects SET sealed = ? WHERE name = ?", changed)
        self._insert_objects(database, new)

    def _rows(self, database: sqlite3.Connection, names: Iterable[bytes]) -> dict[bytes, ObjectRow]:
        """The rows of these names, as far as there are any."""
        found: dict[bytes, ObjectRow] = {}
        for some in chunks(names, _AT_ONCE):
            rows = database.execute(f"{_NAMED} ({', '.join('?' * len(some))})", some)
            found.update((name, self._open_object(name, sealed)) for name, sealed in rows)
        return found

    def _describe(
        self, database: sqlite3.Connection, object_id: bytes, encodings: Sequence[KeptEncoding]
    ) -> Optional[Described]:
        """What a mapping that is kept here says of an object."""
        for each in encodings:
            mapping = self._mapping(database, object_id, each.encoding_id)
            if mapping is not None:
                if len(self._opened) < _MOST_OPENED:
                    self._opened[object_id, each.encoding_id] = mapping
                return self._described(object_id, each.encoding_id, mapping)
        return None

    def _described(self, object_id: bytes, encoding_id: bytes, mapping: ImageMapping) -> Described:
        own = object_id == _own_id(self._key, mapping.kind, mapping.image_sha256)
        return Described.of(mapping, encoding_id, is_named_by_lookup=not own)

    def _insert_objects(self, database: sqlite3.Connection, rows: Sequence[ObjectRow]) -> None:
        values = []
        for row in rows:
            name, described = self._sealer.name(_OBJECT, row.object_id), row.described
            kind = digits = own = None
            if described is not None:
                kind = _KINDS[described.kind]
                digits = self._sealer.name(_DIGIT, described.image_sha256[:_DIGITS])
                if described.is_named_by_lookup:
                    own = self._sealer.name(_OBJECT, _own_id(self._key, described.kind, described.image_sha256))
            elif self._key.is_snapshot(row.object_id):
                kind = _SNAPSHOT
            values.append((name, kind, digits, own, self._sealer.seal(_OBJECT, name, row)))
        statement = "INSERT OR REPLACE INTO objects (name, kind, digits, own, sealed) VALUES (?, ?, ?, ?, ?)"
        database.executemany(statement, values)

    def learn(self, learned: Sequence[Learned]) -> None:
        """Keep mappings that devices gave, and what they say of their objects."""

        def change(database: sqlite3.Connection) -> None:
            self._insert_mappings(database, [MappingRow(*each[:3]) for each in learned])
            by_name = {self._sealer.name(_OBJECT, each.object_id): each for each in learned}
            rows = self._rows(database, by_name)
            self._insert_objects(
                database,
                [
                    ObjectRow(row.object_id, row.encodings, self._described(*by_name[name][:2], by_name[name].mapping))
                    for name, row in rows.items()
                    if row.described is None
                ],
            )

        self._write(change)

    # --- what there is

    def encodings(self, alive: frozenset[bytes]) -> list[EncodingAt]:
        """All encodings, by object id, while these devices are connected."""
        rows = sorted((row for _, row in self._all()), key=lambda row: row.object_id)
        return [each for row in rows for each in located(row, alive)]

    def objects(self, object_ids: Iterable[bytes]) -> dict[bytes, ObjectRow]:
        """Of these objects those that there are, by object id."""
        wanted = list(object_ids)

        def find(database: sqlite3.Connection) -> dict[bytes, ObjectRow]:
            rows = self._rows(database, [self._sealer.name(_OBJECT, object_id) for object_id in wanted])
            return {row.object_id: row for row in rows.values()}

        return self._do(find)

    def may_have_granted(self) -> bool:
        """Whether any object may be one that others share with the vault, or left for it."""
        return bool(self._do(lambda database: database.execute(_MAY_HAVE_GRANTED).fetchone()[0]))

    def count_lacking(self) -> int:
        """How many objects there are of which no mapping is known."""
        return int(self._do(lambda database: database.execute(_COUNT_LACKING).fetchone()[0]))

    def lacking(self) -> list[ObjectRow]:
        """The objects of which no mapping is known."""
        return [row for _, row in self._all(_LACKING)]

    def snapshots(self) -> list[ObjectRow]:
        """Those that are snapshots, whether their mappings are known or not."""
        return [row for _, row in self._all(_OF_KIND, _SNAPSHOT)]

    def find(self, digits: str) -> list[ObjectRow]:
        """What has a SHA-256 that begins so, with eight digits at least."""
        found = self._do(partial(self._with_digits, bytes.fromhex(digits[: 2 * _DIGITS])))
        return [row for row in found if row.described is not None and row.described.sha256.startswith(digits)]

    def _with_digits(self, first: bytes, database: sqlite3.Connection) -> list[ObjectRow]:
        name = self._sealer.name(_DIGIT, first)
        found = database.execute("SELECT name, sealed FROM objects WHERE digits = ?", (name,)).fetchall()
        return [self._open_object(*each) for each in found]

    def _open_object(self, name: bytes, sealed: bytes) -> ObjectRow:
        return self._sealer.open(_OBJECT, name, sealed, ObjectRow)

    def _all(self, statement: str = _ALL, *values: int, after: int = 0) -> Iterator[tuple[int, ObjectRow]]:
        """The rows of a statement, and their numbers, in the order in which they came; read page by page."""
        while True:
            page = self._do(partial(self._read_page, statement, values, after))
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _read_page(
        self, statement: str, values: tuple[int, ...], after: int, database: sqlite3.Connection
    ) -> list[tuple[int, ObjectRow]]:
        found = database.execute(statement, (*values, after, _PAGE))
        return [(number, self._open_object(name, sealed)) for number, name, sealed in found]

    # --- snapshots and trees

    def content(self, object_id: bytes) -> Optional[bytes]:
        """The content of a snapshot or tree that was kept here, and is still known to be there."""

        def find(database: sqlite3.Connection) -> Optional[bytes]:
            name = self._sealer.name(_OBJECT, object_id)
            found = database.execute("SELECT sealed FROM contents WHERE name = ?", (name,)).fetchone()
            return None if found is None else self._sealer.open(_CONTENT, name, found[0], bytes)

        return self._do(find)

    def keep_content(self, object_id: bytes, content: bytes) -> None:
        """Keep what was read of an object for as long as it is there, unless it is large."""
        self._write(lambda database: self._insert_content(database, object_id, content))

    def _insert_content(self, database: sqlite3.Connection, object_id: bytes, content: bytes) -> None:
        if len(content) <= _MOST_CONTENT:
            name = self._sealer.name(_OBJECT, object_id)
            sealed = self._sealer.seal(_CONTENT, name, content)
            database.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (name, sealed))

    def knows_paths(self, snapshots: Iterable[bytes]) -> bool:
        """Whether `paths` of all rows are those of these snapshots, given by SHA-256."""

        def compare(database: sqlite3.Connection) -> bool:
            found = database.execute("SELECT value FROM meta WHERE name = 'paths'").fetchone()
            if found is None:
                return False
            until, kept = self._sealer.open(_META, b"paths", found[0], tuple[int, list[bytes]])
            return until == _last(database) and kept == sorted(snapshots)

        return self._do(compare)

    def keep_paths(self, paths: Mapping[bytes, Sequence[bytes]], snapshots: Iterable[bytes]) -> None:
        """Have all images know where these snapshots have them; `paths`: by SHA-256, as the snapshots."""
        until = self._do(_last)
        changed: list[tuple[int, ObjectRow]] = []
        for number, row in self._all(_OF_KIND, _IMAGE):
            now = [] if row.described is None else list(paths.get(row.described.image_sha256, ()))
            if now != row.paths:
                changed.append((number, ObjectRow(row.object_id, row.encodings, row.described, now)))
        for some in chunks(changed, _PAGE):
            self._write(partial(self._replace_objects, some))

        def conclude(database: sqlite3.Connection) -> None:
            sealed = self._sealer.seal(_META, b"paths", (until, sorted(snapshots)))
            database.execute("INSERT OR REPLACE INTO meta VALUES ('paths', ?)", (sealed,))

        self._write(conclude)

    def _replace_objects(self, rows: Sequence[tuple[int, ObjectRow]], database: sqlite3.Connection) -> None:
        named = [(self._sealer.name(_OBJECT, row.object_id), number, row) for number, row in rows]
        sealed = [(self._sealer.seal(_OBJECT, name, row), number) for name, number, row in named]
        database.executemany("UPDATE objects SET sealed = ? WHERE id = ?", sealed)

    # --- in order

    def count_images(self) -> int:
        """How many objects are known to be images, one that is here and shared by another twice."""
        return int(self._do(lambda database: database.execute(_COUNT, (_IMAGE,)).fetchone()[0]))

    def images(self) -> Iterator[list[ObjectRow]]:
        """The images, by when they were stored and by SHA-256; the rows of each, as of `numbered`."""
        for page in chunks(self.dates().by_storing().tolist(), _PAGE):
            yield from filter(None, self.numbered(page))

    def dates(self) -> Dates:
        """Of all images, each once."""
        dates = self._dates()
        if len(dates) != self.count_images():
            dates = dates.only(self._do(_column(_NUMBERS, _IMAGE)))
        return dates.without(self._do(_column(_ALSO_OWN)))

    def numbered(self, numbers: Iterable[int]) -> list[list[ObjectRow]]:
        """For each number the rows of that image, one that is the vault's own first; none where it is gone."""

        wanted = list(numbers)

        def find(database: sqlite3.Connection) -> list[list[ObjectRow]]:
            found: dict[int, ObjectRow] = {}
            for some in chunks(wanted, _ASKED):
                rows = database.execute(_BY_NUMBER, some + [0] * (_ASKED - len(some)))
                found.update((number, self._open_object(name, sealed)) for number, name, sealed in rows)
            if database.execute("SELECT 1 FROM objects WHERE own IS NOT NULL LIMIT 1").fetchone() is None:
                return [[found[number]] if number in found else [] for number in wanted]
            return [self._group(database, number, found[number]) if number in found else [] for number in wanted]

        return self._do(find)

    def _group(self, database: sqlite3.Connection, number: int, row: ObjectRow) -> list[ObjectRow]:
        """A row with the others of the same image."""
        name = self._sealer.name(_OBJECT, row.object_id)
        if row.described is not None and row.described.is_named_by_lookup:
            name = self._sealer.name(_OBJECT, _own_id(self._key, row.described.kind, row.described.image_sha256))
        found = database.execute("SELECT name, sealed FROM objects WHERE own = ? AND id <> ?", (name, number))
        return [row, *(self._open_object(*each) for each in found)]

    def keep_dates(self) -> None:
        """Have the dates of images that are new in few rows, where they are many."""
        self._dates()

    def _dates(self) -> Dates:
        """Of all images, and of some that are gone."""
        while True:
            kept, last = self._do(self._kept_dates)
            if len(kept) > 2 * self.count_images() + _PAGE:
                self._write(_forget_dates)
                continue
            new = self._new_dates(last)
            if new is not None:
                return Dates.joined([kept, *new])

    def _new_dates(self, last: int) -> Optional[list[Dates]]:
        """Those of images that came after that one, of which many are kept in a row; None where another program did."""
        found = []
        while True:
            new = self._do(partial(self._read_page, _OF_KIND, (_IMAGE,), last))
            dates = dates_of((number, row.described) for number, row in new if row.described is not None)
            found.append(dates)
            if len(new) < _TAIL:
                return found
            if not self._write(partial(self._append_dates, last, new[-1][0], dates)):
                return None
            last = new[-1][0]

    def _kept_dates(self, database: sqlite3.Connection) -> tuple[Dates, int]:
        """Those in rows of many, and the number of the last image that is among them."""
        rows = database.execute("SELECT last, sealed FROM dates ORDER BY last").fetchall()
        opened = [self._sealer.open(_DATES, _dates_name(last), sealed, PackedDates) for last, sealed in rows]
        return Dates.joined(map(Dates.of, opened)), rows[-1][0] if rows else 0

    def _append_dates(self, after: int, last: int, dates: Dates, database: sqlite3.Connection) -> bool:
        if database.execute("SELECT COALESCE(MAX(last), 0) FROM dates").fetchone()[0] != after:
            return False
        sealed = self._sealer.seal(_DATES, _dates_name(last), dates.packed())
        database.execute("INSERT INTO dates VALUES (?, ?)", (last, sealed))
        return True


class FullListing:
    """All that the cluster has, told in pages; what is not in them it has no more."""

    def __init__(self, index: VaultIndex) -> None:
        self._index = index
        self._sealer = index._sealer
        self._names = array("Q")  # the first 8 bytes of each

    def add(self, objects: Mapping[bytes, Sequence[EncodingAt]]) -> None:
        """Some objects, with all their encodings."""
        self._index.apply(objects)
        self._names.extend(_short(self._index._sealer.name(_OBJECT, object_id)) for object_id in objects)

    def finish(self, cursor: Optional[Cursor]) -> bool:
        """These were all; False where the index was made anew meanwhile, so that they have to be told again."""
        names = array("Q", sorted(self._names))

        def is_listed(name: bytes) -> bool:
            short = _short(name)
            place = bisect.bisect_left(names, short)
            return place < len(names) and names[place] == short

        def finish(database: sqlite3.Connection) -> bool:
            if self._sealer is not self._index._sealer:
                return False
            gone = [(n,) for n, name in database.execute("SELECT id, name FROM objects") if not is_listed(name)]
            database.executemany("DELETE FROM objects WHERE id = ?", gone)
            database.execute("DELETE FROM contents WHERE name NOT IN (SELECT name FROM objects)")
            if cursor is not None:
                self._index._set_cursor(database, cursor)
            return True

        return self._index._write(finish)


def _column(statement: str, *values: int) -> Callable[[sqlite3.Connection], Numbers]:
    """To read whole numbers."""
    return lambda database: np.fromiter((number for (number,) in database.execute(statement, values)), np.int64)


def _forget_dates(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM dates")


def _dates_name(last: int) -> bytes:
    return last.to_bytes(8, "big")


def _short(name: bytes) -> int:
    return int.from_bytes(name[:8], "big")


def located(row: ObjectRow, alive: frozenset[bytes]) -> list[EncodingAt]:
    """An object's encodings while these devices are connected, the one with most shares at hand first."""
    found = [each.at(row.object_id, alive) for each in row.encodings]
    if len(found) > 1:
        found.sort(key=lambda each: (-len(shares_at_hand(each)), each.encoding_id))
    return found


def _last(database: sqlite3.Connection) -> int:
    """The number of the last row of an object that there ever was."""
    found = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'objects'").fetchone()
    return int(found[0]) if found else 0


def _describes(described: Optional[Described], encodings: Sequence[KeptEncoding]) -> bool:
    return described is None or any(each.encoding_id == described.encoding_id for each in encodings)


def _own_id(key: VaultKey, kind: Kind, sha256: bytes) -> bytes:
    if kind == PRUNE:
        return key.prune_object_id()
    return (key.snapshot_object_id if kind == SNAPSHOT else key.object_id)(sha256)


def indexes_in(folder: Path) -> Iterator[Path]:
    """The indexes in a vault's folder."""
    return (folder / "index").glob("*.db")


def remove_index(path: Path) -> None:
    """Remove an index that is not needed any more; errors do not matter."""
    with contextlib.suppress(OSError):
        _remove(path)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _transaction(database: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
    database.execute("BEGIN IMMEDIATE")
    try:
        done = work(database)
        database.execute("COMMIT")
        return done
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
