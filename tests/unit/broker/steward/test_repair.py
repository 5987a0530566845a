"""One repair: it stores what was stored before, and nothing intact is lost by it, however it ends."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Callable, Optional

import pytest
from msgspec.structs import replace

from broker.claims import Claim, Place
from broker.steward.plan import Kind, Task
from broker.steward.repair import Outcome, Repair
from broker.steward.requests import Reply, Request, Then
from common.coding.commitments import CommitmentVerifier
from common.erasure import ErasureCode
from common.protocol.codec import pack, pack_header, unpack
from common.protocol.device_messages import Append, Fetch, SignedCommitment
from common.protocol.envelope import Envelope, Operation
from common.protocol.envelope import Kind as MessageKind
from common.protocol.messages import AnnouncedShare, Answer, Code
from common.vault.keys import VaultKey
from tests.support.sample_shares import KEY, OWNER, STRANGERS_KEY, sign
from tests.unit.simulation.device import Device, Stored
from tests.unit.simulation.images import Encoding, code_of, encode, make_image

K, N = 3, 5
SEGMENTS = 6


class Bench:
    """An encoding on devices 0 to n - 1, two more, and a repair's surroundings: requests reach the devices at once."""

    def __init__(self, segments: int = SEGMENTS) -> None:
        rng = random.Random(7)  # noqa: S311 - the same in every run
        image = make_image(rng, K, N)
        image.data = rng.randbytes(K * code_of(K, N).block_unit * segments)
        self.encoding: Encoding = encode(image, rng)
        self.devices = [Device(number, rng, *[lambda *_: None] * 3) for number in range(N + 2)]
        for share, device in enumerate(self.devices[:N]):
            self.hold(share, device)
        recipe = self.encoding.recipe
        self.claim = Claim(OWNER, image.object_id, recipe.encoding_id, K, N, recipe.share_bytes)
        self.asked: list[Request] = []
        self.verifier = CommitmentVerifier()
        self.bad: list[Place] = []
        self.outcome: Optional[Outcome] = None
        self.answers: dict[tuple[Operation, bytes], Code] = {}  # what a device answers whatever it is asked
        self.may = True  # discard
        self.slow: set[bytes] = set()
        self.silent: set[bytes] = set()  # devices of which no reply comes, and which are slow once nothing else comes
        self.unanswered: list[tuple[Request, Then]] = []
        self.elsewhere = True  # other devices could take what a place does not
        self.waiting: deque[tuple[Request, Then]] = deque()
        self.other_broker = object()

    def hold(self, share: int, device: Device) -> None:
        device.shares[self.key(share)] = Stored(OWNER, self.encoding.packed, self.encoding.share(share))

    def key(self, share: int) -> tuple[bytes, int]:
        return self.encoding.encoding_id, share

    def place(self, share: int, number: Optional[int] = None) -> Place:
        return Place(share, self.devices[share if number is None else number].device_id)

    def task(self, *targets: Place, kind: Kind = Kind.REBUILD, **more: Any) -> Task:
        missing = {target.share for target in targets} if kind is Kind.REBUILD else set()
        sources = tuple(self.place(share) for share in range(N) if share not in missing)
        return Task(kind, self.claim, sources, targets, **more)

    def run(self, task: Task, asks: int = 10_000, *, patient: bool = False) -> Outcome:
        """Carry it out, or stop in the middle, as if the broker was killed after so many asks."""
        repair = Repair(task, self, self._ended, patient=patient)
        repair.begin(0.0)
        while self.waiting and asks > 0 and self.outcome is None:
            asks -= 1
            request, then = self.waiting.popleft()
            if request.device in self.silent:
                self.unanswered.append((request, then))
            else:
                then(self._reply(request), 0.0)
            if not self.waiting and self.outcome is None:
                self.slow |= {request.device for request, _ in self.unanswered}
                repair.look(0.0)
        return self.outcome or Outcome("stopped")

    def _reply(self, request: Request) -> Reply:
        device = next(device for device in self.devices if device.device_id == request.device)
        refused = self.answers.get((request.operation, request.device))
        if refused is not None:
            return Reply(Answer(refused))
        envelope = Envelope(MessageKind.REQUEST, request.operation, b"r" * 16, owner=request.owner)
        header, payload = device.handle(self, envelope, pack_header(request.header), bytes(request.payload or b""), 0.0)
        answer: Answer = header.answer  # type: ignore[attr-defined]
        return Reply(answer, memoryview(pack_header(header)), None if payload is None else memoryview(payload))

    def _ended(self, repair: Repair, outcome: Outcome, now: float) -> None:
        assert self.outcome is None, "it ended twice"
        self.outcome = outcome

    # --- surroundings

    def ask(self, request: Request, then: Then, asker: object) -> None:
        self.asked.append(request)
        self.waiting.append((request, then))

    def code(self, k: int, n: int) -> ErasureCode:
        return code_of(k, n)

    def found_bad(self, encoding_id: bytes, place: Place) -> None:
        self.bad.append(place)

    def is_slow(self, device: bytes) -> bool:
        return device in self.slow

    def can_go_elsewhere(self, task: Task, place: Place) -> bool:
        return self.elsewhere

    def stored(self, share: AnnouncedShare, device: bytes) -> None:
        pass

    def may_discard(self, task: Task) -> list[Place]:
        return list(task.discards) if self.may else []

    # --- what came of it

    def count(self, operation: Operation, number: Optional[int] = None) -> int:
        device = None if number is None else self.devices[number].device_id
        return sum(request.operation is operation and device in (None, request.device) for request in self.asked)

    def is_intact(self, share: int, number: int) -> bool:
        stored = self.devices[number].shares.get(self.key(share))
        return stored is not None and stored.sound and stored.blocks == self.encoding.share(share)

    def intact(self) -> set[int]:
        return {share for share in range(N) for number in range(N + 2) if self.is_intact(share, number)}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def lose(bench: Bench, *shares: int) -> None:
    for share in shares:
        del bench.devices[share].shares[bench.key(share)]


