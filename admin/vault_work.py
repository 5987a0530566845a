"""What every command about images begins with, and how it changes many of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from admin.events import Changed, Emit, NotChanged
from common.errors import TesseraError
from common.membership.identity import ClientIdentity
from common.process.events import Warned, waiting
from common.repository.images import Held
from common.repository.repository import Repository, open_repository
from common.vault.folder import VaultFolder


async def change_each(
    repository: Repository,
    images: Sequence[Held],
    change: Callable[[Held], Awaitable[list[str]]],
    done: str,
    not_yet: str,
) -> int:
    """Change images one after the other, and tell of each; the exit code, that of the first failure.

    `change` gives the names of the devices that it did not reach; `not_yet` says what becomes of these.
    """
    exit_code = 0
    for image in images:
        try:
            with waiting(repository.emit, "asking the devices"):
                away = await change(image)
        except TesseraError as error:
            cause = repository.link.cause(error)
            repository.emit(NotChanged(image.sha256, str(cause)))
            exit_code = exit_code or cause.exit_code
            continue
        repository.emit(Changed(image.sha256, done))
        if away:
            repository.emit(Warned(f"{', '.join(away)}: {not_yet}"))
    return exit_code


class VaultWork:
    """What every command about images begins with: a vault, unlocked before anything is asked of the network."""

    def __init__(self, identity: ClientIdentity, home: Path, passphrase: str, emit: Emit) -> None:
        self._identity = identity
        self._emit = emit
        self._home = home
        self._vault = VaultFolder(home)
        self._key = self._vault.unlock(passphrase)

    def repository(self) -> AbstractAsyncContextManager[Repository]:
        return open_repository(self._identity, self._vault, self._key, self._emit)
