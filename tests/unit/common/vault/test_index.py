"""The vault's index: it tells what it was told, in order, nothing of it to others, and is made anew where damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from common.errors import IntegrityError
from common.facts import Facts
from common.protocol.messages import EncodingAt, ShareAt
from common.vault import index as index_module
from common.vault.granting import open_any
from common.vault.index import Cursor, Learned, VaultIndex, indexes_in, located, remove_index
from common.vault.index_rows import ObjectRow, RowSealer, SeenRow
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, granted_object_id, own_object_id, seal_own
from tests.support.sample_images import KEY, OTHER_KEY, chance, device_of, encode

IMAGE = encode(b"content")
NAME = IMAGE.commitment.object_id, IMAGE.encoding_id
ALIVE = frozenset(device_of(share) for share in range(4))
CURSOR = Cursor(b"e" * 16, 7)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VaultIndex]:
    made = VaultIndex(tmp_path, KEY)
    yield made
    made.close()


def again(index: VaultIndex) -> VaultIndex:
    """The same index as another program sees it."""
    return VaultIndex(index.path.parent.parent, KEY)


def mapping_of(number: int, stored_at: int = 0, **changed: object) -> Mapping:
    """That of an image which is not stored."""
    sha256, stored_at = hashlib.sha256(b"%d" % number).digest(), stored_at or 1_000_000 + number
    image = msgspec.structs.replace(IMAGE.trusted().mapping, image_sha256=sha256, stored_at=stored_at)
    made: Mapping = msgspec.structs.replace(image, name=f"{number}.jpg")
    return msgspec.structs.replace(made, **changed)


def located_at(mapping: Mapping, number: int = 0, **changed: object) -> EncodingAt:
    """An encoding of it, as the broker tells it."""
    shares = [ShareAt(share, device_of(share), True, True) for share in range(4)]
    encoding_id = chance(f"encoding {mapping.name} {number}", 16)
    encoding = EncodingAt(own_object_id(KEY, mapping), encoding_id, 2, 4, 100, shares)
    return msgspec.structs.replace(encoding, **changed)


def learned(mapping: Mapping, encoding: EncodingAt) -> Learned:
    sealed = seal_own(KEY, mapping, encoding.encoding_id).mapping
    return Learned(encoding.object_id, encoding.encoding_id, sealed, mapping)


def told(index: VaultIndex, *mappings: Mapping) -> list[EncodingAt]:
    """Have the index learn of these images."""
    encodings = [located_at(mapping) for mapping in mappings]
    index.apply({encoding.object_id: [encoding] for encoding in encodings})
    index.learn([learned(*each) for each in zip(mappings, encodings)])
    return encodings


def names(index: VaultIndex) -> list[str]:
    """The images as they are listed."""
    return [rows[0].described.name for rows in index.images() if rows[0].described is not None]


def rows_of(index: VaultIndex) -> list[ObjectRow]:
    return [row for _, row in index._all()]


# --- mappings


def test_a_kept_mapping_opens_to_what_it_was(index: VaultIndex) -> None:
    assert index.mapping(*NAME) is None
    index.keep_mapping(*NAME, IMAGE.commitment.mapping)
    assert index.mapping(*NAME) == again(index).mapping(*NAME) == IMAGE.trusted().mapping
    assert index.mapping(NAME[0], bytes(16)) is index.mapping(bytes(32), NAME[1]) is None


@pytest.mark.parametrize(
    "sealed",
    [b"", IMAGE.commitment.mapping[:-1], encode(b"x", key=OTHER_KEY).commitment.mapping],
    ids=["empty", "a byte short", "another vault's"],
)
def test_what_does_not_open_has_to_be_fetched_and_can_be_kept_again(index: VaultIndex, sealed: bytes) -> None:
    index.keep_mapping(*NAME, sealed)
    assert index.mapping(*NAME) is None
    index.keep_mapping(*NAME, IMAGE.commitment.mapping)
    assert index.mapping(*NAME) is not None


def test_kept_mappings_are_named_the_latest_first_until_they_are_forgotten(
    index: VaultIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_PAGE", 2)
    ids = [(chance(f"object {number}", 32), bytes(16)) for number in range(5)]
    for name in ids:
        index.keep_mapping(*name, b"sealed")
    index.keep_mapping(*ids[1], b"sealed again")
    index.forget_mapping(*ids[3])
    assert list(index.kept_mappings()) == [ids[1], ids[4], ids[2], ids[0]]


# --- what the cluster has


def test_encodings_come_back_as_they_were_told_but_for_who_is_connected(index: VaultIndex) -> None:
    one, other = mapping_of(1), mapping_of(2)
    damaged = [ShareAt(0, device_of(0), False, True), ShareAt(1, device_of(1), True, True)]
    encodings = [located_at(one), located_at(one, 1, shares=damaged), located_at(other, granted=True)]
    index.apply({e.object_id: [f for f in encodings if f.object_id == e.object_id] for e in encodings})
    found = again(index).encodings(ALIVE)
    assert sorted(found, key=repr) == sorted(encodings, key=repr)
    assert [e.object_id for e in found] == sorted(e.object_id for e in encodings)
    away = index.encodings(ALIVE - {device_of(1)})
    assert all(share.alive is (share.device_id != device_of(1)) for e in away for share in e.shares)


def test_the_encoding_with_most_shares_at_hand_comes_first(index: VaultIndex) -> None:
    encodings = [located_at(mapping_of(1), number) for number in range(4)]
    short = msgspec.structs.replace(encodings[0], shares=encodings[0].shares[:1])
    index.apply({short.object_id: [short, *encodings[1:]]})
    (row,) = rows_of(index)
    assert located(row, ALIVE)[-1] == short


def test_what_has_no_encoding_any_more_is_gone_and_its_mapping_stays(index: VaultIndex) -> None:
    mapping = mapping_of(1)
    (encoding,) = told(index, mapping)
    index.apply({encoding.object_id: []})
    assert not names(index)
    assert not index.encodings(ALIVE)
    assert index.find(mapping.image_sha256.hex()) == []
    assert index.mapping(encoding.object_id, encoding.encoding_id) == mapping


def test_what_is_not_in_a_whole_list_is_gone(index: VaultIndex) -> None:
    encodings = told(index, *(mapping_of(number) for number in range(4)))
    listing = index.list_anew()
    listing.add({encodings[2].object_id: [encodings[2]]})
    listing.add({encodings[1].object_id: [encodings[1]]})
    assert names(index) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert listing.finish(CURSOR)
    assert names(index) == ["1.jpg", "2.jpg"]
    assert again(index).cursor == CURSOR


def test_a_list_during_which_the_index_was_made_anew_does_not_count(index: VaultIndex) -> None:
    (encoding,) = told(index, mapping_of(1))
    listing = index.list_anew()
    listing.add({encoding.object_id: [encoding]})
    index._make_anew()
    assert not listing.finish(CURSOR)
    assert index.cursor is None


def test_the_cursor_is_kept_with_the_change_that_it_belongs_to(index: VaultIndex) -> None:
    assert index.cursor is None
    encoding = located_at(mapping_of(1))
    index.apply({encoding.object_id: [encoding]}, CURSOR)
    assert again(index).cursor == CURSOR


def test_of_what_no_mapping_is_known_is_lacking_until_it_is_learned(index: VaultIndex) -> None:
    mapping = mapping_of(1)
    encoding = located_at(mapping)
    index.apply({encoding.object_id: [encoding]})
    assert [row.object_id for row in index.lacking()] == [encoding.object_id]
    assert index.count_lacking() == 1
    assert not names(index)
    index.learn([learned(mapping, encoding)])
    assert not index.lacking()
    assert not index.count_lacking()
    assert names(index) == ["1.jpg"]


def test_what_was_stored_here_is_known_without_asking(index: VaultIndex) -> None:
    mapping = mapping_of(1)
    encoding = located_at(mapping)
    index.keep_mapping(*learned(mapping, encoding)[:3])
    index.apply({encoding.object_id: [encoding]})
    assert names(index) == ["1.jpg"]


def test_a_mapping_that_told_what_an_object_is_is_not_opened_again_to_be_used(
    index: VaultIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = mapping_of(1)
    encoding = located_at(mapping)
    name = encoding.object_id, encoding.encoding_id
    index.keep_mapping(*name, learned(mapping, encoding).sealed)
    index.apply({encoding.object_id: [encoding]})
    opened: list[bytes] = []

    def count(key: VaultKey, sealed: bytes, object_id: bytes, encoding_id: bytes) -> Mapping:
        opened.append(encoding_id)
        return open_any(key, sealed, object_id, encoding_id)

    monkeypatch.setattr(index_module, "open_any", count)
    assert index.mapping(*name) == mapping
    assert not opened
    assert index.mapping(*name) == mapping
    assert len(opened) == 1, "kept for one use only"


def test_a_mapping_that_was_forgotten_is_gone_though_it_told_what_an_object_is(index: VaultIndex) -> None:
    mapping = mapping_of(1)
    encoding = located_at(mapping)
    name = encoding.object_id, encoding.encoding_id
    index.keep_mapping(*name, learned(mapping, encoding).sealed)
    index.apply({encoding.object_id: [encoding]})
    index.forget_mapping(*name)
    assert index.mapping(*name) is None


def test_objects_are_the_vaults_own_once_all_mappings_say_so(index: VaultIndex) -> None:
    assert not index.may_have_granted()
    own, other = mapping_of(1), mapping_of(2)
    told(index, own)
    assert not index.may_have_granted()
    encoding = located_at(other, object_id=granted_object_id(KEY, other))
    index.apply({encoding.object_id: [encoding]})
    assert index.may_have_granted(), "its mapping is not known"
    index.learn([Learned(encoding.object_id, encoding.encoding_id, b"sealed", other)])
    assert not index.count_lacking()
    assert index.may_have_granted()


def test_an_image_stored_again_under_another_name_has_that_name(index: VaultIndex) -> None:
    now = mapping_of(1, name="now.jpg")
    told(index, mapping_of(1))
    encoding = located_at(now, 1)
    index.apply({encoding.object_id: [encoding]})
    assert not names(index)
    index.learn([learned(now, encoding)])
    assert names(index) == ["now.jpg"]


def test_a_share_that_moves_leaves_what_is_known(index: VaultIndex) -> None:
    (encoding,) = told(index, mapping_of(1))
    moved = msgspec.structs.replace(encoding, shares=encoding.shares[1:])
    index.apply({encoding.object_id: [moved]})
    assert index.encodings(ALIVE) == [moved]
    assert names(index) == ["1.jpg"]


def test_snapshots_are_known_as_such_before_their_mappings_are(index: VaultIndex) -> None:
    snapshot = mapping_of(1, kind="snapshot")
    encoding = located_at(snapshot)
    told(index, mapping_of(2))
    index.apply({encoding.object_id: [encoding]})
    assert [row.object_id for row in index.snapshots()] == [encoding.object_id]
    index.learn([learned(snapshot, encoding)])
    assert [row.object_id for row in index.snapshots()] == [encoding.object_id]
    assert names(index) == ["2.jpg"]


def test_a_content_is_kept_for_as_long_as_its_object_is_there(index: VaultIndex) -> None:
    tree, other = told(index, mapping_of(1, kind="tree"), mapping_of(2, kind="tree"))
    for each in (tree, other):
        assert index.content(each.object_id) is None
        index.keep_content(each.object_id, b"entries")
    assert again(index).content(tree.object_id) == b"entries"
    index.apply({tree.object_id: []})
    assert index.content(tree.object_id) is None
    assert index.content(other.object_id) == b"entries"
    assert index.list_anew().finish(CURSOR)
    assert index.content(other.object_id) is None


def test_a_large_content_is_not_kept(index: VaultIndex) -> None:
    (tree,) = told(index, mapping_of(1, kind="tree"))
    index.keep_content(tree.object_id, bytes((256 << 10) + 1))
    assert index.content(tree.object_id) is None


def test_paths_are_known_until_there_is_another_snapshot_or_image(index: VaultIndex) -> None:
    mapping, other = mapping_of(1), mapping_of(2)
    (encoding, _) = told(index, mapping, other)
    snapshots = [bytes(32), b"s" * 32]
    assert not index.knows_paths([])
    index.keep_paths({mapping.image_sha256: [b"a/b", b"\xff"]}, snapshots)
    assert index.knows_paths(reversed(snapshots))
    assert not index.knows_paths(snapshots[:1])
    assert [rows[0].paths for rows in index.images()] == [[b"a/b", b"\xff"], []]
    index.apply({encoding.object_id: [located_at(mapping, shares=encoding.shares[1:])]})
    assert index.knows_paths(snapshots)
    assert [rows[0].paths for rows in index.images()] == [[b"a/b", b"\xff"], []]
    told(index, mapping_of(3))
    assert not index.knows_paths(snapshots)
    index.keep_paths({other.image_sha256: [b"d"]}, snapshots)
    assert [rows[0].paths for rows in index.images()] == [[], [b"d"], []]


# --- in order, and by digits


@pytest.mark.parametrize("tail", [1, 3])
def test_images_come_by_when_they_were_stored(index: VaultIndex, monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    """Those that came after the others were put in order among them; `tail`: how many these may be."""
    monkeypatch.setattr(index_module, "_TAIL", tail)
    monkeypatch.setattr(index_module, "_PAGE", 3)
    told(index, *(mapping_of(number, 1000 - 10 * number) for number in range(10)))
    assert names(index) == [f"{number}.jpg" for number in reversed(range(10))]
    _, removed, _ = told(index, mapping_of(20, 1), mapping_of(21, 955), mapping_of(22, 2000))
    index.apply({removed.object_id: []})
    (removed,) = [located_at(mapping_of(7, 930))]
    index.apply({removed.object_id: []})
    told(index, mapping_of(23, 955))
    wanted = [20, 9, 8, 6, 5, 23, 4, 3, 2, 1, 0, 22]
    assert names(index) == names(again(index)) == [f"{number}.jpg" for number in wanted]


@pytest.mark.parametrize("tail", [1, 3])
def test_the_newest_come_first_by_when_they_were_taken_and_by_name(
    index: VaultIndex, monkeypatch: pytest.MonkeyPatch, tail: int
) -> None:
    monkeypatch.setattr(index_module, "_TAIL", tail)
    monkeypatch.setattr(index_module, "_PAGE", 3)
    taken = Facts(taken_at="1969-07-20T20:17:40")
    told(index, mapping_of(1, 5, name="B.jpg"), mapping_of(2, 5, name="a.jpg"), mapping_of(3, 9, facts=taken))
    told(index, mapping_of(4, 7, kind="tree"), mapping_of(5, 6))
    groups = index.numbered(index.dates().newest_first().tolist())
    assert [row.described and row.described.name for (row,) in groups] == ["5.jpg", "a.jpg", "B.jpg", "3.jpg"]


def test_of_dates_of_images_that_are_gone_no_more_are_kept_than_of_others(
    index: VaultIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_TAIL", 1)
    monkeypatch.setattr(index_module, "_PAGE", 2)
    for number in range(20):
        (encoding,) = told(index, mapping_of(number))
        assert names(index) == [f"{number}.jpg"]
        assert len(index._dates()) <= 4
        index.apply({encoding.object_id: []})


def test_a_number_of_a_row_that_is_gone_is_no_others_in_an_index_made_anew(index: VaultIndex) -> None:
    (encoding,) = told(index, mapping_of(1))
    numbers = index.dates().by_storing().tolist()
    index.apply({encoding.object_id: []})
    told(index, mapping_of(2))
    assert index.numbered(numbers) == [[]]
    index._make_anew()
    told(index, mapping_of(3))
    assert index.numbered(numbers) == [[]]


def test_only_images_are_listed_and_counted(index: VaultIndex) -> None:
    told(index, mapping_of(1), mapping_of(2, kind="tree"), mapping_of(3, kind="snapshot"))
    assert names(index) == ["1.jpg"]
    assert index.count_images() == 1


def test_an_image_is_found_by_the_digits_that_it_begins_with(index: VaultIndex) -> None:
    mappings = [mapping_of(number) for number in range(100)]
    told(index, *mappings)
    wanted = mappings[77].image_sha256.hex()
    for digits in (wanted, wanted[:8], wanted[:9], wanted[:63]):
        assert [row.described and row.described.name for row in index.find(digits)] == ["77.jpg"]
    other = "0" if wanted[8] != "0" else "1"
    assert index.find(wanted[:8] + other) == index.find("00000000") == []


def test_all_that_begin_so_are_found(index: VaultIndex) -> None:
    one = mapping_of(1, name="a")
    told(index, one, mapping_of(2, name="b", image_sha256=one.image_sha256[:20] + bytes(12)))
    assert len(index.find(one.image_sha256.hex()[:8])) == 2
    assert len(index.find(one.image_sha256.hex())) == 1


@pytest.mark.parametrize("own", [False, True])
def test_an_image_that_others_share_as_well_is_listed_once(index: VaultIndex, own: bool) -> None:
    mapping = mapping_of(1)
    if own:
        told(index, mapping)
    encoding = located_at(mapping, 1, object_id=granted_object_id(KEY, mapping), granted=True)
    index.apply({encoding.object_id: [encoding]})
    index.learn([learned(mapping, encoding)])
    told(index, mapping_of(2))
    assert names(index) == ["1.jpg", "2.jpg"]
    assert [len(rows) for rows in index.images()] == [2 if own else 1, 1]
    assert len(index.dates()) == 2
    assert len(index.find(mapping.image_sha256.hex())) == (2 if own else 1)


# --- the file


def test_nothing_on_disk_tells_of_an_image_or_a_file(index: VaultIndex) -> None:
    mapping = mapping_of(1)
    (encoding,) = told(index, mapping)
    index.keep_seen({b"/home/photos/holiday.jpg": SeenRow(1, 2, 3, 4, mapping.image_sha256)})
    index.apply({}, CURSOR)
    index.close()
    content = b"".join(path.name.encode() + path.read_bytes() for path in index.path.parent.iterdir())
    assert b"CREATE TABLE objects" in content
    hashes = (mapping.image_sha256, encoding.object_id, encoding.encoding_id, device_of(0), KEY.owner_id())
    secrets = (b"1.jpg", b"/home/photos", b"holiday", mapping.data_key[:8], mapping.image_sha256.hex()[:16].encode())
    for secret in (*secrets, *(each[:6] for each in (*hashes, CURSOR.epoch))):
        assert secret not in content, secret


def test_two_indexes_of_one_vault_have_no_name_in_common(tmp_path: Path) -> None:
    found = []
    for machine in ("one", "other"):
        index = VaultIndex(tmp_path / machine, KEY)
        told(index, mapping_of(1))
        with contextlib.closing(sqlite3.connect(index.path)) as database:
            found.append(set(database.execute("SELECT name, digits FROM objects").fetchone()))
    assert not found[0] & found[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_may_read_it(index: VaultIndex) -> None:
    told(index, mapping_of(1))
    paths = [path for path in index.path.parent.iterdir() if path.suffix != ".lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE(index.path.parent.stat().st_mode) == 0o700


def test_a_damaged_or_cut_file_tells_nothing_wrong_and_takes_what_it_is_told(tmp_path: Path) -> None:
    index = VaultIndex(tmp_path / "good", KEY)
    told(index, *(mapping_of(number) for number in range(3)))
    index.apply({}, CURSOR)
    index.close()
    good, wanted = index.path.read_bytes(), ["0.jpg", "1.jpg", "2.jpg"]
    for offset in range(0, len(good), 1021):
        flipped = good[:offset] + bytes([good[offset] ^ 0x40]) + good[offset + 1 :]
        for number, damaged in enumerate((good[:offset], flipped)):
            other = VaultIndex(tmp_path / f"{offset} {number}", KEY)
            other.path.parent.mkdir(parents=True)
            other.path.write_bytes(damaged)
            found = names(other)
            assert found in (wanted, []), offset
            assert found or other.cursor is None, offset
            told(other, mapping_of(9))
            assert "9.jpg" in names(other), offset
            other.close()


def test_a_row_in_the_place_of_another_is_not_believed(index: VaultIndex) -> None:
    told(index, mapping_of(1), mapping_of(2))
    index.close()
    with contextlib.closing(sqlite3.connect(index.path)) as database, database:
        one, other = database.execute("SELECT id, sealed FROM objects").fetchall()
        database.execute("UPDATE objects SET sealed = ? WHERE id = ?", (one[1], other[0]))
    assert names(index) == []


@pytest.mark.parametrize("content", [b"", b"junk", b"x" * 5000])
def test_what_is_no_index_is_made_one(index: VaultIndex, content: bytes) -> None:
    index.path.parent.mkdir(parents=True)
    index.path.write_bytes(content)
    told(index, mapping_of(1))
    assert names(again(index)) == ["1.jpg"]


def test_an_index_of_another_version_is_made_anew(index: VaultIndex) -> None:
    told(index, mapping_of(1))
    index.close()
    with contextlib.closing(sqlite3.connect(index.path)) as database:
        database.execute("PRAGMA user_version = 99")
    assert names(index) == []
    told(index, mapping_of(2))
    assert names(again(index)) == ["2.jpg"]


def test_each_vault_key_has_an_index_of_its_own(tmp_path: Path) -> None:
    one, other = VaultIndex(tmp_path, KEY), VaultIndex(tmp_path, OTHER_KEY)
    one.keep_mapping(*NAME, IMAGE.commitment.mapping)
    assert other.mapping(*NAME) is None
    assert sorted(indexes_in(tmp_path)) == sorted([one.path, other.path])
    other.close()
    remove_index(other.path)
    assert list(indexes_in(tmp_path)) == [one.path]
    assert one.mapping(*NAME) is not None


def test_where_nothing_can_be_kept_it_serves_from_memory_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "index").write_bytes(b"a file where the folder should be")
    index = VaultIndex(tmp_path, KEY)
    told(index, mapping_of(1))
    index.keep_mapping(*NAME, IMAGE.commitment.mapping)
    assert names(index) == ["1.jpg"]
    assert caplog.text.count("nothing can be kept in") == 1


def test_where_the_disk_gets_full_it_goes_on_from_memory_and_begins_anew(
    index: VaultIndex, caplog: pytest.LogCaptureFixture
) -> None:
    told(index, mapping_of(1))
    index.apply({}, CURSOR)
    assert index._database is not None
    index._database.execute("PRAGMA max_page_count = 1")
    told(index, *(mapping_of(number) for number in range(2, 100)))
    assert len(names(index)) == 98
    assert index.cursor is None
    assert caplog.text.count("nothing can be kept in") == 1


# --- two at once


def test_programs_at_once_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    def tell(first: int) -> None:
        index = VaultIndex(tmp_path, KEY)
        for number in range(first, first + 10):
            told(index, mapping_of(number))
        index.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(tell, range(0, 40, 10)))
    assert len(names(VaultIndex(tmp_path, KEY))) == 40


def test_one_object_serves_several_threads(index: VaultIndex) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: told(index, mapping_of(number)) and names(index), range(40)))
    assert len(names(index)) == 40


# --- rows


def test_a_row_opens_only_with_its_key_table_and_name() -> None:
    sealer = RowSealer(KEY.index_subkey(), bytes(32))
    name = sealer.name(b"s", b"value")
    row = SeenRow(1, 2, None, 3, bytes(32))
    sealed = sealer.seal(b"s", name, row)
    assert sealer.open(b"s", name, sealed, SeenRow) == row
    others = [
        (RowSealer(VaultKey(os.urandom(32)).index_subkey(), bytes(32)), b"s", name),
        (RowSealer(KEY.index_subkey(), b"s" * 32), b"s", name),
        (sealer, b"o", name),
        (sealer, b"s", sealer.name(b"s", b"other")),
    ]
    for other, table, place in others:
        with pytest.raises(IntegrityError):
            other.open(table, place, sealed, SeenRow)
    for damaged in (b"", sealed[:20], sealed[:-1], sealed[:5] + b"x" + sealed[6:]):
        with pytest.raises(IntegrityError):
            sealer.open(b"s", name, damaged, SeenRow)


def test_short_rows_are_as_long_as_each_other() -> None:
    sealer = RowSealer(KEY.index_subkey(), bytes(32))
    lengths = {len(sealer.seal(b"o", bytes(16), b"x" * length)) for length in range(240)}
    assert lengths == {12 + 256 + 16}