# --- rebuilding


@pytest.mark.parametrize("lost", [(0,), (4,), (0, 4), (0, 1), (3, 4)])
def test_what_is_rebuilt_is_what_was_lost(bench: Bench, lost: tuple[int, ...]) -> None:
    lose(bench, *lost)
    targets = [bench.place(share, N + number) for number, share in enumerate(lost)]
    assert bench.run(bench.task(*targets)).placed == targets
    assert all(bench.is_intact(share, N + number) for number, share in enumerate(lost))
    assert bench.count(Operation.FETCH) == K * SEGMENTS


def test_a_bad_block_is_not_used_its_share_is_named_and_another_takes_its_place(bench: Bench) -> None:
    lose(bench, 4)
    bench.devices[1].lies = True
    assert bench.run(bench.task(bench.place(4, N))).done
    assert bench.is_intact(4, N)
    assert set(bench.bad) == {bench.place(1)}


def test_with_too_few_good_blocks_nothing_is_stored(bench: Bench) -> None:
    lose(bench, 4)
    bench.devices[0].lies = bench.devices[1].lies = True
    outcome = bench.run(bench.task(bench.place(4, N)))
    assert "fewer good blocks" in outcome.reason
    assert (outcome.placed, bench.count(Operation.COMMIT)) == ([], 0)


def test_where_another_broker_mends_it_nobody_is_asked_for_anything_else(bench: Bench) -> None:
    lose(bench, 4)
    for device in bench.devices:
        bench.answers[(Operation.INSPECT, device.device_id)] = Code.CONFLICT
    assert bench.run(bench.task(bench.place(4, N))).conflict
    assert [request.operation for request in bench.asked] == [Operation.INSPECT] * (N - K + 1)


@pytest.mark.parametrize("code", [Code.CONFLICT, Code.NOT_FOUND, Code.FAULT])
def test_one_device_that_does_not_show_its_commitment_stops_no_repair(bench: Bench, code: Code) -> None:
    lose(bench, 4)
    first = min(bench.devices[:4], key=lambda device: device.device_id)
    bench.answers[(Operation.INSPECT, first.device_id)] = code
    assert bench.run(bench.task(bench.place(4, N))).done
    assert bench.is_intact(4, N)


