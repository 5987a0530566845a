"""The catalog: it says who holds what as the devices told it, to the owner alone."""

from __future__ import annotations

from typing import Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import catalog as catalog_module
from broker import entries as entries_module
from broker.catalog import Catalog, in_memory
from broker.catalog_rows import Storage
from broker.claims import Place
from common.protocol.announcements import MODULUS, digest_of
from common.protocol.identifiers import owner_id
from common.protocol.messages import AnnouncedShare, EncodingAt, GrantedTo, ShareAt, Tombstone, shares_at_hand
from tests.support.tombstones import told

OWNER_KEY = b"w" * 32
OWNER, STRANGER = owner_id(OWNER_KEY), b"b" * 16
DEVICES = [bytes([number]) * 16 for number in range(1, 7)]
OBJECT, OTHER_OBJECT = b"o" * 32, b"p" * 32
ENCODING, OTHER_ENCODING = b"e" * 16, b"f" * 16


def share(
    index: int,
    encoding: bytes = ENCODING,
    object_id: Optional[bytes] = OBJECT,
    owner: bytes = OWNER,
    sound: bool = True,
) -> AnnouncedShare:
    return AnnouncedShare(encoding, index, object_id, owner, 4, 6, 1000, sound)


def everybody(_: bytes) -> bool:
    return True


def nobody(_: bytes) -> bool:
    return False


def full_catalog() -> Catalog:
    catalog = Catalog()
    for index, device in enumerate(DEVICES):
        catalog.announce(device, [share(index)])
    return catalog


def only(encodings: list[EncodingAt]) -> EncodingAt:
    (encoding,) = encodings
    return encoding


def object_ids(encodings: list[EncodingAt]) -> list[bytes]:
    return [encoding.object_id for encoding in encodings]


# --- which claim is believed


@pytest.mark.parametrize("depositor", [None, b"d" * 16])
def test_of_claims_that_differ_in_who_left_them_one_is_believed(depositor: Optional[bytes]) -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [msgspec.structs.replace(share(0), depositor=depositor)])
    catalog.announce(DEVICES[1], [msgspec.structs.replace(share(1), depositor=b"another depositor"[:16])])
    known = catalog.known(ENCODING)
    assert known is not None
    assert known.claim.depositor in (depositor, b"another depositor"[:16])


def test_a_device_that_names_many_shares_does_not_outvote_those_that_name_one() -> None:
    catalog = Catalog()
    for index, device in enumerate(DEVICES[:4]):
        catalog.announce(device, [share(index)])
    catalog.announce(DEVICES[5], [share(index, object_id=OTHER_OBJECT) for index in range(6)])
    known = catalog.known(ENCODING)
    assert known is not None
    assert (known.claim.object_id, known.contrary) == (OBJECT, frozenset({DEVICES[5]}))
    stranger = Tombstone(ENCODING, OTHER_OBJECT, b"z" * 32, 1, 10, b"s" * 64)
    catalog.add_tombstones(DEVICES[5], [told(stranger)], 0)
    assert not catalog.is_deleted(ENCODING)


def test_a_claim_that_its_devices_do_not_show_comes_after_the_others() -> None:
    catalog = Catalog()
    for index, device in enumerate(DEVICES):
        catalog.announce(device, [share(index, object_id=OTHER_OBJECT if index > 3 else OBJECT)])

    def believed() -> bytes:
        known = catalog.known(ENCODING)
        assert known is not None
        return known.claim.object_id

    assert believed() == OBJECT
    for other, there_is_another in ((OTHER_OBJECT, True), (OBJECT, False)):
        known = catalog.known(ENCODING)
        assert known is not None
        assert catalog.doubt(known.claim) is there_is_another
        assert believed() == other


# --- what was announced is found


def test_what_was_announced_is_found_share_by_share() -> None:
    found = only(full_catalog().locate(OWNER, OBJECT, everybody))
    expected = [ShareAt(index, device, True, True) for index, device in enumerate(DEVICES)]
    assert found == EncodingAt(OBJECT, ENCODING, 4, 6, 1000, expected)


def test_what_nobody_announced_is_not_found() -> None:
    assert full_catalog().locate(OWNER, OTHER_OBJECT, everybody) == []
    assert Catalog().page(OWNER, b"", 10, everybody) == ([], True)


