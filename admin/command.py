"""The administration's command line: joining a cluster here, the other commands in rooms of their own."""

from __future__ import annotations

import socket
from typing import NoReturn, Optional

import typer

from admin.contact_commands import contacts, share, unshare
from admin.device_commands import rebalance, retire, status
from admin.image_commands import delete, repair, undelete, verify
from admin.keyring_commands import keyring
from admin.recovery_commands import recovery, restore
from admin.vault_commands import vault
from common.errors import UsageError
from common.files import locked
from common.home import home, load_brokers, save_brokers
from common.identity import KeyPair, load_key_pair, save_key_pair
from common.invite import Role, decode_invite, same_cluster
from common.program import application, run

commands = application("Administer a Tessera cluster from a client: its devices, the images in it, your vault.")


@commands.command()
def join(
    invite: str = typer.Argument(..., envvar="TESSERA_JOIN", help="What `broker.py invite client` (or admin) printed."),
    name: Optional[str] = typer.Option(
        None, envvar="TESSERA_CLIENT_NAME", help="What to call this machine; its host name."
    ),
) -> None:
    """Let this machine into a cluster, as a client, or as an admin where the invite is for one."""
    from common.joining import join as trade

    folder = home() / "client"
    with locked(folder / "join.lock"):
        decoded = decode_invite(invite)
        brokers = folder / "brokers.json"
        # The same cluster again is tried: it may have revoked this machine.
        if brokers.exists() and not same_cluster(load_brokers(brokers), decoded.brokers):
            raise UsageError(
                f"this machine is a client of another cluster already ({folder})",
                advice="set TESSERA_HOME to be the client of both",
            )
        role = Role.ADMIN if decoded.role is Role.ADMIN else Role.CLIENT
        key_file = folder / "client.key"
        if not key_file.exists():
            save_key_pair(key_file, KeyPair.generate())
        admitted = trade(decoded, role, name or socket.gethostname(), load_key_pair(key_file))
        save_brokers(brokers, decoded.brokers)
    print(f"joined the cluster of the broker at {decoded.brokers[0].host} as {admitted}")


for command in (status, verify, repair, delete, undelete, share, unshare, retire, rebalance):
    commands.command()(command)
for command in (recovery, restore):
    vault.command()(command)
vault.add_typer(keyring, name="keyring")
commands.add_typer(vault, name="vault")
commands.add_typer(contacts, name="contacts")


def main() -> NoReturn:
    run(commands, "admin")
