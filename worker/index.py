"""What this device has, and where: an index in SQLite, made anew from packs and files where it lacks.

Nothing durable stands here alone, so it is never waited for: after a power cut it is as it was at some moment before,
and `recovery` brings it up to date from what the packs have beyond. Each row carries a digest, and says how far each
pack was read; what is damaged makes the whole index new, once, at the next question.

Changes are made in transactions, each after what it stands for is durable. What is to be announced of them is kept in
memory: only the last state of a share is announced, so it is enough to know which changed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import msgspec
from blake3 import blake3

from common.errors import IntegrityError, ProtocolError
from common.protocol.announcements import DIGEST_SIZE, MODULUS, digest_of
from common.protocol.codec import pack as packed
from common.protocol.codec import unpack
from common.protocol.device_messages import ShareName
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import AnnouncedShare, Code, Message, Tombstone
from worker import amendments, approver_lists, share_file, tombstones
from worker.approver_lists import KeptApprovers, decode_approvers, encode_approvers
from worker.disk import Disk
from worker.layout import Layout, Place, ShareKey
from worker.pack_format import FRAME_SIZE, NO_SHARE, Frame, Kind
from worker.packs import Record
from worker.refusals import Refusal
from worker.share_states import HERE, KeptShare, State, require_transition
from worker.tombstones import KeptTombstone, decode_tombstone, encode_tombstone

log = logging.getLogger(__name__)

T = TypeVar("T")
_VERSION = 4
_CHECK_SIZE = 8
_PAGE = 1000  # rows
_MOST_WITHDRAWN = 200_000  # shares that are remembered, to be told to brokers that were away
_SCHEMA = """
CREATE TABLE share (serial INTEGER PRIMARY KEY, encoding BLOB, share INTEGER, state INTEGER, owner BLOB, pack INTEGER,
                    content BLOB, changed INTEGER);
CREATE INDEX share_of_encoding ON share (encoding, share);
CREATE INDEX share_in_pack ON share (pack);
CREATE INDEX share_changed ON share (changed) WHERE state <= 2;
CREATE TABLE withdrawn (sequence INTEGER PRIMARY KEY, encoding BLOB, share INTEGER);
CREATE INDEX share_not_held ON share (state, serial) WHERE state > 1;
CREATE TABLE tombstone (serial INTEGER, pack INTEGER, offset INTEGER, content BLOB, encoding BLOB, owner BLOB,
                        trash_until INTEGER, ends INTEGER, sum BLOB, PRIMARY KEY (encoding, owner)) WITHOUT ROWID;
CREATE INDEX tombstone_in_pack ON tombstone (pack);
CREATE INDEX tombstone_of_owner ON tombstone (owner, ends, serial);
CREATE TABLE approvers (serial INTEGER, pack INTEGER, offset INTEGER, content BLOB, owner BLOB PRIMARY KEY,
                        sum BLOB) WITHOUT ROWID;
CREATE TABLE amendment (pack INTEGER, share INTEGER, PRIMARY KEY (pack, share)) WITHOUT ROWID;
CREATE TABLE superseded (owner BLOB, share INTEGER, at INTEGER, PRIMARY KEY (owner, share, at)) WITHOUT ROWID;
CREATE INDEX superseded_at ON superseded (at);
CREATE TABLE moved (share INTEGER, pack INTEGER, sum BLOB, PRIMARY KEY (share, pack)) WITHOUT ROWID;
CREATE INDEX moved_from_pack ON moved (pack);
CREATE TABLE removal (serial INTEGER, lay_in INTEGER, share INTEGER, pack INTEGER, offset INTEGER, sum BLOB,
                      PRIMARY KEY (serial, lay_in)) WITHOUT ROWID;
CREATE INDEX removal_of_pack ON removal (lay_in, share);
CREATE INDEX removal_in_pack ON removal (pack);
CREATE TABLE usage (state INTEGER, owner BLOB, shares INTEGER, bytes INTEGER, sum BLOB,
                    PRIMARY KEY (state, owner)) WITHOUT ROWID;
