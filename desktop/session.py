"""Whose machine this is: Tessera's folder, the admission to a cluster, the vault, and its key once it is unlocked."""

from __future__ import annotations

import enum
import os
from dataclasses import replace
from pathlib import Path
from typing import Optional

import platformdirs

from common.errors import RefusedError
from common.home import ClientIdentity, client_identity, home
from common.link.link import Link
from common.protocol.identifiers import owner_id
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from desktop.services import Services
from desktop.settings import load_settings, save_settings


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
        self._vault_name = owner_id(key.deposit_token()).hex()

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
        self.settings = replace(self.settings, **changes)
        save_settings(self.home, self.settings)

    @property
    def folder(self) -> str:
        """Where a dialog for files begins: where the last one ended, at first in this user's pictures."""
        places = (self.settings.folder, platformdirs.user_pictures_dir())
        return next((place for place in places if place and os.path.isdir(place)), str(Path.home()))

    def chose(self, path: str) -> None:
        """A dialog ended with this file, or folder."""
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        if folder and folder != self.settings.folder:
            self.keep_settings(folder=folder)

    def link(self) -> Link:
        """A new way to the cluster with the vault's rights, to be entered with `async with` in a coroutine."""
        return Link(self.identity, self.key.owner_token())
