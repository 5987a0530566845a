"""The commands about devices: which there are and how they are, taking one out of service, spreading shares evenly."""

from __future__ import annotations

import json

import typer

from common.home import client_identity

_JSON = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print one JSON object.")


def status(
    as_json: bool = _JSON,
    check: bool = typer.Option(
        False, "--check", help="For monitoring: print one line, OK or what is wrong, once the broker has heard of all."
    ),
) -> int:
    """Show the devices, and whether all images have all their shares. Exit 5 where one is lost or in danger."""
    from admin.status import ask, check_line, show, to_json

    found = ask(client_identity(), settled=check)
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
    from admin.moving import cancel_retirement, retire_device

    if cancel:
        cancel_retirement(client_identity(), device)
        print(f"{device} stays")
        return
    had = retire_device(client_identity(), device)
    print(
        f"{device} is retired: nothing of the {had} shares it had is missed elsewhere; "
        "it is safe to unplug, and comes back only by a new invite"
    )


def rebalance() -> None:
    """Move shares from full devices to those with room, such as new ones."""
    from admin.moving import rebalance_devices

    print(rebalance_devices(client_identity()))
