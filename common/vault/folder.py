"""A vault on this machine's disk: the key file, and what is kept beside it.

    vault/vault.key                              the vault key, wrapped by the passphrase (`key_file`), mode 0600
    vault/index/                                 what the vault holds and what was stored, in sealed rows (`index`)
    vault/keyring                                where the passphrase is in the system's keyring (`system_keyring`)
    vault/proven.json                            when all was last proven restorable (`admin.verifying`)
    vault/former.key                             the former key, while a rotation is under way (`former_key`)
    vault/replaced.key                           the same, once nothing that is stored needs it any more

The index is a cache: what is missing or damaged is fetched from the devices, and a disk that takes no more is warned of
once. So are the journals and proven.json. Where a key cannot be kept, that is an error.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError, NotFoundError, UsageError
from common.files import read_limited, rename_over, sync_folder, write_new, write_private
from common.process.libraries import require_openssl
from common.vault.former_key import SIZE as FORMER_KEY_SIZE
from common.vault.former_key import open_former_key, seal_former_key
from common.vault.index import VaultIndex, indexes_in, remove_index
from common.vault.key_file import check_key_file, create_key_file, open_key_file
from common.vault.keys import VaultKey

_MAX_KEY_FILE = 4096

log = logging.getLogger(__name__)


class VaultFolder:
    """The vault in a home folder; TesseraError as of `require_openssl`."""

    def __init__(self, home: Path) -> None:
        require_openssl()
        self.folder = home / "vault"
        self.key_path = self.folder / "vault.key"
        self._former_path = self.folder / "former.key"
        self._replaced_path = self.folder / "replaced.key"
        self._taken_back_path = self.folder / "taken-back"
        self._indexes: dict[Path, VaultIndex] = {}

    # --- the key

    def create(self, passphrase: str) -> VaultKey:
        """A new vault; UsageError where there is one."""
        key = VaultKey.generate()
        self.keep(key, passphrase)
        return key

    def keep(self, key: VaultKey, passphrase: str) -> None:
        """A vault of a key that exists, as recovery codes give it back; UsageError where there is a vault."""
        self._keep_new(create_key_file(key, passphrase))

    def require_none(self) -> None:
        """UsageError where there is a vault: checked before the user is asked, and again when a key is kept."""
        if self.key_path.exists():
            raise self._present()

    def require(self) -> None:
        """NotFoundError where there is no vault, IntegrityError where its key file is damaged; needs no passphrase."""
        check_key_file(self.key_file())

    def unlock(self, passphrase: str) -> VaultKey:
        """The vault key; NotFoundError where there is no vault, RefusedError where the passphrase is wrong."""
        key = open_key_file(self.key_file(), passphrase)
        try:
            if self.former_key(key) is not None:
                log.warning("some images may still have the vault key before; finish with: admin.py vault rotate")
        except IntegrityError as error:
            log.warning("%s; %s", error, error.advice)
        return key

    def key_file(self) -> bytes:
        """The key file as it is, for a backup or another machine: as safe as its passphrase."""
        try:
            return read_limited(self.key_path, _MAX_KEY_FILE)
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no vault in {self.folder}",
                advice="make one with `python admin/admin.py vault create`, "
                "bring yours from another machine with `python admin/admin.py vault import FILE`, "
                "or restore it from recovery codes with `python admin/admin.py vault restore`",
            ) from None

    def import_key_file(self, content: bytes, passphrase: str) -> VaultKey:
        """Take over a vault from its key file; the passphrase must open it."""
        key = open_key_file(content, passphrase)
        self._keep_new(content)
        return key

    def change_passphrase(self, old: str, new: str) -> None:
        """Wrap the same key anew; nothing that is stored changes.

        RefusedError where the old passphrase is wrong. The new file replaces the old one whole and durably: whatever
        happens meanwhile, one of the two is there.
        """
        write_private(self.key_path, create_key_file(self.unlock(old), new))

    # --- rotation

    def begin_rotation(self, old: VaultKey, passphrase: str, backup: Path) -> VaultKey:
        """Make a new vault key, which this vault has from then on; the old one is kept, sealed under it.

        UsageError where `backup` exists, which gets a copy of the new key file first. After a crash at any moment the
        vault opens, with one of the keys, and no key is lost that seals anything.
        """
        key = VaultKey.generate()
        content = create_key_file(key, passphrase)
        write_new(backup, content)
        write_private(self._former_path, seal_former_key(key, old))
        write_private(self.key_path, content)
        return key

    def former_key(self, key: VaultKey) -> Optional[VaultKey]:
        """The former key, where a rotation to this one is under way. IntegrityError where it is damaged."""
        for path in (self._former_path, self._replaced_path):
            try:
                return open_former_key(key, read_limited(path, FORMER_KEY_SIZE))
            except FileNotFoundError:
                pass
        return None

    @property
    def has_former(self) -> bool:
        """Whether there is a former key; that it belongs to a rotation only the vault key tells."""
        return self._former_path.exists() or self._replaced_path.exists()

    @property
    def is_former_replaced(self) -> bool:
        """Whether it is recorded that nothing needs the former key any more."""
        return self._replaced_path.exists() and not self._former_path.exists()

    def keep_replaced(self) -> None:
        """Record, before brokers refuse the former key, that nothing is sealed under it any more."""
        if not self.is_former_replaced:
            rename_over(self._former_path, self._replaced_path)
            sync_folder(self.folder)

    def end_rotation(self) -> None:
        """Remove the former key, which brokers refuse now."""
        self._former_path.unlink(missing_ok=True)
        self._replaced_path.unlink(missing_ok=True)
        self._taken_back_path.unlink(missing_ok=True)
        sync_folder(self.folder)

    @property
    def is_taken_back(self) -> bool:
        """Whether brokers are asked though the key was replaced: what was given away with it was taken back."""
        return self._taken_back_path.exists()

    def note_taken_back(self) -> None:
        """Have brokers asked though the key was replaced, until it is replaced from here."""
        write_private(self._taken_back_path, b"", replace=True)

    def _keep_new(self, content: bytes) -> None:
        try:
            write_private(self.key_path, content, replace=False)
        except FileExistsError:
            raise self._present() from None

    def _present(self) -> UsageError:
        return UsageError(
            f"there is a vault in {self.folder} already; it was not touched",
            advice="set TESSERA_HOME to keep another one beside it",
        )

    # --- the index

    def index(self, key: VaultKey) -> VaultIndex:
        """The index of the vault with this key; always the same object."""
        index = VaultIndex(self.folder, key)
        return self._indexes.setdefault(index.path, index)

    def is_anothers(self, key: VaultKey) -> bool:
        """Whether there are indexes here, and none of the vault with this key."""
        return self.folder.is_dir() and not VaultIndex(self.folder, key).path.exists() and any(indexes_in(self.folder))

    def forget_other_indexes(self, key: VaultKey) -> None:
        """Remove the indexes of vault keys that were before this one; errors do not matter."""
        own = VaultIndex(self.folder, key).path
        for index in self._indexes.values():
            index.close()
        for path in indexes_in(self.folder):
            if path != own:
                remove_index(path)