def test_saying_it_again_changes_nothing() -> None:
    catalog = full_catalog()
    before = catalog.locate(OWNER, OBJECT, everybody)
    catalog.announce(DEVICES[0], [share(0), share(0)])
    assert catalog.locate(OWNER, OBJECT, everybody) == before
    assert catalog.shares_on(DEVICES[0]) == 1


def test_one_share_on_two_devices_is_found_on_both() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[1], [share(0)])
    found = only(catalog.locate(OWNER, OBJECT, everybody))
    assert [place.device_id for place in found.shares if place.share == 0] == DEVICES[:2]
    assert catalog.shares_on(DEVICES[1]) == 2


def test_a_device_that_is_not_connected_is_named_as_that() -> None:
    found = only(full_catalog().locate(OWNER, OBJECT, lambda device: device != DEVICES[2]))
    assert [entry.alive for entry in found.shares] == [True, True, False, True, True, True]
    assert set(shares_at_hand(found)) == {0, 1, 3, 4, 5}


def test_of_two_encodings_the_one_with_more_shares_at_hand_comes_first() -> None:
    catalog = full_catalog()
    for index, device in enumerate(DEVICES[:4]):
        catalog.announce(device, [share(index, OTHER_ENCODING)])
    both = catalog.locate(OWNER, OBJECT, everybody)
    assert [encoding.encoding_id for encoding in both] == [ENCODING, OTHER_ENCODING]
    last_two = catalog.locate(OWNER, OBJECT, lambda device: device in DEVICES[:4])
    assert {encoding.encoding_id: len(shares_at_hand(encoding)) for encoding in last_two} == {
        ENCODING: 4,
        OTHER_ENCODING: 4,
    }
    catalog.announce(DEVICES[4], [share(4, sound=False)])
    catalog.announce(DEVICES[5], [share(5, sound=False)])
    catalog.announce(DEVICES[0], [share(0, sound=False)])
    assert [e.encoding_id for e in catalog.locate(OWNER, OBJECT, everybody)] == [OTHER_ENCODING, ENCODING]


# --- damage


def test_a_damaged_share_is_known_and_not_at_hand() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[3], [share(3, sound=False)])
    found = only(catalog.locate(OWNER, OBJECT, everybody))
    assert [entry.sound for entry in found.shares] == [True, True, True, False, True, True]
    assert 3 not in shares_at_hand(found)


@pytest.mark.parametrize("damaged_first", [True, False])
def test_a_share_too_damaged_to_tell_its_owner_is_known_by_its_encoding(damaged_first: bool) -> None:
    catalog = Catalog()
    damaged = (DEVICES[0], [share(0, object_id=None, owner=STRANGER, sound=False)])
    sound = (DEVICES[1], [share(1)])
    for device, shares in (damaged, sound) if damaged_first else (sound, damaged):
        catalog.announce(device, shares)
    found = only(catalog.locate(OWNER, OBJECT, everybody))
    assert found.shares == [ShareAt(0, DEVICES[0], False, True), ShareAt(1, DEVICES[1], True, True)]
    assert catalog.locate(STRANGER, OBJECT, everybody) == []


def test_as_long_as_only_damaged_shares_are_known_there_is_no_object() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0, sound=False), share(1, object_id=None, sound=False)])
    assert catalog.page(OWNER, b"", 10, everybody) == ([], True)
    assert catalog.shares_on(DEVICES[0]) == 2


# --- devices that go and come back


def test_what_a_device_held_is_missing_when_it_is_gone_not_unknown() -> None:
    found = only(full_catalog().locate(OWNER, OBJECT, nobody))
    assert len(found.shares) == 6
    assert shares_at_hand(found) == {}


def test_what_a_device_no_longer_names_when_it_announces_anew_is_gone() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OTHER_OBJECT)])
    catalog.forget_device(DEVICES[0])
    assert catalog.shares_on(DEVICES[0]) == 0
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OTHER_OBJECT)])
    assert [entry.share for entry in only(catalog.locate(OWNER, OBJECT, everybody)).shares] == [1, 2, 3, 4, 5]
    assert len(catalog.locate(OWNER, OTHER_OBJECT, everybody)) == 1
    assert catalog.shares_on(DEVICES[0]) == 1


