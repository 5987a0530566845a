"""The machines that store and bring back: clients and admins, as the broker's list of members has them."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import RefusedError
from desktop.model.operator import ROLES, Member, operator_command
from desktop.session import Session

_ROLES = ("client", "admin")


@dataclass(frozen=True)
class MachineRow:
    """One machine as it is shown."""

    name: str
    key: str  # its key's beginning
    role: str
    since: str
    is_this: bool  # the app runs on it


def machine_rows(members: list[Member], own_key: str) -> list[MachineRow]:
    """Clients and admins by name; `own_key`: this machine's, in hexadecimal, empty where it has none."""
    rows = [
        MachineRow(each.name, each.key, ROLES[each.role], each.since, bool(own_key) and own_key.startswith(each.key))
        for each in members
        if each.role in _ROLES
    ]
    return sorted(rows, key=lambda row: row.name)


def own_key(session: Session) -> str:
    """This machine's public key in hexadecimal; empty where it is in no cluster."""
    try:
        return session.identity.key_pair.public.hex()
    except RefusedError:
        return ""


def revoking_means(row: MachineRow) -> str:
    """What a machine that is revoked can do no more, and what it still has."""
    if row.is_this:
        return (
            f"{row.name} is this machine: this app and every Tessera command here is cut off at once, until it joins "
            "by a new invite. The images stay in the cluster."
        )
    return (
        f"{row.name} is cut off at once: it stores, sees and brings back nothing any more, until it joins by a new "
        "invite. The images that it stored stay in the cluster. For a machine that was sold, lost or stolen. Its key "
        "file is still on it: if it was stolen, give the vault a new key as well (admin.py vault rotate)."
    )


def revoke_command(row: MachineRow) -> str:
    """By its key: a name is chosen by the machine itself, and may look like anything."""
    return operator_command("revoke", row.key)
