"""Setting up what this computer runs beside the window: a device, a broker."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from admin.joining import Admission, join_cluster
from common.errors import TesseraError, UsageError
from desktop.background import Background, Task
from desktop.model.model import Model, Question
from desktop.model.operator import Operator, operator_command
from desktop.model.service import (
    Program,
    Service,
    ServiceStatus,
    State,
    require_absent,
    require_room,
    service_command,
    suggested_room,
)
from desktop.session import Session

_LOOK_EVERY = 2.0  # seconds
_BROKER = Service(Program.BROKER)


@dataclass(frozen=True)
class Device:
    """The user's choices for a device; `room` as `common.text` parses it, empty for all."""

    folder: str
    room: str
    laptop: bool = False
    invite: str = ""  # needed where the broker is on another machine, and the folder was no device before

    @property
    def service(self) -> Service:
        folder = self.folder.strip() and os.path.abspath(os.path.expanduser(self.folder.strip()))
        return Service(Program.WORKER, folder, self.room.strip(), self.laptop)


class ThisComputerModel(Model):
    """`statuses`: how each program is, as it was last looked.

    `done`: the number of completed actions, so that a form can close.
    """

    def __init__(
        self, session: Session, background: Background, admitted: Callable[[Admission], None] = lambda _: None
    ) -> None:
        """`admitted`: called when this app has joined the cluster of a broker that it made."""
        super().__init__(session, background)
        self.operator = Operator(session.home)
        self.statuses: dict[Program, ServiceStatus] = {}
        self.machine = socket.gethostname()
        self.done = 0
        self._admitted = admitted
        self._services = session.services
        self._looking: Optional[Task] = None

    # --- state

    def activate(self) -> None:
        if self._looking is None:
            self._look_once()

    def _look_once(self) -> None:
        self._looking = self.background.run(self._look, done=self._looked, failed=self.fail)

    def _looked(self, statuses: dict[Program, ServiceStatus]) -> None:
        self._take(statuses)
        self._looking = self.background.start(
            lambda: asyncio.sleep(_LOOK_EVERY), done=lambda _: self._look_once(), failed=self.fail
        )

    def deactivate(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> dict[Program, ServiceStatus]:
        return {program: self._services.status(program) for program in Program}

    def _take(self, statuses: dict[Program, ServiceStatus]) -> None:
        if statuses != self.statuses:
            self.statuses = statuses
            if any(status.state is State.STOPPED for status in statuses.values()):
                self.told = ""  # outdated
            self.changed()

    def words(self, program: Program) -> str:
        """The state of a program, in a sentence or two."""
        status = self.statuses.get(program)
        if status is None:
            return "Looking …"
        if program is Program.BROKER and status.state is State.OFF and self.operator.is_here:
            return "Its list of who may is on this computer, but no broker runs here now."
        return status.words

    @property
    def unfinished(self) -> str:
        return "This computer is being set up, and what has begun may stop halfway." if self.doing else ""

    @property
    def running_command(self) -> str:
        """The equivalent in a terminal of being a device here."""
        status = self.statuses.get(Program.WORKER)
        service = Service(Program.WORKER, self.suggested.folder) if status is None else status.service
        return service_command(service, invited=status is None or status.state is State.OFF)

    @property
    def suggested(self) -> Device:
        """The initial values of a form."""
        folder = self.session.home.absolute() / "store"
        return Device(str(folder), suggested_room(_disk(folder).free))

    def needs_invite(self, device: Device) -> bool:
        """Whether a device needs an invite that is made on another machine."""
        return not self.operator.is_here and not (Path(device.service.store) / "brokers.json").exists()

    # --- actions

    def become_device(self, device: Device) -> None:
        """Set up a device here."""
        service, operator, services = device.service, self.operator, self._services
        invite, name = device.invite.strip(), self.machine

        def work() -> None:
            _require_fit(service, services.status(Program.WORKER))
            if not invite and self.needs_invite(device):
                raise UsageError(
                    "no invite was given", advice=f"it is made at the broker: {operator_command('invite', 'worker')}"
                )
            used = operator.invite("worker").line if operator.is_here else invite
            services.set_up(service, {"TESSERA_JOIN": used, "TESSERA_NAME": name} if used else {})

        self.started("Starting the device …", service_command(service, invited=True))
        self._run(work, "This computer is a device now.")

    def become_broker(self, name: str, device: Optional[Device] = None) -> None:
        """Set up the broker of a new cluster with this app as an admin, and a device if wanted."""
        home, operator, services, name = self.session.home, self.operator, self._services, name.strip() or self.machine

        def work() -> Admission:
            if device is not None:  # before anything is done
                _require_fit(device.service, services.status(Program.WORKER))
            services.ensure(_BROKER)
            self.background.post(self._say, "Letting this computer in …")
            return join_cluster(home, operator.invite("admin").line, name)

        def admitted(admission: Admission) -> None:
            self._finished("This computer is the broker of a new cluster now.")
            if device is not None:
                self.become_device(device)
            self._admitted(admission)

        self.started("Starting the broker …", service_command(_BROKER))
        self.background.run(work, done=admitted, failed=self._failed)

    def become_other_broker(self, invite: str) -> None:
        """Set up one more broker of the cluster that this app is in."""
        services = self._services

        def work() -> None:
            if not invite.strip():
                raise UsageError(
                    "no invite was given", advice=f"it is made at the broker: {operator_command('invite', 'broker')}"
                )
            services.set_up(_BROKER, {"TESSERA_JOIN": invite.strip()})

        self.started("Starting the broker …", service_command(_BROKER, invited=True))
        self._run(work, "This computer is one of the cluster's brokers now.")

    def start_again(self, program: Program) -> None:
        """Start what is set up and has stopped; a broker also where it ran without this app before."""
        services, service = self._services, self.statuses[program].service
        self.started("Starting it …", service_command(service))
        self._run(lambda: services.ensure(service), "It runs.")

    def stopping(self, program: Program) -> Question:
        """The question before one of them is given up."""
        services, service = self._services, self.statuses[program].service

        def act() -> None:
            self.started("Stopping it …", "")
            self._run(lambda: services.give_up(program), "It was stopped, and does not start at login any more.")

        if program is Program.WORKER:
            return Question(
                "Stop being a device?",
                f"The shares in {service.store} stay on the disk, but count as missing, and others are made elsewhere "
                "in their place, until a device has this folder again. To lose none on the way, retire it first, in "
                "the list of devices: then its shares move to others.",
                "Stop",
                "",
                act,
            )
        return Question(
            "Stop being a broker?",
            "Without a broker nobody stores or brings back anything. What devices keep stays, and so does the broker's "
            "list of who may: it can be started here again.",
            "Stop",
            "",
            act,
        )

    # --- running them

    def _run(self, work: Callable[[], None], told: str) -> None:
        self.background.run(work, done=lambda _: self._finished(told), failed=self._failed)

    def _say(self, doing: str) -> None:
        self.doing = doing
        self.changed()

    def _finished(self, told: str) -> None:
        self.doing, self.told = "", told
        self.done += 1
        self.changed()
        self._look_now()

    def _failed(self, error: TesseraError) -> None:
        self.failed(error)
        self._look_now()

    def _look_now(self) -> None:
        if self._looking is not None:
            self.deactivate()
            self.activate()


def _require_fit(service: Service, status: ServiceStatus) -> None:
    """Raise, before anything is started, where this computer cannot be such a device."""
    require_absent(status)
    if not service.store:
        raise UsageError("no folder was given", advice="choose one in which shares are to be kept")
    folder = Path(service.store)
    disk = _disk(folder)
    if (folder / "shares").exists():  # what these take is part of the room
        require_room(service.room, disk.total, "in all")
    else:
        require_room(service.room, disk.free)


def _disk(folder: Path) -> Any:
    """The disk usage where the folder is, or will be."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if os.path.isdir(each)))
