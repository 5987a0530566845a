"""The rest of the steward's plan: evening out, images with several encodings, urgency, how long devices are away."""

from __future__ import annotations

import random
from typing import Optional

import pytest

from broker.catalog import Catalog
from broker.claims import Place
from broker.devices import Devices
from broker.rights import Standing
from broker.steward.assessment import Presence, State
from broker.steward.balance import Balance
from broker.steward.plan import Room
from broker.steward.survey import Survey
from common.coding.redundancy import DeviceCount
from common.protocol.identifiers import device_id, owner_id
from common.protocol.messages import AnnouncedShare, Tombstone
from tests.support.sample_broker import MembersInMemory
from tests.support.tombstones import told

OWNER_KEY = b"w" * 32
OWNER = owner_id(OWNER_KEY)
OBJECT = b"o" * 32
DEVICES = [bytes([number]) * 16 for number in range(1, 9)]
SIZE = 1000
TOTAL = 600 * SIZE


def share(index: int, encoding_id: bytes, object_id: bytes = OBJECT, k: int = 2, n: int = 3) -> AnnouncedShare:
    return AnnouncedShare(encoding_id, index, object_id, OWNER, k, n, SIZE)


def put(catalog: Catalog, encoding_id: bytes, devices: list[bytes], object_id: Optional[bytes] = None) -> None:
    for index, device in enumerate(devices):
        catalog.announce(device, [share(index, encoding_id, object_id or encoding_id * 2)])


def rooms(capacities: dict[bytes, int], presence: Presence = Presence.HERE) -> dict[bytes, Room]:
    return {device: Room(presence, capacity, capacity) for device, capacity in capacities.items()}


# --- evening out


def even_out(catalog: Catalog, there: dict[bytes, Room]) -> int:
    """Carry out every move at once; how many there were."""
    balance = Balance(catalog)
    balance.begin()
    moves = 0
    while balance.under_way:
        task = balance.next_task(there, (), 50)
        if task is None:
            continue
        moves += 1
        (target,), (discard,) = task.targets, task.discards
        claim = task.claim
        catalog.announce(target.device, [share(target.share, claim.encoding_id, claim.object_id)])
        catalog.withdraw(discard.device, [(claim.encoding_id, discard.share)])
        assert moves < 1000
    return moves


@pytest.mark.parametrize("capacities", [[1, 1, 1, 1, 1], [2, 1, 1, 1, 1], [1, 1, 1, 1, 2], [3, 2, 2, 3, 2]])
def test_after_a_device_was_added_none_is_over_its_part_by_more_than_five_percent(capacities: list[int]) -> None:
    catalog = uneven()
    there = rooms({device: capacity << 30 for device, capacity in zip(DEVICES, capacities)})
    assert even_out(catalog, there) > 0
    for device, capacity in zip(DEVICES, capacities):
        assert catalog.bytes_on(device) <= 1.05 * TOTAL * capacity / sum(capacities) + SIZE


def test_where_a_device_cannot_take_its_part_the_others_share_the_rest() -> None:
    catalog = uneven()
    even_out(catalog, rooms({device: capacity << 30 for device, capacity in zip(DEVICES, [4, 1, 1, 2, 2])}))
    assert catalog.bytes_on(DEVICES[0]) == 200 * SIZE  # a share of every encoding, of two fifths that are its part
    assert abs(catalog.bytes_on(DEVICES[3]) - catalog.bytes_on(DEVICES[4])) <= 0.1 * catalog.bytes_on(DEVICES[3])


def uneven() -> Catalog:
    """Three shares each of 200 encodings, on four devices of five."""
    rng = random.Random(3)  # noqa: S311
    catalog = Catalog()
    for _ in range(200):
        put(catalog, rng.randbytes(16), rng.sample(DEVICES[:4], 3))
    return catalog


def test_what_is_even_is_left_alone() -> None:
    catalog = Catalog()
    for number in range(30):
        put(catalog, bytes([number]) * 16, [DEVICES[(number + step) % 5] for step in range(3)])
    assert even_out(catalog, rooms(dict.fromkeys(DEVICES[:5], 1 << 30))) == 0


def test_nothing_moves_to_a_device_that_holds_a_share_of_the_encoding_or_is_not_here() -> None:
    catalog = Catalog()
    for number in range(30):
        put(catalog, bytes([number]) * 16, DEVICES[:3])
    there = rooms(dict.fromkeys(DEVICES[:3], 1 << 30)) | rooms(dict.fromkeys(DEVICES[3:5], 1 << 30), Presence.LEAVING)
    assert even_out(catalog, there) == 0


def test_only_whole_encodings_move() -> None:
    catalog = Catalog()
    for number in range(30):
        put(catalog, bytes([number]) * 16, DEVICES[:2])
    assert even_out(catalog, rooms(dict.fromkeys(DEVICES[:4], 1 << 30))) == 0


# --- several encodings of one object

FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"3" * 16


