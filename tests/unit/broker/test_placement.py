"""Placement: a device once, by its room, and no more changed than must be when devices come and go."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import placement
from broker.placement import Candidate, place

GIB = 1 << 30
identifiers = st.binary(min_size=16, max_size=16)
candidate_lists = st.lists(
    st.builds(Candidate, identifiers, st.integers(0, 2**53)), max_size=12, unique_by=lambda candidate: candidate[0]
)


def device(number: int) -> bytes:
    return bytes([number]) * 16


def encodings(count: int) -> list[bytes]:
    source = random.Random(20240607)  # noqa: S311 - the same encodings in every run
    return [source.randbytes(16) for _ in range(count)]


EQUAL = [Candidate(device(number), 10 * GIB) for number in range(8)]


@given(identifiers, candidate_lists, st.integers(1, 64), st.integers(0, 2**53), st.data())
def test_up_to_n_devices_with_room_each_of_them_once_and_none_that_is_excluded(
    encoding: bytes, candidates: list[Candidate], n: int, share_bytes: int, data: st.DataObject
) -> None:
    exclude = [candidate.device_id for candidate in candidates if data.draw(st.booleans())]
    chosen = place(encoding, candidates, n, share_bytes, exclude)
    fit = {c.device_id for c in candidates if c.free_bytes > share_bytes} - set(exclude)
    assert len(chosen) == len(set(chosen)) == min(n, len(fit))
    assert set(chosen) <= fit


@given(identifiers, candidate_lists, st.data())
def test_the_choice_does_not_depend_on_the_order_of_the_devices(
    encoding: bytes, candidates: list[Candidate], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(candidates))
    with_room = sum(candidate.free_bytes > 0 for candidate in candidates)
    assert place(encoding, candidates, with_room, 0) == place(encoding, shuffled, with_room, 0)


def test_equal_devices_get_equal_parts() -> None:
    counted = Counter(chosen for encoding in encodings(4000) for chosen in place(encoding, EQUAL, 6, 0))
    assert len(counted) == 8
    assert all(abs(count - 3000) < 150 for count in counted.values())


def test_a_devices_part_follows_its_free_space() -> None:
    weights = [1, 1, 2, 4, 8]
    devices = [Candidate(device(number), weight * GIB) for number, weight in enumerate(weights)]
    counted = Counter(place(encoding, devices, 1, 0)[0] for encoding in encodings(8000))
    for number, weight in enumerate(weights):
        assert abs(counted[device(number)] / 8000 - weight / sum(weights)) < 0.02


def test_every_share_index_goes_to_every_device() -> None:
    """No device gets always the first share: data and parity are spread alike."""
    seen = {(index, chosen) for e in encodings(500) for index, chosen in enumerate(place(e, EQUAL, 6, 0))}
    assert len(seen) == 6 * 8


def test_when_a_device_goes_only_its_own_shares_move() -> None:
    for encoding in encodings(500):
        before = place(encoding, EQUAL, 6, 0)
        after = place(encoding, EQUAL[1:], 6, 0)
        kept = [chosen for chosen in before if chosen != EQUAL[0].device_id]
        assert after[: len(kept)] == kept
        if len(kept) == 6:
            assert after == before


def test_when_a_device_comes_it_takes_one_place_or_none() -> None:
    newcomer = Candidate(device(99), 10 * GIB)
    taken = 0
    for encoding in encodings(500):
        before = place(encoding, EQUAL, 6, 0)
        after = place(encoding, [*EQUAL, newcomer], 6, 0)
        others = [chosen for chosen in after if chosen != newcomer.device_id]
        assert others == before[: len(others)]
        taken += newcomer.device_id in after
    assert abs(taken / 500 - 6 / 9) < 0.1


def test_to_exclude_a_device_is_to_choose_as_if_it_were_gone() -> None:
    for encoding in encodings(50):
        assert place(encoding, EQUAL, 6, 0, [EQUAL[3].device_id]) == place(encoding, EQUAL[:3] + EQUAL[4:], 6, 0)


def test_a_device_with_exactly_a_shares_bytes_has_no_room_for_what_is_around_it() -> None:
    devices = [Candidate(device(1), 1000), Candidate(device(2), 1001)]
    assert place(b"e" * 16, devices, 2, 1000) == [device(2)]
    assert place(b"e" * 16, [Candidate(device(1), 0)], 1, 0) == []


@pytest.mark.parametrize("mixed", [bytes(8), b"\xff" * 8, b"\xff" * 6 + b"\0\0", b"\x80" + bytes(7)])
def test_no_hash_whatsoever_gives_a_score_that_cannot_be_computed(mixed: bytes) -> None:
    assert 0 < placement._uniform(mixed) < 1