def test_an_encoding_that_no_device_names_any_more_is_not_found() -> None:
    catalog = full_catalog()
    for device in DEVICES:
        catalog.forget_device(device)
    assert catalog.locate(OWNER, OBJECT, everybody) == []
    assert catalog.page(OWNER, b"", 10, everybody) == ([], True)


# --- owners


def test_an_object_is_shown_to_its_owner_alone() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OTHER_OBJECT, STRANGER)])
    assert catalog.locate(STRANGER, OBJECT, everybody) == []
    assert catalog.locate(OWNER, OTHER_OBJECT, everybody) == []
    assert object_ids(catalog.page(OWNER, b"", 10, everybody)[0]) == [OBJECT]
    assert object_ids(catalog.page(STRANGER, b"", 10, everybody)[0]) == [OTHER_OBJECT]


def test_two_owners_of_the_same_object_id_see_their_own_encodings() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OBJECT, STRANGER)])
    assert only(catalog.locate(OWNER, OBJECT, everybody)).encoding_id == ENCODING
    assert only(catalog.locate(STRANGER, OBJECT, everybody)).encoding_id == OTHER_ENCODING


# --- pages


@given(st.sets(st.integers(0, 255), max_size=30), st.integers(1, 12))
def test_pages_one_after_the_other_list_each_object_once_and_in_order(numbers: set[int], limit: int) -> None:
    catalog = Catalog()
    for number in numbers:
        catalog.announce(DEVICES[0], [share(0, bytes([number]) * 16, bytes([number]) * 32)])
    listed: list[bytes] = []
    complete = False
    for _ in range(len(numbers) + 1):
        if complete:
            break
        page, complete = catalog.page(OWNER, listed[-1] if listed else b"", limit, everybody)
        assert len(page) <= limit
        assert page or complete
        listed += object_ids(page)
    assert complete
    assert listed == [bytes([number]) * 32 for number in sorted(numbers)]


def test_a_page_ends_where_the_objects_do_and_then_says_so() -> None:
    catalog = Catalog()
    ids = [bytes([number]) * 32 for number in range(4)]
    for number, object_id in enumerate(ids):
        catalog.announce(DEVICES[0], [share(0, bytes([number]) * 16, object_id)])
    page, complete = catalog.page(OWNER, b"", 3, everybody)
    assert (object_ids(page), complete) == (ids[:3], False)
    page, complete = catalog.page(OWNER, ids[2], 3, everybody)
    assert (object_ids(page), complete) == (ids[3:], True)
    assert catalog.page(OWNER, b"", 4, everybody)[1] is True


# --- a device that lies


def test_a_false_claim_stands_apart_and_hides_nothing_of_what_the_others_say() -> None:
    catalog = Catalog()
    liar = b"l" * 16
    false = [
        AnnouncedShare(ENCODING, 0, OTHER_OBJECT, OWNER, 4, 6, 1000),
        AnnouncedShare(ENCODING, 1, OBJECT, OWNER, 5, 6, 1000),
        AnnouncedShare(ENCODING, 2, OBJECT, STRANGER, 4, 6, 1000),
    ]
    catalog.announce(liar, false)
    for index, device in enumerate(DEVICES[1:], start=1):
        catalog.announce(device, [share(index)])
    first, second = catalog.locate(OWNER, OBJECT, everybody)
    assert (first.k, sorted(shares_at_hand(first))) == (4, [1, 2, 3, 4, 5])
    assert (second.k, sorted(shares_at_hand(second))) == (5, [1])


def test_one_device_that_names_all_shares_counts_for_one() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(index) for index in range(6)])
    assert len(shares_at_hand(only(catalog.locate(OWNER, OBJECT, everybody)))) == 1


def test_a_device_that_names_more_than_it_has_takes_no_share_from_the_others() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[5], [share(index) for index in range(6)])
    assert len(shares_at_hand(only(catalog.locate(OWNER, OBJECT, everybody)))) == 6


def test_what_a_device_no_longer_names_is_gone_from_the_list_too() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0), share(0, OTHER_ENCODING, OTHER_OBJECT)])
    catalog.forget_device(DEVICES[0])
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OTHER_OBJECT)])
    found, rest = catalog.page(OWNER, b"", 1, everybody)
    assert (object_ids(found), rest) == ([OTHER_OBJECT], True)
    assert catalog.shares_on(DEVICES[0]) == 1


