"""The state of the devices, as the broker knows it."""

from __future__ import annotations

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from common.home import ClientIdentity
from common.link.link import Link, run_with_link
from common.link.questions import list_devices
from common.protocol.messages import Device
from common.text import printable


def ask(identity: ClientIdentity) -> tuple[list[Device], str]:
    """All devices, and the address of the broker that told of them."""
    return run_with_link(_ask(identity))


async def _ask(identity: ClientIdentity) -> tuple[list[Device], str]:
    async with Link(identity, None) as link:
        return await list_devices(link), link.address


def to_json(devices: list[Device], broker: str) -> dict[str, object]:
    return {
        "broker": broker,
        "devices": [
            {
                "name": device.name,
                "id": device.device_id.hex(),
                "alive": device.alive,
                "used_bytes": device.used_bytes,
                "free_bytes": device.free_bytes,
                "shares": device.shares,
            }
            for device in devices
        ],
    }


def show(devices: list[Device], broker: str) -> None:
    table = Table(title=f"{sum(d.alive for d in devices)} of {len(devices)} devices alive; broker {broker}")
    table.add_column("device")
    table.add_column("state")
    for column in ("used", "free", "shares"):
        table.add_column(column, justify="right")
    for device in devices:
        known = device.alive or device.shares or device.used_bytes
        room = (decimal(device.used_bytes), decimal(device.free_bytes)) if known else ("?", "?")
        state = "alive" if device.alive else "not connected"
        table.add_row(Text(printable(device.name)), state, *room, str(device.shares) if known else "?")
    Console().print(table)
