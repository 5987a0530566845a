"""The catalog's rows in SQLite: encodings, the objects that they are of, and what is counted of devices and owners.

Rows are read and written many at a time: what changed since `commit` is seen by whoever reads here, and becomes durable
together. The connection comes from outside: a file's (`catalog_file`), or one of memory. What cannot be read raises
CatalogDamaged: the catalog is a cache, and whoever has it makes it anew.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple, Optional, Union

import msgspec

from broker.claims import Claim, Entry, Place
from broker.plain import PLACE_SIZE, Plain, plain_claim, unpacked_claim
from common.errors import IntegrityError
from common.protocol.messages import MAX_SHARES

Kept = Union[Entry, Plain]
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
_NUMBERS = struct.Struct(">QQB")  # of a row: ref, bits of devices, whether it is complete
_UNREADABLE = TypeError, AttributeError, ValueError, IndexError, struct.error, msgspec.MsgspecError
_ALIKE = 10_000  # places of encodings that are remembered, since they recur


class CatalogRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection`: as of `Storage`. CatalogDamaged as from each method here."""
        self.connection = connection
        self._begun = False
        self._devices: dict[int, bytes] = {}  # slot → device id
        self._slots: dict[bytes, int] = {}
        self._places: dict[bytes, tuple[Place, ...]] = {}  # packed → those of an encoding, which recur in many
        self._apart: dict[bytes, int] = {}  # packed places → how many, where each is another share and device, else 0
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

    def entries(self, encoding_ids: Sequence[bytes]) -> Iterator[Kept]:
        """Those of these that there are."""
        for some in groups(encoding_ids):
            statement = f"SELECT * FROM encodings WHERE encoding IN ({','.join('?' * len(some))})"  # noqa: S608
            with self.asked():
                rows = self.connection.execute(statement, some).fetchall()
            for row in rows:
                yield self._unpacked(*row)

    def write(self, entries: Iterable[Kept]) -> None:
        """Write these, or take them out where nothing is said of them any more."""
        added, changed, gone = [], [], []
        for kept in sorted(entries, key=lambda kept: kept.ref):
            if isinstance(kept, Entry) and kept.is_empty:
                if kept.stored:
                    gone.append((kept.ref,))
                kept.ref, kept.stored = 0, False
                continue
            row = self._packed(kept)
            if kept.stored:
                changed.append((*row, kept.ref))
            else:
                added.append((kept.ref, kept.encoding_id, *row))
                kept.stored = True
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

    def counts_of(self, owner: bytes, object_ids: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Those of an owner's objects of which there are encodings, and how many."""
        for some in groups(object_ids):
            asked = f"object IN ({','.join('?' * len(some))}) GROUP BY object"
            statement = f"SELECT object, count(*) FROM objects WHERE owner = ? AND {asked}"  # noqa: S608 - of marks
            with self.asked():
                yield from self.connection.execute(statement, (owner, *some)).fetchall()

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
        self._places.clear()
        self._apart.clear()
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

    def bit_of(self, device: bytes) -> int:
        """The bit of a device, which gets a slot where it has none."""
        return 1 << self.slot_of(device) % _BITS

    def places_on(self, device: bytes) -> list[bytes]:
        """Packed, the place of each share on a device."""
        slot = self.slot_of(device).to_bytes(2, "big")
        return [bytes((share,)) + slot for share in range(MAX_SHARES)]

    def unpacked(self, plain: Plain) -> Entry:
        """The same encoding, of which other things can be said."""
        entry = Entry(plain.ref, plain.encoding_id, stored=plain.stored)
        if plain.claim:
            entry.sound[unpacked_claim(plain.claim, plain.encoding_id)] = self.unpacked_places(plain.places)
        return entry

    def _packed(self, kept: Kept) -> tuple[int, int, bytes]:
        """The bits of an encoding's devices, whether it is complete, and its record."""
        if isinstance(kept, Plain):
            claim, places, devices = kept.claim, kept.places, kept.devices
        else:
            claim, devices = plain_claim(kept), 0
            for device in kept.devices():
                devices |= self.bit_of(device)
            places = self._pack_places(next(iter(kept.sound.values()))) if claim else b""
        if claim or isinstance(kept, Plain):
            record = bytes((len(claim),)) + claim + places
            complete = int(self._count_apart(places) == claim[1])
        else:
            record, complete = b"\0" + self._packed_entry(kept), int(kept.is_complete())
        return devices, complete, _checksum(kept.ref, kept.encoding_id, devices, complete, record) + record

    def _packed_entry(self, entry: Entry) -> bytes:
        claims = [
            _ClaimRow(c.owner, c.object_id, c.k, c.n, c.share_bytes, c.granted, c.depositor, self._pack_places(places))
            for c, places in entry.sound.items()
        ]
        revisions = [(self._pack_places((place,)), revision) for place, revision in entry.revisions.items()]
        return _ENCODER.encode(_Record(claims, self._pack_places(entry.damaged), revisions))

    def _pack_places(self, places: Iterable[Place]) -> bytes:
        return b"".join([bytes((share,)) + self.slot_of(device).to_bytes(2, "big") for share, device in places])

    def is_complete(self, plain: Plain) -> bool:
        """Whether there is each of its shares, once, and each on another device."""
        return bool(plain.claim) and self._count_apart(plain.places) == plain.claim[1]

    def _count_apart(self, packed: bytes) -> int:
        """How many places these are, where each is of another share, on another device; else 0."""
        count = self._apart.get(packed)
        if count is None:
            places = self.unpacked_places(packed)
            shares, devices = {place.share for place in places}, {place.device for place in places}
            count = len(places) if len(shares) == len(devices) == len(places) else 0
            if len(self._apart) >= _ALIKE:
                self._apart.clear()
            self._apart[packed] = count
        return count

    def _unpacked(self, ref: int, encoding_id: bytes, devices: int, complete: int, stored: bytes) -> Kept:
        try:
            record = stored[_CHECKSUM:]
            if stored[:_CHECKSUM] != _checksum(ref, encoding_id, devices, complete, record):
                raise CatalogDamaged("a row of the catalog is damaged")
            size = record[0] + 1
            if size > 1:
                return Plain(ref, encoding_id, claim=record[1:size], places=record[size:], devices=devices)
            read = _DECODER.decode(record[1:])
        except _UNREADABLE as error:
            raise CatalogDamaged("a row of the catalog is damaged") from error
        entry = Entry(ref, encoding_id, stored=True)
        for c in read.claims:
            claim = Claim(c.owner, c.object_id, encoding_id, c.k, c.n, c.share_bytes, c.granted, c.depositor)
            entry.sound[claim] = self.unpacked_places(c.places)
        entry.damaged = self.unpacked_places(read.damaged)
        entry.revisions = {self.unpacked_places(packed)[0]: revision for packed, revision in read.revisions}
        return entry

    def unpacked_devices(self, devices: bytes) -> list[bytes]:
        """The devices, as of `plain.devices_in`."""
        half = len(devices) // 2
        return [self._device(high << 8 | low) for high, low in zip(devices[:half], devices[half:])]

    def unpacked_places(self, packed: bytes) -> tuple[Place, ...]:
        places = self._places.get(packed)
        if places is None:
            ones = [packed[at : at + PLACE_SIZE] for at in range(0, len(packed), PLACE_SIZE)]
            places = tuple([Place(one[0], self._device(int.from_bytes(one[1:], "big"))) for one in ones])
            if len(self._places) >= _ALIKE:
                self._places.clear()
            self._places[packed] = places
        return places


def _checksum(ref: int, encoding_id: bytes, devices: int, complete: int, record: bytes) -> bytes:
    numbers = _NUMBERS.pack(ref, devices, complete)
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
