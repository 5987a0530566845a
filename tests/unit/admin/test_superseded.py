"""What is taken back: what most devices had, however much one of them claims, of however many encodings."""

from __future__ import annotations

import contextlib

import pytest
from msgspec.structs import replace

from admin.superseded import Superseded, SupersededFile
from common.errors import NoRoomError, ProtocolError
from common.protocol.device_messages import Commitment, HeldFor
from common.protocol.messages import MOST_AHEAD
from tests.support.sample_shares import OWNER, STRANGER, sample

ENCODING = sample()
FIRST = ENCODING.commitment
JUNK = replace(FIRST, mapping=b"junk", revision=2)
DEVICES = [bytes([number]) * 16 for number in range(6)]


def told(
    held: Superseded, device: bytes, *said: Commitment, generation: int = 0, revision: int = 3, again: bool = False
) -> None:
    for commitment in said:
        held.add(device, HeldFor(ENCODING.encoding_id, 0, 0, 9, STRANGER, generation, revision, again), commitment)


def test_what_most_devices_had_is_taken_back() -> None:
    held = Superseded()
    for device in DEVICES[:4]:
        told(held, device, FIRST, JUNK)
    for device in DEVICES[4:]:  # their shares were rebuilt since
        told(held, device, JUNK)
    assert held.chosen == FIRST


def test_of_as_many_what_was_there_before_is_taken_back() -> None:
    held = Superseded()
    told(held, DEVICES[0], JUNK)
    told(held, DEVICES[1], FIRST)
    assert held.chosen == FIRST


def test_it_is_said_in_the_next_generation_and_as_the_owner_said_it() -> None:
    held = Superseded()
    told(held, DEVICES[0], FIRST, generation=2, revision=7)
    told(held, DEVICES[1], FIRST, generation=1, revision=9)
    (said,) = held.steps(DEVICES[0])
    assert said == replace(FIRST, generation=3, revision=10)
    assert said.owner == OWNER


def test_a_device_that_is_far_behind_is_led_on_in_steps_that_it_takes() -> None:
    held = Superseded()
    told(held, DEVICES[0], FIRST, generation=1, revision=1000)
    told(held, DEVICES[1], FIRST, generation=0, revision=1)
    here = 0, 1
    for said in held.steps(DEVICES[1]):
        assert said.generation - here[0] <= MOST_AHEAD and said.revision - here[1] <= MOST_AHEAD
        assert (said.generation, said.revision) > here
        here = said.generation, said.revision
    assert here == (2, 1001)


def test_one_device_that_claims_too_much_leads_the_others_nowhere() -> None:
    held = Superseded()
    for device in DEVICES[:5]:
        told(held, device, FIRST)
    told(held, DEVICES[5], FIRST, generation=2**53 - 1, revision=2**53 - 1)
    assert list(held.steps(DEVICES[0])) == [replace(FIRST, generation=1, revision=4)]


def test_where_it_is_as_it_was_nothing_is_to_be_done() -> None:
    held = Superseded()
    told(held, DEVICES[0], FIRST, again=True)
    assert held.everywhere
    told(held, DEVICES[1], FIRST)
    assert not held.everywhere


def part(encoding_id: bytes, share: int = 0, generation: int = 0) -> HeldFor:
    return HeldFor(encoding_id, share, 0, 9, STRANGER, generation, 3, False)


def test_what_devices_say_of_many_encodings_comes_back_by_encoding_as_it_came() -> None:
    samples = sorted((sample(f"{number}") for number in range(40)), key=lambda each: each.encoding_id)
    with contextlib.closing(SupersededFile()) as file:
        for number, device in enumerate(DEVICES):
            for each in samples[number:]:  # each device its own, all in another order
                later = replace(each.commitment, mapping=b"junk", revision=2)
                file.add(device, part(each.encoding_id), each.commitment, counts=True)
                file.add(device, part(each.encoding_id, generation=7), later, counts=True)
        found = dict(file.encodings())
    assert list(found) == [each.encoding_id for each in samples]
    for number, each in enumerate(samples):
        held = found[each.encoding_id]
        assert held.chosen == each.commitment
        assert list(held.before) == DEVICES[: number + 1]
        assert {now.generation for now in held.now.values()} == {7}


def test_what_is_older_than_what_is_taken_back_counts_for_nothing() -> None:
    with contextlib.closing(SupersededFile()) as file:
        file.add(DEVICES[0], part(ENCODING.encoding_id), FIRST, counts=False)
        assert list(file.encodings()) == []


@pytest.mark.parametrize("counts", [True, False])
def test_a_device_that_says_one_thing_again_and_again_comes_to_an_end(counts: bool) -> None:
    with contextlib.closing(SupersededFile()) as file:
        file.add(DEVICES[0], part(ENCODING.encoding_id), FIRST, counts=counts)
        file.add(DEVICES[0], part(ENCODING.encoding_id, share=1), FIRST, counts=counts)
        file.add(DEVICES[1], part(ENCODING.encoding_id), FIRST, counts=counts)
        with pytest.raises(ProtocolError):
            file.add(DEVICES[0], part(ENCODING.encoding_id), replace(FIRST, revision=5), counts=counts)


def test_a_folder_for_temporary_files_that_is_full_is_said() -> None:
    with contextlib.closing(SupersededFile()) as file:
        file._database.execute("PRAGMA max_page_count = 20")
        with pytest.raises(NoRoomError, match="temporary files"):
            for number in range(1000):
                file.add(DEVICES[0], part(bytes(14) + number.to_bytes(2, "big")), FIRST, counts=True)
