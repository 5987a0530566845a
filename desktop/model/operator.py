"""What only the broker's operator may do: see the members, invite, rename, revoke.

The broker's own commands do it, as processes, where its folder is on this machine: nothing of the broker is imported.
Elsewhere the command is shown, to be run at the broker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.errors import RefusedError, UnreachableError, UsageError
from common.membership.short_invite import decode_short_invite
from desktop.model.commands import command_line
from desktop.services import error_of
from desktop.session import Session

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_TIMEOUT = 30.0  # seconds
_MACHINES = ("client", "add-only", "admin")  # roles
ROLES = {
    "worker": "a device, which keeps shares",
    "client": "a machine that stores and reassembles",
    "add-only": "a machine that stores and reassembles, and deletes nothing",
    "admin": "a machine that may also retire devices",
}


class Member(NamedTuple):
    """One line of `broker.py members`."""

    name: str
    role: str
    since: str
    key: str  # its key's beginning


class Invited(NamedTuple):
    """One invite in both its forms."""

    line: str
    code: str  # to be typed on a machine of the LAN; empty where the broker does not announce itself


class Operator:
    """Runs the broker's commands, with Tessera's folder `home`. Methods that run one block."""

    def __init__(self, home: Path) -> None:
        self._home = home

    @property
    def is_here(self) -> bool:
        """Whether this machine has the broker's folder."""
        return (self._home / "broker" / "broker.key").exists()

    def members(self) -> list[Member]:
        """The broker's list of members."""
        lines = (line.rsplit("\t", 3) for line in self._run("members").stdout.splitlines())
        return [Member(*fields) for fields in lines if len(fields) == len(Member._fields)]

    def invite(self, role: str) -> Invited:
        """A new invite for one of ROLES, good for an hour."""
        ended = self._run(*invite_words(role))
        return Invited(ended.stdout.strip(), next(filter(_is_code, ended.stderr.splitlines()), "").strip())

    def rename(self, name: str, new_name: str) -> str:
        """Rename a member; returns the command's output."""
        return self._run("rename", name, new_name).stdout.strip()

    def revoke(self, name: str) -> str:
        """Revoke a member, by name or the beginning of its key; returns the command's output."""
        return self._run("revoke", name).stdout.strip()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command; on failure the error of its exit code, with its text."""
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NO_WINDOW
        try:
            ended = subprocess.run(
                [sys.executable, str(_CHECKOUT / "broker" / "broker.py"), *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
                creationflags=flags,
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"broker.py did not end within {_TIMEOUT:.0f} s", advice="try again") from None
        if ended.returncode:
            raise error_of("broker", ended.returncode, ended.stderr)
        return ended

    def _environment(self) -> dict[str, str]:
        """This process's environment without the passphrase, which a broker never gets."""
        kept = {name: value for name, value in os.environ.items() if name != "TESSERA_PASSPHRASE"}
        return {**kept, "TESSERA_HOME": str(self._home)}


def _is_code(line: str) -> bool:
    try:
        decode_short_invite(line)
    except UsageError:
        return False
    return True


def invite_words(role: str) -> tuple[str, ...]:
    """The command of `broker.py` that invites for one of ROLES."""
    return ("invite", "client", "--add-only") if role == "add-only" else ("invite", role)


def operator_command(*arguments: str) -> str:
    """The command line to run at the broker."""
    return command_line("broker", *arguments)


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
        if each.role in _MACHINES
    ]
    return sorted(rows, key=lambda row: row.name)


def own_key(session: Session) -> str:
    """This machine's public key in hexadecimal; empty where it is in no cluster."""
    try:
        return session.identity.key_pair.public.hex()
    except RefusedError:
        return ""


def revoking_means(row: MachineRow) -> str:
    """What a revoked machine can do no more, and what it still has."""
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
    """The command that revokes it, by its key: the machine itself chose its name."""
    return operator_command("revoke", row.key)
