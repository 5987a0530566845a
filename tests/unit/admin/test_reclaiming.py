"""What is taken back: what most devices had, however much one of them claims."""

from __future__ import annotations

from msgspec.structs import replace

from admin.reclaiming import _Held
from common.protocol.device_messages import Commitment, HeldFor
from common.protocol.messages import MOST_AHEAD
from tests.support.sample_shares import OWNER, STRANGER, sample

ENCODING = sample()
FIRST = ENCODING.commitment
JUNK = replace(FIRST, mapping=b"junk", revision=2)
DEVICES = [bytes([number]) * 16 for number in range(6)]


def told(
    held: _Held, device: bytes, *said: Commitment, generation: int = 0, revision: int = 3, again: bool = False
) -> None:
    for commitment in said:
        held.add(device, HeldFor(ENCODING.encoding_id, 0, 0, 9, STRANGER, generation, revision, again), commitment)


def test_what_most_devices_had_is_taken_back() -> None:
    held = _Held()
    for device in DEVICES[:4]:
        told(held, device, FIRST, JUNK)
    for device in DEVICES[4:]:  # their shares were rebuilt since
        told(held, device, JUNK)
    assert held.chosen == FIRST


def test_of_as_many_what_was_there_before_is_taken_back() -> None:
    held = _Held()
    told(held, DEVICES[0], JUNK)
    told(held, DEVICES[1], FIRST)
    assert held.chosen == FIRST


def test_it_is_said_in_the_next_generation_and_as_the_owner_said_it() -> None:
    held = _Held()
    told(held, DEVICES[0], FIRST, generation=2, revision=7)
    told(held, DEVICES[1], FIRST, generation=1, revision=9)
    (said,) = held.steps(DEVICES[0])
    assert said == replace(FIRST, generation=3, revision=10)
    assert said.owner == OWNER


def test_a_device_that_is_far_behind_is_led_on_in_steps_that_it_takes() -> None:
    held = _Held()
    told(held, DEVICES[0], FIRST, generation=1, revision=1000)
    told(held, DEVICES[1], FIRST, generation=0, revision=1)
    here = 0, 1
    for said in held.steps(DEVICES[1]):
        assert said.generation - here[0] <= MOST_AHEAD and said.revision - here[1] <= MOST_AHEAD
        assert (said.generation, said.revision) > here
        here = said.generation, said.revision
    assert here == (2, 1001)


def test_one_device_that_claims_too_much_leads_the_others_nowhere() -> None:
    held = _Held()
    for device in DEVICES[:5]:
        told(held, device, FIRST)
    told(held, DEVICES[5], FIRST, generation=2**53 - 1, revision=2**53 - 1)
    assert list(held.steps(DEVICES[0])) == [replace(FIRST, generation=1, revision=4)]


def test_where_it_is_as_it_was_nothing_is_to_be_done() -> None:
    held = _Held()
    told(held, DEVICES[0], FIRST, again=True)
    assert held.everywhere
    told(held, DEVICES[1], FIRST)
    assert not held.everywhere