def test_who_is_known_to_be_late_is_not_waited_for(bench: Bench) -> None:
    lose(bench, 4)
    late = min(bench.devices[:4], key=lambda device: device.device_id).device_id
    bench.slow.add(late)
    bench.silent.add(late)
    assert bench.run(bench.task(bench.place(4, N))).done
    assert bench.is_intact(4, N)


@pytest.mark.parametrize("late", range(4))
def test_who_answers_nothing_is_not_waited_for(bench: Bench, late: int) -> None:
    lose(bench, 4)
    bench.silent.add(bench.devices[late].device_id)
    assert bench.run(bench.task(bench.place(4, N))).done
    assert bench.is_intact(4, N)
    assert bench.count(Operation.FETCH, late) <= 2, "of the two segments that were begun"
    assert bench.bad == []


def test_what_is_moved_by_a_device_that_answers_nothing_is_rebuilt_from_the_others(bench: Bench) -> None:
    bench.silent.add(bench.devices[2].device_id)
    bench.may = False
    outcome = bench.run(move(bench))
    assert (outcome.done, outcome.placed) == (True, [bench.place(2, N)])
    assert bench.is_intact(2, N)


def test_who_is_slow_is_waited_for_where_nobody_else_has_it(bench: Bench) -> None:
    lose(bench, 3, 4)
    slow = bench.devices[1].device_id
    bench.silent.add(slow)
    task = bench.task(bench.place(3, N), bench.place(4, N + 1))
    assert bench.run(task).reason == "stopped"
    bench.silent.clear()
    waited_for, bench.unanswered = bench.unanswered, []
    assert {request.device for request, _ in waited_for} == {slow}
    for request, then in waited_for:
        then(bench._reply(request), 0.0)
    while bench.waiting and bench.outcome is None:
        request, then = bench.waiting.popleft()
        then(bench._reply(request), 0.0)
    assert bench.outcome is not None and bench.outcome.done
    assert bench.intact() == set(range(N))


def test_a_place_that_answers_nothing_is_given_up_where_there_are_others(bench: Bench) -> None:
    lose(bench, 0, 4)
    hangs, fine = bench.place(0, N), bench.place(4, N + 1)
    bench.silent.add(hangs.device)
    outcome = bench.run(bench.task(hangs, fine))
    assert (outcome.placed, outcome.refused) == ([fine], [hangs])


def test_a_place_that_answers_nothing_is_waited_for_where_there_is_no_other(bench: Bench) -> None:
    lose(bench, 0, 4)
    bench.elsewhere = False
    bench.silent.add(bench.devices[N].device_id)
    assert bench.run(bench.task(bench.place(0, N), bench.place(4, N + 1))).reason == "stopped"
    assert [request.operation for request, _ in bench.unanswered] == [Operation.OPEN]


@pytest.mark.parametrize("operation", [Operation.PROGRESS, Operation.APPEND, Operation.COMMIT])
def test_a_place_that_ceases_to_answer_is_given_up_at_every_step(bench: Bench, operation: Operation) -> None:
    lose(bench, 0, 4)
    hangs, fine = bench.place(0, N), bench.place(4, N + 1)
    reply = bench._reply

    def until(request: Request) -> Reply:
        if request.operation is operation:
            bench.silent.add(hangs.device)
        return reply(request)

    bench._reply = until  # type: ignore[method-assign]
    bench.waiting = deque()
    outcome = bench.run(bench.task(fine, hangs))
    assert (outcome.placed, outcome.refused) == ([fine], [hangs])
    assert not bench.is_intact(0, N)


def test_a_device_that_does_not_take_what_was_amended_holds_nothing_up(bench: Bench) -> None:
    for share in range(N - 1):
        bench.devices[share].shares[bench.key(share)].packed = amended(bench)
    bench.elsewhere = False
    bench.silent.add(bench.devices[N - 1].device_id)
    outcome = bench.run(bench.task(kind=Kind.AMEND, stale=(bench.place(N - 1),)))
    assert (outcome.reason, outcome.refused) == ("a device does not take what was amended", [bench.place(N - 1)])


