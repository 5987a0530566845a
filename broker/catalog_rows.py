"""The catalog's rows in SQLite: encodings, the objects that they are of, and what is counted of devices and owners.

Rows are read and written many at a time: what changed since `commit` is seen by whoever reads here, and becomes durable
together. The connection comes from outside: a file's (`catalog_file`), or one of memory. What cannot be read raises
CatalogDamaged: the catalog is a cache, and whoever has it makes it anew.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple, Optional

import msgspec

from broker.claims import Claim, Entry, Place
from common.errors import IntegrityError

_Found = tuple[bytes, bytes, bytes]  # owner, object id, encoding id
_SELECTED = 500  # rows asked for in one statement
_BITS = 63  # of SQLite's integers; devices beyond that share theirs
_CHECKSUM = 4  # bytes in front of each record

SCHEMA = """
CREATE TABLE findings (encoding BLOB PRIMARY KEY, state INTEGER NOT NULL, spare INTEGER NOT NULL, unannounced INTEGER,
                       incomplete INTEGER, bytes_left INTEGER NOT NULL, leaving BLOB, since REAL, stale REAL,
                       k INTEGER, n INTEGER, owner BLOB, surplus INTEGER, again REAL) WITHOUT ROWID;
CREATE INDEX lacking ON findings (owner, spare) WHERE owner IS NOT NULL;
CREATE INDEX surplus ON findings (surplus) WHERE surplus IS NOT NULL;
CREATE INDEX again ON findings (again) WHERE again IS NOT NULL;
CREATE INDEX stale ON findings (stale) WHERE stale IS NOT NULL;
CREATE TABLE changes (number INTEGER PRIMARY KEY, owner BLOB NOT NULL, object BLOB NOT NULL);
CREATE TABLE change_log (state BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE opened (boot BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE codes (k INTEGER, n INTEGER, encodings INTEGER NOT NULL, PRIMARY KEY (k, n)) WITHOUT ROWID;
CREATE TABLE encodings (ref INTEGER PRIMARY KEY, encoding BLOB NOT NULL UNIQUE, devices INTEGER NOT NULL,
                        complete INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE objects (owner BLOB NOT NULL, object BLOB NOT NULL, encoding BLOB NOT NULL,
                      PRIMARY KEY (owner, object, encoding)) WITHOUT ROWID;
CREATE TABLE devices (slot INTEGER PRIMARY KEY, device BLOB NOT NULL UNIQUE, counted BLOB NOT NULL);
CREATE TABLE owned (owner BLOB NOT NULL, slot INTEGER NOT NULL, bytes INTEGER NOT NULL, room INTEGER NOT NULL,
                    PRIMARY KEY (owner, slot)) WITHOUT ROWID;
"""


class CatalogDamaged(IntegrityError):
    """The catalog cannot be read, or (`by_system`) the system does not let it be read or written."""

    by_system = False


class Storage(NamedTuple):
    """Where rows lie: a database with SCHEMA, in autocommit mode, and how many bytes they may take there."""

    connection: sqlite3.Connection
    room: Optional[int] = None  # None where that is of the memory that devices' words may take


class DeviceRow(NamedTuple):
    """What is counted of a device."""

    slot: int  # its number in the rows
    shares: int
    sound_bytes: int
    room: int  # bytes of the catalog that it takes
    digest: int  # of all that it announced: `common.protocol.announcements`
    epoch: Optional[bytes]  # of its numbering, up to which announcement of it all is known; None where it has none
    sequence: int


class _ClaimRow(msgspec.Struct, array_like=True, gc=False):
    owner: bytes
    object_id: bytes
    k: int
    n: int
    share_bytes: int
    granted: bool
    depositor: Optional[bytes]
    places: bytes


class _Record(msgspec.Struct, array_like=True, gc=False):
    claims: list[_ClaimRow]
    damaged: bytes
    revisions: list[tuple[bytes, int]]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Record)
_PLACE = 3  # bytes: share, and its device's slot


class CatalogRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection`: as of `Storage`. CatalogDamaged as from each method here."""
        self.connection = connection
        self._begun = False
        self._devices: dict[int, bytes] = {}  # slot → device id
        self._slots: dict[bytes, int] = {}
        self._places: dict[bytes, Place] = {}  # packed → one object for each, since they recur in many encodings
        with self.asked():
            for slot, device in connection.execute("SELECT slot, device FROM devices"):
                self._devices[slot], self._slots[device] = device, slot

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around whatever the database is asked: CatalogDamaged where it cannot answer."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:  # what is rotten may read as anything
            damaged = CatalogDamaged(f"the catalog: {error}")
            damaged.by_system = isinstance(error, sqlite3.OperationalError)
            raise damaged from error

    def begin(self) -> None:
        """Before anything is written."""
        if not self._begun:
            self.connection.execute("BEGIN")
            self._begun = True

    def commit(self) -> None:
        """Make all that was written since durable, together."""
        if self._begun:
            with self.asked():
                self.connection.execute("COMMIT")
            self._begun = False

    # --- encodings

    def entries(self, encoding_ids: Sequence[bytes]) -> Iterator[Entry]:
        """Those of these that there are."""
        for some in groups(encoding_ids):
            statement = f"SELECT * FROM encodings WHERE encoding IN ({','.join('?' * len(some))})"  # noqa: S608
            with self.asked():
                rows = self.connection.execute(statement, some).fetchall()
            for row in rows:
                yield self._unpacked(*row)

    def write(self, entries: Iterable[Entry]) -> None:
        """Write these, or take them out where nothing is said of them any more."""
        added, changed, gone = [], [], []
        for entry in sorted(entries, key=lambda entry: entry.ref):
            if entry.is_empty:
                if entry.stored:
                    gone.append((entry.ref,))
                entry.ref, entry.stored = 0, False
                continue
            row = self._packed(entry)
            if entry.stored:
                changed.append((*row, entry.ref))
            else:
                added.append((entry.ref, entry.encoding_id, *row))
                entry.stored = True
        with self.asked():
            self.begin()
            self.connection.executemany("DELETE FROM encodings WHERE ref = ?", gone)
            self.connection.executemany(
                "UPDATE encodings SET devices = ?, complete = ?, record = ? WHERE ref = ?", changed
            )
            self.connection.executemany("INSERT INTO encodings VALUES (?, ?, ?, ?, ?)", added)

    def count(self) -> int:
        """How many encodings there are."""
        return self._value("SELECT count(*) FROM encodings")

    def last_ref(self) -> int:
        return self._value("SELECT ifnull(max(ref), 0) FROM encodings")

    def encodings_on(self, device: bytes, behind: int, limit: int) -> list[tuple[int, bytes]]:
        """Refs and ids of up to `limit` encodings of which a device may hold shares, in order, behind a ref.

        Where `behind` is negative, those before it, the last first.
        """
        ahead = "ref > ?1 AND devices & ?2 ORDER BY ref"
        back = "ref < -?1 AND devices & ?2 ORDER BY ref DESC"
        statement = f"SELECT ref, encoding FROM encodings WHERE {back if behind < 0 else ahead} LIMIT ?3"  # noqa: S608
        with self.asked():
            return self.connection.execute(statement, (behind, self._bit(device), limit)).fetchall()

    def to_look_at(self, refs: range, changed: int, away: int, limit: int) -> list[tuple[int, bytes]]:
        """Refs and ids of encodings, of these refs and in order, that are not simply whole.

        `changed`: the bits of devices of which an encoding has to be on one; `away`: of those that are not here. Left
        out is what is complete on devices that are here, and of which nothing else was found before.
        """
        with self.asked():
            return self.connection.execute(
                "SELECT ref, encoding FROM encodings WHERE ref >= ? AND ref < ? AND devices & ? AND NOT (complete AND"
                " devices & ? = 0 AND NOT EXISTS (SELECT 1 FROM findings WHERE findings.encoding = encodings.encoding))"
                " ORDER BY ref LIMIT ?",
                (refs.start, refs.stop, changed, away, limit),
            ).fetchall()

    def bits(self, devices: Iterable[bytes]) -> int:
        """By which `to_look_at` knows devices."""
        bits = 0
        for device in devices:
            bits |= self._bit(device)
        return bits

    # --- objects

    def change_objects(self, added: Iterable[_Found], gone: Iterable[_Found]) -> None:
        """Owner, object id and encoding id of what is found by them from now on, and of what is no more."""
        with self.asked():
            self.begin()
            self.connection.executemany("DELETE FROM objects WHERE owner = ? AND object = ? AND encoding = ?", gone)
            self.connection.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", added)

    def encodings_of(self, owner: bytes, object_id: bytes) -> list[bytes]:
        statement = "SELECT encoding FROM objects WHERE owner = ? AND object = ?"
        with self.asked():
            return [encoding_id for (encoding_id,) in self.connection.execute(statement, (owner, object_id))]

    def count_of(self, owner: bytes, object_id: bytes, most: int) -> int:
        """How many encodings an object has; `most` where it has more."""
        some = "SELECT 1 FROM objects WHERE owner = ? AND object = ? LIMIT ?"
        return self._value(f"SELECT count(*) FROM ({some})", owner, object_id, most)  # noqa: S608 - a constant

    def objects_behind(self, owner: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Object and encoding ids of an owner's encodings, of up to `limit` objects behind `after`, in order."""
        some = "SELECT DISTINCT object FROM objects WHERE owner = ?1 AND object > ?2 ORDER BY object LIMIT ?3"
        last = f"SELECT max(object) FROM ({some})"  # noqa: S608 - a constant
        statement = "SELECT object, encoding FROM objects WHERE owner = ?1 AND object > ?2 AND object <= "
        with self.asked():
            return self.connection.execute(f"{statement} ({last})", (owner, after, limit)).fetchall()

    def several(self) -> list[tuple[bytes, bytes]]:
        """Owners and object ids of which there are several encodings."""
        statement = "SELECT owner, object FROM objects GROUP BY owner, object HAVING count(*) > 1"
        with self.asked():
            return self.connection.execute(statement).fetchall()

    # --- what is counted

    def devices(self) -> dict[bytes, DeviceRow]:
        """device id → what is counted of it."""
        with self.asked():
            rows = self.connection.execute("SELECT slot, device, counted FROM devices").fetchall()
        return {device: DeviceRow(slot, *_counted(packed)) for slot, device, packed in rows}

    def write_devices(self, rows: dict[bytes, DeviceRow]) -> None:
        packed = [
            (row.slot, device, _ENCODER.encode([*row[1:4], row.digest.to_bytes(16, "big"), *row[5:]]))
            for device, row in rows.items()
        ]
        with self.asked():
            self.begin()
            self.connection.executemany("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", packed)

    def slot_of(self, device: bytes) -> int:
        """Its number in the rows, a new one where it has none."""
        slot = self._slots.get(device)
        if slot is None:
            slot = self._slots[device] = next(n for n in range(1 << 16) if n not in self._devices)
            self._devices[slot] = device
            empty = DeviceRow(slot, 0, 0, 0, 0, None, 0)
            self.write_devices({device: empty})
        return slot

    def drop_device(self, device: bytes) -> None:
        """One of which nothing is said any more."""
        slot = self._slots.pop(device, None)
        if slot is None:
            return
        del self._devices[slot]
        self._places = {packed: place for packed, place in self._places.items() if place.device != device}
        with self.asked():
            self.begin()
            self.connection.execute("DELETE FROM devices WHERE slot = ?", (slot,))

    def owned(self, owner: bytes) -> dict[bytes, list[int]]:
        """device id → bytes of blocks, and of the catalog, of an owner's."""
        with self.asked():
            rows = self.connection.execute("SELECT slot, bytes, room FROM owned WHERE owner = ?", (owner,)).fetchall()
        return {self._device(slot): [size, room] for slot, size, room in rows}

    def write_owned(self, owned: dict[bytes, dict[bytes, list[int]]]) -> None:
        """Write all that is counted of these owners."""
        rows = [
            (owner, self.slot_of(device), size, room)
            for owner, devices in owned.items()
            for device, (size, room) in devices.items()
        ]
        with self.asked():
            self.begin()
            self.connection.executemany("DELETE FROM owned WHERE owner = ?", [(owner,) for owner in owned])
            self.connection.executemany("INSERT INTO owned VALUES (?, ?, ?, ?)", rows)

    def codes(self) -> Counter[tuple[int, int]]:
        """k and n → how many encodings are claimed to have them."""
        with self.asked():
            rows = self.connection.execute("SELECT k, n, encodings FROM codes").fetchall()
        return Counter({(k, n): count for k, n, count in rows})

    def write_codes(self, codes: Mapping[tuple[int, int], int]) -> None:
        rows = [(k, n, count) for (k, n), count in codes.items()]
        with self.asked():
            self.begin()
            self.connection.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?)", rows)

    def _value(self, statement: str, *values: object) -> int:
        with self.asked():
            row = self.connection.execute(statement, values).fetchone()
        return int(row[0])

    # --- records

    def _bit(self, device: bytes) -> int:
        slot = self._slots.get(device)
        return 0 if slot is None else 1 << slot % _BITS

    def _device(self, slot: int) -> bytes:
        try:
            return self._devices[slot]
        except KeyError:
            raise CatalogDamaged("the catalog names a device that it does not know") from None

    def _packed(self, entry: Entry) -> tuple[int, int, bytes]:
        """The bits of an entry's devices, whether it is complete, and its record."""
        claims = [
            _ClaimRow(c.owner, c.object_id, c.k, c.n, c.share_bytes, c.granted, c.depositor, self._pack_places(places))
            for c, places in entry.sound.items()
        ]
        revisions = [(self._pack_places((place,)), revision) for place, revision in entry.revisions.items()]
        record = _ENCODER.encode(_Record(claims, self._pack_places(entry.damaged), revisions))
        devices = 0
        for device in entry.devices():
            devices |= self._bit(device)
        complete = int(entry.is_complete())
        return devices, complete, _checksum(entry.ref, entry.encoding_id, devices, complete, record) + record

    def _pack_places(self, places: Iterable[Place]) -> bytes:
        return b"".join([bytes((share,)) + self.slot_of(device).to_bytes(2, "big") for share, device in places])

    def _unpacked(self, ref: int, encoding_id: bytes, devices: int, complete: int, stored: bytes) -> Entry:
        try:
            checksum = _checksum(ref, encoding_id, devices, complete, stored[_CHECKSUM:])
            if stored[:_CHECKSUM] != checksum:
                raise CatalogDamaged("a row of the catalog is damaged")
            record = _DECODER.decode(memoryview(stored)[_CHECKSUM:])
        except (TypeError, AttributeError, OverflowError, ValueError, msgspec.MsgspecError) as error:
            raise CatalogDamaged("a row of the catalog is damaged") from error
        entry = Entry(ref, encoding_id, stored=True)
        for c in record.claims:
            claim = Claim(c.owner, c.object_id, encoding_id, c.k, c.n, c.share_bytes, c.granted, c.depositor)
            entry.sound[claim] = self._unpack_places(c.places)
        entry.damaged = self._unpack_places(record.damaged)
        entry.revisions = {self._unpack_places(packed)[0]: revision for packed, revision in record.revisions}
        return entry

    def _unpack_places(self, packed: bytes) -> tuple[Place, ...]:
        try:
            return tuple([self._places[packed[at : at + _PLACE]] for at in range(0, len(packed), _PLACE)])
        except KeyError:
            pass
        for at in range(0, len(packed), _PLACE):
            one = packed[at : at + _PLACE]
            self._places[one] = Place(one[0], self._device(int.from_bytes(one[1:], "big")))
        return self._unpack_places(packed)


def _checksum(ref: int, encoding_id: bytes, devices: int, complete: int, record: bytes) -> bytes:
    numbers = ref.to_bytes(8, "big") + devices.to_bytes(8, "big") + complete.to_bytes(1, "big")
    return zlib.crc32(record, zlib.crc32(encoding_id + numbers)).to_bytes(_CHECKSUM, "big")


def _counted(packed: bytes) -> tuple[int, int, int, int, Optional[bytes], int]:
    try:
        shares, sound_bytes, room, digest, epoch, sequence = msgspec.msgpack.decode(
            packed, type=tuple[int, int, int, bytes, Optional[bytes], int]
        )
    except (TypeError, msgspec.MsgspecError) as error:
        raise CatalogDamaged("what the catalog counted of a device is damaged") from error
    return shares, sound_bytes, room, int.from_bytes(digest, "big"), epoch, sequence


def groups(values: Sequence[object]) -> Iterator[list[object]]:
    rest = iter(values)
    while some := list(islice(rest, _SELECTED)):
        yield some
