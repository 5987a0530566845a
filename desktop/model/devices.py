"""The devices: their states, and the actions on them, each after a question that says what it means."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from admin.moving import begin_rebalance, begin_retirement, keep_device
from admin.status import Status, ask_status, summary
from common.link.link import Link
from common.protocol.messages import Device
from common.text import format_duration, format_size, printable
from desktop.background import Background
from desktop.model.commands import command_line
from desktop.model.entries import Tone
from desktop.model.following import Following
from desktop.model.model import Model, Question
from desktop.model.operator import (
    ROLES,
    Invited,
    MachineRow,
    Operator,
    invite_words,
    machine_rows,
    operator_command,
    own_key,
    revoke_command,
    revoking_means,
)
from desktop.model.this_computer import ThisComputerModel
from desktop.session import Session

_LOOK_EVERY = 2.0  # seconds
_NEARLY_FULL = 0.95  # of the room


@dataclass(frozen=True)
class DeviceRow:
    """One device as it is shown."""

    name: str
    key: str  # its id's beginning
    tone: Tone
    state: str
    last_seen: str
    shares: str
    room: str
    fullness: Optional[float]  # 0 to 1; None where it is not known
    retiring: bool
    alive: bool


def device_row(device: Device) -> DeviceRow:
    known = device.alive or bool(device.shares or device.used_bytes)
    total = device.used_bytes + device.free_bytes
    fullness = device.used_bytes / total if known and total else None
    state, tone = _state(device, fullness)
    return DeviceRow(
        name=printable(device.name),
        key=device.device_id.hex()[:8],
        tone=tone,
        state=state,
        last_seen="now" if device.alive else f"{format_duration(device.away_seconds)} ago",
        shares=f"{device.shares:,}" if known else "?",
        room=f"{format_size(device.used_bytes)} used, {format_size(device.free_bytes)} free" if known else "not known",
        fullness=fullness,
        retiring=device.retiring,
        alive=device.alive,
    )


def former(row: DeviceRow) -> DeviceRow:
    """The row of a device while the broker is not reached: its last known state."""
    seen = "when last asked" if row.alive else row.last_seen
    return replace(row, tone=Tone.UNKNOWN, state=f"was {row.state}", last_seen=seen)


def _state(device: Device, fullness: Optional[float]) -> tuple[str, Tone]:
    if device.retiring:
        left = f"retiring, {device.left:,} share{'' if device.left == 1 else 's'} left"
        return (left if device.left else "retiring, all is moved"), Tone.NOTICE
    if not device.alive:
        return "away", Tone.ALARM
    if fullness is not None and fullness > _NEARLY_FULL:
        return "nearly full", Tone.NOTICE
    return "well", Tone.GOOD


@dataclass(frozen=True)
class Invite:
    role: str
    line: str
    code: str  # empty where the broker does not announce itself
    qr: list[list[bool]]


class DevicesModel(Model):
    def __init__(self, session: Session, background: Background) -> None:
        super().__init__(session, background)
        self.status: Optional[Status] = None
        self._rows: list[DeviceRow] = []
        self.machines: Optional[list[MachineRow]] = None  # None where the list is on another machine, or not read yet
        self.invite: Optional[Invite] = None
        self.operator = Operator(session.home)
        self.here = ThisComputerModel(session, background)
        self.include(self.here)
        self.command = command_line("admin", "status")
        self._following = Following(self, session.link, self._look, _LOOK_EVERY)

    def activate(self) -> None:
        self._following.begin()
        self.here.activate()
        self.look_at_machines()

    def deactivate(self) -> None:
        self._following.stop()
        self.here.deactivate()

    async def _look(self, link: Link) -> None:
        self.background.post(self._take, await ask_status(link))

    def _take(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._rows = [device_row(device) for device in status.devices]
            self.changed()

    @property
    def rows(self) -> list[DeviceRow]:
        """Each device; its last known state, where the broker is not reached."""
        return [former(row) for row in self._rows] if self.notice else self._rows

    @property
    def notice(self) -> str:
        """How old the state is, where it may be outdated; empty where it is current."""
        return self._following.notice

    @property
    def title(self) -> str:
        if self.notice:
            return self.notice[:1].upper() + self.notice[1:]
        if self.status is None:
            return "Asking the broker …"
        return f"{sum(row.alive for row in self.rows)} of {len(self.rows)} alive"

    @property
    def summary(self) -> list[str]:
        """The health of all images of the cluster, in a few lines."""
        return [] if self.status is None or self.notice else summary(self.status)

    def turn_to(self, *, machines: bool) -> None:
        """Show the machines, or the devices."""
        self.command = operator_command("members") if machines else command_line("admin", "status")
        self.changed()

    def turn_to_this_computer(self) -> None:
        """Show what this computer runs beside the window."""
        self.command = self.here.command or self.here.running_command
        self.changed()

    @property
    def unfinished(self) -> str:
        return self.here.unfinished

    def look_at_machines(self) -> None:
        """Read the broker's list, where it is on this machine."""
        if self.operator.is_here:
            self.background.run(self._read_machines, done=self._see_machines, failed=self.fail)

    def _read_machines(self) -> list[MachineRow]:
        return machine_rows(self.operator.members(), own_key(self.session))

    def _see_machines(self, machines: list[MachineRow]) -> None:
        if machines != self.machines:
            self.machines = machines
            self.changed()

    # --- questions

    def retiring(self, name: str) -> Question:
        return Question(
            f"Retire {name}?",
            f"All shares on {name} move to other devices. When they have, it is taken off the list and may be "
            "unplugged; it comes back only by a new invite. This may take long, goes on when this window is closed, "
            "and can be taken back until it is done.",
            "Retire",
            command_line("admin", "retire", name),
            lambda: self._ask(f"Retiring {name} …", lambda link: _retire(link, name)),
        )

    def revoking(self, name: str) -> Question:
        return Question(
            f"Revoke {name}?",
            f"{name} is cut off at once, and the shares on it count as lost: they are rebuilt from the others where "
            "enough are there. For a device that is stolen or broken. One that is well should be retired, which loses "
            "nothing. It cannot be taken back; a new invite lets it in again.",
            "Revoke",
            operator_command("revoke", name),
            self._operating(f"Revoking {name} …", lambda: self.operator.revoke(name)),
        )

    def revoking_machine(self, row: MachineRow) -> Question:
        return Question(
            f"Revoke {row.name}?",
            revoking_means(row),
            "Revoke",
            revoke_command(row),
            self._operating(f"Revoking {row.name} …", lambda: self.operator.revoke(row.key)),
        )

    def renaming(self, name: str, new_name: str) -> Question:
        return Question(
            f"Rename {name}?",
            f"{name} is called {new_name} from now on, for everybody in the cluster. Nothing else changes.",
            "Rename",
            operator_command("rename", name, new_name),
            self._operating(f"Renaming {name} …", lambda: self.operator.rename(name, new_name)),
            harmless=True,
        )

    # --- actions

    def keep(self, name: str) -> None:
        """Keep a device that is being retired."""
        self.command = command_line("admin", "retire", name, "--cancel")
        self._ask(f"Keeping {name} …", lambda link: _keep(link, name))

    def rebalance(self) -> None:
        """Spread shares by room."""
        self.command = command_line("admin", "rebalance")
        self._ask("Spreading shares …", _rebalance)

    def make_invite(self, role: str) -> None:
        """Make an invite for one of ROLES, where the broker is on this machine; else show the command."""
        self.command = operator_command(*invite_words(role))
        self.invite = None
        if not self.operator.is_here:
            self.told = f"Invites are made at the broker. Run the command below there, for {ROLES[role]}."
            self.changed()
            return
        self.started("Making an invite …")
        self.background.run(
            lambda: self.operator.invite(role), done=lambda invited: self._invited(role, invited), failed=self.failed
        )

    def close_invite(self) -> None:
        self.invite = None
        self.changed()
        self.look_at_machines()

    def _invited(self, role: str, invited: Invited) -> None:
        self.doing = ""
        self.invite = Invite(role, invited.line, invited.code, _qr_matrix(invited.line))
        self.changed()

    def _ask(self, doing: str, work: Callable[[Link], Coroutine[Any, Any, str]]) -> None:
        async def asked() -> str:
            async with self.session.link() as link:
                return await work(link)

        self.started(doing)
        self.background.start(asked, done=self._done, failed=self.failed)

    def _operating(self, doing: str, work: Callable[[], str]) -> Optional[Callable[[], None]]:
        """An action as the broker's operator; None where the broker is on another machine."""

        def act() -> None:
            self.started(doing)
            self.background.run(work, done=self._done, failed=self.failed)

        return act if self.operator.is_here else None

    def _done(self, told: str) -> None:
        self.doing, self.told = "", told
        self.changed()
        self._following.look_now()
        self.look_at_machines()


async def _retire(link: Link, name: str) -> str:
    await begin_retirement(link, name)
    return f"{name} is being retired; do not unplug it before it is gone from this list."


async def _keep(link: Link, name: str) -> str:
    await keep_device(link, name)
    return f"{name} stays."


async def _rebalance(link: Link) -> str:
    await begin_rebalance(link)
    return "Shares are being spread by the room that devices have."


def _qr_matrix(text: str) -> list[list[bool]]:
    """A QR code: rows of squares, true where dark, without the light margin of four that a reader needs around."""
    import segno  # an optional dependency, for invites only

    return [[bool(square) for square in row] for row in segno.make(text, error="m", micro=False).matrix]