CREATE TABLE account (owner BLOB PRIMARY KEY, account BLOB, sum BLOB) WITHOUT ROWID;
CREATE TABLE pack (number INTEGER PRIMARY KEY, read INTEGER, living INTEGER, sum BLOB);
CREATE TABLE meta (name TEXT PRIMARY KEY, value, sum BLOB);
"""
_SHARES_WHERE = "SELECT serial, encoding, share, state, owner, pack, content FROM share WHERE "
_CHANGED = """SELECT changed, serial, encoding, share, state, owner, pack, content FROM share
              WHERE changed > ? AND state <= 2 ORDER BY changed LIMIT ?"""
_ENTER_SHARE = "INSERT OR REPLACE INTO share VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENTER_AMENDMENT = "INSERT OR REPLACE INTO amendment VALUES (?, ?)"
_FORGET_AMENDMENT = "DELETE FROM amendment WHERE pack = ? AND share = ?"
_ENTER_SUPERSEDED = "INSERT OR REPLACE INTO superseded VALUES (?, ?, ?)"
_FORGET_SUPERSEDED = "DELETE FROM superseded WHERE owner = ? AND share = ? AND at = ?"
_KNOWN = """SELECT encoding FROM share WHERE encoding IN (?)
            UNION ALL SELECT encoding FROM tombstone WHERE encoding IN (?)"""
_TOMBSTONES_WHERE = "SELECT * FROM tombstone WHERE "
_APPROVERS_WHERE = "SELECT * FROM approvers WHERE "
_REMOVALS_WHERE = "SELECT * FROM removal WHERE "
_REWRITTEN = -1


class _Books(Message):
    serial: int = 0  # the last one
    sequence: int = 0
    digest: bytes = b""
    epoch: bytes = b""


class Numbering(NamedTuple):
    """Of the changes of what is announced."""

    epoch: bytes  # another one for each index
    sequence: int  # of the last
    digest: bytes  # of all that is announced (`common.protocol.announcements`)


@dataclass
class Changes:
    """Changes to be announced to every broker."""

    tombstones: list[Tombstone] = field(default_factory=list)
    withdrawn: list[ShareName] = field(default_factory=list)
    announced: list[AnnouncedShare] = field(default_factory=list)
    sequence: int = 0  # of the last change

    def __bool__(self) -> bool:
        return bool(self.tombstones or self.withdrawn or self.announced)


class Removal(NamedTuple):
    """Where it is written that a share, or a pack that was written anew, is gone."""

    serial: int
    share: int  # its serial; of a pack its number
    lay_in: int  # pack, 0 for a file
    place: Place  # of this record

    @classmethod
    def of_pack(cls, serial: int, number: int, place: Place) -> Removal:
        return cls(serial, number, _REWRITTEN, place)

    @property
    def is_of_pack(self) -> bool:
        return self.lay_in == _REWRITTEN


class FoundRecord(NamedTuple):
    """A record that was found in a pack, or the file of a large share, at a start."""

    serial: int
    kind: Kind
    encoding_id: bytes
    share: int
    about: int
    place: Place
    whole: bool  # its body

    @classmethod
    def of(cls, frame: Frame, place: Place, whole: bool) -> FoundRecord:
        return cls(frame.serial, frame.kind, frame.encoding_id, frame.share, frame.about, place, whole)

    @property
    def key(self) -> ShareKey:
        return self.encoding_id, self.share


class PlacedTombstone(NamedTuple):
    """A tombstone, the serial of its record and where that lies."""

    kept: KeptTombstone
    serial: int
    place: Place

    @property
    def record(self) -> Record:
        """As it is written anew."""
        key = self.kept.tombstone.encoding_id, NO_SHARE
        return Record(Kind.TOMBSTONE, key, self.serial, 0, encode_tombstone(self.kept))


class PlacedApprovers(NamedTuple):
    """An owner's approvers, the serial of their record and where that lies."""

    kept: KeptApprovers
    serial: int
    place: Place

    @property
    def record(self) -> Record:
        """As it is written anew."""
        return Record(Kind.APPROVERS, (self.kept.owner, NO_SHARE), self.serial, 0, encode_approvers(self.kept))


