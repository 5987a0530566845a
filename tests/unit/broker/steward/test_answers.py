"""What clients and workers may tell the broker of health, deletion and retirement, and what comes of it."""

from __future__ import annotations

from typing import Optional, Union

import pytest
from msgspec.structs import replace

from broker.devices import SETTLE
from broker.rights import Standing
from broker.sessions import Outgoing
from broker.steward.repair import Outcome
from broker.steward.steward import Settings
from common.protocol.codec import pack, unpack, unpack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import (
    MAX_OBJECTS,
    MAX_TOMBSTONES,
    TOMBSTONE_LIFETIME,
    Acknowledged,
    AnnouncedShare,
    Answer,
    BadShare,
    Code,
    DeviceKind,
    Empty,
    Health,
    Job,
    ListTrash,
    Message,
    Places,
    RepairNow,
    ReportBad,
    ReportDeleted,
    Retire,
    ToldTombstone,
    Tombstone,
    Trashed,
    TrashList,
    Withdraw,
)
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, SamplePeer, answer, code, is_for, only, requests
from tests.support.tombstones import told

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
OBJECT = b"o" * 32
ENCODING = OBJECT[:16]
REPAIR_AFTER = 100.0


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker(Settings(repair_after=REPAIR_AFTER))


def share(index: int, object_id: bytes = OBJECT, *, sound: bool = True) -> AnnouncedShare:
    return AnnouncedShare(object_id[:16], index, object_id, KEY.owner_id(), 2, 3, 1000, sound)


def three_workers(broker: SampleBroker) -> list[SamplePeer]:
    return [broker.worker(name, [share(index)]) for index, name in enumerate(("a", "b", "c"))]


def health(client: SamplePeer) -> tuple[Health, list[Job]]:
    messages = client.ask(Operation.HEALTH, Empty())
    return answer(messages, Health), unpack(only(messages).payload, list[Job])


def counts(client: SamplePeer) -> tuple[int, int, int, int]:
    found = health(client)[0]
    return found.whole, found.lacking, found.waiting, found.unrecoverable


def asked(messages: list[Outgoing], operation: Operation) -> list[Outgoing]:
    return [message for message in requests(messages) if message.envelope.operation is operation]


def later(broker: SampleBroker, seconds: float, *alive: SamplePeer) -> list[Outgoing]:
    """Time passes, in which these devices report; what the broker sends at its end."""
    until = broker.now + seconds
    while broker.now < until:
        broker.now = min(until, broker.now + 1.0)
        for device in alive:
            device.report()
        messages = broker.tick()
    return messages


def disconnect(broker: SampleBroker, device: SamplePeer) -> None:
    for message in broker.tick():
        if is_for(message, device):
            broker.switchboard.undelivered(message, gone=True)


# --- health