# --- shares that are given up


def test_a_share_that_a_device_withdraws_is_known_no_more() -> None:
    catalog = full_catalog()
    catalog.withdraw(DEVICES[2], [(ENCODING, 2), (ENCODING, 3), (OTHER_ENCODING, 2)])
    found = only(catalog.locate(OWNER, OBJECT, everybody))
    assert [entry.share for entry in found.shares] == [0, 1, 3, 4, 5]
    assert (catalog.shares_on(DEVICES[2]), catalog.bytes_on(DEVICES[2])) == (0, 0)
    assert catalog.holders(ENCODING) == set(DEVICES) - {DEVICES[2]}


# --- announcing anew


def announced_anew(*said: AnnouncedShare, withdrawn: tuple[tuple[bytes, int], ...] = ()) -> Catalog:
    """A catalog that knew shares 0 of two encodings, and 1 of the first, of a device that registered again."""
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0), share(1), share(0, OTHER_ENCODING, OTHER_OBJECT)])
    catalog.take_touched()
    catalog.register(DEVICES[0])
    assert catalog.shares_on(DEVICES[0]) == 3, "what it had is known until it has said what it has"
    catalog.announce(DEVICES[0], said)
    catalog.withdraw(DEVICES[0], withdrawn)
    catalog.end_announcing(DEVICES[0])
    return catalog


def shares_of(catalog: Catalog) -> list[tuple[bytes, int]]:
    listed, _ = catalog.page(OWNER, b"", 10, everybody)
    return [(e.encoding_id, s.share) for e in listed for s in e.shares]


def test_what_a_device_names_again_stays_and_the_rest_goes() -> None:
    assert shares_of(announced_anew(share(0), share(1))) == [(ENCODING, 0), (ENCODING, 1)]
    assert shares_of(announced_anew(share(1))) == [(ENCODING, 1)]
    assert shares_of(announced_anew(share(2))) == [(ENCODING, 2)]
    assert shares_of(announced_anew()) == []
    all_again = share(0, OTHER_ENCODING, OTHER_OBJECT), share(1), share(0)
    assert shares_of(announced_anew(*all_again)) == [(ENCODING, 0), (ENCODING, 1), (OTHER_ENCODING, 0)]


def test_what_was_not_named_goes_part_by_part_unless_it_is_named_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "_WALKED", 2)
    monkeypatch.setattr(catalog_module, "_PARTS", 1)
    catalog = Catalog()
    ids = [bytes([number]) * 16 for number in range(6)]
    catalog.announce(DEVICES[0], [share(0, encoding_id) for encoding_id in ids])
    catalog.register(DEVICES[0])
    catalog.announce(DEVICES[0], [share(0, ids[0])])
    assert catalog.end_announcing(DEVICES[0])
    assert catalog.shares_on(DEVICES[0]) == 5
    catalog.announce(DEVICES[0], [share(0, ids[5]), share(0, ids[1])])
    catalog.know_up_to(DEVICES[0], b"p" * 16, 1)
    assert catalog.known_of(DEVICES[0]) is None, "more is known than there is"
    for _ in range(4):
        catalog.drop_unnamed()
    assert set(catalog.encodings_on(DEVICES[0])) == {ids[0], ids[1], ids[5]}
    catalog.know_up_to(DEVICES[0], b"p" * 16, 1)
    assert catalog.known_of(DEVICES[0]) is not None


def test_what_is_withdrawn_meanwhile_takes_nobodys_place() -> None:
    again = announced_anew(share(0), withdrawn=((ENCODING, 0),))
    assert (shares_of(again), again.shares_on(DEVICES[0])) == ([], 0)


def test_what_is_said_again_and_known_already_is_no_change() -> None:
    catalog = full_catalog()
    catalog.take_touched()
    catalog.announce(DEVICES[0], [share(0)])
    assert catalog.take_touched() == []
    catalog.announce(DEVICES[0], [msgspec.structs.replace(share(0), revision=3)])
    assert catalog.take_touched() == [ENCODING]


