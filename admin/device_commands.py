"""The commands about devices: status, retire, rebalance."""

from __future__ import annotations

import json
import sys
from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import typer

from common.membership.identity import client_identity
from common.process.events import Emit
from common.process.progress import Printer
from common.protocol.messages import Device, DeviceKind
from common.text import format_duration, format_size, printable

if TYPE_CHECKING:
    from admin.status import Status
    from common.link.link import Link

T = TypeVar("T")
_USED = "used: by shares of all vaults, and by what lies in trash and quarantine; not by what is still being stored"
_JSON = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print one JSON object.")


def status(
    as_json: bool = _JSON,
    check: bool = typer.Option(
        False, "--check", help="For monitoring: print one line, OK or what is wrong, once the broker has heard of all."
    ),
) -> int:
    """Show the devices, and whether all images have all their shares. Exit 5 where one is lost or in danger."""
    from admin.status import ask_status, check_line, settled_status, to_json

    found = _run(settled_status if check else ask_status, "")
    if as_json:
        print(json.dumps(to_json(found)))
    elif check:
        print(check_line(found))
    else:
        show(found)
    return found.exit_code


def retire(
    device: str = typer.Argument(..., help="The device's name, as `status` shows it."),
    cancel: bool = typer.Option(False, "--cancel", help="Keep a device that is being retired after all."),
) -> None:
    """Move a device's shares elsewhere, say when it is safe to unplug, and take it off the list."""
    from admin.moving import keep_device, retire_device

    if cancel:
        _run(lambda link: keep_device(link, device), "")
        print(f"{device} stays")
        return
    had = _run(lambda link: retire_device(link, device), "moving")
    print(
        f"{device} is retired: nothing of the {had} shares it had is missed elsewhere; "
        "it is safe to unplug, and comes back only by a new invite"
    )


def rebalance() -> None:
    """Move shares from full devices to those with room, such as new ones."""
    from admin.moving import rebalance_devices

    print(_run(rebalance_devices, "moving"))


def _run(work: Callable[[Link], Coroutine[Any, Any, T]], doing: str) -> T:
    """Do this by a link to the cluster that shows no vault."""
    from common.link.link import Link, reached, run_with_link

    async def linked(emit: Emit) -> T:
        async with reached(Link(client_identity(), None, emit=emit)) as link:
            return await work(link)

    with Printer(doing) as printer:
        return run_with_link(partial(linked, printer))


def show(status: Status) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from admin.status import summary

    devices = status.devices
    table = Table(title=f"{sum(d.alive for d in devices)} of {len(devices)} devices alive; broker {status.broker}")
    table.add_column("device")
    table.add_column("state")
    for column in ("used", "free", "shares"):
        table.add_column(column, justify="right")
    for device in devices:
        known = device.alive or device.shares or device.used_bytes
        room = (format_size(device.used_bytes), format_size(device.free_bytes)) if known else ("?", "?")
        table.add_row(Text(printable(device.name)), _state(device), *room, str(device.shares) if known else "?")
    console = Console(file=sys.stdout)
    console.print(table)
    console.print(_USED, markup=False, highlight=False)
    for line in summary(status):
        console.print(line, markup=False, highlight=False)


def _state(device: Device) -> str:
    state = "alive" if device.alive else f"away for {format_duration(device.away_seconds)}"
    if device.waited_for:
        state += f", waited for until {_moment(device.waited_for)}"
    if device.kind is DeviceKind.LAPTOP:
        state = f"laptop, {state}"
    if device.retiring and not device.left and device.held_for:
        return f"{state}, retiring: for {format_duration(device.held_for)} it holds what was deleted or changed"
    return f"{state}, retiring: {device.left} shares left" if device.retiring else state


def _moment(seconds: int) -> str:
    """The local time in so many seconds."""
    return (datetime.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M")
