"""What all commands about images share: opening the vault, and changing many images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from admin.events import Changed, Emit, NotChanged
from common.errors import TesseraError
from common.membership.identity import ClientIdentity
from common.process.events import Warned, waiting
from common.repository.images import Held
from common.repository.repository import Repository, run_with_repository
from common.vault.folder import VaultFolder

T = TypeVar("T")


async def change_each(
    repository: Repository,
    images: Sequence[Held],
    change: Callable[[Held], Awaitable[list[str]]],
    done: str,
    not_yet: str,
) -> int:
    """Change images one after the other, and emit the outcome of each; the exit code, that of the first failure.

    `change` returns the names of the devices that it did not reach; `not_yet`: what is printed of these.
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
    """The base of all commands about images: a vault, unlocked before the network is used.

    `changes`: they change or delete what is stored, which is refused before anything else to a machine that only adds.
    """

    def __init__(
        self, identity: ClientIdentity, home: Path, passphrase: str, emit: Emit, *, changes: bool = False
    ) -> None:
        self.vault = VaultFolder(home)
        self.key = self.vault.unlock(passphrase)
        self._identity = identity
        self._emit = emit
        self._changes = changes

    def run(self, work: Callable[[Repository], Coroutine[Any, Any, T]]) -> T:
        """Do this with what the vault holds; errors as of `open_repository`."""

        async def allowed(repository: Repository) -> T:
            if self._changes:
                repository.link.require_changes_allowed()
            return await work(repository)

        return run_with_repository(self._identity, self.vault, self.key, self._emit, allowed)
