"""The devices as the broker lists them, and the health of all objects by its steward."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Optional

from common.errors import NotEnoughError, UnreachableError
from common.link.link import Link
from common.link.questions import SETTLING, list_devices
from common.process.events import waiting
from common.protocol.codec import unpack
from common.protocol.messages import Device, Empty, Health, Job
from common.protocol.operations import HEALTH
from common.text import format_duration, format_size, printable

_SETTLE_TIMEOUT = 20.0  # seconds; a broker settles within ten
_SETTLE_PAUSE = 0.25


@dataclass(frozen=True)
class Status:
    devices: list[Device]
    broker: str
    health: Health
    jobs: list[Job]

    @property
    def seconds_left(self) -> Optional[int]:
        """An estimate for all that is to be rebuilt or moved; None where there is nothing, or no rate yet."""
        if not self.health.bytes_left or not self.health.rate:
            return None
        return -(-self.health.bytes_left // self.health.rate)

    @property
    def exit_code(self) -> int:
        """0; 5 where an image cannot be restored now or is in danger."""
        endangered = self.health.settled and (self.health.unrecoverable or self.health.in_danger)
        return NotEnoughError.exit_code if endangered else 0


async def settled_status(link: Link) -> Status:
    """The status once all devices have registered, or had the time to; UnreachableError where that takes too long."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SETTLE_TIMEOUT
    with waiting(link.emit, SETTLING):
        while not (status := await ask_status(link)).health.settled:
            if loop.time() > end:
                raise UnreachableError("the broker has just started: devices are still coming")
            await asyncio.sleep(_SETTLE_PAUSE)
    return status


async def ask_status(link: Link) -> Status:
    devices = await list_devices(link)
    health, jobs = await ask_health(link)
    return Status(devices, link.address, health, jobs)


async def ask_health(link: Link) -> tuple[Health, list[Job]]:
    reply = await link.request(HEALTH, Empty())
    return reply.header, unpack(reply.payload, list[Job])


def to_json(status: Status) -> dict[str, object]:
    health = status.health
    return {
        "broker": status.broker,
        "devices": [
            {
                "name": device.name,
                "id": device.device_id.hex(),
                "alive": device.alive,
                "used_bytes": device.used_bytes,
                "free_bytes": device.free_bytes,
                "shares": device.shares,
                "away_seconds": device.away_seconds,
                "retiring": device.retiring,
                "held_seconds": device.held_for,
                "shares_left": device.left,
                "kind": device.kind.value,
                "waited_for_seconds": device.waited_for,
                "unlisted_shares": device.unlisted,
                "hold_seconds": device.hold,
            }
            for device in status.devices
        ],
        "objects": {
            "settled": health.settled,
            "whole": health.whole,
            "lacking": health.lacking,
            "waiting": health.waiting,
            "in_danger": health.in_danger,
            "unrecoverable": health.unrecoverable,
            "could_be_stronger": health.weak,
            "needless_encodings": health.needless,
        },
        "over_limits": [{"name": over.name, "limit": over.limit} for over in health.over_limits],
        "repair": {
            "bytes_left": health.bytes_left,
            "bytes_per_second": health.rate,
            "seconds_left": status.seconds_left,
            "balancing": health.balancing,
            "jobs": [_job(job, status.devices) for job in status.jobs],
        },
    }


def _job(job: Job, devices: list[Device]) -> dict[str, object]:
    names = {device.device_id: device.name for device in devices}
    return {
        "kind": job.kind,
        "encoding": job.encoding_id.hex(),
        "shares": job.shares,
        "devices": [names.get(device, device.hex()) for device in job.devices],
        "segments": job.segments,
        "segments_done": job.segments_done,
    }


def check_line(status: Status) -> str:
    """The state in a line for monitoring."""
    health = status.health
    away = [printable(device.name) for device in status.devices if not device.alive]
    wrong = [f"{health.unrecoverable} objects cannot be restored"] if health.unrecoverable else []
    wrong += [f"{health.in_danger} objects are in danger"] if health.in_danger else []
    told = [*wrong, f"{health.whole} objects are whole"]
    told += [f"{health.lacking} lack shares"] if health.lacking else []
    told += [f"away: {', '.join(away)}"] if away else []
    return f"{'CRITICAL' if wrong else 'OK'}: {', '.join(told)}"


def summary(status: Status) -> list[str]:
    """The objects' state in a few lines that a person reads."""
    health = status.health
    if not health.settled:
        return ["the broker has just started: devices are still coming"]
    lines = [f"{health.whole} objects (images, trees, snapshots) are whole, of all vaults"]
    if health.in_danger:
        lines.append(f"{health.in_danger} IN DANGER: the loss of one more device would lose them")
    if health.lacking:
        lines.append(f"{health.lacking} lack shares, {health.waiting} of them wait for devices to come back")
    if health.unrecoverable:
        lines.append(f"{health.unrecoverable} CANNOT BE RESTORED from the devices that are connected")
    if health.weak:
        lines.append(f"{health.weak} could be stronger with the devices that are alive: admin.py strengthen --all")
    if health.needless:
        lines.append(f"{health.needless} encodings are needless beside a whole one of the image: admin.py repair --all")
    for device in status.devices:
        if device.unlisted:
            name = printable(device.name)
            lines.append(f"{device.unlisted} shares on {name} are more than brokers remember of one device: retire it")
    lines += _hold(status.devices)
    lines += [f"{printable(over.name)} is over its limit of {over.limit}" for over in health.over_limits]
    if status.jobs or health.bytes_left:
        left = "" if status.seconds_left is None else f", about {format_duration(status.seconds_left)} left"
        at = f" at {format_size(health.rate)}/s" if health.rate else ""
        lines.append(
            f"to be rebuilt or moved: {format_size(health.bytes_left)}, {len(status.jobs)} under way{at}{left}"
        )
    return lines


def _hold(devices: list[Device]) -> list[str]:
    """For how long nobody can empty the trash, and on which devices anybody with the vault can at once."""
    alive = [device for device in devices if device.alive]
    if not alive:
        return []
    least = min(device.hold for device in alive)
    without = [printable(device.name) for device in alive if not device.hold]
    if without:
        return [
            f"{', '.join(without)} {'does' if len(without) == 1 else 'do'} not hold what is deleted: worker.py --hold"
        ]
    return [f"what is deleted can be taken back for {format_duration(least)}, whoever deleted it"]
