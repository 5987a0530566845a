"""The programs that this computer runs for its cluster, and that go on when the window is closed.

A device keeps shares (worker.py), a broker connects all (broker.py). Their options are in Tessera's folder, for each
login:

    services/worker.json    {"program": "worker", "store": "/home/you/…/store", "room": "100G", "laptop": false}
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from common.errors import IntegrityError, NoRoomError, UsageError
from common.text import parse_size
from desktop.model.commands import command_line

_GIGABYTE = 10**9


class Program(enum.Enum):
    WORKER = "worker"
    BROKER = "broker"

    @property
    def title(self) -> str:
        return "Tessera device" if self is Program.WORKER else "Tessera broker"


@dataclass(frozen=True)
class Service:
    """A program and its options. `store`, `room`, `laptop`: a device's; `room` empty for all that is free."""

    program: Program
    store: str = ""
    room: str = ""
    laptop: bool = False

    @property
    def arguments(self) -> list[str]:
        """Its options, without an invite: that is a secret, and needed once."""
        if self.program is Program.BROKER:
            return ["--supervised"]
        room = ["--capacity", self.room] if self.room else []
        return ["--store", self.store, *room, *(["--kind", "laptop"] if self.laptop else [])]

    def encode(self) -> bytes:
        return json.dumps({**asdict(self), "program": self.program.value}).encode()


def decode_service(content: bytes, name: object) -> Service:
    """Read what `encode` wrote; IntegrityError, which says `name`, where it is something else."""
    try:
        kept = json.loads(content)
        found = {field.name: kept[field.name] for field in fields(Service)}
        service = Service(**{**found, "program": Program(found["program"])})
        if not all(isinstance(text, str) for text in (service.store, service.room)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{name} is damaged") from None
    return service


def service_command(service: Service, *, invited: bool = False) -> str:
    """The equivalent in a terminal, while that is open; the invite is not shown."""
    line = command_line(service.program.value, *service.arguments)
    return f"{line} --join INVITE" if invited else line


def environment_of(program: Program, home: str) -> dict[str, str]:
    """The variables by which its process is recognised: no other process has them all."""
    return {"TESSERA_HOME": home, "TESSERA_SERVICE": program.value}


def without_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment without Tessera's variables: a service starts as at login, and gets no passphrase.

    It is configured by config.toml.
    """
    return {name: value for name, value in variables.items() if not name.startswith("TESSERA_")}


class State(enum.Enum):
    OFF = "off"
    RUNNING = "running"
    STOPPED = "stopped"  # it is set up, and does not run
    ELSEWHERE = "elsewhere"  # it runs, and was not started by this app


@dataclass(frozen=True)
class ServiceStatus:
    """The state of one of the programs on this computer. `fault`: why it ended, if known."""

    state: State
    service: Service
    fault: str = ""

    @property
    def is_set_up(self) -> bool:
        return self.state in (State.RUNNING, State.STOPPED)

    @property
    def words(self) -> str:
        """In a sentence or two."""
        is_device = self.service.program is Program.WORKER
        what = f"It keeps shares in {self.service.store}" if is_device else "It is a broker of its cluster"
        if self.state is State.RUNNING:
            room = f", {self.service.room} at most" if is_device and self.service.room else ""
            return f"{what}{room}. This starts by itself when you log in, and goes on when this window is closed."
        if self.state is State.ELSEWHERE:
            return f"{what}. Something else than this app started that, a service or a terminal, and can stop it."
        if self.state is State.STOPPED:
            where = f" in {self.service.store}" if is_device else ""
            doing = f"keep shares{where}" if is_device else "be a broker"
            return f"It is to {doing}, and that has stopped{f': {self.fault}' if self.fault else ''}."
        if is_device:
            return (
                "It keeps no shares yet. A device gives some of its disk; it cannot read what lies there, and the "
                "more devices, the more of them may fail."
            )
        return "It is no broker. One is enough for a cluster, best on a computer that is always on."


def require_room(room: str, most: int, what: str = "free") -> None:
    """UsageError where what was typed is no size, NoRoomError where it is zero, or more than the disk has.

    `most`: bytes that the disk has; `what`: how they are called.
    """
    size = parse_size(room) if room else None
    if size == 0:
        raise NoRoomError("a device needs some room", advice="write it like 100G, or leave it empty for all there is")
    if size is not None and size > most:
        raise NoRoomError(
            f"the disk has {most / _GIGABYTE:,.1f} GB {what}, which is less than {room}",
            advice="give less, or choose a folder on another disk",
        )


def suggested_room(free: int) -> str:
    """Half of what the disk has free; empty where that is less than a gigabyte."""
    half = free // 2 // _GIGABYTE
    return f"{half}G" if half else ""


def require_absent(status: ServiceStatus) -> None:
    """UsageError where the program is set up or runs already."""
    if status.state is State.OFF:
        return
    kind = "a device" if status.service.program is Program.WORKER else "a broker"
    where = f", with the folder {status.service.store}" if status.service.store else ""
    raise UsageError(f"this computer is {kind} already{where}", advice="stop that first, to set it up differently")
