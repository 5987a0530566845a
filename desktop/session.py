"""Whose machine this is: Tessera's folder, the admission to a cluster, the vault, and its key once it is unlocked."""

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
    """To be changed on the window's thread only; the methods that block are for `Background.run`."""

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
        """How this machine speaks to the cluster; RefusedError where it never joined one."""
        return client_identity()

    @property
    def key(self) -> VaultKey:
        """The vault's key; RefusedError while it is locked."""
        if self._key is None:
            raise RefusedError("the vault is locked", advice="unlock it with its passphrase")
        return self._key

    def open(self, key: VaultKey) -> None:
        """From now on the vault is unlocked."""
        self._key = key
        self._vault_name = key.owner_id().hex()

    def lock(self) -> None:
        self._key = None

    @property
    def vault_name(self) -> str:
        """By which the open vault is known to others, in hexadecimal: no secret, and another after `vault rotate`."""
        return self._vault_name

    @property
    def has_codes(self) -> bool:
        """Whether this app was told that recovery codes of the open vault are kept."""
        return self._key is not None and self.settings.codes_for == self._vault_name

    @property
    def has_copy(self) -> bool:
        """Whether this app was told that a copy of the open vault's key file is kept."""
        return self._key is not None and self.settings.copy_for == self._vault_name

    def keep_settings(self, **changes: str) -> None:
        """Remember something else than before, from one start to the next."""
        settings = replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            save_settings(self.home, settings)

    @property
    def folder(self) -> str:
        """Where a dialog for images begins: where the last one ended, at first in this user's pictures."""
        return _first_there(self.settings.folder, platformdirs.user_pictures_dir())

    def chose(self, path: str) -> None:
        """A dialog for images ended with this file, or folder."""
        self.keep_settings(folder=_folder_of(path))

    @property
    def key_folder(self) -> str:
        """Where a dialog for a key file or recovery codes begins: where the last such ended, at first in documents.

        Pictures, which other programs show and upload, are no place for them.
        """
        return _first_there(self.settings.key_folder, platformdirs.user_documents_dir())

    def chose_for_key(self, path: str) -> None:
        """A dialog for a key file or recovery codes ended with this file."""
        self.keep_settings(key_folder=_folder_of(path))

    def link(self) -> Link:
        """A new way to the cluster with the vault's rights, to be entered with `async with` in a coroutine."""
        identity = self.identity
        return Link(identity, self.key.owner_proof(identity.key_pair.public))

    @asynccontextmanager
    async def opened(self, emit: Callable[[Any], None] = ignore) -> AsyncIterator[Repository]:
        """The open vault, by a way of its own."""
        async with self.link() as link:
            yield self.repository(link, emit)

    def repository(self, link: Link, emit: Callable[[Any], None] = ignore) -> Repository:
        """The open vault, by such a way; `emit` is told what becomes of its images."""
        return Repository(link, self.vault, self.key, emit)


def _folder_of(path: str) -> str:
    return path if os.path.isdir(path) else os.path.dirname(path)


def _first_there(*folders: str) -> str:
    """The first of these folders that is there; this user's home where none is."""
    return next((folder for folder in folders if folder and os.path.isdir(folder)), str(Path.home()))


@dataclass(frozen=True)
class Settings:
    """What the app remembers of this user from one start to the next, in Tessera's folder; not worth an error.

    `codes_for`, `copy_for`: the vault (`Session.vault_name`) whose recovery codes, key file were kept elsewhere.
    """

    appearance: str = "system"
    codes_for: str = ""
    copy_for: str = ""
    folder: str = ""  # where images were chosen last
    key_folder: str = ""  # where a key file or codes were saved or opened last


def load_settings(home: Path) -> Settings:
    """The settings as they were saved; the usual ones where there are none, or they cannot be read."""
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