def twice(first: int = 3, second: int = 3) -> Catalog:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:first], OBJECT)
    put(catalog, SECOND, DEVICES[3 : 3 + second], OBJECT)
    return catalog


def test_once_the_other_encoding_was_deleted_nothing_is_remembered_of_the_object() -> None:
    catalog = twice()
    survey = survey_of(catalog)
    survey.look(0.0, 100)
    assert catalog.several == {(OWNER, OBJECT)}
    for index, device in enumerate(DEVICES[:3]):
        catalog.withdraw(device, [(FIRST, index)])
    survey.look(1.0, 100)
    assert not catalog.several


def test_an_image_with_several_encodings_counts_once_and_by_the_best_of_them() -> None:
    catalog = twice(second=1)
    put(catalog, THIRD, DEVICES[:2])
    survey = survey_of(catalog)
    survey.look(0.0, 100)
    counts = survey.images()
    assert counts.whole + counts.waiting + counts.lacking + counts.unrecoverable == 2
    assert (counts.whole, counts.unrecoverable) == (1, 0), (
        "beside a whole encoding a rest of another is no image that is lost"
    )
    assert counts.in_danger == 1
    assert counts.needless == 0, "a rest of which nothing comes back may be made up"


def test_beside_a_whole_encoding_others_that_give_the_image_back_are_needless() -> None:
    catalog = twice(second=2)
    put(catalog, THIRD, DEVICES[:3])
    survey = survey_of(catalog)
    survey.look(0.0, 100)
    assert survey.images().needless == 1
    for index in range(2):
        catalog.withdraw(DEVICES[index], [(FIRST, index)])
    survey.look(1.0, 100)
    assert survey.images().needless == 0, "none is whole"


def test_weak_images_are_counted_once_each_but_not_deleted_ones_that_wait() -> None:
    catalog = twice()  # an image with two weak encodings
    put(catalog, THIRD, DEVICES[:3])
    for index in range(4):
        catalog.announce(DEVICES[index], [share(index, b"4" * 16, b"q" * 32, 2, 4)])
    survey = survey_of(catalog)
    survey.look(0.0, 100)
    assert survey.weak(DeviceCount(3, 3)) == 0
    assert survey.weak(DeviceCount(6, 6)) == 2
    catalog.add_tombstones(DEVICES[0], [told(Tombstone(THIRD, THIRD * 2, OWNER_KEY, 1, 0, b"s" * 64))], 0)
    survey.look(1.0, 100)
    assert survey.weak(DeviceCount(6, 6)) == 1
    for index in range(3):
        catalog.withdraw(DEVICES[index], [(THIRD, index), (FIRST, index)])
    survey.look(2.0, 100)
    assert survey.weak(DeviceCount(6, 6)) == 1


# --- what is most urgent


def survey_of(catalog: Catalog) -> Survey:
    survey = Survey(catalog, timeout=10.0, grace=10.0)
    survey.notice(dict.fromkeys(DEVICES[:6], Presence.HERE))
    survey.look(0.0, 100)
    return survey


def test_the_encoding_that_is_nearest_to_being_lost_comes_first() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:3])
    put(catalog, SECOND, DEVICES[3:6])
    survey = survey_of(catalog)
    for device in range(6):
        catalog.announce(DEVICES[device], [share(5, THIRD, n=6)] if device == 5 else [share(device, THIRD, n=6)])
    catalog.distrust(THIRD, Place(0, DEVICES[0]))
    catalog.distrust(SECOND, Place(0, DEVICES[3]))
    survey.look(1.0, 100)
    taken = [survey.take_lacking(1.0), survey.take_lacking(1.0), survey.take_lacking(1.0)]
    assert [one and one.known.claim.encoding_id for one in taken] == [SECOND, THIRD, None]


def test_what_has_changed_since_it_was_found_lacking_is_not_handed_out() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:3])
    survey = survey_of(catalog)
    catalog.distrust(FIRST, Place(0, DEVICES[0]))
    survey.look(1.0, 100)
    catalog.announce(DEVICES[0], [share(0, FIRST, FIRST * 2)])
    survey.look(2.0, 100)
    assert survey.take_lacking(2.0) is None
    assert survey.count(State.WHOLE) == 1


def test_a_share_that_was_never_named_is_lacking_after_a_while_and_not_before() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:2])
    survey = survey_of(catalog)
    survey.look(9.9, 100)
    assert survey.take_lacking(9.9) is None
    survey.look(10.0, 100)
    assert survey.take_lacking(10.0) is not None


def test_surplus_is_kept_for_a_grace_and_not_when_it_is_needed_meanwhile() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:3])
    survey = survey_of(catalog)
    catalog.announce(DEVICES[4], [share(0, FIRST, FIRST * 2)])
    survey.look(1.0, 100)
    survey.look(10.9, 100)
    assert survey.take_surplus(10.9) is None
    survey.look(11.0, 100)
    surplus = survey.take_surplus(11.0)
    assert surplus is not None
    assert len(surplus.places) == 1
    assert survey.count(State.WHOLE) == 1