class Index:
    """`rebuild` is called once where the index was damaged: it fills the empty one."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._path = layout.index
        self._in_memory = False
        self._database: Optional[sqlite3.Connection] = None
        self._damaged = False
        self._within = False  # a transaction
        self._opening = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(KeptShare).decode
        self._usage: dict[tuple[int, bytes], list[int]] = {}  # state and owner → shares, bytes
        self._accounts: dict[bytes, bytes] = {}  # owner → account
        self._packs: dict[int, list[int]] = {}  # number → read up to, bytes of records that are needed
        self._touched: set[Any] = set()  # of both, what is to be written with the transaction
        self._serial = 0
        self.epoch = b""  # of the numbering of changes, another one for each index
        self.sequence = 0  # of the last change of what is announced
        self._digest = 0  # of all that is announced
        self._changed: dict[ShareKey, Optional[AnnouncedShare]] = {}  # None: as it is by then
        self._tombstones: dict[tuple[bytes, bytes], Tombstone] = {}
        self.rebuild: Callable[[], None] = lambda: None

    # --- opening

    def open(self, *, in_memory: bool = False) -> bool:
        """Open the index; False where there was none, or none that is whole, and it is empty.

        OSError where the disk refuses. `in_memory`: of a store that cannot be written.
        """
        self._in_memory, self._opening = in_memory, True
        try:
            if not in_memory and self._connect():
                self.look_through()
                self._load()
                if not self.unread:
                    return True
                log.warning("something could not be read at the start before: the index is made anew")
        except _DamagedError as error:
            log.warning("%s does not read, and is made anew: %s", self._path, error)
        finally:
            self._opening = False
        self._begin_anew()
        return False

    def _connect(self) -> bool:
        """Whether there is an index of this version, and complete."""
        self._database = None if self._in_memory else self._disk.database(self._path)
        if self._database is None:
            self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16384"):
            self._ask(f"PRAGMA {pragma}")
        self._ask("CREATE TEMP TABLE found (serial, kind, encoding, share, about, pack, offset, length, whole)")
        self._ask("CREATE INDEX temp.found_in_order ON found (serial)")
        return bool(self._ask("PRAGMA user_version")[0][0] == _version())

    def _begin_anew(self) -> None:
        self._damaged = False
        if self._database is not None:
            self._database.close()
        for ending in () if self._in_memory else ("", "-wal", "-shm", "-journal"):
            self._disk.remove(self._path.with_name(self._path.name + ending))
        self._connect()
        for statement in _SCHEMA.split(";\n"):
            self._ask(statement)
        self._serial = 0
        self.remember("books", packed(_Books(epoch=secrets.token_bytes(IDENTIFIER_SIZE))))
        self._load()

    def _load(self) -> None:
        self._touched.clear()
        usage = [self._whole(row) for row in self._ask("SELECT * FROM usage")]
        self._usage = {(state, owner): [shares, size] for state, owner, shares, size in usage}
        accounts = [self._whole(row) for row in self._ask("SELECT * FROM account")]
        self._accounts = {owner: account for owner, account in accounts}
        packs = [self._whole(row) for row in self._ask("SELECT * FROM pack")]
        self._packs = {number: [read, living] for number, read, living in packs}
        last = self._ask("SELECT max(serial) FROM share")[0][0] or 0  # none is given out twice, whatever is rotten
        books = self._books()
        self._serial, self.sequence = max(self._serial, last, books.serial), books.sequence
        self._digest = int.from_bytes(books.digest, "big")
        self.epoch = books.epoch
        there, counted = self._ask("SELECT count(*) FROM share")[0][0], sum(n for n, _ in self._usage.values())
        if there != counted:
            raise self.found_damaged(f"{there} shares are listed, and {counted} were counted")

    def _books(self) -> _Books:
        kept = self.remembered("books", None)
        try:
            return unpack(kept, _Books)
        except (ProtocolError, TypeError):
            raise self.found_damaged("what is counted does not read") from None

    def close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):  # nothing durable stands here alone
                self._database.close()
            self._database = None

    # --- asking

    def held(self, key: ShareKey) -> Optional[KeptShare]:
        """The copy of a share that is held, sound or damaged."""
        return next((kept for kept in self.copies(key) if kept.here), None)

    def copies(self, key: ShareKey) -> list[KeptShare]:
        """All copies of a share, in whatever state."""
        return self._shares("encoding = ? AND share = ?", key)

    def of_encoding(self, encoding_id: bytes) -> list[KeptShare]:
        """All copies of an encoding's shares."""
        return self._shares("encoding = ?", (encoding_id,))

    def known_of(self, encoding_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these encodings of which there is any copy, in whatever state, or a tombstone of any owner."""
        some = ", ".join("?" * len(encoding_ids))
        found = self._ask(_KNOWN.replace("?", some), [*encoding_ids, *encoding_ids])
        return {encoding_id for (encoding_id,) in found}

    def of_serial(self, serial: int) -> Optional[KeptShare]:
        return next(iter(self._shares("serial = ?", (serial,))), None)

    def in_pack(self, number: int, after: int, limit: int = _PAGE) -> list[KeptShare]:
        """Some shares that lie in a pack (0: in files of their own), in order, from behind a serial on."""
        page = self._shares("pack = ? AND serial > ? ORDER BY serial LIMIT ?", (number, after, limit))
        if page:
            self._require_order(after, page[-1].serial)
        return page

    def superseded_of(self, owner: bytes, after: int) -> list[KeptShare]:
        """Some shares that have a commitment of this owner which was replaced, in order, from behind a serial on."""
        asked = "SELECT DISTINCT share FROM superseded WHERE owner = ? AND share > ? ORDER BY share LIMIT ?"
        return self._of_serials(self._ask(asked, (owner, after, _PAGE)))

    def superseded_before(self, unix: float) -> list[KeptShare]:
        """Some shares that have a commitment which was replaced before this time, in Unix seconds."""
        return self._of_serials(self._ask("SELECT DISTINCT share FROM superseded WHERE at <= ? LIMIT ?", (unix, _PAGE)))

    def last_superseded(self) -> int:
        """When a commitment was replaced last, in Unix seconds; 0 where none is kept."""
        return self._ask("SELECT max(at) FROM superseded")[0][0] or 0

    def _of_serials(self, rows: list[tuple[int]]) -> list[KeptShare]:
        return [kept for (serial,) in rows if (kept := self.of_serial(serial)) is not None]

    def amended_in_pack(self, number: int) -> list[KeptShare]:
        """The shares that have amendments in this pack, or had and hold them."""
        return self._of_serials(self._ask("SELECT share FROM amendment WHERE pack = ?", (number,)))

    def next_held(self, after: int) -> Optional[KeptShare]:
        """The sound share with the next serial."""
        return next(iter(self._shares("serial > ? AND state = 1 ORDER BY serial LIMIT 1", (after,))), None)

    def in_state(self, state: State, limit: int = -1) -> list[KeptShare]:
        """Shares in another state than HELD, the oldest first."""
        return self._shares("state = ? ORDER BY serial LIMIT ?", (state, limit))

    def pages(self) -> Iterator[list[AnnouncedShare]]:
        """All that is held, some at a time; Refusal where it is not as much as was counted: the index is damaged."""
        after, told, sequence = 0, 0, self.sequence
        while page := self._shares(f"serial > ? AND state <= 2 ORDER BY serial LIMIT {_PAGE}", (after,)):
            self._require_order(after, page[-1].serial)
            after, told = page[-1].serial, told + len(page)
            yield [kept.announced for kept in page]
        if sequence == self.sequence and told != self.count(*HERE):
            raise self.found_damaged(f"{told} shares are held, and {self.count(*HERE)} were counted")

    def count(self, *states: State) -> int:
        return sum(shares for (state, _), (shares, _) in self._usage.items() if state in states)

    def bytes_of(self, *states: State) -> int:
        return sum(size for (state, _), (_, size) in self._usage.items() if state in states)

    def account_of(self, owner: bytes) -> bytes:
        """Whom a vault's shares, or what this depositor left, count for; itself where that is not known."""
        return self._accounts.get(owner, owner)

    def used_by(self, owner: bytes) -> int:
        """Bytes of a vault's shares, the deleted ones too, or of those that this depositor left for others."""
        return sum(self._usage.get((state, owner), (0, 0))[1] for state in (*HERE, State.DELETED))

    def charged_to(self, account: bytes) -> int:
        """Likewise, of all whose shares count for an account."""
        owners = {owner for _, owner in self._usage if self.account_of(owner) == account}
        return sum(map(self.used_by, owners))

    @property
    def digest(self) -> bytes:
        """Of all that is announced."""
        return self._digest.to_bytes(DIGEST_SIZE, "big")

    def since(self, sequence: int) -> Optional[tuple[list[ShareName], Iterator[list[AnnouncedShare]]]]:
        """What was withdrawn and what is announced since a change; None where that is not known any more."""
        if not self.remembered("withdrawn up to", 0) <= sequence <= self.sequence:
            return None
        rows = self._ask("SELECT encoding, share FROM withdrawn WHERE sequence > ?", (sequence,))
        return [ShareName(*key) for key in rows if self.held(key) is None], self._changed_since(sequence)

    def _changed_since(self, sequence: int) -> Iterator[list[AnnouncedShare]]:
        while rows := self._ask(_CHANGED, (sequence, _PAGE)):
            self._require_order(sequence, rows[-1][0])
            sequence = rows[-1][0]
            yield [self._read(*row).announced for _, *row in rows]

    def remembered(self, name: str, default: Any) -> Any:
        found = self._ask("SELECT * FROM meta WHERE name = ?", (name,))
        return self._whole(found[0])[1] if found else default

    def _shares(self, where: str, values: Sequence[Any]) -> list[KeptShare]:
        try:
            return [self._read(*row) for row in self._ask(_SHARES_WHERE + where, values)]
        except Refusal:
            if self._within:
                raise
            return [self._read(*row) for row in self._ask(_SHARES_WHERE + where, values)]  # of an index made anew

    def _read(self, *row: Any) -> KeptShare:
        try:
            content = row[-1]
            if _check(content[_CHECK_SIZE:]) == content[:_CHECK_SIZE]:
                kept = self._decode(content[_CHECK_SIZE:])
                if (kept.serial, *kept.key, kept.state, kept.counts_for, kept.place.pack) == row[:-1]:
                    return kept
        except (TypeError, msgspec.MsgspecError):
            pass
        raise self.found_damaged("a row of a share is damaged")

    # --- changing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within are made, or none; OSError where the disk refuses. One within another is part of it."""
        if self._within:
            yield
            return
        self._ask("BEGIN IMMEDIATE")
        self._within = True
        try:
            yield
            self._write_books()
            self._ask("COMMIT")
            self._within = False
        except BaseException:
            self._roll_back()
            raise

    def _write_books(self) -> None:
        for name in self._touched:
            if isinstance(name, tuple):
                self._ask("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?)", _summed(*name, *self._usage[name]))
            elif name in self._packs:
                self._ask("INSERT OR REPLACE INTO pack VALUES (?, ?, ?, ?)", _summed(name, *self._packs[name]))
            else:
                self._ask("DELETE FROM pack WHERE number = ?", (name,))
        self._touched.clear()
        self.remember("books", packed(_Books(self._serial, self.sequence, self.digest, self.epoch)))

    def _roll_back(self) -> None:
        self._within = False
        if self._database is None:
            return
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("ROLLBACK")
        if not self._damaged:
            self._load()

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial

    @property
    def last_serial(self) -> int:
        return self._serial

    def pass_serial(self, serial: int) -> None:
        """Give none out that is not above this one."""
        self._serial = max(self._serial, serial)

    def add(self, *copies: KeptShare) -> None:
        """Add copies of shares."""
        rows = []
        for kept in copies:
            self._number(None, kept)
            rows.append(self._row(kept, self.sequence))
            self._changed[kept.key] = kept.announced if kept.here else None
        self._count(copies, 1)
        self._ask(_ENTER_SHARE, rows, each=True)

    def change(self, before: KeptShare, after: KeptShare) -> None:
        """Change what is known of a copy."""
        require_transition(before.state, after.state)
        self._count([before], -1)
        self._number(before, after)
        changed = self.sequence
        if _announced(before) == _announced(after):
            ((changed,),) = self._ask("SELECT changed FROM share WHERE serial = ?", (after.serial,))
        self._ask(_ENTER_SHARE, self._row(after, changed))
        self._count([after], 1)
        if before.place.pack not in (0, after.place.pack):
            self.moved(before.serial, before.place.pack)
        if (before.state, before.announced) != (after.state, after.announced):
            self._changed[after.key] = None

    def remove(self, kept: KeptShare) -> None:
        require_transition(kept.state, None)
        self._number(kept, None)
        self._ask("DELETE FROM share WHERE serial = ?", (kept.serial,))
        self._count([kept], -1)
        self._changed[kept.key] = None

    def _number(self, before: Optional[KeptShare], after: Optional[KeptShare]) -> None:
        """Number a change, if it is one of what is announced."""
        was, now = _announced(before), _announced(after)
        if was == now:
            return
        self.sequence += 1
        change = (0 if now is None else digest_of(now)) - (0 if was is None else digest_of(was))
        self._digest = (self._digest + change) % MODULUS
        if was is not None and now is None:
            self._ask("INSERT INTO withdrawn VALUES (?, ?, ?)", (self.sequence, was.encoding_id, was.share))
            if self.sequence % _PAGE == 0:
                self._forget_withdrawn()

    def _forget_withdrawn(self) -> None:
        """A broker that was away for longer than that is told everything."""
        over = "SELECT sequence FROM withdrawn ORDER BY sequence DESC LIMIT 1 OFFSET ?"
        for (sequence,) in self._ask(over, (_MOST_WITHDRAWN,)):
            self._ask("DELETE FROM withdrawn WHERE sequence <= ?", (sequence,))
            self.remember("withdrawn up to", sequence)

    def _row(self, kept: KeptShare, changed: int) -> tuple[Any, ...]:
        content, share = self._encode(kept), kept.announced
        named = kept.serial, share.encoding_id, share.share, kept.state, kept.counts_for, kept.place.pack
        return *named, _check(content) + content, changed

    def _count(self, copies: Sequence[KeptShare], sign: int) -> None:
        for kept in copies:
            name = int(kept.state), kept.counts_for
            usage = self._usage.setdefault(name, [0, 0])
            usage[0] += sign
            usage[1] += sign * kept.size
            self._touched.add(name)
            self.count_living(kept.place, sign)
            if kept.amendment is not None or kept.superseded:
                self._count_amendments(kept, sign)

    def _count_amendments(self, kept: KeptShare, sign: int) -> None:
        for place in kept.amendments:
            self.count_living(place, sign)
            self._ask(_ENTER_AMENDMENT if sign > 0 else _FORGET_AMENDMENT, (place.pack, kept.serial))
        for replaced, _ in kept.superseded:
            row = replaced.owner, kept.serial, replaced.at
            self._ask(_ENTER_SUPERSEDED if sign > 0 else _FORGET_SUPERSEDED, row)

    def charge(self, owner: bytes, account: bytes) -> None:
        """What this owner has, or left for others, counts for an account from now on."""
        if self.account_of(owner) != account:
            self._ask("INSERT OR REPLACE INTO account VALUES (?, ?, ?)", _summed(owner, account))
            self._accounts[owner] = account

    def remember(self, name: str, value: Any) -> None:
        self._ask("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", _summed(name, value))

    # --- packs

    @property
    def packs(self) -> dict[int, int]:
        """Number → how far it was read."""
        return {number: read for number, (read, _) in self._packs.items()}

    def living(self, number: int) -> int:
        """Bytes of a pack's records that are needed."""
        return self._packs.get(number, (0, 0))[1]

    @property
    def dead_bytes(self) -> int:
        """Bytes of records that are needed no more, in all packs."""
        return sum(max(0, read - living) for read, living in self._packs.values())

    def passed(self, number: int, size: int) -> None:
        """Note that all records of a pack up to there are known."""
        self._packs.setdefault(number, [0, 0])[0] = size
        self._touched.add(number)

    @property
    def unread(self) -> set[int]:
        """Packs of which something could not be read when they were gone through; 0: files that could not be listed."""
        return {int(number) for number in self.remembered("unread", "").split()}

    def complete(self, unread: set[int]) -> None:
        """Note that all that is here was entered, but what could not be read of these packs."""
        self.remember("unread", " ".join(map(str, sorted(unread))))
        self._ask(f"PRAGMA user_version={_version()}")

    def count_living(self, place: Place, sign: int) -> None:
        if place.pack:
            books = self._packs.setdefault(place.pack, [0, 0])
            books[0] = max(books[0], place.offset + place.length)
            books[1] += sign * (FRAME_SIZE + place.length)
            self._touched.add(place.pack)

    def forget_pack(self, number: int) -> None:
        """A pack is gone, and the removals of what lay in no other are needed no more."""
        for removal in self._removals("lay_in = ?", number):
            self._ask("DELETE FROM removal WHERE serial = ? AND lay_in = ?", (removal.serial, number))
            if self._removal(removal.serial) is None:
                self.count_living(removal.place, -1)
        self._ask("DELETE FROM removal WHERE pack = ?", (number,))
        self._ask("DELETE FROM moved WHERE pack = ?", (number,))
        self._packs.pop(number, None)
        self._touched.add(number)

    def moved(self, serial: int, number: int) -> None:
        """Note that a pack has a record of a share which lies in another one now."""
        self._ask("INSERT OR IGNORE INTO moved VALUES (?, ?, ?)", _summed(serial, number))

    def add_removal(self, removal: Removal) -> None:
        """Note where it is written that a share is gone, as long as a record of it, or an older copy, is there."""
        lay_in = {removal.lay_in}
        if not removal.is_of_pack:
            lay_in |= {
                self._whole(row)[1] for row in self._ask("SELECT * FROM moved WHERE share = ?", (removal.share,))
            }
        for pack in lay_in:
            self._put_removal(removal._replace(lay_in=pack))
        self.count_living(removal.place, 1)

    def move_removal(self, serial: int, place: Place) -> None:
        """Note where a removal's record lies now; harmless where it is needed no more."""
        removals = self._removals("serial = ?", serial)
        for removal in removals:
            self._put_removal(removal._replace(place=place))
        for removal in removals[:1]:
            self.count_living(removal.place, -1)
            self.count_living(place, 1)

    def _put_removal(self, removal: Removal) -> None:
        row = removal.serial, removal.lay_in, removal.share, *removal.place[:2]
        self._ask("INSERT OR REPLACE INTO removal VALUES (?, ?, ?, ?, ?, ?)", _summed(*row))

    def removals_in_pack(self, number: int) -> list[Removal]:
        """The removals that are written in a pack, each once."""
        return list({removal.serial: removal for removal in self._removals("pack = ?", number)}.values())

    def was_removed(self, serial: int) -> bool:
        """Whether it is written that the large share with this serial is gone."""
        return bool(self._ask(_REMOVALS_WHERE + "lay_in = 0 AND share = ?", (serial,)))

    def was_rewritten(self, number: int) -> bool:
        """Whether all that was needed of a pack was written anew."""
        return bool(self._ask(_REMOVALS_WHERE + "lay_in = ? AND share = ?", (_REWRITTEN, number)))

    def _removal(self, serial: int) -> Optional[Removal]:
        return next(iter(self._removals("serial = ?", serial)), None)

    def _removals(self, where: str, number: int) -> list[Removal]:
        rows = [self._whole(row) for row in self._ask(_REMOVALS_WHERE + where, (number,))]
        return [Removal(serial, share, lay_in, Place(pack, offset, 0)) for serial, lay_in, share, pack, offset in rows]

    # --- what a start finds

    def note(self, found: FoundRecord) -> None:
        """Keep what was found, to go through all of it in the order of serials."""
        row = (*found[:5], *found.place, found.whole)
        self._ask("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def found(self) -> Iterator[FoundRecord]:
        """All that was noted, in the order of serials, of two with one the later one last; then it is forgotten."""
        after = -1, 0
        asked = "SELECT rowid, * FROM found WHERE (serial, rowid) > (?, ?) ORDER BY serial, rowid LIMIT ?"
        while rows := self._ask(asked, (*after, _PAGE)):
            after = rows[-1][1], rows[-1][0]
            for _, serial, kind, encoding_id, share, about, *place, whole in rows:
                yield FoundRecord(serial, Kind(kind), encoding_id, share, about, Place(*place), bool(whole))
        self._ask("DELETE FROM found")

    # --- tombstones

    def tombstone(self, encoding_id: bytes, owner: bytes) -> Optional[PlacedTombstone]:
        return next(iter(self._tombstones_where("encoding = ? AND owner = ?", (encoding_id, owner))), None)

    def tombstones_of(self, encoding_id: bytes) -> list[PlacedTombstone]:
        """Those of all owners who deleted an encoding, or took that back."""
        return self._tombstones_where("encoding = ?", (encoding_id,))

    def tombstones_in_pack(self, number: int) -> list[PlacedTombstone]:
        return self._tombstones_where("pack = ?", (number,))

    def tombstones_of_owner(self, owner: bytes) -> list[PlacedTombstone]:
        """What ends first comes first."""
        return self._tombstones_where("owner = ? ORDER BY ends, serial", (owner,))

    def owners_of_tombstones(self) -> list[bytes]:
        """Who has most comes first."""
        return [owner for (owner,) in self._ask("SELECT owner FROM tombstone GROUP BY owner ORDER BY count(*) DESC")]

    def ended_tombstones(self, unix: float) -> list[PlacedTombstone]:
        return self._tombstones_where(f"ends <= ? LIMIT {_PAGE}", (unix,))

    def ended_trash(self, unix: float) -> list[PlacedTombstone]:
        """The tombstones whose time to be taken back is over, and of which something is in the trash."""
        lies_there = "SELECT 1 FROM share WHERE share.encoding = tombstone.encoding AND state = 3"
        return self._tombstones_where(f"trash_until <= ? AND EXISTS ({lies_there}) LIMIT {_PAGE}", (unix,))

    def all_tombstones(self) -> Iterator[list[PlacedTombstone]]:
        """All of them, some at a time."""
        after = b"", b""
        where = f"(encoding, owner) > (?, ?) ORDER BY encoding, owner LIMIT {_PAGE}"
        while page := self._tombstones_where(where, after):
            last = page[-1].kept.tombstone
            self._require_order(after, (last.encoding_id, last.owner))
            after = last.encoding_id, last.owner
            yield page

    def last_end(self) -> int:
        """When the last of all tombstones ends, in Unix seconds; 0 where there is none."""
        return self._ask("SELECT max(ends) FROM tombstone")[0][0] or 0

    def count_tombstones(self) -> int:
        return int(self._ask("SELECT count(*) FROM tombstone")[0][0])

    def put_tombstone(self, placed: PlacedTombstone) -> None:
        """Add a tombstone, in place of this owner's one before."""
        kept = placed.kept
        name = kept.tombstone.encoding_id, kept.tombstone.owner
        before = self.tombstone(*name)
        if before is not None:
            self.count_living(before.place, -1)
        row = placed.serial, *placed.place[:2], encode_tombstone(kept), *name, kept.trash_until, kept.ends
        self._ask("INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _summed(*row))
        self.count_living(placed.place, 1)
        self._tombstones[name] = kept.tombstone

    def forget_tombstone(self, placed: PlacedTombstone) -> None:
        tombstone = placed.kept.tombstone
        self._ask("DELETE FROM tombstone WHERE encoding = ? AND owner = ?", (tombstone.encoding_id, tombstone.owner))
        self.count_living(placed.place, -1)
        self._tombstones.pop((tombstone.encoding_id, tombstone.owner), None)

    def _tombstones_where(self, where: str, values: Sequence[Any]) -> list[PlacedTombstone]:
        rows = self._ask(_TOMBSTONES_WHERE + where, values)
        return [PlacedTombstone(*self._placed(row, decode_tombstone)) for row in rows]

    def _placed(self, row: Sequence[Any], decode: Callable[[bytes], T]) -> tuple[T, int, Place]:
        """A record that is in a row, the record's serial and where it lies."""
        serial, pack, offset, content, *_ = self._whole(row)
        try:
            return decode(content), serial, Place(pack, offset, len(content))
        except IntegrityError:
            raise self.found_damaged("a record in a row is damaged") from None

    # --- approvers

    def approvers(self, owner: bytes) -> Optional[PlacedApprovers]:
        return next(iter(self._approvers_where("owner = ?", owner)), None)

    def approvers_in_pack(self, number: int) -> list[PlacedApprovers]:
        return self._approvers_where("pack = ?", number)

    def owners_of_approvers(self) -> list[bytes]:
        return [owner for (owner,) in self._ask("SELECT owner FROM approvers")]

    def put_approvers(self, placed: PlacedApprovers) -> None:
        """Add an owner's approvers, in place of those before."""
        self.forget_approvers(placed.kept.owner)
        row = placed.serial, *placed.place[:2], encode_approvers(placed.kept), placed.kept.owner
        self._ask("INSERT INTO approvers VALUES (?, ?, ?, ?, ?, ?)", _summed(*row))
        self.count_living(placed.place, 1)

    def forget_approvers(self, owner: bytes) -> None:
        """Harmless where an owner has none."""
        before = self.approvers(owner)
        if before is not None:
            self._ask("DELETE FROM approvers WHERE owner = ?", (owner,))
            self.count_living(before.place, -1)

    def _approvers_where(self, where: str, value: Any) -> list[PlacedApprovers]:
        rows = self._ask(_APPROVERS_WHERE + where, (value,))
        return [PlacedApprovers(*self._placed(row, decode_approvers)) for row in rows]

    # --- announcing

    def reannounce(self, key: ShareKey) -> None:
        """Have a share announced again, though it has not changed; withdrawn, where it is not held."""
        self._changed[key] = None

    def changes(self) -> Changes:
        """What is to be announced since the last call."""
        changes = Changes(list(self._tombstones.values()), sequence=self.sequence)
        for key, share in self._changed.items():
            kept = self.held(key) if share is None else None
            share = share if kept is None else kept.announced
            if share is not None:
                changes.announced.append(share)
            else:
                changes.withdrawn.append(ShareName(*key))
        self._tombstones.clear()
        self._changed.clear()
        return changes

    # --- inside

    def _ask(self, statement: str, values: Sequence[Any] = (), *, each: bool = False) -> list[Any]:
        """The rows that a statement finds; OSError where the disk refuses. `each`: once for each row of values.

        Where the index is damaged it is made anew, and asked again: but in the middle of a transaction, Refusal(FAULT).
        """
        if self._damaged and not self._within:
            self._mend()
        try:
            return self._run(statement, values, each)
        except _DamagedError as error:
            if self._opening or self._within:
                raise self.found_damaged(str(error)) from None
            self._mend()
            return self._run(statement, values, each)

    def _run(self, statement: str, values: Sequence[Any], each: bool) -> list[Any]:
        try:
            run = self._opened.executemany if each else self._opened.execute
            return run(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "full" in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            if "readonly" in text:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS)) from None
            raise _DamagedError(text) from None
        except UnicodeDecodeError as error:  # of a message that quotes what is damaged
            raise _DamagedError(str(error)) from None

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise OSError(errno.EBADF, "the index is closed")
        return self._database

    def _whole(self, row: Sequence[Any]) -> Sequence[Any]:
        """A row without the digest at its end."""
        if _summed(*row[:-1]) != tuple(row):
            raise self.found_damaged("a row is damaged")
        return row[:-1]

    def _require_order(self, after: Any, last: Any) -> None:
        """Refusal where rows that were asked for in order, from behind one on, do not end behind it."""
        if last <= after:
            raise self.found_damaged("its rows are not in order")

    def look_through(self) -> None:
        """Compare all rows with what they are found by; Refusal where these differ, and the index is made anew.

        What a lookup finds is checked each time; what it does not find is missed here only.
        """
        (found,) = self._ask("PRAGMA integrity_check(1)")
        if found != ("ok",):
            raise self.found_damaged(str(found[0]))

    def found_damaged(self, text: str) -> Exception:
        """What to raise where the index does not read, or contradicts itself; the next question makes it anew."""
        if self._opening:
            return _DamagedError(text)
        log.error("the index is damaged: %s", text)
        self._damaged = True
        return Refusal(Code.FAULT, "what this device holds is looked through anew: try again")

    def _mend(self) -> None:
        try:
            self.make_anew()
        except OSError as error:
            log.error("%s", error)
            raise Refusal(Code.FAULT, "what this device holds cannot be looked through") from None

    def make_anew(self) -> None:
        """Make the index anew; OSError where that cannot be, and it is tried at the next question."""
        log.warning("the index is made anew")
        self._opening = True
        try:
            self._begin_anew()
            self.rebuild()
        except (_DamagedError, OSError) as error:
            self._damaged = True
            raise OSError(errno.EIO, f"the index cannot be made: {error}", str(self._path)) from None
        finally:
            self._opening = False


def _announced(kept: Optional[KeptShare]) -> Optional[AnnouncedShare]:
    """How a copy is announced; None of one that is not."""
    return kept.announced if kept is not None and kept.here else None


class _DamagedError(Exception):
    """The database does not read, or contradicts itself."""


def _version() -> int:
    """Another one for each version of what the index is made of: what one worker believes another may not know."""
    versions = _VERSION, share_file.VERSION, amendments.VERSION, tombstones.VERSION, approver_lists.VERSION
    return int.from_bytes(blake3(repr(versions).encode()).digest(length=4), "big") >> 1


def _summed(*values: Any) -> tuple[Any, ...]:
    """A row with its digest."""
    return *values, _check(repr(values).encode())


def _check(content: bytes) -> bytes:
    return bytes(blake3(content).digest(length=_CHECK_SIZE))
