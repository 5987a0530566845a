"""The administration's command line: joining a cluster, vaults, and the state of the devices."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import NoReturn, Optional

import typer

from common.errors import NotFoundError, UsageError
from common.files import locked, read_limited, write_private
from common.home import client_identity, home, load_brokers, save_brokers
from common.identity import KeyPair, load_key_pair, save_key_pair
from common.invite import Role, decode_invite, same_cluster
from common.passphrase import read_passphrase
from common.program import application, complain, run
from common.vault.folder import VaultFolder

commands = application("Administer a Tessera cluster from a client: join it, make vaults, see its devices.")
vault = application("Make, copy and protect vaults.")
commands.add_typer(vault, name="vault")

_MAX_KEY_FILE = 4096
_PASSPHRASE_FILE = typer.Option(None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase.")


@commands.command()
def join(
    invite: str = typer.Argument(..., envvar="TESSERA_JOIN", help="The line that `broker.py invite client` printed."),
    name: Optional[str] = typer.Option(
        None, envvar="TESSERA_CLIENT_NAME", help="What to call this machine; its host name."
    ),
) -> None:
    """Let this machine into a cluster, as a client."""
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
        key_file = folder / "client.key"
        if not key_file.exists():
            save_key_pair(key_file, KeyPair.generate())
        admitted = trade(decoded, Role.CLIENT, name or socket.gethostname(), load_key_pair(key_file))
        save_brokers(brokers, decoded.brokers)
    print(f"joined the cluster of the broker at {decoded.brokers[0].host} as {admitted}")


@commands.command()
def status(as_json: bool = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print one JSON object.")) -> None:
    """Show the devices: alive or not, used and free room, shares."""
    from admin.status import ask, show, to_json

    devices, broker = ask(client_identity())
    if as_json:
        print(json.dumps(to_json(devices, broker)))
    else:
        show(devices, broker)


@vault.command()
def create(passphrase_file: Optional[Path] = _PASSPHRASE_FILE) -> None:
    """Make a new vault on this machine."""
    folder = _vault_folder()
    if folder.key_path.exists():
        raise UsageError(f"there is a vault in {folder.folder} already; it was not touched")
    folder.create(read_passphrase(passphrase_file, prompt="Passphrase for the new vault: ", confirm=True))
    print(f"made a vault: {folder.key_path}")
    complain("keep a copy of this file somewhere safe (admin.py vault export FILE):")
    complain("without it or without its passphrase nobody, not even you, gets an image back")


@vault.command()
def export(file: str = typer.Argument(..., help="Where to write the vault key file; - is stdout.")) -> None:
    """Copy the vault key file, for a backup or another machine. It stays wrapped by the passphrase."""
    content = _vault_folder().key_file()
    if file == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        write_private(Path(file), content, replace=False)
    except FileExistsError:
        raise UsageError(f"{file} exists already; it was not touched") from None
    print(f"wrote {file}")


@vault.command("import")
def import_(
    file: Path = typer.Argument(..., help="A vault key file, as `vault export` wrote it."),
    passphrase_file: Optional[Path] = _PASSPHRASE_FILE,
) -> None:
    """Take over a vault on this machine; its passphrase must open it."""
    try:
        content = read_limited(file, _MAX_KEY_FILE)
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {file}") from None
    folder = _vault_folder()
    folder.import_key_file(content, read_passphrase(passphrase_file))
    print(f"imported the vault: {folder.key_path}")


@vault.command()
def passphrase(
    passphrase_file: Optional[Path] = _PASSPHRASE_FILE,
    new_passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_NEW_PASSPHRASE_FILE", help="File that holds the new passphrase."
    ),
) -> None:
    """Change the vault's passphrase; nothing that is stored changes."""
    folder = _vault_folder()
    old = read_passphrase(passphrase_file, prompt="Passphrase now: ")
    folder.unlock(old)
    folder.change_passphrase(old, _new_passphrase(new_passphrase_file))
    print("changed the passphrase")
    complain("copies of the key file made before still open with the old one")


def _new_passphrase(file: Optional[Path]) -> str:
    return read_passphrase(file, prompt="New passphrase: ", confirm=True, variable="TESSERA_NEW_PASSPHRASE")


def _vault_folder() -> VaultFolder:
    return VaultFolder(home())


def main() -> NoReturn:
    run(commands, "admin")
