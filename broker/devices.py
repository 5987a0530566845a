"""The devices of the cluster: who is here, who is away and for how long, who has room.

Nothing of it outlives the broker. A device that did not come since the broker started counts as away since then. Time
in which the broker heard nobody at all does not count: then it was itself that was cut off, and who was here before is
expected back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from broker.members import Member, MembersFile
from common.protocol.identifiers import device_id
from common.protocol.messages import DeviceKind

SETTLE = 10.0  # seconds after the broker's start in which devices that are not here yet may still come
_REPORTED = 1.0  # seconds by which what a report says may be older than it is
_LEARNING = 600.0  # seconds after the broker's start in which devices tell it what it forgot
SILENCE = 5.0  # seconds without a report after which a device is taken for gone


class DeviceNow(NamedTuple):
    """A device on the list of members."""

    name: str
    alive: bool
    away: float  # seconds since it was last seen; 0 while it is alive
    retiring: bool
    used_bytes: int
    free_bytes: int
    heard: bool  # it has told since the broker's start what it holds
    kind: DeviceKind
    shares: int  # that it holds, as it said last
    hold: int  # seconds for which it keeps what is deleted
    held_for: float  # seconds until all that was deleted or replaced there is held no more


@dataclass
class _State:
    seen: float  # when it was last known to be here, or the broker's start
    used_bytes: int = 0
    free_bytes: int = 0
    complete: bool = False  # it has announced all that it holds
    connected: bool = False
    last_report: float = 0.0
    heard: bool = False
    told: float = 0.0  # when it last registered or announced something
    shares: int = 0
    reports: int = 0
    hold: int = 0
    held_until: float = 0.0  # as it said last; until it does, for its hold


class Devices:
    """`started` and every `now`: seconds of `RunningTime`, as everybody is silent while the broker stands still."""

    def __init__(self, members: MembersFile, started: float) -> None:
        self._members = members
        self._started = started
        self._states: dict[bytes, _State] = {}
        self._heard = started
        self._back = started  # when somebody was last heard again, after nobody had been
        self._expected: set[bytes] = set()  # who was here before that, and was lost meanwhile
        self._ids: dict[str, bytes] = {}  # public key in hexadecimal → device id

    # --- what happens

    def heard(self, now: float) -> None:
        """A member spoke, client or device."""
        silent = now - self._heard
        if silent >= SILENCE:
            here = self._heard - SILENCE
            self._expected = {d for d, s in self._states.items() if s.seen >= here and not s.connected}
            self._back = now
            for state in self._states.values():
                state.seen += silent
        self._heard = now

    def register(self, device: bytes, used_bytes: int, free_bytes: int, now: float, hold: int = 0) -> None:
        self._expected.discard(device)
        before = self._states.get(device, _State(self._started))
        state = _State(before.seen, used_bytes, free_bytes, False, True, now, before.heard, now)
        state.hold, state.held_until = hold, now + hold
        self._states[device] = state

    def told(self, device: bytes, now: float) -> None:
        """It has announced something."""
        self._states[device].told = now

    def fell_silent(self, device: bytes, now: float) -> bool:
        """Whether it reports, but has not announced all that it holds, and announces nothing more: a page was lost."""
        state = self._states[device]
        return not state.complete and now - state.told >= SILENCE

    def completed(self, device: bytes, now: float) -> None:
        """It has announced all that it holds."""
        state = self._states[device]
        state.complete = state.heard = True
        state.seen = now

    def report(
        self, device: bytes, used_bytes: int, free_bytes: int, now: float, shares: int = 0, held_for: int = 0
    ) -> None:
        state = self._states[device]
        state.used_bytes, state.free_bytes, state.last_report = used_bytes, free_bytes, now
        state.shares, state.held_until = shares, now + held_for
        state.reports += 1
        if state.complete:
            state.seen = now

    def lose(self, device: bytes) -> bool:
        """Its connection is gone; False where it had none."""
        state = self._states.get(device)
        if state is None or not state.connected:
            return False
        state.connected = False
        return True

    # --- who is there

    def connected(self, device: bytes) -> bool:
        state = self._states.get(device)
        return state is not None and state.connected

    def complete(self, device: bytes) -> bool:
        return self._states[device].complete

    def any_announcing(self) -> bool:
        """Whether one that is connected has yet to announce all that it holds."""
        return any(state.connected and not state.complete for state in self._states.values())

    def is_learning(self, now: float) -> bool:
        """Whether one that is connected is to tell for the first time all that it holds; soon after the start only."""
        news = any(state.connected and not state.complete and not state.heard for state in self._states.values())
        return news and now - self._started < _LEARNING

    def known_complete(self, device: bytes) -> bool:
        """It is here, and has announced all that it holds: what it tells is news."""
        return self.connected(device) and self.complete(device)

    def alive(self, device: bytes, now: float) -> bool:
        state = self._states.get(device)
        return state is not None and state.connected and state.complete and now - state.last_report < SILENCE

    def expected(self, device: bytes, now: float) -> bool:
        """Not here, but the broker has not been up, or back, for long enough to say that it is gone."""
        if now - self._started < SETTLE:
            return device in self.members()
        return now - self._back < SETTLE and device in self._expected

    def settled(self, now: float) -> bool:
        """Every device that may come has come, or had the time to."""
        if now - self._back < SETTLE and not self._expected.isdisjoint(self.members()):
            return False
        return now - self._started >= SETTLE or all(self.alive(device, now) for device in self.members())

    def holds_nothing(self, device: bytes, since: float, now: float) -> bool:
        """Whether it said after this time that nothing which was deleted or replaced there is held any more.

        Of one that is gone, whether what it held then is by now.
        """
        state = self._states.get(device)
        if state is None:
            return True  # it did not come since the broker started
        asked = not state.connected or state.last_report > since + _REPORTED
        return asked and state.held_until <= now

    def members(self) -> dict[bytes, Member]:
        """device id → member, of all workers on the list."""
        return {self._id_of(member): member for member in self._members.members.workers()}

    def _id_of(self, member: Member) -> bytes:
        device = self._ids.get(member.public_key)
        if device is None:
            device = self._ids[member.public_key] = device_id(bytes.fromhex(member.public_key))
        return device

    def reports(self, device: bytes) -> int:
        """How many reports of it have come since it registered."""
        state = self._states.get(device)
        return 0 if state is None else state.reports

    def name(self, device: bytes) -> str:
        member: Optional[Member] = self.members().get(device)
        return device.hex()[:8] if member is None else member.name

    def all(self, now: float) -> dict[bytes, DeviceNow]:
        """The devices on the list, as they are now."""
        return {device: self._now(device, member, now) for device, member in self.members().items()}

    def _now(self, device: bytes, member: Member, now: float) -> DeviceNow:
        state = self._states.get(device, _State(self._started))
        alive = self.alive(device, now)
        away = 0.0 if alive else max(0.0, now - state.seen)
        used, free = state.used_bytes, state.free_bytes
        said = state.heard, member.kind, state.shares, state.hold, max(0.0, state.held_until - now)
        return DeviceNow(member.name, alive, away, member.retiring, used, free, *said)
