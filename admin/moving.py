"""`retire` and `rebalance`: have the steward move shares between devices, and show its progress.

The steward goes on where these commands are interrupted; run again they show how far it is.
"""

from __future__ import annotations

import asyncio

from admin.status import Status, ask_status
from common.errors import NotEnoughError, NotFoundError, RefusedError
from common.link.link import Link
from common.link.questions import settled_devices
from common.link.replies import DeclinedError
from common.process.events import BytesLeft, Warned
from common.protocol.identifiers import shown_key
from common.protocol.messages import Acknowledged, Code, Device, Empty, Retire
from common.protocol.operations import REBALANCE, RETIRE, H, Spec
from common.text import format_duration

_LOOK = 0.5  # seconds
_TIMEOUT = 20.0  # seconds without progress after which a warning is shown
_HELD = 3.0  # likewise, where it is known that it takes days


async def begin_retirement(link: Link, name: str) -> Device:
    """Have a device's shares moved elsewhere, and the device taken off the list then; returns it as it is now."""
    device = await _find(link, name)
    await _ask_as_admin(link, RETIRE, Retire(device.device_id))
    return device


async def keep_device(link: Link, name: str) -> None:
    """Keep a device that is being retired after all; what has moved meanwhile stays where it is."""
    device = await _find(link, name)
    await _ask_as_admin(link, RETIRE, Retire(device.device_id, cancel=True))


async def begin_rebalance(link: Link) -> None:
    """Have shares moved from full devices to those with room; `Health.balancing` says how long it lasts."""
    await _ask_as_admin(link, REBALANCE, Empty())


async def _ask_as_admin(link: Link, operation: Spec[H, Acknowledged], header: H) -> None:
    """Send an admin's request; where this client is none, the error says how to become one."""
    try:
        await link.request(operation, header)
    except DeclinedError as error:
        if error.code is not Code.NOT_ALLOWED:
            raise
        key = shown_key(link.public_key)
        advice = f"it takes an admin; on the broker's machine make this one: python broker/broker.py promote {key}"
        raise RefusedError(str(error), advice=advice) from None


async def retire_device(link: Link, name: str) -> int:
    """Move a device's shares elsewhere; returns how many it had, once it is off the list.

    NotFoundError where no device has that name, NotEnoughError where shares are left that have no other place.
    """
    device = await begin_retirement(link, name)
    text = f"moving the shares of {name}; interrupting this command does not stop it, and it can be run again"
    link.emit(Warned(text))
    left, had = -1, device.shares
    changed = link.time()
    while True:
        status = await ask_status(link)
        here = next((d for d in status.devices if d.device_id == device.device_id), None)
        if here is None:
            return had
        had = max(had, here.shares, here.left)
        if here.left != left or status.jobs:
            changed = link.time()
        left = here.left
        link.emit(BytesLeft(status.health.bytes_left))
        patience = _HELD if here.held_for and not here.left else _TIMEOUT
        if link.time() - changed > patience:
            raise _stuck(status, here, had)
        await asyncio.sleep(_LOOK)


def _stuck(status: Status, device: Device, had: int) -> NotEnoughError:
    others = sum(d.alive and not d.retiring for d in status.devices)
    if not device.left and device.held_for:
        return NotEnoughError(
            f"all {had} shares of {device.name} are elsewhere, and it stays on the list: for "
            f"{format_duration(device.held_for)} it holds what was deleted or changed; do not unplug it yet",
            advice="it is taken off the list by itself then; at once by: python broker/broker.py revoke "
            f"{device.name}, where nothing of that is to be taken back",
        )
    if not device.left and device.alive:
        names = ", ".join(d.name for d in status.devices if not d.alive) or "those that are away"
        return NotEnoughError(
            f"all {had} shares of {device.name} are elsewhere, and it stays on the list: it alone knows of deletions "
            "that other devices have not heard of; do not unplug it yet",
            advice=f"connect {names}, or revoke what will not come back; the rest goes on by itself",
        )
    away = "" if device.alive else " (it is not connected)"
    return NotEnoughError(
        f"{device.left} shares of {device.name}{away} have no other place among the {others} other devices, "
        f"{had - device.left} of its {had} are elsewhere; "
        "do not unplug it yet",
        advice="add a device or free some room: the moving goes on by itself, as long as it is not taken back "
        f"with: admin.py retire {device.name} --cancel",
    )


async def _find(link: Link, name: str) -> Device:
    for device in await settled_devices(link):
        if device.name == name:
            return device
    raise NotFoundError(f"no device is called {name}", advice="see their names with: python admin/admin.py status")


async def rebalance_devices(link: Link) -> str:
    """Spread shares by room; returns what was done, in a line."""
    before = {device.device_id: device.shares for device in await settled_devices(link)}
    await begin_rebalance(link)
    while (status := await ask_status(link)).health.balancing:
        link.emit(BytesLeft(status.health.bytes_left))
        await asyncio.sleep(_LOOK)
    gained = sum(max(0, d.shares - before.get(d.device_id, 0)) for d in status.devices)
    return f"moved {gained} shares" if gained else "the devices are even already; nothing was moved"
