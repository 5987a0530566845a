"""The index says where things are, and nothing depends on it: made anew, or of an earlier time, it says the same."""

from __future__ import annotations

import contextlib
import itertools
import random
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.announcements import MODULUS, digest_of
from common.protocol.device_messages import Grant
from common.protocol.messages import NO_TRASH, AnnouncedShare, Code, Tombstone
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    KEY,
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    Sample,
    chance,
    copy_of_index,
    damage,
    held_by,
    large,
    lying,
    sample,
    sign,
    with_index,
)
from worker import index as index_module
from worker.index import Index
from worker.layout import ShareKey
from worker.refusals import Refusal
from worker.share_states import State
from worker.store import ShareStore

SAMPLES = [sample("0"), sample("1"), sample("2", segments=2), large()]
FRIEND = b"f" * 16
_REFUSED = (Code.NOT_FOUND, Code.CONFLICT, Code.DAMAGED, Code.NOT_OPEN, Code.NOT_ALLOWED)
OWNERS = {OWNER: KEY, STRANGER: STRANGERS_KEY}


class Said(NamedTuple):
    """What a store says of what it has. Surplus does not last: with an index made anew it may be held again."""

    held: dict[ShareKey, AnnouncedShare]
    deleted: list[tuple[ShareKey, bytes, bytes]]
    tombstones: list[Tombstone]
    superseded: list[tuple[ShareKey, bytes, int]]  # whose, and of which revision
    used: int


def digest_of_all(shares: Iterable[AnnouncedShare]) -> bytes:
    return (sum(map(digest_of, shares)) % MODULUS).to_bytes(16, "big")


def said_by(store: ShareStore) -> Said:
    held = held_by(store)
    assert store.numbering.digest == digest_of_all(held.values()), "brokers are told a digest of all of it"
    deleted = [(kept.key, kept.owner, kept.deleted_by) for kept in store._index.in_state(State.DELETED)]
    tombstones = sorted(store.tombstones(), key=lambda each: (each.encoding_id, each.owner))
    store._amending.purge(store._clock.unix())  # it is known to be over again only once an index was made anew
    superseded = [
        (each.kept.key, owner, each.signed.commitment.revision)
        for owner in OWNERS
        for share in store.superseded(owner, 0)
        for each in share
    ]
    return Said(held, sorted(deleted), tombstones, sorted(superseded), store.used_bytes)


def surplus_of(store: ShareStore) -> dict[ShareKey, AnnouncedShare]:
    return {kept.key: kept.announced for kept in store._index.in_state(State.SURPLUS)}


def read_all(store: ShareStore) -> None:
    """Have each share that is held read from the disk."""
    for key in held_by(store):
        store.check(key)
    while store.scrub.due_in(-1e6) == 0.0:
        store.scrub.turn(-1e6, idle=True)


def check_same(store: ShareStore, before: Said, surplus: dict[ShareKey, AnnouncedShare]) -> None:
    """It says what it said; what was surplus may be held, or deleted since."""
    read_all(store)  # only the index said what was found damaged; the disk says it again
    now = said_by(store)
    for key in {*now.held, *before.held} - {*surplus}:
        assert now.held.get(key) == before.held.get(key)
    assert now.tombstones == before.tombstones
    assert [each for each in now.deleted if each[0] not in surplus] == [
        each for each in before.deleted if each[0] not in surplus
    ]
    if not surplus:
        assert (now.superseded, now.used) == (before.superseded, before.used)