def test_a_digest_says_whether_a_device_and_the_catalog_agree_whatever_the_order() -> None:
    grants = [GrantedTo(b"1" * 16, OBJECT), GrantedTo(b"2" * 16, OBJECT)]
    said = [
        share(0),
        msgspec.structs.replace(share(1, OTHER_ENCODING), grants=grants, revision=3, depositor=STRANGER),
        share(2, object_id=None, sound=False),
    ]
    wanted = sum(map(digest_of, said)) % MODULUS

    def digest(*announced: AnnouncedShare, withdrawn: tuple[tuple[bytes, int], ...] = ()) -> int:
        catalog = Catalog()
        catalog.announce(DEVICES[0], announced)
        catalog.withdraw(DEVICES[0], withdrawn)
        catalog.know_up_to(DEVICES[0], b"p" * 16, 1)
        known = catalog.known_of(DEVICES[0])
        assert known is not None
        return int.from_bytes(known.digest, "big")

    assert digest(*said) == digest(*reversed(said)) == wanted
    other_way = msgspec.structs.replace(said[1], grants=grants[::-1])
    assert digest(said[0], other_way, said[2]) == wanted
    assert digest(*said, share(5), withdrawn=((ENCODING, 5),)) == wanted
    assert digest(share(2), *said) == wanted, "the last word counts"
    assert digest(*said[:2]) != wanted
    for change in ({"revision": 2}, {"owner": STRANGER}, {"share_bytes": 1}, {"share": 3}, {"k": 3}, {"sound": False}):
        assert digest(msgspec.structs.replace(said[0], **change), *said[1:]) != wanted, change


def test_a_damaged_share_can_be_withdrawn_too() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[2], [share(2, sound=False)])
    catalog.withdraw(DEVICES[2], [(ENCODING, 2)])
    assert len(only(catalog.locate(OWNER, OBJECT, everybody)).shares) == 5


def test_a_distrusted_share_counts_as_damaged_until_its_device_says_something_new() -> None:
    catalog = full_catalog()
    catalog.distrust(ENCODING, Place(1, DEVICES[1]))
    catalog.distrust(ENCODING, Place(1, DEVICES[4]))  # which does not hold it
    assert 1 not in shares_at_hand(only(catalog.locate(OWNER, OBJECT, everybody)))
    assert catalog.shares_on(DEVICES[4]) == 1
    catalog.announce(DEVICES[1], [share(1)])
    assert 1 in shares_at_hand(only(catalog.locate(OWNER, OBJECT, everybody)))


# --- what the steward asks


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["announce", "damage", "withdraw", "forget", "distrust"]),
            st.integers(0, 3),
            st.integers(0, 5),
            st.sampled_from([ENCODING, OTHER_ENCODING]),
            st.sampled_from([OBJECT, OTHER_OBJECT]),
        ),
        max_size=40,
    )
)
def test_whatever_devices_say_the_indices_agree_with_their_last_words(
    said: list[tuple[str, int, int, bytes, bytes]],
) -> None:
    storage = Storage(in_memory())
    catalog = Catalog(storage=storage)
    held: dict[tuple[int, bytes, int], Optional[bytes]] = {}  # device, encoding, share → object id; None: damaged
    for what, device, index, encoding, object_id in said:
        key = (device, encoding, index)
        if what == "announce":
            catalog.announce(DEVICES[device], [share(index, encoding, object_id)])
            held[key] = object_id
        elif what == "damage":
            catalog.announce(DEVICES[device], [share(index, encoding, object_id, sound=False)])
            held[key] = None
        elif what == "withdraw":
            catalog.withdraw(DEVICES[device], [(encoding, index)])
            held.pop(key, None)
        elif what == "distrust":
            catalog.distrust(encoding, Place(index, DEVICES[device]))
            held.update({key: None} if key in held else {})
        else:
            catalog.forget_device(DEVICES[device])
            held = {other: object_id for other, object_id in held.items() if other[0] != device}
    agrees_with(catalog, held)
    catalog.commit()
    again = Catalog(storage=storage)
    agrees_with(again, held)
    assert again.budget.total == catalog.budget.total
    for each in DEVICES:
        again.forget_device(each)
    assert (len(again), again.budget.total, again.devices()) == (0, 0, set())


