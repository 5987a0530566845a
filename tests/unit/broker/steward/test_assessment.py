"""Assessing an encoding: what is held, waited for, lacking, unrecoverable, and what is more than needed."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from broker.claims import Claim, Known, Place
from broker.steward.assessment import Finding, Presence, State, assess, assign
from broker.steward.plan import Room, choose_places, loses_nothing, repair, sources_of

K, N = 4, 6
DEVICES = [bytes([number]) * 16 for number in range(1, 9)]
CLAIM = Claim(b"a" * 16, b"o" * 32, b"e" * 16, K, N, 1000)
WHOLE = [Place(index, DEVICES[index]) for index in range(N)]
places = st.builds(Place, st.integers(0, N - 1), st.sampled_from(DEVICES))


def known(sound: Iterable[Place], damaged: Iterable[Place] = ()) -> Known:
    return Known(CLAIM, tuple(sound), tuple(damaged), frozenset())


def found(encoding: Known, *, urgent: bool = False, patient: bool = True, **presence: Iterable[int]) -> Finding:
    """A finding where devices are here unless they are named, by their number, as something else."""
    at = {DEVICES[number]: Presence[state.upper()] for state, numbers in presence.items() for number in numbers}
    return assess(encoding, lambda device: at.get(device, Presence.HERE), urgent=urgent, patient=patient)


def here(_device: bytes) -> Presence:
    return Presence.HERE


def rooms(**presence: Iterable[int]) -> dict[bytes, Room]:
    at = {DEVICES[number]: Presence[state.upper()] for state, numbers in presence.items() for number in numbers}
    return {device: Room(at.get(device, Presence.HERE), 10_000, 10_000) for device in DEVICES}


# --- judging


def test_an_encoding_with_all_shares_on_devices_that_are_here_is_whole() -> None:
    assert found(known(WHOLE)) == Finding(State.WHOLE, 2)


def test_a_share_on_a_device_that_is_away_for_a_short_time_is_waited_for() -> None:
    finding = found(known(WHOLE), away=[0])
    assert (finding.state, finding.lacking, finding.spare) == (State.WAITING, (), 1)


def test_a_share_on_a_device_that_is_away_for_too_long_is_lacking() -> None:
    finding = found(known(WHOLE), lost=[0], away=[1])
    assert (finding.state, finding.lacking, finding.bytes_left) == (State.LACKING, (0,), 1000)


def test_where_it_is_urgent_no_device_is_waited_for() -> None:
    assert found(known(WHOLE), away=[0, 1], urgent=True).lacking == (0, 1)


def test_a_damaged_share_is_lacking_at_once() -> None:
    assert found(known(WHOLE[1:], WHOLE[:1])).lacking == (0,)


def test_a_share_that_no_device_has_announced_is_waited_for_as_long_as_is_wanted() -> None:
    finding = found(known(WHOLE[:5]))
    assert (finding.state, finding.unannounced) == (State.WAITING, True)
    assert found(known(WHOLE[:5]), patient=False).lacking == (5,)
    assert found(known(WHOLE[:5]), urgent=True).lacking == (5,)


def test_it_is_waited_for_while_a_device_that_may_have_it_has_not_told_its_shares() -> None:
    encoding = known(WHOLE[:5])
    assert assess(encoding, here, urgent=False, patient=False, may_come=1) == Finding(State.WAITING, 1, (), True)
    assert assess(encoding, here, urgent=True, patient=False, may_come=1).lacking == (5,)


def test_no_more_shares_are_waited_for_than_there_are_such_devices() -> None:
    encoding = known(WHOLE[:4])._replace(claim=CLAIM._replace(k=3))
    assert assess(encoding, here, urgent=False, patient=False, may_come=1).lacking == (5,)
    assert assess(encoding, here, urgent=False, patient=False, may_come=2).lacking == ()


def test_where_no_more_may_be_lost_nothing_is_waited_for_that_nobody_has_named() -> None:
    assert assess(known(WHOLE[:4]), here, urgent=False, patient=False, may_come=2).lacking == (4, 5)


def test_with_fewer_than_k_shares_at_hand_nothing_is_to_be_done() -> None:
    finding = found(known(WHOLE), lost=[0, 1, 2])
    assert (finding.state, finding.lacking, finding.incomplete) == (State.UNRECOVERABLE, (), False)
    assert found(known(WHOLE[:3])).incomplete


def test_a_retiring_device_gives_its_share_and_it_is_lacking_until_another_holds_it() -> None:
    finding = found(known(WHOLE), leaving=[0])
    assert (finding.state, finding.spare, finding.lacking, finding.leaving) == (State.LACKING, 2, (0,), (WHOLE[0],))
    finding = found(known([*WHOLE, Place(0, DEVICES[6])]), leaving=[0])
    assert finding == Finding(State.WHOLE, 2)


def test_a_share_that_a_retiring_and_a_returning_device_have_is_not_missed() -> None:
    finding = found(known([*WHOLE, Place(0, DEVICES[6])]), leaving=[0], away=[6])
    assert (finding.state, finding.leaving) == (State.WAITING, ())


def test_a_second_copy_on_a_retiring_device_is_needed_where_no_more_may_be_lost() -> None:
    copied = known([*WHOLE, Place(0, DEVICES[6])])
    assert found(copied, leaving=[0], lost=[1]).leaving == ()
    assert found(copied, leaving=[0], lost=[1, 2]).leaving == (WHOLE[0],)


def test_what_a_retiring_device_that_is_away_has_alone_is_lacking_and_left_on_it() -> None:
    finding = found(known(WHOLE), left=[0])
    assert (finding.lacking, finding.leaving, finding.spare) == ((0,), (WHOLE[0],), 1)


def test_a_device_that_names_several_shares_counts_for_one_of_them() -> None:
    finding = found(known([Place(share, DEVICES[0]) for share in range(N)]))
    assert (finding.state, finding.spare) == (State.UNRECOVERABLE, 1 - K)
    finding = found(known([*WHOLE[:5], Place(5, DEVICES[0])]))
    assert (finding.state, finding.lacking) == (State.LACKING, (5,))


def test_copies_and_damaged_shares_of_what_another_device_holds_are_surplus() -> None:
    copy, damaged = Place(0, DEVICES[6]), Place(1, DEVICES[7])
    surplus = found(known([*WHOLE, copy], [damaged])).surplus
    assert damaged in surplus
    assert len(set(surplus) & {copy, WHOLE[0]}) == 1
    assert len(surplus) == 2


@given(st.sets(places, max_size=16))
def test_each_device_counts_once_and_no_share_is_given_to_a_device_without_it(held: set[Place]) -> None:
    assigned = assign(b"e" * 16, held)
    assert len(set(assigned.values())) == len(assigned)
    assert {Place(*item) for item in assigned.items()} <= held
    assert assigned == assign(b"e" * 16, sorted(held, reverse=True))


@given(st.sets(places, max_size=16), st.sets(st.sampled_from(range(8))))
def test_what_is_held_stays_held_when_all_surplus_goes(held: set[Place], away: set[int]) -> None:
    encoding = known(held)
    finding = found(encoding, away=away)
    if finding.state is State.WHOLE:
        assert loses_nothing(encoding, finding.surplus, rooms(away=away))
        rest = known(held - set(finding.surplus))
        assert found(rest, away=away) == finding._replace(surplus=())


def test_a_doubtful_copy_stays_while_no_other_device_has_its_share() -> None:
    doubtful = Place(0, DEVICES[7])
    assert loses_nothing(known(WHOLE, [doubtful]), [doubtful], rooms())
    assert not loses_nothing(known(WHOLE[1:], [doubtful]), [doubtful], rooms())
    assert not loses_nothing(known(WHOLE, [doubtful]), [doubtful], rooms(away=[0]))


# --- places


def nobody(_: bytes) -> bool:
    return False


@given(st.sets(places, max_size=8), st.sets(places, max_size=4), st.sets(st.sampled_from(range(8))))
def test_no_device_is_given_a_second_share(sound: set[Place], damaged: set[Place], lost: set[int]) -> None:
    encoding = known(sound, damaged - sound)
    chosen = choose_places(encoding, range(N), rooms(lost=lost), nobody)
    devices = [place.device for place in chosen]
    assert len(set(devices)) == len(devices)
    assert not {place.device for place in sound} & set(devices)
    assert not {DEVICES[number] for number in lost} & set(devices)
    for place in chosen:
        there = {p for p in damaged if p.device == place.device}
        assert not there or place in there


def test_a_damaged_share_may_go_back_to_its_own_device() -> None:
    encoding = known(WHOLE[1:], WHOLE[:1])
    assert choose_places(encoding, [0], rooms(lost=[6, 7]), nobody) == (WHOLE[0],)
    assert choose_places(encoding, [0], rooms(lost=[6, 7]), lambda device: device == DEVICES[0]) == ()


def test_retiring_devices_and_those_without_room_get_nothing() -> None:
    there = rooms(leaving=[6])
    there[DEVICES[7]] = Room(Presence.HERE, 1000, 1000)
    assert choose_places(known(WHOLE[1:]), [0], {**there, DEVICES[0]: Room(Presence.LOST, 0, 0)}, nobody) == ()


def test_what_only_a_retiring_device_has_comes_straight_from_it() -> None:
    encoding = known(WHOLE)
    task = repair(encoding, found(encoding, leaving=[0]), rooms(leaving=[0]), nobody)
    assert task is not None
    assert (task.kind.value, task.donors) == ("move", {0: DEVICES[0]})
    assert {target.device for target in task.targets} <= {DEVICES[6], DEVICES[7]}


def test_where_copies_take_up_the_last_place_a_copy_goes_first() -> None:
    encoding = known([*WHOLE[:5], Place(0, DEVICES[5])])
    there = rooms(lost=[6, 7])
    task = repair(encoding, found(encoding, lost=[6, 7], patient=False), there, nobody)
    assert task is not None
    assert task.targets == ()
    assert set(task.discards) < {Place(0, DEVICES[0]), Place(0, DEVICES[5])}
    assert len(task.reads) == 1


@given(st.sets(places, max_size=16), st.sets(st.sampled_from(range(8))))
def test_sources_are_sound_shares_at_hand_one_of_each_device(sound: set[Place], lost: set[int]) -> None:
    sources = sources_of(known(sound), rooms(lost=lost))
    assert set(sources) <= sound
    assert {p.device for p in sources} == {p.device for p in sound} - {DEVICES[number] for number in lost}
    assert len(sources) == len({p.device for p in sources})