class Life:
    """A store to which things happen. Each is one that clients, the disk or time do."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.clock = SetClock()
        self.chance = random.Random(seed)  # noqa: S311 - to be drawn again from the same seed
        hold = self.chance.choice([0, 100_000])
        self.store = ShareStore(folder / "store", clock=self.clock, hold=hold)
        self.generations = dict.fromkeys([(each.encoding_id, owner) for each in SAMPLES for owner in OWNERS], 0)
        self.revision, self.generation = 1, 0
        self.indexes: list[dict[str, bytes]] = []

    def do(self, what: str) -> None:
        encoding, share = self.chance.choice(SAMPLES), self.chance.randrange(2)
        owner = self.chance.choice([OWNER, OWNER, STRANGER])
        held = [
            (each, key[1], there.owner)
            for key, there in held_by(self.store).items()
            for each in SAMPLES
            if each.encoding_id == key[0]
        ]
        if what not in ("put", "undelete") and held:
            encoding, share, owner = self.chance.choice(held)
        try:
            getattr(self, what)(encoding, share, owner)
        except Refusal as refusal:
            assert refusal.answer.code in _REFUSED, what
        if self.chance.random() < 0.3:
            self.indexes.append(copy_of_index(self.store))

    def put(self, encoding: Sample, share: int, owner: bytes) -> None:
        encoding.put(self.store, share, owner)

    def delete(self, encoding: Sample, share: int, owner: bytes) -> None:
        generation = self._generation(encoding, owner, deletes=True)
        trash = self.chance.choice([NO_TRASH, 60, 10**6])
        self.store.delete(encoding.deletion(generation, key=OWNERS[owner], trash_seconds=trash), owner)

    def undelete(self, encoding: Sample, share: int, owner: bytes) -> None:
        generation = self._generation(encoding, owner, deletes=False)
        self.store.undelete(encoding.deletion(generation, key=OWNERS[owner]), owner)

    def _generation(self, encoding: Sample, owner: bytes, *, deletes: bool) -> int:
        name = encoding.encoding_id, owner
        self.generations[name] += 1 if self.generations[name] % 2 != deletes else 2
        return self.generations[name]

    def amend(self, encoding: Sample, share: int, owner: bytes) -> None:
        self.revision += 1
        grants = [Grant(FRIEND, chance("object", 32), chance("mapping", self.chance.randrange(90)))]
        self.store.amend(
            encoding.encoding_id,
            encoding.signed(revision=self.revision, generation=self.generation, grants=grants),
            OWNER,
        )

    def give_away(self, encoding: Sample, share: int, owner: bytes) -> None:
        self._say(encoding, STRANGER)

    def take_back(self, encoding: Sample, share: int, owner: bytes) -> None:
        self.generation += 1
        self._say(encoding, self.chance.choice([OWNER, STRANGER]))

    def _say(self, encoding: Sample, owner: bytes) -> None:
        self.revision += 1
        signed = encoding.signed(owner, revision=self.revision, generation=self.generation)
        self.store.amend(encoding.encoding_id, sign(signed.commitment, OWNERS[owner]), owner)

    def discard(self, encoding: Sample, share: int, owner: bytes) -> None:
        self.store.discard(encoding.key(share), owner)

    def find_damage(self, encoding: Sample, share: int, owner: bytes) -> None:
        held = self.store._index.held(encoding.key(share))
        if held is not None and held.sound and self.store._index.copies(encoding.key(share))[0] == held:
            path, start, length = lying(self.store, encoding, share)
            record = path.read_bytes()[start : start + length]
            damage(self.store, encoding, share, record.index(encoding.blocks[1][share]))
            self.store.check(encoding.key(share))
            read_all(self.store)

    def purge(self, encoding: Sample, share: int, owner: bytes) -> None:
        self.clock.pass_time(self.chance.choice([301, 90_000]))
        self.store.expire(self.clock.now)

    def compact(self, encoding: Sample, share: int, owner: bytes) -> None:
        for _ in range(self.chance.randrange(1, 12)):
            self.clock.pass_time(61)
            self.store.compaction.turn(self.clock.now)

    def restart(self, encoding: Sample, share: int, owner: bytes) -> None:
        self.store = with_index(self.store, self.clock, copy_of_index(self.store))


THINGS = ["put"] * 4 + [
    "delete",
    "undelete",
    "amend",
    "amend",
    "give_away",
    "take_back",
    "discard",
    "find_damage",
    "purge",
    "compact",
    "compact",
    "restart",
]
LIVES = st.lists(st.sampled_from(THINGS), min_size=20, max_size=70)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path, 0)
    yield life
    life.store.close()


@settings(max_examples=40)
@given(LIVES, st.integers(0, 2**32))
def test_whatever_was_done_an_index_made_anew_or_an_older_one_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, things: list[str], seed: int
) -> None:
    life = Life(tmp_path_factory.mktemp("store"), seed)
    for what in things:
        life.do(what)
    before, surplus = said_by(life.store), surplus_of(life.store)
    store = life.store
    life.chance.shuffle(life.indexes)
    for index in ({}, *life.indexes[:3], copy_of_index(life.store)):
        store = with_index(store, life.clock, index)
        check_same(store, before, surplus)
    store.close()


def test_an_older_index_takes_what_went_before_a_compaction_for_gone_not_for_damaged(life: Life) -> None:
    gone, kept = SAMPLES[0], SAMPLES[1]
    for encoding in (gone, kept):
        encoding.put(life.store, 0)
    older = copy_of_index(life.store)
    for what in ("restart", "discard", "purge", "restart", "compact", "restart", "compact"):
        if what == "discard":
            life.store.discard(gone.key(0), OWNER)
        elif what == "purge":
            life.clock.pass_time(90_000)
            life.store.expire(life.clock.now)
        elif what == "compact":
            for _ in range(20):
                life.clock.pass_time(61)
                life.store.compaction.turn(life.clock.now)
        else:
            life.restart(gone, 0, OWNER)
    said = said_by(life.store)
    assert not list(life.store.folder.glob("packs/0000000[12].*"))
    life.store = with_index(life.store, life.clock, older)
    assert said_by(life.store) == said
    assert set(held_by(life.store)) == {kept.key(0)}


def test_what_went_is_not_found_again_in_a_pack_that_it_moved_from(life: Life) -> None:
    moved, older = SAMPLES[0], copy_of_index(life.store)
    moved.put(life.store, 0)
    SAMPLES[1].put(life.store, 0)
    life.store = with_index(life.store, life.clock, older)  # what is behind the index's back is written anew
    life.restart(moved, 0, OWNER)
    life.store.discard(moved.key(0), OWNER)
    life.clock.pass_time(90_000)
    life.store.expire(life.clock.now)
    for number in (2, 3):  # where it lay last, and where it is written that it went
        life.restart(moved, 0, OWNER)
        life.store.compaction._number = number  # it is that pack's turn
        while life.store.compaction._number is not None:
            life.store.compaction.turn(life.clock.now)
    assert {1, 2, 3} & life.store._packs.sizes.keys() == {1}
    life.store = with_index(life.store, life.clock, {})
    assert set(held_by(life.store)) == {SAMPLES[1].key(0)}


# --- damage of the index


def lived(folder: Path) -> tuple[Life, Said]:
    """A store with something in every state, closed, and what it said."""
    life = Life(folder, 5)
    for encoding in SAMPLES:
        for share in range(2):
            encoding.put(life.store, share)
    for encoding in SAMPLES[2:]:
        life.amend(encoding, 0, OWNER)
    life.store.delete(SAMPLES[0].deletion(), OWNER)
    life.store.delete(SAMPLES[1].deletion(trash_seconds=NO_TRASH), OWNER)
    life.find_damage(SAMPLES[2], 1, OWNER)
    life.restart(SAMPLES[0], 0, OWNER)
    life.compact(SAMPLES[0], 0, OWNER)
    said = said_by(life.store)
    life.store.close()
    return life, said


def check_costs_nothing(life: Life, said: Said, index: bytes, what: str) -> None:
    """With this index a store says the same, at the second question at the latest, and goes on."""
    path = life.store.folder / "index.sqlite"
    path.write_bytes(index)
    store = ShareStore(life.store.folder, clock=life.clock, hold=life.store.hold)
    try:
        for _ in range(2):
            try:
                read_all(store)
                now = said_by(store)
                break
            except Refusal as refusal:
                assert refusal.answer.code is Code.FAULT, what
        assert now == said, what
    finally:
        store.close()


def flipped(value: object) -> object:
    """A value of a cell with one bit of it another."""
    if isinstance(value, int):
        return value ^ 1
    content = value.encode() if isinstance(value, str) else value
    assert isinstance(content, bytes)
    content = content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    return content.decode() if isinstance(value, str) else content


@pytest.mark.parametrize("table", ["share", "tombstone", "usage", "pack", "meta"])
def test_a_row_with_any_column_flipped_costs_nothing(tmp_path: Path, table: str) -> None:
    life, said = lived(tmp_path)
    path = life.store.folder / "index.sqlite"
    whole = path.read_bytes()
    database = sqlite3.connect(path, isolation_level=None)
    names = [each[0] for each in database.execute(" ".join(("SELECT * FROM", table))).description]
    rows = database.execute(" ".join(("SELECT * FROM", table))).fetchall()
    database.close()
    assert rows
    for row in rows[:3] + rows[-3:]:
        for name, value in zip(names, row):
            if value in (b"", "", None) or (name, value) == ("name", "unread"):
                continue
            path.write_bytes(whole)
            database = sqlite3.connect(path, isolation_level=None)
            change = "UPDATE", table, "SET", name, "= ? WHERE", " AND ".join(f"{each} IS ?" for each in names)
            with contextlib.suppress(sqlite3.IntegrityError):  # there is such a row
                database.execute(" ".join(change), (flipped(value), *row))
            database.close()
            check_costs_nothing(life, said, path.read_bytes(), f"{name} of {row}")


def test_a_page_of_zeros_anywhere_in_the_index_costs_nothing(tmp_path: Path) -> None:
    life, said = lived(tmp_path)
    whole = (life.store.folder / "index.sqlite").read_bytes()
    for at in range(0, len(whole), 4096):
        check_costs_nothing(life, said, whole[:at] + bytes(4096) + whole[at + 4096 :], f"page at {at}")


def swapped(page: bytes) -> Iterator[bytes]:
    """A page of a b-tree, with each two neighbours of its cells in each other's place (fileformat2.html, 1.6)."""
    count = int.from_bytes(page[3:5], "big")
    for at in range(8, 8 + 2 * (count - 1), 2):
        yield page[:at] + page[at + 2 : at + 4] + page[at : at + 2] + page[at + 4 :]