def agrees_with(catalog: Catalog, held: dict[tuple[int, bytes, int], Optional[bytes]]) -> None:
    for number in range(4):
        own = [key for key in held if key[0] == number]
        assert catalog.shares_on(DEVICES[number]) == len(own)
        assert set(catalog.encodings_on(DEVICES[number])) == {encoding for _, encoding, _ in own}
        assert catalog.bytes_on(DEVICES[number]) == 1000 * sum(held[key] is not None for key in own)
    assert len(catalog) == len({encoding for _, encoding, _ in held})
    listed, _ = catalog.page(OWNER, b"", 10, everybody)
    assert object_ids(listed) == sorted(object_ids(listed))
    assert {(e.object_id, e.encoding_id) for e in listed} == {(o, key[1]) for key, o in held.items() if o is not None}
    sound = {(e.object_id, e.encoding_id, s.share, s.device_id) for e in listed for s in e.shares if s.sound}
    assert sound == {(o, key[1], key[2], DEVICES[key[0]]) for key, o in held.items() if o is not None}


def test_an_encoding_is_known_by_the_claim_that_most_devices_make() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [AnnouncedShare(ENCODING, 0, OTHER_OBJECT, STRANGER, 1, 6, 1)])
    known = catalog.known(ENCODING)
    assert known is not None
    assert (known.claim.object_id, len(known.sound), known.contrary) == (OBJECT, 5, frozenset({DEVICES[0]}))
    assert catalog.known(OTHER_ENCODING) is None


def test_what_changed_is_told_once() -> None:
    catalog = full_catalog()
    assert catalog.take_touched() == [ENCODING]
    assert catalog.take_touched() == []
    catalog.withdraw(DEVICES[0], [(ENCODING, 0), (OTHER_ENCODING, 0)])
    assert catalog.take_touched() == [ENCODING]
    catalog.forget_device(DEVICES[1])
    assert catalog.take_touched() == [ENCODING]


# --- what was deleted


def tombstone(generation: int = 1, owner_key: bytes = OWNER_KEY) -> Tombstone:
    return Tombstone(ENCODING, OBJECT, owner_key, generation, 10, b"s" * 64)


def test_a_deleted_encoding_is_shown_no_more_although_a_device_still_holds_shares() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING)])
    catalog.add_tombstones(DEVICES[5], [told(tombstone())], 0)
    assert [e.encoding_id for e in catalog.locate(OWNER, OBJECT, everybody)] == [OTHER_ENCODING]
    assert catalog.encodings_of(OWNER, OBJECT) == [OTHER_ENCODING]
    catalog.withdraw(DEVICES[0], [(OTHER_ENCODING, 0)])
    assert catalog.page(OWNER, b"", 10, everybody) == ([], True)


def test_a_page_is_filled_past_what_was_deleted() -> None:
    catalog = Catalog()
    ids = [bytes([number]) * 32 for number in range(4)]
    for object_id in ids:
        catalog.announce(DEVICES[0], [share(0, object_id[:16], object_id)])
    for object_id in ids[:2]:
        catalog.add_tombstones(DEVICES[0], [told(Tombstone(object_id[:16], object_id, OWNER_KEY, 1, 10, b"s" * 64))], 0)
    page, rest = catalog.page(OWNER, b"", 1, everybody)
    assert (object_ids(page), rest) == ([ids[2]], False)
    page, rest = catalog.page(OWNER, ids[2], 1, everybody)
    assert (object_ids(page), rest) == ([ids[3]], True)


def test_a_deletion_taken_back_hides_nothing_and_the_higher_generation_holds() -> None:
    catalog = full_catalog()
    catalog.add_tombstones(DEVICES[0], [told(tombstone(2))], 0)
    catalog.add_tombstones(DEVICES[1], [told(tombstone(1))], 0)
    assert len(catalog.locate(OWNER, OBJECT, everybody)) == 1
    assert catalog.tombstones.behind(tombstone(2)) == [DEVICES[1]]
    catalog.add_tombstones(DEVICES[0], [told(tombstone(3))], 0)
    assert catalog.locate(OWNER, OBJECT, everybody) == []


