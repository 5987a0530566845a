"""The consumer's command line."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Optional

import typer

from common.errors import UsageError
from common.home import client_identity, home
from common.process.program import application, run
from common.repository.hashes import check_hash
from common.vault.passphrase import read_passphrase

commands = application("Restore images from the devices of the cluster, or list what the vault holds.")


@commands.command()
def restore(
    hashes: Optional[list[str]] = typer.Option(
        None,
        "--hash",
        envvar="TESSERA_HASH",
        help="SHA-256 of the image, or its first eight or more digits; may be given several times.",
    ),
    everything: bool = typer.Option(
        False, "--all", envvar="TESSERA_ALL", help="Restore all images of the vault; needs --output FOLDER."
    ),
    output: Optional[str] = typer.Option(
        None,
        envvar="TESSERA_OUTPUT",
        help="File to write, - for stdout, or a folder; the original name in this folder if left out.",
    ),
    force: bool = typer.Option(False, "--force", envvar="TESSERA_FORCE", help="Write over files that exist."),
    list_: bool = typer.Option(
        False, "--list", envvar="TESSERA_LIST", help="Show what the vault holds, and restore nothing."
    ),
    as_json: bool = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per image."),
    passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase."
    ),
) -> int:
    """Restore images, byte for byte, or list what there is."""
    wanted = list(dict.fromkeys(check_hash(text) for text in hashes or []))
    if sum((bool(wanted), everything, list_)) != 1:
        raise UsageError("give one of --hash, --all and --list")
    if everything and output is None:
        raise UsageError("--all needs --output FOLDER")
    identity = client_identity()
    # --help needs none of these. What restores pulls in numpy and more, while the vault is unlocked beside it.
    from common.vault.folder import VaultFolder
    from common.vault.unlocking import Unlocking
    from consumer.destination import Destination

    vault = VaultFolder(home())
    vault.require()
    destination = None if list_ else Destination(output, several=everything or len(wanted) > 1, force=force)
    unlocking = Unlocking(vault, read_passphrase(passphrase_file))
    import numpy  # noqa: F401 - imported less deep in the stack than where it is used: see docs/performance.md

    from consumer.work import Work

    work = Work(identity, vault, unlocking.key(), as_json=as_json)
    if destination is None:
        return work.print_list()
    return work.restore(wanted, everything, destination)


def main() -> NoReturn:
    run(commands, "consumer")
