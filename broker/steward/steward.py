"""The steward: notices what is lost or damaged, and has it rebuilt; without any key.

    devices, catalog → survey → plan → repair → requests → devices

Several times a second it takes up who is here and what changed, begins repairs where fewer than two are under way, and
hands out what is to be sent. What is most urgent comes first: encodings that lack something, shares that clients found
bad, surplus copies, and last what a rebalance moves. Owners take turns, so that however much one has, or complains of,
another's is seen to. An encoding that something failed for is left alone for a while, with growing pauses; a device
that refused its share, or does not answer, is passed over.

It has no socket and no clock. All that it knows, it can find out again: killed at any moment, the next one goes on.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import partial
from typing import Callable, NamedTuple, Optional

from broker.catalog import Catalog
from broker.claims import Place
from broker.devices import DeviceNow, Devices
from broker.steward import plan
from broker.steward.assessment import Presence, State
from broker.steward.balance import Balance
from broker.steward.deletion_propagation import DeletionPropagation
from broker.steward.log import Log
from broker.steward.plan import Task
from broker.steward.repair import Outcome, Repair
from broker.steward.requests import Request, Requests, Sending, Then
from broker.steward.survey import Survey
from broker.steward.turns import Turns
from common.coding.commitments import CommitmentVerifier
from common.coding.redundancy import DeviceCount
from common.erasure import ErasureCode
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import AnnouncedShare, DeviceKind

REPAIRS = 2  # at a time
AMENDING = 30.0  # seconds that an owner is given for amending one encoding on all devices
_LOOKS = 2000  # encodings assessed in one tick
_LOOKS_BETWEEN = 500  # at a time while nothing else is to be done: some 12 ms that a message may have to wait
_TRIES = 200  # encodings that a plan is tried for before the rest waits for the next tick
_CODES = 8  # erasure codes kept
_MAX_BAD_REPORTS = 1000  # of one owner, waiting at most
_PATIENT = 4  # each so many tries a repair waits for slow devices though another broker seems to be at it
_CHECKED = 3600.0  # seconds for which a share that was read whole is not read again because it is complained of
_LONGEST_PAUSE = 600.0  # seconds
_RATE_OVER = 5.0  # seconds
_FORGETTING = 60.0  # seconds
DAY = 86_400.0


@dataclass(frozen=True)
class Settings:
    """`rate`: bytes per second; all else seconds."""

    repair_after: float = 900.0  # surplus copies of shares are kept for as long, too
    rate: int = 50_000_000
    pause: float = 5.0  # after the first failure
    repair_laptops_after: float = 3 * DAY

    def away_timeout(self, kind: DeviceKind) -> float:
        """How long a device of this kind may be away before its shares are rebuilt elsewhere."""
        return self.repair_laptops_after if kind is DeviceKind.LAPTOP else self.repair_after


class _Pause(NamedTuple):
    """For which an encoding is left alone."""

    until: float
    seconds: float
    elsewhere: Optional[bytes] = None  # whose it is, where another broker repairs it
    conflicts: int = 0  # how often that was so, one time after the other


class Steward:
    def __init__(self, catalog: Catalog, devices: Devices, settings: Settings, rng: random.Random) -> None:
        self.peer = rng.getrandbits(8 * IDENTIFIER_SIZE).to_bytes(IDENTIFIER_SIZE, "big")
        self._catalog = catalog
        self._devices = devices
        self._settings = settings
        self._rng = rng
        self.survey = Survey(catalog, settings.repair_after, settings.repair_after)
        self.requests = Requests(settings.rate, rng)
        self.verifier = CommitmentVerifier()
        self.balance = Balance(catalog)
        self._propagation = DeletionPropagation(catalog, self.requests)
        self.repairs: list[Repair] = []
        self._rooms: dict[bytes, plan.Room] = {}
        self._now: dict[bytes, DeviceNow] = {}
        self._hurried: set[bytes] = set()  # encodings to be repaired now
        self._reported_bad: Turns[tuple[bytes, Place]] = Turns()
        self._waiting_bad: set[tuple[bytes, Place]] = set()  # what is in there
        self._checked: dict[tuple[bytes, Place], float] = {}  # share that was read whole → until when that is enough
        self._paused: dict[bytes, _Pause] = {}  # by encoding id
        self._avoided: dict[tuple[bytes, bytes], float] = {}  # encoding id, device → until when
        self._codes: OrderedDict[tuple[int, int], ErasureCode] = OrderedDict()
        self._moved: deque[tuple[float, int]] = deque()
        self._settled = False
        self._time = 0.0
        self._next_forgetting = 0.0
        self._log = Log(devices)

    # --- what drives it

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        self._time, self._now = now, self._devices.all(now)
        self._settled = self._settled or self._devices.settled(now)
        self._rooms = {device: self._room(device_now) for device, device_now in self._now.items()}
        for device in self._catalog.cut_off & self._rooms.keys():
            self._rooms[device] = self._rooms[device]._replace(free_bytes=0)
        silent = [device for device, there in self._now.items() if not there.heard]
        may_come = sum(self._rooms[device].presence is Presence.AWAY for device in silent)
        self.survey.notice({device: room.presence for device, room in self._rooms.items()}, may_come)
        while self._hurried:  # not before: a device may have been lost in the moment in which it was asked for
            self.survey.hurry(self._hurried.pop())
        self._look(now, _LOOKS)
        self._propagation.tick(now, lambda device: device in self._now and self._now[device].alive)
        for repair in list(self.repairs):
            if self._catalog.is_deleted(repair.task.claim.encoding_id):
                self._cancel(repair)
            else:
                repair.look(now)
        self._note_rate(now)
        self._forget_old(now)
        self._give_way(now)
        self._begin_repairs(now)
        if self.settled:
            self._log.state({state: self.survey.count(state) for state in State}, now)

    def sendings(self, now: float, connected: Callable[[bytes], bool]) -> list[Sending]:
        """What is to be sent now, to devices that are connected."""
        return self.requests.release(now, connected)

    def answered(self, device: bytes, request_id: bytes, frames: list[memoryview], now: float) -> None:
        """A device's reply to one of our requests: header, and perhaps payload."""
        self.requests.answered(device, request_id, frames, now)
        self._go_on(now)

    @property
    def has_to_look(self) -> bool:
        """Whether there is anything to `look` at between ticks: not what changes with the next page announced."""
        return not self.survey.current and not self._devices.any_announcing()

    def look(self, now: float) -> None:
        """Go on looking at all encodings, while nobody waits."""
        self._look(now, _LOOKS_BETWEEN)

    def _go_on(self, now: float) -> None:
        """Begin what is to be done next without waiting for the next tick."""
        if len(self.repairs) < REPAIRS:
            self._look(now, _LOOKS)
            self._begin_repairs(now)

    def _look(self, now: float, most: int) -> None:
        if self._devices.is_learning(now):
            return  # what is found now holds until the next page comes
        for encoding_id in self.survey.look(now, most):
            self._propagation.look(encoding_id)

    def _room(self, now: DeviceNow) -> plan.Room:
        if now.alive:
            presence = Presence.LEAVING if now.retiring else Presence.HERE
        else:
            presence = Presence.LOST if now.away >= self._settings.away_timeout(now.kind) else Presence.AWAY
            presence = Presence.LEFT if now.retiring else presence
        return plan.Room(presence, now.free_bytes, now.used_bytes + now.free_bytes)

    # --- what is asked of it

    @property
    def settled(self) -> bool:
        """The broker has heard of all devices that may come, and everything was looked at since."""
        return self._settled and self.survey.current

    def hurry(self, encoding_id: bytes) -> None:
        """Repair this encoding now, waiting for no device to come back."""
        self._paused.pop(encoding_id, None)
        self._hurried.add(encoding_id)

    def try_again(self, device: bytes) -> None:
        """Leave alone no longer what failed of this device's encodings, nor the places that refused it."""
        failed = {*self._paused, *(encoding_id for encoding_id, _ in self._avoided)}
        for encoding_id in failed:
            if device in self._catalog.holders(encoding_id):
                self._paused.pop(encoding_id, None)
                for avoided in [each for each in self._avoided if each[0] == encoding_id]:
                    del self._avoided[avoided]
                self._catalog.touch(encoding_id)

    def report_bad(self, encoding_id: bytes, found: Place, owner: bytes) -> None:
        """A client of this owner found this share bad: look at it, unless that was done lately."""
        bad = (encoding_id, found)
        if bad in self._waiting_bad or bad in self._checked or self._reported_bad.count(owner) >= _MAX_BAD_REPORTS:
            return
        self._waiting_bad.add(bad)
        self._reported_bad.add(owner, bad)
        self._tell_to_check(encoding_id, found)

    def emptied(self, device: bytes) -> bool:
        """Whether a retiring device can be taken off the list: nothing that it has, or may have, is missed."""
        if not self.settled or any(device in _involved(repair.task) for repair in self.repairs):
            return False
        if self._now[device].heard:
            return self.left_on(device) == 0 and not self._propagation.depends_on(device, self._now.keys() - {device})
        if not all(there.heard for there in self._now.values() if not there.retiring):
            return False
        return not any(self.survey.count(state) for state in (State.WAITING, State.LACKING, State.UNRECOVERABLE))

    def left_on(self, device: bytes) -> int:
        """How many shares only this retiring device has; all, until its retirement was noticed."""
        if self.survey.presence(device) not in (Presence.LEAVING, Presence.LEFT):
            return self._catalog.shares_on(device)
        return self.survey.left_on(device, all_heard=all(there.heard for there in self._now.values()))

    def waited_for(self, device: DeviceNow) -> float:
        """Seconds that a device which is away is still waited for."""
        if device.alive or device.retiring:
            return 0.0
        return max(0.0, self._settings.away_timeout(device.kind) - device.away)

    def due(self, owner: Optional[bytes]) -> int:
        """How many encodings of this owner, or of all, are being repaired, or are to be without a pause.

        So are those that another broker repairs. Where there are none, all was done or tried that can be.
        """
        working = [repair.task for repair in self.repairs if repair.task.targets]
        busy = sum(owner in (None, task.claim.owner) for task in working)
        waiting = [each.elsewhere for each in self._paused.values() if each.elsewhere and each.until > self._time]
        return len(self._hurried) + busy + self.survey.due(owner) + sum(owner in (None, whose) for whose in waiting)

    @property
    def weak(self) -> int:
        """How many images could be stronger with the devices that are here now."""
        presences = [room.presence for room in self._rooms.values()]
        leaving = sum(presence in (Presence.LEAVING, Presence.LEFT) for presence in presences)
        return self.survey.weak(DeviceCount(presences.count(Presence.HERE), len(presences) - leaving))

    @property
    def rate(self) -> int:
        """Bytes per second, lately; 0 while nothing is being done."""
        if not self.repairs or len(self._moved) < 2:
            return 0
        (since, before), (until, after) = self._moved[0], self._moved[-1]
        return int((after - before) / max(until - since, 0.001))

    # --- repairs

    def _give_way(self, now: float) -> None:
        """Put off a check that waits for a device, where an encoding that lacks something waits for its turn."""
        if len(self.repairs) < REPAIRS or not self.survey.has_lacking:
            return
        checks = [repair for repair in self.repairs if not repair.task.targets]
        waiting = [r for r in checks if any(map(self.requests.is_slow, _involved(r.task)))]
        for repair in waiting[:1]:
            self.requests.drop(repair)
            self.repairs.remove(repair)
            self.survey.look_later(repair.task.claim.encoding_id, now + self._settings.pause)

    def _begin_repairs(self, now: float) -> None:
        while self._settled and len(self.repairs) < REPAIRS:
            task = self._next_task(now)
            if task is None:
                return
            repair = Repair(task, self, self._ended, patient=self._is_patient(task))
            self.repairs.append(repair)
            self._log.begins(task)
            repair.begin(now)

    def _is_patient(self, task: Task) -> bool:
        """Not at first, since of two brokers each would hold what the other needs; but a device may say so and lie."""
        paused = self._paused.get(task.claim.encoding_id)
        return paused is not None and paused.conflicts % _PATIENT == _PATIENT - 1

    def _next_task(self, now: float) -> Optional[Task]:
        return (
            self._next_lacking(now)
            or self._next_stale(now)
            or self._next_check()
            or self._next_surplus(now)
            or self.balance.next_task(self._rooms, {*self._busy(), *self._paused}, _TRIES)
        )

    def _busy(self) -> set[bytes]:
        """Encodings that a repair works on now."""
        return {repair.task.claim.encoding_id for repair in self.repairs}

    def _next_check(self) -> Optional[Task]:
        while (bad := self._reported_bad.take()) is not None:
            self._waiting_bad.discard(bad)
            encoding_id, found = bad
            known = self._catalog.known(encoding_id)
            if self.requests.is_slow(found.device):  # which was told to look for itself
                continue
            if known is not None and found in known.sound and encoding_id not in self._busy():
                return plan.check(known, found, self._rooms)
        return None

    def _next_lacking(self, now: float) -> Optional[Task]:
        busy = self._busy()
        for _ in range(_TRIES):
            lacking = self.survey.take_lacking(now)
            if lacking is None:
                return None
            encoding_id = lacking.known.claim.encoding_id
            if self._is_paused(encoding_id, now) or encoding_id in busy:
                continue
            task = plan.repair(*lacking, self._rooms, partial(self._avoids_slow, encoding_id, now))
            if task is None or len(task.targets) < len(lacking.finding.lacking):  # one that is slow may do as well
                task = plan.repair(*lacking, self._rooms, partial(self._avoids, encoding_id, now))
            if task is not None:
                return task
            self._log.no_place(now)
            self.survey.look_later(encoding_id, now + min(60.0, max(self._settings.pause, self._settings.repair_after)))
        return None

    def _next_surplus(self, now: float) -> Optional[Task]:
        busy = self._busy()
        for _ in range(_TRIES):
            surplus = self.survey.take_surplus(now)
            if surplus is None:
                return None
            encoding_id = surplus.known.claim.encoding_id
            if not self._is_paused(encoding_id, now) and encoding_id not in busy:
                return plan.drop_surplus(*surplus, self._rooms)
        return None

    def _next_stale(self, now: float) -> Optional[Task]:
        """What was amended while devices were away; not before whoever amends may have come to these devices."""
        timeout = min(self._settings.repair_after, AMENDING)
        for known in self.survey.take_stale(now, timeout, self._busy(), _TRIES):
            paused = self._is_paused(known.claim.encoding_id, now)
            task = None if paused else plan.bring_up_to_date(known, self._rooms, self.requests.is_slow)
            if task is not None:
                return task
        return None

    def _ended(self, repair: Repair, outcome: Outcome, now: float) -> None:
        self.requests.drop(repair)
        self.repairs.remove(repair)
        self._log.ended(repair.task, outcome)
        encoding_id = repair.task.claim.encoding_id
        for target in outcome.refused:
            self._avoided[(encoding_id, target.device)] = now + 12 * self._settings.pause
        if outcome.done:
            self._checked.update(((encoding_id, place), now + _CHECKED) for place in repair.task.reads)
            self._paused.pop(encoding_id, None)
            self._catalog.touch(encoding_id)
            return
        if self._has_other_places(repair.task, outcome):
            self._catalog.touch(encoding_id)
            return
        before = self._paused.get(encoding_id, _Pause(0.0, self._settings.pause / 2))
        soon = outcome.conflict or (outcome.disputed and self._catalog.doubt(repair.task.claim))
        longest = self._settings.pause if soon else _LONGEST_PAUSE
        pause = min(longest, 2 * before.seconds)
        until = now + pause * self._rng.uniform(0.5, 1.5)
        owner, conflicts = (repair.task.claim.owner, before.conflicts + 1) if outcome.conflict else (None, 0)
        self._paused[encoding_id] = _Pause(until, pause, owner, conflicts)
        self.survey.look_later(encoding_id, until)

    def _has_other_places(self, task: Task, outcome: Outcome) -> bool:
        """Whether only places failed, and there are others."""
        refused = [place for place in outcome.refused if place in task.targets]
        return bool(refused) and all(self.can_go_elsewhere(task, place) for place in refused)

    def _cancel(self, repair: Repair) -> None:
        """Its encoding was deleted."""
        self.requests.drop(repair)
        self.repairs.remove(repair)
        for request in repair.abandonments():
            self.requests.add(request)

    def _is_paused(self, encoding_id: bytes, now: float) -> bool:
        """It is looked at again when the pause is over."""
        return encoding_id in self._paused and self._paused[encoding_id].until > now

    def _avoids(self, encoding_id: bytes, now: float, device: bytes) -> bool:
        if self.requests.is_late(device):
            return True
        until = self._avoided.get((encoding_id, device))
        if until is not None and until <= now:
            del self._avoided[(encoding_id, device)]
        return until is not None and until > now

    def _avoids_slow(self, encoding_id: bytes, now: float, device: bytes) -> bool:
        return self.requests.is_slow(device) or self._avoids(encoding_id, now, device)

    # --- what a repair needs of it

    def ask(self, request: Request, then: Then, asker: object) -> None:
        self.requests.add(request, then, asker)

    def code(self, k: int, n: int) -> ErasureCode:
        code = self._codes.get((k, n))
        if code is None:
            code = self._codes[(k, n)] = ErasureCode(k, n)
            if len(self._codes) > _CODES:
                self._codes.popitem(last=False)
        self._codes.move_to_end((k, n))
        return code

    def found_bad(self, encoding_id: bytes, place: Place) -> None:
        self._log.bad(encoding_id, place)
        self._checked.pop((encoding_id, place), None)
        self._catalog.distrust(encoding_id, place)
        self._tell_to_check(encoding_id, place)

    def is_slow(self, device: bytes) -> bool:
        return self.requests.is_slow(device)

    def can_go_elsewhere(self, task: Task, place: Place) -> bool:
        encoding_id, taken = task.claim.encoding_id, {target.device for target in task.targets}
        known = self._catalog.known(encoding_id)

        def avoid(device: bytes) -> bool:
            return device in taken or self._avoids_slow(encoding_id, self._time, device)

        return known is not None and bool(plan.choose_places(known, [place.share], self._rooms, avoid))

    def stored(self, share: AnnouncedShare, device: bytes) -> None:
        if self._devices.connected(device):
            self._catalog.announce(device, [share])

    def may_discard(self, task: Task) -> list[Place]:
        known = self._catalog.known(task.claim.encoding_id)
        going: list[Place] = []
        if known is None or self._catalog.is_deleted(task.claim.encoding_id):
            return going
        for place in task.discards:
            if plan.loses_nothing(known, [*going, place], self._rooms):
                going.append(place)
        return going

    # --- small things

    def _tell_to_check(self, encoding_id: bytes, place: Place) -> None:
        owner = next(iter(self._catalog.owners_of(encoding_id)), bytes(IDENTIFIER_SIZE))
        self.requests.add(Request(place.device, owner, Operation.CHECK, ShareName(encoding_id, place.share)))

    def _note_rate(self, now: float) -> None:
        self._moved.append((now, self.requests.moved_bytes))
        while self._moved[0][0] < now - _RATE_OVER:
            self._moved.popleft()

    def _forget_old(self, now: float) -> None:
        """What was noted of encodings that were deleted meanwhile, say: now and then, since it walks all of it."""
        if now < self._next_forgetting:
            return
        self._next_forgetting = now + _FORGETTING
        over = now - 2 * _LONGEST_PAUSE
        self._paused = {encoding: pause for encoding, pause in self._paused.items() if pause.until > over}
        self._checked = {bad: until for bad, until in self._checked.items() if until > now}
        self._avoided = {key: until for key, until in self._avoided.items() if until > now}


def _involved(task: Task) -> set[bytes]:
    return {place.device for place in (*task.sources, *task.targets, *task.reads)}