def test_what_another_owner_deleted_under_the_same_id_hides_nothing() -> None:
    catalog = full_catalog()
    others = tombstone(owner_key=b"f" * 32)
    catalog.add_tombstones(DEVICES[0], [told(others)], 0)
    assert len(catalog.locate(OWNER, OBJECT, everybody)) == 1
    assert not catalog.is_deleted(ENCODING)
    assert catalog.holders_of(ENCODING, others.owner) == set()


def test_what_its_owner_deleted_is_hidden_from_whom_it_is_shared_with() -> None:
    catalog, friend = Catalog(), b"f" * 16
    granted = msgspec.structs.replace(share(0), grants=[GrantedTo(friend, OTHER_OBJECT)])
    catalog.announce(DEVICES[0], [granted])
    catalog.add_tombstones(DEVICES[1], [told(tombstone(owner_key=b"f" * 32))], 0)
    (shared,) = catalog.locate(friend, OTHER_OBJECT, everybody)
    assert shared.granted
    catalog.add_tombstones(DEVICES[1], [told(tombstone())], 0)
    assert catalog.locate(friend, OTHER_OBJECT, everybody) == []


def test_what_is_left_of_an_image_deleted_under_the_next_vault_key_is_deleted() -> None:
    catalog, next_owner = Catalog({OWNER}.__contains__), owner_id(b"n" * 32)
    for number in range(2):  # of devices that were away when the key was replaced
        catalog.announce(DEVICES[number], [share(number)])
    assert not catalog.is_deleted(ENCODING)
    catalog.add_tombstones(DEVICES[2], [told(tombstone(owner_key=b"n" * 32))], 0)
    assert catalog.tombstones.deleted(ENCODING, next_owner)
    assert catalog.is_deleted(ENCODING)


def test_damaged_shares_are_nobodys_where_others_say_whose_the_encoding_is() -> None:
    catalog, stranger = full_catalog(), owner_id(b"f" * 32)
    catalog.announce(DEVICES[0], [msgspec.structs.replace(share(0), sound=False)])
    assert DEVICES[0] in catalog.holders_of(ENCODING, OWNER)
    assert catalog.holders_of(ENCODING, stranger) == set()


def test_what_a_device_told_of_deletions_is_forgotten_before_it_tells_anew() -> None:
    catalog = full_catalog()
    catalog.add_tombstones(DEVICES[0], [told(tombstone())], 0)
    catalog.add_tombstones(DEVICES[1], [told(tombstone())], 0)
    catalog.forget_device(DEVICES[0])
    assert catalog.locate(OWNER, OBJECT, everybody) == []
    catalog.forget_device(DEVICES[1])
    assert catalog.tombstones.encodings_of(OWNER) == []
    catalog.announce(DEVICES[0], [share(0)])
    assert len(catalog.locate(OWNER, OBJECT, everybody)) == 1


def test_a_tombstone_is_forgotten_when_it_ends() -> None:
    catalog = full_catalog()
    catalog.add_tombstones(DEVICES[0], [told(tombstone(), left=900)], 100)
    assert catalog.tombstones.expire(999) == []
    assert catalog.tombstones.expire(1000) == [ENCODING]
    assert len(catalog.locate(OWNER, OBJECT, everybody)) == 1


# --- what need not be looked at


def test_what_is_whole_on_devices_that_are_here_is_known_from_its_row() -> None:
    catalog = full_catalog()
    catalog.announce(DEVICES[0], [share(0, OTHER_ENCODING, OTHER_OBJECT)])
    catalog.hold([ENCODING, OTHER_ENCODING, b"g" * 16])
    assert catalog.is_simply_whole(ENCODING, away=0)
    assert not catalog.is_simply_whole(ENCODING, catalog.rows.bits(DEVICES[5:]))
    assert not catalog.is_simply_whole(OTHER_ENCODING, away=0)  # five shares are missing
    assert not catalog.is_simply_whole(b"g" * 16, away=0)  # nothing was said of it


def test_what_was_deleted_or_has_a_copy_too_many_is_looked_at() -> None:
    deleted, doubled = full_catalog(), full_catalog()
    deleted.add_tombstones(DEVICES[0], [told(tombstone())], today=0)
    doubled.announce(b"s" * 16, [share(0)])
    for catalog in (deleted, doubled):
        catalog.hold([ENCODING])
        assert not catalog.is_simply_whole(ENCODING, away=0)