def test_health_counts_each_encoding_once(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    client = broker.client(None)
    broker.tick()
    assert health(client)[0].settled
    assert counts(client) == (1, 0, 0, 0)
    disconnect(broker, c)
    broker.tick()
    assert counts(client) == (0, 1, 1, 0)
    later(broker, REPAIR_AFTER + 1, a, b)
    assert counts(client) == (0, 1, 0, 0)
    assert health(client)[0].bytes_left == 1000
    disconnect(broker, b)
    broker.tick()
    assert counts(client) == (0, 0, 0, 1)


def test_what_was_given_up_since_the_last_look_makes_no_count_negative(broker: SampleBroker) -> None:
    a = broker.worker("a", [share(0)])
    client = broker.client(None)
    broker.tick()
    a.ask(Operation.WITHDRAW, Withdraw(), pack([ShareName(ENCODING, 0)]))
    assert min(counts(client)) >= 0
    broker.tick()
    assert counts(client) == (0, 0, 0, 0)


def test_it_is_told_for_how_long_a_laptop_is_waited_for_also_after_a_restart() -> None:
    settings = Settings(repair_after=REPAIR_AFTER, repair_laptops_after=1000.0)
    broker = SampleBroker(settings)
    a, b, c = three_workers(broker)
    c.reconnected()
    disconnect(broker, c)
    again = c.reconnected()
    again.register(kind=DeviceKind.LAPTOP)
    again.announce([share(2)])
    disconnect(broker, again)
    client = broker.client(None)
    later(broker, REPAIR_AFTER + 1, a, b)
    assert counts(client) == (0, 1, 1, 0)
    told = {device.name: (device.kind, device.waited_for) for device in client.status()[1]}
    assert told["a"] == (DeviceKind.SERVER, 0)
    kind, left = told["c"]
    assert kind is DeviceKind.LAPTOP and 890 <= left <= 900

    restarted = SampleBroker(settings, members=broker.members)
    first, second = (SamplePeer(restarted, peer.side, peer.public_key) for peer in (a, b))
    for index, peer in enumerate((first, second)):
        peer.register()
        peer.announce([share(index)])
    client = SamplePeer(restarted, client.side, client.public_key)
    client.hello(None)
    later(restarted, SETTLE + 1, first, second)
    (laptop,) = [device for device in client.status()[1] if device.name == "c"]
    assert laptop.kind is DeviceKind.LAPTOP and laptop.waited_for > 900


def test_a_broker_that_has_just_started_is_not_settled_and_begins_nothing(broker: SampleBroker) -> None:
    broker.worker("a", [share(0)])
    broker.worker("b", [share(1), share(2, sound=False)])
    broker.worker("d")
    broker.admit(Standing.WORKER, "c")
    client = broker.client()
    assert requests(broker.tick()) == []
    assert not health(client)[0].settled


def test_what_is_damaged_is_mended_without_waiting_and_shown(broker: SampleBroker) -> None:
    a, b, _ = three_workers(broker)
    fresh = broker.worker("d")
    broker.tick()
    a.announce([share(0, sound=False)])
    (inspect,) = asked(broker.tick(), Operation.INSPECT)
    assert inspect.envelope.owner == KEY.owner_id()
    (job,) = health(broker.client())[1]
    assert (job.kind, job.encoding_id, job.shares) == ("rebuild", ENCODING, [0])
    assert job.devices[0] in (a.device, fresh.device)
    assert inspect.envelope.peer == broker.steward.peer
    assert not is_for(inspect, a)
    assert b.report() is Code.GRANTED


def test_what_is_being_mended_is_told_to_its_owner_and_to_admins(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.worker("d")
    a.announce([share(0, sound=False)])
    broker.tick()
    assert len(health(broker.client(KEY))[1]) == 1
    assert len(health(broker.client(None, Standing.ADMIN))[1]) == 1
    for other in (broker.client(OTHER_KEY), broker.client(None)):
        assert health(other)[1] == []


def test_a_reply_to_the_steward_from_another_device_than_was_asked_changes_nothing(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    broker.worker("d")
    a.announce([share(0, sound=False)])
    (inspect,) = asked(broker.tick(), Operation.INSPECT)
    other = c if is_for(inspect, b) else b
    assert requests(other.reply(inspect, Acknowledged(Answer(Code.CONFLICT)))) == []
    assert len(health(broker.client())[1]) == 1


# --- what is still to be done


def due(client: SamplePeer) -> Optional[int]:
    return health(client)[0].due


def test_what_is_being_mended_is_due_to_its_owner_and_to_admins(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.worker("d")
    owner, admin = broker.client(KEY), broker.client(None, Standing.ADMIN)
    stranger = broker.client(OTHER_KEY)
    assert [due(client) for client in (owner, admin, stranger)] == [0, 0, 0]
    a.announce([share(0, sound=False)])
    broker.tick()
    assert [due(client) for client in (owner, admin, stranger)] == [1, 1, 0]


def test_what_waits_for_its_turn_or_was_asked_for_just_now_is_due(broker: SampleBroker) -> None:
    objects = [bytes([n]) * 32 for n in range(4)]
    workers = [broker.worker(name, [share(i, each) for each in objects]) for i, name in enumerate(("a", "b", "c"))]
    fresh, client = broker.worker("d"), broker.client(KEY)
    later(broker, 10, *workers, fresh)
    disconnect(broker, workers[2])
    later(broker, 1, *workers[:2], fresh)
    assert due(client) == 0, "they wait for the device"
    client.ask(Operation.REPAIR, RepairNow(), pack(objects))
    assert due(client) == 4
    broker.tick()
    assert (len(broker.steward.repairs), due(client)) == (2, 4)


def test_what_was_tried_and_failed_is_not_due_until_it_is_tried_again(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.worker("d")
    client = broker.client(KEY)
    a.announce([share(0, sound=False)])
    broker.tick()
    (repair,) = broker.steward.repairs
    broker.steward._ended(repair, Outcome("fewer good blocks are to be had than are needed"), broker.now)
    assert due(client) == 0
    broker.tick()
    assert due(client) == 0


def test_what_another_broker_repairs_is_due(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.worker("d")
    client = broker.client(KEY)
    a.announce([share(0, sound=False)])
    broker.tick()
    (repair,) = broker.steward.repairs
    broker.steward._ended(repair, Outcome("another broker repairs it", conflict=True), broker.now)
    assert (due(client), due(broker.client(OTHER_KEY))) == (1, 0)


def test_each_fourth_try_beside_another_broker_waits_for_slow_devices(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.worker("d")
    a.announce([share(0, sound=False)])
    patient = []
    for _ in range(8):
        broker.steward._paused.update((e, p._replace(until=0.0)) for e, p in broker.steward._paused.items())
        broker.steward._catalog.touch(share(0).encoding_id)
        broker.tick()
        (repair,) = broker.steward.repairs
        patient.append(repair._patient)
        broker.steward._ended(repair, Outcome("another broker repairs it", conflict=True), broker.now)
    assert patient == [False, False, False, True] * 2


def test_what_no_device_can_take_is_not_due(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    later(broker, 10, a, b, c)
    disconnect(broker, c)
    client = broker.client(KEY)
    client.ask(Operation.REPAIR, RepairNow(), pack([OBJECT]))
    later(broker, 1, a, b)
    assert due(client) == 0


def test_what_one_place_does_not_take_another_is_given_at_once(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    d, e = broker.worker("d"), broker.worker("e")
    a.announce([share(0, sound=False)])
    broker.tick()
    tried = []
    while broker.steward.repairs:
        (repair,) = broker.steward.repairs
        (target,) = repair.task.targets
        tried.append(target.device)
        broker.steward._ended(repair, Outcome("no device takes its shares", refused=[target]), broker.now)
        broker.tick()
    assert sorted(tried) == sorted([a.device, d.device, e.device]), "each once"


# --- repair


def test_who_asks_in_the_very_moment_in_which_a_device_is_lost_is_heard(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    fresh, client = broker.worker("d"), broker.client(KEY)
    assert asked(later(broker, 10, a, b, c, fresh), Operation.INSPECT) == []
    disconnect(broker, c)
    assert code(client.ask(Operation.REPAIR, RepairNow(), pack([OBJECT]))) is Code.GRANTED
    assert asked(later(broker, 1, a, b, fresh), Operation.INSPECT) != []


def test_who_asks_for_it_has_images_mended_without_waiting_for_devices_that_are_away(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    fresh, client, stranger = broker.worker("d"), broker.client(KEY), broker.client(OTHER_KEY)
    disconnect(broker, c)
    assert asked(later(broker, 10, a, b, fresh), Operation.INSPECT) == []
    assert code(stranger.ask(Operation.REPAIR, RepairNow(), pack([OBJECT]))) is Code.GRANTED
    assert code(stranger.ask(Operation.REPAIR, RepairNow(), pack([]))) is Code.GRANTED
    assert asked(broker.tick(), Operation.INSPECT) == []
    assert code(client.ask(Operation.REPAIR, RepairNow(), pack([]))) is Code.GRANTED
    assert asked(broker.tick(), Operation.INSPECT)


# --- reports of bad shares


def test_a_share_complained_of_is_looked_at_by_its_worker_and_read_by_the_steward(
    broker: SampleBroker,
) -> None:
    a, _, _ = three_workers(broker)
    broker.tick()
    bad = pack([BadShare(ENCODING, 0, a.device)])
    assert code(broker.client(KEY).ask(Operation.REPORT_BAD, ReportBad(), bad)) is Code.GRANTED
    sent = broker.tick()
    assert is_for(only(asked(sent, Operation.CHECK)), a)
    (job,) = health(broker.client())[1]
    assert (job.kind, job.shares, job.devices) == ("check", [0], [a.device])


def test_what_was_read_whole_is_not_read_again_because_it_is_complained_of(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.tick()
    steward = broker.steward
    client, bad = broker.client(KEY), pack([BadShare(ENCODING, 0, a.device)])
    client.ask(Operation.REPORT_BAD, ReportBad(), bad)
    broker.tick()
    (repair,) = steward.repairs
    steward._ended(repair, Outcome(), broker.now)
    client.ask(Operation.REPORT_BAD, ReportBad(), bad)
    broker.tick()
    assert steward.repairs == []


def test_what_lacks_shares_is_seen_to_before_complaints(broker: SampleBroker) -> None:
    workers = three_workers(broker)
    other = [AnnouncedShare(b"q" * 16, i, b"q" * 32, OTHER_KEY.owner_id(), 2, 3, 1000, i != 2) for i in range(3)]
    for worker, held in zip(workers, other):
        worker.announce([held])
    broker.worker("d")
    bad = [BadShare(ENCODING, index, worker.device) for index, worker in enumerate(workers)]
    broker.client(KEY).ask(Operation.REPORT_BAD, ReportBad(), pack(bad))
    broker.tick()
    kinds = [repair.task.kind.value for repair in broker.steward.repairs]
    assert kinds == ["rebuild", "check"]


def test_nobody_complains_of_what_is_not_theirs(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    broker.tick()
    bad = pack([BadShare(ENCODING, 0, a.device), BadShare(b"x" * 16, 0, a.device)])
    assert code(broker.client(OTHER_KEY).ask(Operation.REPORT_BAD, ReportBad(), bad)) is Code.GRANTED
    assert requests(broker.tick()) == []


def test_what_lacks_shares_waits_for_no_complaint_of_a_device_that_answers_nothing(broker: SampleBroker) -> None:
    objects = [bytes([n]) * 32 for n in range(3)]
    workers = [broker.worker(name, [share(i, each) for each in objects]) for i, name in enumerate(("a", "b", "c"))]
    fresh = broker.worker("d")
    later(broker, 1, *workers, fresh)
    bad = [BadShare(each[:16], 0, workers[0].device) for each in objects[:2]]
    broker.client(KEY).ask(Operation.REPORT_BAD, ReportBad(), pack(bad))
    broker.tick()
    assert [repair.task.kind.value for repair in broker.steward.repairs] == ["check", "check"]
    workers[1].announce([share(1, objects[2], sound=False)])
    later(broker, 0.5, *workers, fresh)
    assert [repair.task.kind.value for repair in broker.steward.repairs] == ["check", "check"], "not slow yet"
    later(broker, 2, *workers, fresh)
    assert [repair.task.kind.value for repair in broker.steward.repairs] == ["check", "rebuild"]


# --- made-up encodings


def test_no_encoding_is_given_up_for_another_that_is_made_up(broker: SampleBroker) -> None:
    workers = three_workers(broker)
    made_up = AnnouncedShare(bytes(16), 0, OBJECT, KEY.owner_id(), 2, 2, 32)
    for index, worker in enumerate(workers[:2]):
        worker.announce([replace(made_up, share=index)])
    sent = [message for _ in range(200) for message in later(broker, 1, *workers)]
    assert asked(sent, Operation.DISCARD) == []
    assert counts(broker.client(KEY)) == (1, 0, 0, 0)


def test_a_share_of_one_of_one_is_no_announcement(broker: SampleBroker) -> None:
    liar = broker.worker("liar")
    liar.announce([AnnouncedShare(bytes(16), 0, OBJECT, KEY.owner_id(), 1, 1, 32)])
    assert broker.client(KEY).objects() == []


# --- retire


def test_a_retiring_device_gets_no_new_shares_and_its_own_move(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    fresh, client = broker.worker("d"), broker.client(KEY, Standing.ADMIN)
    broker.tick()
    assert code(client.ask(Operation.RETIRE, Retire(a.device))) is Code.GRANTED
    placed = only(client.ask(Operation.PLACES, Places(4, 0), pack([b"1" * 16])))
    assert sorted(unpack(placed.payload, list[list[bytes]])[0]) == sorted([b.device, c.device, fresh.device])
    broker.tick()
    (job,) = health(client)[1]
    assert (job.kind, job.shares, job.devices) == ("move", [0], [fresh.device])
    shown = {device.name: (device.retiring, device.left) for device in client.status()[1]}
    assert shown == {"a": (True, 1), "b": (False, 0), "c": (False, 0), "d": (False, 0)}


def test_a_retiring_device_whose_shares_are_all_elsewhere_is_no_member_any_more(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    fresh, client = broker.worker("d"), broker.client(KEY, Standing.ADMIN)
    broker.tick()
    client.ask(Operation.RETIRE, Retire(a.device))
    broker.tick()
    fresh.announce([share(0)])
    broker.steward.repairs.clear()  # as if it had been the repair's doing
    broker.tick()
    later(broker, 2, a)
    assert sorted(device.name for device in client.status()[1]) == ["b", "c", "d"]
    assert a.ask(Operation.REGISTER, Empty()) == []


def test_a_device_is_not_retired_while_it_holds_what_was_deleted(broker: SampleBroker) -> None:
    """Else who deleted everything could have all devices retired that hold it."""
    holding, client = broker.worker("a"), broker.client(KEY, Standing.ADMIN)
    holding.announce([])
    others = [broker.worker(name) for name in "bcd"]
    client.ask(Operation.RETIRE, Retire(holding.device))
    for _ in range(5):
        broker.now += 1.5
        for worker in others:
            worker.report()
        holding.report(held_for=60)
        broker.tick()
    (told,) = (device for device in client.status()[1] if device.name == "a")
    assert (told.retiring, told.left) == (True, 0) and 50 <= told.held_for <= 60
    seconds = 0
    while "a" in {device.name for device in client.status()[1]}:
        later(broker, 1, holding, *others)
        seconds += 1
    assert seconds < 10, "its last report says so"


def test_a_device_may_stay_after_all(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    client = broker.client(standing=Standing.ADMIN)
    client.ask(Operation.RETIRE, Retire(a.device))
    assert code(client.ask(Operation.RETIRE, Retire(a.device, cancel=True))) is Code.GRANTED
    broker.tick()
    assert not any(device.retiring for device in client.status()[1])


def test_a_dead_device_that_retires_goes_when_nothing_is_missing_without_it(broker: SampleBroker) -> None:
    dead = broker.admit(Standing.WORKER, "dead")
    workers = three_workers(broker)[:2]
    fresh, client = broker.worker("d"), broker.client(standing=Standing.ADMIN)
    client.ask(Operation.RETIRE, Retire(dead.device))
    later(broker, SETTLE + 1, *workers, fresh)
    disconnected = {device.name for device in client.status()[1]}
    assert "dead" in disconnected  # c fell silent: an encoding waits for it
    fresh.announce([share(2)])
    later(broker, 1, *workers, fresh)
    assert "dead" not in {device.name for device in client.status()[1]}


@pytest.mark.parametrize("known", [True, False])
def test_what_is_no_device_cannot_retire(broker: SampleBroker, known: bool) -> None:
    client = broker.client(standing=Standing.ADMIN)
    refused = answer(client.ask(Operation.RETIRE, Retire(client.device if known else b"x" * 16)), Acknowledged).answer
    assert (refused.code, "no device" in refused.text) == (Code.NOT_FOUND, True)


@pytest.mark.parametrize("operation", [Operation.RETIRE, Operation.REBALANCE])
def test_who_is_no_admin_changes_nothing_about_the_devices(broker: SampleBroker, operation: Operation) -> None:
    a, _, _ = three_workers(broker)
    client = broker.client(KEY)
    assert code(client.ask(operation, Retire(a.device))) is Code.NOT_ALLOWED
    assert not any(device.retiring for device in client.status()[1])
    assert not health(client)[0].balancing


# --- rebalance


def test_a_rebalance_is_under_way_until_nothing_is_to_be_moved(broker: SampleBroker) -> None:
    three_workers(broker)
    client = broker.client(None, Standing.ADMIN)
    assert code(client.ask(Operation.REBALANCE, Empty())) is Code.GRANTED
    assert health(client)[0].balancing
    broker.tick()
    assert not health(client)[0].balancing


# --- what workers tell


@pytest.mark.parametrize(
    ("operation", "header"), [(Operation.WITHDRAW, Withdraw()), (Operation.REPORT_DELETED, ReportDeleted())]
)
def test_a_worker_has_to_register_before_it_tells_anything(
    broker: SampleBroker, operation: Operation, header: Message
) -> None:
    device = broker.admit(Standing.WORKER, "nas")
    assert code(device.ask(operation, header, pack([]))) is Code.NO_SESSION


def test_a_withdrawn_share_is_shown_no_more(broker: SampleBroker) -> None:
    a, _, _ = three_workers(broker)
    assert code(a.ask(Operation.WITHDRAW, Withdraw(), pack([ShareName(ENCODING, 0)]))) is Code.GRANTED
    (encoding,) = broker.client(KEY).objects()
    assert [entry.share for entry in encoding.shares] == [1, 2]


def tombstone(generation: int = 1, encoding_id: bytes = ENCODING) -> Tombstone:
    return KEY.tombstone(OBJECT, encoding_id, generation, 10)


def report(device: SamplePeer, *tombstones: Union[Tombstone, ToldTombstone]) -> Optional[Code]:
    telling = [each if isinstance(each, ToldTombstone) else told(each) for each in tombstones]
    return code(device.ask(Operation.REPORT_DELETED, ReportDeleted(), pack(telling)))


def test_a_device_that_was_away_is_told_of_a_deletion_until_it_has_done_it(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    broker.tick()
    assert report(a, tombstone()) is Code.GRANTED
    a.ask(Operation.WITHDRAW, Withdraw(), pack([ShareName(ENCODING, 0)]))
    told = asked(broker.tick(), Operation.DELETE)
    assert len(told) == 2
    assert [unpack_header(message.header, Tombstone) for message in told] == [tombstone()] * 2
    assert {message.envelope.owner for message in told} == {KEY.owner_id()}
    busy, done = told
    (b if is_for(busy, b) else c).reply(busy, Acknowledged(Answer(Code.FAULT)))
    (b if is_for(done, b) else c).reply(done)
    assert asked(later(broker, 4, a, b, c), Operation.DELETE) == []
    (again,) = asked(later(broker, 1, a, b, c), Operation.DELETE)
    assert again.session is busy.session
    assert broker.client(KEY).objects() == []


def test_that_a_deletion_was_taken_back_is_told_every_device_with_a_share_once(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    report(b, tombstone(1))
    report(a, tombstone(2))
    messages = asked(broker.tick(), Operation.UNDELETE)
    assert [unpack_header(message.header, Tombstone) for message in messages] == [tombstone(2)] * 2
    for message, code_of_b in zip(messages, (Code.GRANTED, Code.NOT_FOUND)):
        (b if is_for(message, b) else c).reply(message, Acknowledged(Answer(code_of_b)))
    assert asked(later(broker, 400, a, b, c), Operation.UNDELETE) == []
    report(c, tombstone(1))  # an old one, shown to it or by it again
    assert len(broker.client(KEY).objects()) == 1


def test_a_deletion_that_devices_have_nothing_of_is_not_told_them_again(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    broker.tick()
    report(a, tombstone())
    for message in asked(broker.tick(), Operation.DELETE):
        peer = next(peer for peer in (a, b, c) if is_for(message, peer))
        peer.reply(message, Acknowledged(Answer(Code.NOT_ALLOWED)))
    assert asked(later(broker, 400, a, b, c), Operation.DELETE) == []


def test_who_had_nothing_of_a_deletion_is_told_of_it_when_it_comes_with_a_share(
    broker: SampleBroker,
) -> None:
    a, b, c = three_workers(broker)
    broker.tick()
    report(a, tombstone())
    for message in asked(broker.tick(), Operation.DELETE):
        peer = next(peer for peer in (a, b, c) if is_for(message, peer))
        peer.reply(message, Acknowledged(Answer(Code.NOT_ALLOWED)))
    disconnect(broker, b)
    again = b.reconnected()
    again.register()
    again.announce([share(1)])
    told = asked(broker.tick(), Operation.DELETE)
    assert any(is_for(message, again) for message in told)
    assert not any(is_for(message, c) for message in told)


def test_a_tombstone_that_its_owner_did_not_sign_is_refused_and_hides_nothing(broker: SampleBroker) -> None:
    a, *_ = three_workers(broker)
    broker.tick()
    right = tombstone()
    for forged in (replace(right, signature=bytes(64)), replace(right, generation=3), replace(right, trash_seconds=11)):
        a = broker.worker("liar")
        assert report(a, forged) is Code.MALFORMED
    assert len(broker.client(KEY).objects()) == 1
    assert asked(broker.tick(), Operation.DELETE) == []


def test_what_is_deleted_is_not_rebuilt(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    fresh = broker.worker("d")
    report(a, tombstone())
    disconnect(broker, c)
    later(broker, REPAIR_AFTER + 1, a, b, fresh)
    assert counts(broker.client()) == (0, 0, 0, 0)
    assert health(broker.client())[1] == []


# --- trash


def trash(client: SamplePeer, after: bytes = b"") -> tuple[TrashList, list[Trashed]]:
    messages = client.ask(Operation.TRASH, ListTrash(after))
    return answer(messages, TrashList), unpack(only(messages).payload, list[Trashed])


def test_an_owner_sees_what_they_may_take_back_and_nobody_elses(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    report(a, tombstone(3))
    report(b, tombstone(3))
    report(c, tombstone(2, b"2" * 16), told(tombstone(1, b"1" * 16), 0), told(tombstone(1, b"0" * 16), left=0))
    disconnect(broker, b)
    (trashed,) = trash(broker.client(KEY))[1]
    assert trashed == Trashed(OBJECT, ENCODING, 3, 10, [a.device], TOMBSTONE_LIFETIME - 1000)
    assert trash(broker.client(OTHER_KEY))[1] == []


def test_what_every_device_emptied_before_its_time_is_not_to_be_taken_back(broker: SampleBroker) -> None:
    a, b, _ = three_workers(broker)
    client = broker.client(KEY)
    for device in (a, b):
        report(device, tombstone())
    report(a, told(tombstone(), 0))
    assert [each.trash_left for each in trash(client)[1]] == [10]
    report(b, told(tombstone(), 0))
    assert trash(client)[1] == []
    report(a, tombstone(3))
    assert [each.trash_left for each in trash(client)[1]] == [10], "deleted again"


def test_a_long_list_of_trash_comes_in_pages(broker: SampleBroker) -> None:
    device = broker.worker("nas")
    ids = [number.to_bytes(16, "big") for number in range(MAX_OBJECTS + 1)]
    for start in range(0, len(ids), MAX_TOMBSTONES):
        report(device, *(tombstone(1, encoding_id) for encoding_id in ids[start : start + MAX_TOMBSTONES]))
    client = broker.client(KEY)
    header, page = trash(client)
    assert (header.complete, [one.encoding_id for one in page]) == (False, ids[:-1])
    header, page = trash(client, page[-1].encoding_id)
    assert (header.complete, [one.encoding_id for one in page]) == (True, ids[-1:])


def test_a_tombstone_is_forgotten_at_its_end(broker: SampleBroker) -> None:
    a, b, c = three_workers(broker)
    report(a, tombstone())
    broker.tick()
    assert broker.client(KEY).objects() == []
    broker.today += 4000
    later(broker, 1, a, b, c)
    assert len(broker.client(KEY).objects()) == 1