def out_of_order(path: Path, table: str) -> list[bytes]:
    """An index with two rows of a table, or of what it is looked up by, in each other's place: each two."""
    database = sqlite3.connect(path)
    ((page,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    database.close()
    whole, start = path.read_bytes(), 4096 * (page - 1)
    return [whole[:start] + each + whole[start + 4096 :] for each in swapped(whole[start : start + 4096])]


@pytest.mark.parametrize("table", ["share", "share_of_encoding", "share_not_held", "share_changed", "tombstone"])
def test_rows_that_are_not_in_order_cost_nothing(tmp_path: Path, table: str) -> None:
    life, said = lived(tmp_path)
    damaged = out_of_order(life.store.folder / "index.sqlite", table)
    assert damaged
    for number, index in enumerate(damaged):
        check_costs_nothing(life, said, index, f"{table} {number}")


def test_rows_that_come_out_of_order_while_it_runs_are_not_asked_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, _ = lived(tmp_path)
    monkeypatch.setattr(Index, "look_through", lambda _: None)
    monkeypatch.setattr(index_module, "_PAGE", 1)
    for index in out_of_order(life.store.folder / "index.sqlite", "share"):
        (life.store.folder / "index.sqlite").write_bytes(index)
        store = ShareStore(life.store.folder, clock=life.clock)
        with contextlib.suppress(Refusal):
            assert len(list(itertools.islice(store.pages(), 100))) < 100
        store.close()


def test_the_scrub_looks_through_the_index_when_a_round_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life, said = lived(tmp_path)
    missed = 0
    for index in out_of_order(life.store.folder / "index.sqlite", "share_of_encoding"):
        (life.store.folder / "index.sqlite").write_bytes(index)
        with monkeypatch.context() as at_the_start:
            at_the_start.setattr(Index, "look_through", lambda _: None)
            store = ShareStore(life.store.folder, clock=life.clock)
        missed += any(store._index.held(key) is None for key in said.held)
        for _ in range(30):
            life.clock.pass_time(86_400)
            store.scrub.turn(life.clock.now, idle=True)
        assert all(store._index.held(key) is not None for key in said.held)
        store.close()
    assert missed


def test_a_removal_with_a_bit_flipped_removes_no_other_share(life: Life) -> None:
    SAMPLES[0].put(life.store, 0)
    SAMPLES[1].put(life.store, 0)
    life.restart(SAMPLES[0], 0, OWNER)
    life.store.delete(SAMPLES[0].deletion(trash_seconds=NO_TRASH), OWNER)
    life.clock.pass_time(life.store.hold)
    life.purge(SAMPLES[0], 0, OWNER)
    gone, there = (life.store._index.copies(SAMPLES[number].key(0)) for number in (0, 1))
    assert (len(gone), len(there)) == (0, 1)
    life.store.close()
    database = sqlite3.connect(life.store.folder / "index.sqlite", isolation_level=None)
    assert database.execute("UPDATE removal SET share = ?", (there[0].serial,)).rowcount == 1
    database.close()
    life.store = ShareStore(life.store.folder, clock=life.clock)
    life.store.compaction._number = 2  # where it is written, now again
    while life.store.compaction._number is not None:
        life.store.compaction.turn(life.clock.now)
    life.store = with_index(life.store, life.clock, {})
    assert set(held_by(life.store)) == {SAMPLES[1].key(0)}


def test_an_index_cut_short_or_foreign_costs_nothing(tmp_path: Path) -> None:
    life, said = lived(tmp_path)
    whole = (life.store.folder / "index.sqlite").read_bytes()
    for length in (0, 1, 99, 100, 4095, 4096, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        check_costs_nothing(life, said, whole[:length], f"{length} bytes")
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.executescript("CREATE TABLE share (other TEXT); INSERT INTO share VALUES ('else'); PRAGMA user_version=7")
    foreign.close()
    others = {
        "foreign": (tmp_path / "foreign").read_bytes(),
        "no database": b"SQLite format 3\0" + bytes(range(256)) * 40,
    }
    for what, content in others.items():
        check_costs_nothing(life, said, content, what)
