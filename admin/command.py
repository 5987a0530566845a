"""The administration's command line: joining a cluster here, the other commands are in modules of their own."""

from __future__ import annotations

import socket
from typing import NoReturn, Optional

import typer

from admin.approver_commands import approvers
from admin.contact_commands import contacts, share, unshare
from admin.device_commands import rebalance, retire, status
from admin.image_commands import delete, repair, strengthen, undelete, verify
from admin.recovery_commands import recovery, restore
from admin.snapshot_commands import forget, prune
from admin.vault_commands import keyring, vault
from common.home import home
from common.process.program import application, run
from common.process.progress import Printer
from common.text import printable

commands = application("Administer a Tessera cluster from a client: its devices, the images in it, your vault.")


@commands.command()
def join(
    invite: str = typer.Argument(..., envvar="TESSERA_JOIN", help="What `broker.py invite client` (or admin) printed."),
    name: Optional[str] = typer.Option(
        None, envvar="TESSERA_CLIENT_NAME", help="What to call this machine; its host name."
    ),
    new_cluster: bool = typer.Option(
        False, "--new-cluster", help="Leave the cluster that this machine is a client of. Its vault stays."
    ),
) -> None:
    """Let this machine into a cluster, as a client, or as an admin where the invite is for one."""
    from admin.joining import join_cluster

    printer = Printer("joining")
    admission = join_cluster(home(), invite, name or socket.gethostname(), printer, new_cluster=new_cluster)
    print(f"joined the cluster of the broker at {admission.broker} as {printable(admission.name)}")


for command in (status, verify, repair, strengthen, delete, undelete, forget, prune, share, unshare, retire, rebalance):
    commands.command()(command)
for command in (recovery, restore):
    vault.command()(command)
vault.add_typer(keyring, name="keyring")
commands.add_typer(vault, name="vault")
commands.add_typer(contacts, name="contacts")
commands.add_typer(approvers, name="approvers")


def main() -> NoReturn:
    run(commands, "admin")