def test_what_a_repair_that_gives_way_was_granted_it_lets_go(bench: Bench) -> None:
    lose(bench, 4)
    first, *others = sorted(bench.devices[:4], key=lambda device: device.device_id)
    for device in others:
        bench.answers[(Operation.INSPECT, device.device_id)] = Code.CONFLICT
    assert bench.run(bench.task(bench.place(4, N))).conflict
    last = bench.asked[-1]
    assert (last.device, last.header.lease) == (first.device_id, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("patient", [False, True])
def test_who_finds_another_at_work_waits_for_a_slow_device_only_now_and_then(bench: Bench, patient: bool) -> None:
    lose(bench, 4)
    first, second, third, slow = sorted(bench.devices[:4], key=lambda device: device.device_id)
    for device in (second, third):
        bench.answers[(Operation.INSPECT, device.device_id)] = Code.CONFLICT
    bench.slow.add(slow.device_id)
    bench.silent.add(slow.device_id)
    outcome = bench.run(bench.task(bench.place(4, N)), patient=patient)
    assert outcome.conflict is not patient
    assert (bench.asked[-1].device == first.device_id) is not patient  # which it lets go
    assert bench.unanswered


def test_the_lease_of_the_first_device_decides_who_asks_again_for_the_others(bench: Bench) -> None:
    lose(bench, 4)
    first, second, third, fourth = sorted(bench.devices[:4], key=lambda device: device.device_id)
    bench.run(bench.task(bench.place(4, N)))
    again = {request.device: request.again > 0 for request in bench.asked if request.operation is Operation.INSPECT}
    assert again == {first.device_id: False, **dict.fromkeys([d.device_id for d in (second, third, fourth)], True)}


def test_who_is_not_first_asks_nobody_again(bench: Bench) -> None:
    lose(bench, 4)
    first = min(bench.devices[:4], key=lambda device: device.device_id)
    bench.answers[(Operation.INSPECT, first.device_id)] = Code.CONFLICT
    bench.run(bench.task(bench.place(4, N)))
    assert not any(request.again for request in bench.asked)


def test_two_devices_with_another_recipe_do_not_have_their_way(bench: Bench) -> None:
    lose(bench, 4)
    forged = encode(make_image(random.Random(1), K, N), random.Random(1))  # noqa: S311
    bench.devices[2].shares[bench.key(2)].packed = forged.packed
    outcome = bench.run(bench.task(bench.place(4, N)))
    assert outcome.done
    assert bench.bad == [bench.place(2)]
    assert bench.is_intact(4, N)


def test_devices_that_claim_otherwise_than_the_owner_signed_are_named(bench: Bench) -> None:
    lose(bench, 0)
    bench.claim = bench.claim._replace(n=N - 1)
    outcome = bench.run(bench.task(bench.place(0, N)))
    assert "its owner did not sign" in outcome.reason
    assert not outcome.placed
    assert {place.share for place in bench.bad} == {1, 2, 3, 4}
    assert not bench.count(Operation.OPEN)


# --- what was amended while a device was away


def amended(bench: Bench, key: VaultKey = KEY) -> bytes:
    """The next revision, signed by whose key this is."""
    before = unpack(bench.encoding.packed, SignedCommitment).commitment
    return pack(sign(replace(before, revision=2, mapping=b"shared"), key))


def test_a_device_that_was_away_gets_the_commitment_that_holds(bench: Bench) -> None:
    for share in range(N - 1):
        bench.devices[share].shares[bench.key(share)].packed = amended(bench)
    assert bench.run(bench.task(kind=Kind.AMEND, stale=(bench.place(N - 1),))).done
    assert bench.devices[N - 1].shares[bench.key(N - 1)].packed == amended(bench)
    assert not bench.count(Operation.FETCH)


def test_nothing_is_amended_that_its_owner_did_not_sign_however_many_devices_show_it(bench: Bench) -> None:
    for share in range(N - 1):
        bench.devices[share].shares[bench.key(share)].packed = amended(bench, STRANGERS_KEY)
    bench.run(bench.task(kind=Kind.AMEND, stale=(bench.place(N - 1),)))
    assert bench.devices[N - 1].shares[bench.key(N - 1)].packed == bench.encoding.packed
    assert {place.share for place in bench.bad} == set(range(N - 1))


def test_a_device_that_keeps_what_does_not_hold_any_more_is_named(bench: Bench) -> None:
    for share in range(N - 1):
        bench.devices[share].shares[bench.key(share)].packed = amended(bench)
    bench.answers[Operation.AMEND, bench.devices[N - 1].device_id] = Code.CONFLICT
    assert not bench.run(bench.task(kind=Kind.AMEND, stale=(bench.place(N - 1),))).done
    assert bench.bad == [bench.place(N - 1)]


# --- what goes wrong, and on


def test_what_an_earlier_try_brought_is_not_fetched_again(bench: Bench) -> None:
    lose(bench, 4)
    task = bench.task(bench.place(4, N))
    bench.run(task, asks=4 + 2 + 4 * (K + 1))
    staged = len(bench.devices[N].staged[bench.key(4)].blocks)
    assert 0 < staged < SEGMENTS
    bench.asked.clear()
    bench.waiting.clear()
    assert bench.run(task).done
    assert bench.count(Operation.APPEND) == SEGMENTS - staged
    assert bench.is_intact(4, N)


def test_a_share_that_is_there_already_is_not_sent_again(bench: Bench) -> None:
    bench.hold(4, bench.devices[N])
    lose(bench, 4)
    assert bench.run(bench.task(bench.place(4, N))).placed == [bench.place(4, N)]
    assert bench.count(Operation.APPEND) == bench.count(Operation.COMMIT) == 0


@pytest.mark.parametrize("operation", [Operation.OPEN, Operation.APPEND, Operation.COMMIT])
def test_a_place_that_refuses_is_named_and_the_other_gets_its_share(bench: Bench, operation: Operation) -> None:
    lose(bench, 0, 4)
    full, fine = bench.place(0, N), bench.place(4, N + 1)
    bench.answers[(operation, full.device)] = Code.NO_ROOM
    outcome = bench.run(bench.task(full, fine))
    assert (outcome.placed, outcome.refused) == ([fine], [full])
    assert not outcome.done
    assert bench.is_intact(4, N + 1)


@pytest.mark.parametrize("operation", [Operation.INSPECT, Operation.FETCH])
def test_a_source_that_gives_no_answer_is_done_without(bench: Bench, operation: Operation) -> None:
    lose(bench, 4)
    bench.answers[(operation, bench.devices[0].device_id)] = Code.GONE
    assert bench.run(bench.task(bench.place(4, N))).done
    assert bench.bad == []


def test_no_more_than_two_segments_are_on_their_way_at_once() -> None:
    bench = Bench(segments=20)
    lose(bench, 4)
    most = 0
    reply = bench._reply

    def counting(request: Request) -> Reply:
        nonlocal most
        headers = [waiting.header for waiting, _ in bench.waiting]
        waiting = {header.segment for header in headers if isinstance(header, Append)}
        waiting |= {name.segment for header in headers if isinstance(header, Fetch) for name in header.blocks}
        most = max(most, len(waiting))
        return reply(request)

    bench._reply = counting  # type: ignore[method-assign]
    assert bench.run(bench.task(bench.place(4, N))).done
    assert most == 2


# --- moving


def move(bench: Bench, share: int = 2) -> Task:
    to, donor = bench.place(share, N), bench.place(share)
    return bench.task(to, kind=Kind.MOVE, donors={share: donor.device}, discards=(donor,))


def test_a_moved_share_comes_straight_from_its_device_which_gives_it_up_last(bench: Bench) -> None:
    outcome = bench.run(move(bench))
    assert [len(outcome.placed), len(outcome.discarded)] == [1, 1]
    fetched = {request.device for request in bench.asked if request.operation is Operation.FETCH}
    assert fetched == {bench.devices[2].device_id, bench.devices[N].device_id}
    assert bench.asked[-1].operation is Operation.DISCARD
    assert bench.is_intact(2, N)
    assert not bench.is_intact(2, 2)


def test_a_share_that_is_bad_where_it_is_moved_from_is_rebuilt_from_the_others(bench: Bench) -> None:
    bench.devices[2].lies = True
    assert bench.run(move(bench)).done
    assert bench.is_intact(2, N)
    assert bench.bad == [bench.place(2)]


def test_nothing_is_discarded_that_the_new_copy_does_not_stand_for(bench: Bench) -> None:
    bench.devices[N].lies = True  # when it is read again
    outcome = bench.run(move(bench))
    assert (outcome.done, outcome.discarded) == (False, [])
    assert bench.is_intact(2, 2)


def test_a_copy_that_is_not_good_keeps_no_other_share_s_surplus(bench: Bench) -> None:
    to, donor = bench.place(2, N), bench.place(2)
    bench.devices[1].lies = True
    task = bench.task(to, kind=Kind.MOVE, donors={2: donor.device}, reads=(bench.place(1),), discards=(donor,))
    outcome = bench.run(task)
    assert (outcome.done, outcome.discarded) == (False, [donor])


def test_a_discard_that_a_device_does_not_answer_is_not_waited_for_once_it_is_slow(bench: Bench) -> None:
    task = bench.task(kind=Kind.CHECK, discards=(bench.place(1), bench.place(2)))
    device = bench.devices[2].device_id
    ask = bench.ask

    def silent_once_asked_for_that(request: Request, then: Then, asker: object) -> None:
        if (request.operation, request.device) == (Operation.DISCARD, device):
            bench.silent.add(device)
        ask(request, then, asker)

    bench.ask = silent_once_asked_for_that  # type: ignore[method-assign]
    outcome = bench.run(task)
    assert outcome.discarded == [bench.place(1)]
    assert outcome.reason == "a device does not give up what there is too much of"


def test_nothing_is_discarded_that_the_catalog_does_not_call_surplus_any_more(bench: Bench) -> None:
    bench.may = False
    assert bench.run(move(bench)).discarded == []
    assert bench.is_intact(2, 2)


# --- checking


def test_a_check_reads_every_block(bench: Bench) -> None:
    assert bench.run(bench.task(kind=Kind.CHECK, reads=(bench.place(1),))).done
    assert bench.count(Operation.FETCH, 1) == bench.count(Operation.FETCH) == SEGMENTS


@pytest.mark.parametrize("segment", [0, SEGMENTS - 1])
def test_a_check_finds_the_one_bad_block(bench: Bench, segment: int) -> None:
    bench.devices[1].shares[bench.key(1)].blocks[segment] = b"?" * code_of(K, N).block_unit
    outcome = bench.run(bench.task(kind=Kind.CHECK, reads=(bench.place(1),)))
    assert "not good" in outcome.reason
    assert bench.bad == [bench.place(1)]


# --- killed


def scenarios() -> list[tuple[str, Callable[[Bench], Task]]]:
    def rebuild(bench: Bench) -> Task:
        lose(bench, 0, 3)
        return bench.task(bench.place(0, N), bench.place(3, N + 1))

    return [("rebuild", rebuild), ("move", move)]


@pytest.mark.parametrize(("name", "prepare"), scenarios(), ids=["rebuild", "move"])
def test_killed_at_any_point_it_has_cost_nothing_and_can_be_done_again(
    name: str, prepare: Callable[[Bench], Task]
) -> None:
    done, asks = False, 0
    while not done:
        bench = Bench(segments=3)
        task = prepare(bench)
        before = bench.intact()
        done = bench.run(task, asks).done
        assert before <= bench.intact(), f"after {asks} answers"
        bench.waiting.clear()
        bench.outcome = None
        again = bench.run(task)
        assert again.done or bench.intact() == set(range(N)), f"after {asks} answers: {again.reason}"
        assert bench.intact() == set(range(N))
        asks += 1
    assert asks > 15