def test_surplus_is_not_handed_out_before_a_change_was_looked_at() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:3])
    survey = survey_of(catalog)
    catalog.announce(DEVICES[4], [share(0, FIRST, FIRST * 2)])
    survey.look(1.0, 100)
    survey.look(11.0, 100)
    survey.notice(dict.fromkeys(DEVICES[1:6], Presence.HERE) | {DEVICES[0]: Presence.LOST})
    assert survey.take_surplus(11.0) is None
    survey.look(12.0, 100)
    assert survey.take_surplus(12.0) is None


def test_which_copy_is_surplus_follows_from_the_encoding_alone() -> None:
    alone: dict[bytes, set[Place]] = {}
    together = Catalog()
    for number in range(12):
        encoding_id = bytes([number]) * 16
        catalog = Catalog()
        for each in (catalog, together):
            put(each, encoding_id, DEVICES[:3])
            each.announce(DEVICES[4], [share(0, encoding_id, encoding_id * 2)])
        survey = survey_of(catalog)
        survey.look(11.0, 100)
        surplus = survey.take_surplus(11.0)
        assert surplus is not None
        alone[encoding_id] = set(surplus.places)
    survey = survey_of(together)
    survey.look(11.0, 100)
    found = [survey.take_surplus(11.0) for _ in alone]
    assert {each.known.claim.encoding_id: set(each.places) for each in found if each is not None} == alone
    assert len(set(map(frozenset, alone.values()))) == 2


def test_a_device_that_goes_concerns_only_what_it_holds() -> None:
    catalog = Catalog()
    for number in range(50):
        put(catalog, bytes([number]) * 16, DEVICES[:3] if number % 10 else DEVICES[3:6])
    survey = survey_of(catalog)
    presence = dict.fromkeys(DEVICES[:6], Presence.HERE)
    survey.notice({**presence, DEVICES[3]: Presence.AWAY})
    assert len(survey.look(1.0, 100)) == 5
    assert (survey.count(State.WAITING), survey.count(State.WHOLE)) == (5, 45)


def test_what_is_deleted_is_nobodys_to_mend() -> None:
    catalog = Catalog()
    put(catalog, FIRST, DEVICES[:2])
    survey = survey_of(catalog)
    catalog.add_tombstones(DEVICES[0], [told(Tombstone(FIRST, FIRST * 2, OWNER_KEY, 1, 10, b"s" * 64))], 0)
    survey.look(20.0, 100)
    assert [survey.count(state) for state in State] == [0, 0, 0, 0]


# --- how long devices are away

KEY = b"k" * 32
DEVICE = device_id(KEY)


@pytest.fixture
def devices() -> Devices:
    members = MembersInMemory()
    members.add(KEY, Standing.WORKER, "nas")
    return Devices(members, started=100.0)


def away(devices: Devices, now: float) -> float:
    return devices.all(now)[DEVICE].away


def come(devices: Devices, now: float) -> None:
    devices.register(DEVICE, 0, 1000, now)
    devices.completed(DEVICE, now)


def test_a_device_that_did_not_come_since_the_broker_started_is_away_since_then(devices: Devices) -> None:
    assert away(devices, 130.0) == 30.0


def test_a_device_is_away_since_it_was_last_seen(devices: Devices) -> None:
    come(devices, 110.0)
    assert away(devices, 112.0) == 0.0
    devices.report(DEVICE, 0, 1000, 113.0)
    devices.lose(DEVICE)
    assert away(devices, 120.0) == 7.0


def test_a_device_that_only_registers_and_never_tells_what_it_holds_is_away(
    devices: Devices,
) -> None:
    come(devices, 110.0)
    devices.lose(DEVICE)
    for now in (120.0, 130.0, 140.0):
        devices.register(DEVICE, 0, 1000, now)
        devices.report(DEVICE, 0, 1000, now)
    assert away(devices, 141.0) == 31.0


def test_time_in_which_the_broker_heard_nobody_does_not_count(
    devices: Devices,
) -> None:
    devices.heard(150.0)
    come(devices, 150.0)
    devices.lose(DEVICE)
    assert not devices.expected(DEVICE, 155.0)
    devices.heard(3750.0)
    assert away(devices, 3750.0) <= 5.0
    assert devices.expected(DEVICE, 3759.0)
    assert not devices.settled(3759.0)
    assert not devices.expected(DEVICE, 3761.0)
    assert devices.settled(3761.0)


def test_a_device_that_was_gone_before_the_broker_was_cut_off_is_not_expected_back(devices: Devices) -> None:
    devices.heard(150.0)
    come(devices, 150.0)
    devices.lose(DEVICE)
    for now in range(150, 200):
        devices.heard(now)
    devices.heard(3750.0)
    assert not devices.expected(DEVICE, 3750.0)
