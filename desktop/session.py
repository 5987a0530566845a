"""The state of this user: Tessera's folder, the cluster, the vault, and its key once it is unlocked."""

from __future__ import annotations

import enum
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Callable, Optional

import platformdirs

from common.errors import RefusedError
from common.files import read_limited, write_private
from common.home import home
from common.link.link import Link
from common.membership.identity import ClientIdentity, client_identity
from common.process.events import ignore
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from desktop.services import Services

log = logging.getLogger(__name__)

APPEARANCES = ("system", "light", "dark")
_MAX_FILE = 64 * 1024


class Stage(enum.Enum):
    """What has to be done next before images can be stored or seen."""

    JOIN = "join"  # this machine is in no cluster yet
    VAULT = "vault"  # it has no vault
    UNLOCK = "unlock"  # its vault is locked
    OPEN = "open"


class Session:
    """To be changed in the window's thread only; methods that block are for `Background.run`."""

    def __init__(self) -> None:
        self.home: Path = home()
        self.vault = VaultFolder(self.home)
        self.services = Services(self.home)
        self.settings = load_settings(self.home)
        self._key: Optional[VaultKey] = None
        self._vault_name = ""

    @property
    def stage(self) -> Stage:
        if self._key is not None:
            return Stage.OPEN
        if not (self.home / "client" / "brokers.json").exists():
            return Stage.JOIN
        return Stage.UNLOCK if self.vault.key_path.exists() else Stage.VAULT

    @property
    def identity(self) -> ClientIdentity:
        """This machine as a client; RefusedError where it never joined a cluster."""
        return client_identity()

    @property
    def key(self) -> VaultKey:
        """The vault's key; RefusedError while it is locked."""
        if self._key is None:
            raise RefusedError("the vault is locked", advice="unlock it with its passphrase")
        return self._key

    def open(self, key: VaultKey) -> None:
        """Unlock the vault with this key."""
        self._key = key
        self._vault_name = key.owner_id().hex()

    def lock(self) -> None:
        self._key = None

    @property
    def vault_name(self) -> str:
        """The owner id of the open vault, in hexadecimal: no secret, and another after `vault rotate`."""
        return self._vault_name

    @property
    def has_codes(self) -> bool:
        """Whether recovery codes of the open vault were kept, as far as this app knows."""
        return self._key is not None and self.settings.codes_for == self._vault_name

    @property
    def has_copy(self) -> bool:
        """Whether a copy of the open vault's key file was kept, as far as this app knows."""
        return self._key is not None and self.settings.copy_for == self._vault_name

    def keep_settings(self, **changes: str) -> None:
        """Change settings, and save them."""
        settings = replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            save_settings(self.home, settings)

    @property
    def folder(self) -> str:
        """The folder that a dialog for images shows first: the last one chosen, at first this user's pictures."""
        return _first_there(self.settings.folder, platformdirs.user_pictures_dir())

    def chose(self, path: str) -> None:
        """Record the file or folder that was chosen in a dialog for images."""
        self.keep_settings(folder=_folder_of(path))

    @property
    def key_folder(self) -> str:
        """The same for a key file or recovery codes, at first documents: other programs show and upload pictures."""
        return _first_there(self.settings.key_folder, platformdirs.user_documents_dir())

    def chose_for_key(self, path: str) -> None:
        """Record the file that was chosen in a dialog for a key file or recovery codes."""
        self.keep_settings(key_folder=_folder_of(path))

    def link(self) -> Link:
        """A new link to the cluster with the vault's rights, for `async with` in a coroutine."""
        identity = self.identity
        return Link(identity, self.key.owner_proof(identity.key_pair.public))

    @asynccontextmanager
    async def opened(self, emit: Callable[[Any], None] = ignore) -> AsyncIterator[Repository]:
        """The open vault, by a way of its own."""
        async with self.link() as link:
            yield self.repository(link, emit)

    def repository(self, link: Link, emit: Callable[[Any], None] = ignore) -> Repository:
        """The open vault over such a link; `emit` gets the events of its images."""
        return Repository(link, self.vault, self.key, emit)


def _folder_of(path: str) -> str:
    return path if os.path.isdir(path) else os.path.dirname(path)


def _first_there(*folders: str) -> str:
    """The first of these folders that exists; this user's home where none does."""
    return next((folder for folder in folders if folder and os.path.isdir(folder)), str(Path.home()))


@dataclass(frozen=True)
class Settings:
    """The app's settings in Tessera's folder; errors with them are not shown.

    `codes_for`, `copy_for`: the vault (`Session.vault_name`) whose recovery codes, key file were kept elsewhere.
    """

    appearance: str = "system"
    codes_for: str = ""
    copy_for: str = ""
    folder: str = ""  # where images were chosen last
    key_folder: str = ""  # where a key file or codes were saved or opened last


def load_settings(home: Path) -> Settings:
    """The saved settings; the defaults where there are none, or they cannot be read."""
    try:
        kept = json.loads(read_limited(_path(home), _MAX_FILE))
        known = {field.name: kept[field.name] for field in fields(Settings) if isinstance(kept.get(field.name), str)}
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, AttributeError) as error:
        log.warning("%s is passed over: %s", _path(home), error)
        return Settings()
    if known.get("appearance") not in APPEARANCES:
        known["appearance"] = Settings.appearance
    return Settings(**known)


def save_settings(home: Path, settings: Settings) -> None:
    try:
        write_private(_path(home), json.dumps(asdict(settings)).encode())
    except OSError as error:
        log.warning("%s could not be kept: %s", _path(home), error.strerror)


def _path(home: Path) -> Path:
    return home / "desktop.json"
