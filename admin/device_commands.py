"""The commands about devices: which there are and how they are, taking one out of service, spreading shares evenly."""

from __future__ import annotations

import json

import typer

from common.home import client_identity
from common.program import complain

_JSON = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print one JSON object.")


def status(as_json: bool = _JSON) -> None:
    """Show the devices, and whether all images have all their shares."""
    from admin.status import ask, show, to_json

    found = ask(client_identity())
    if as_json:
        print(json.dumps(to_json(found)))
    else:
        show(found)


def retire(
    device: str = typer.Argument(..., help="The device's name, as `status` shows it."),
    cancel: bool = typer.Option(False, "--cancel", help="Keep a device that is being retired after all."),
) -> None:
    """Move a device's shares elsewhere, say when it is safe to unplug, and take it off the list."""
    from admin.moving import cancel_retirement, retire_device

    if cancel:
        cancel_retirement(client_identity(), device)
        print(f"{device} stays")
        return
    complain(f"moving the shares of {device}; interrupting this command does not stop it, and it can be run again")
    moved = retire_device(client_identity(), device)
    print(f"{device} is retired: {moved} shares moved; it is safe to unplug, and comes back only by a new invite")


def rebalance() -> None:
    """Move shares from full devices to those with room, such as new ones."""
    from admin.moving import rebalance_devices

    print(rebalance_devices(client_identity()))
