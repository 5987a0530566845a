"""A vault on this machine's disk: the key file, and the sealed mappings that are kept beside it.

    vault/vault.key                              the vault key, wrapped by the passphrase (`key_file`), mode 0600
    vault/mappings/<object id>-<encoding id>     sealed mappings, as they also lie beside every share
    vault/seen                                   the sealed index of files already stored (`seen`)
    vault/keyring                                where the passphrase is in the system's keyring (`system_keyring`)
    vault/proven.json                            when all was last proven restorable (`admin.verifying`)
    vault/former.key                             the former key, while a rotation is under way (`former_key`)
    vault/replaced.key                           the same, once nothing that is stored needs it any more

The mappings are a cache: what is missing or damaged is fetched from the devices, and a disk that takes no more is
warned of once. So are the index, the journals and proven.json. Where a key cannot be kept, that is an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError, NotFoundError, TesseraError, UsageError
from common.files import make_folder, read_limited, rename_over, sync_folder, write_new, write_private
from common.process.libraries import require_openssl
from common.vault.former_key import SIZE as FORMER_KEY_SIZE
from common.vault.former_key import open_former_key, seal_former_key
from common.vault.granting import open_any
from common.vault.key_file import check_key_file, create_key_file, open_key_file
from common.vault.keys import VaultKey
from common.vault.mapping import MAX_SEALED_MAPPING, Mapping

_MAX_KEY_FILE = 4096
_MAPPING_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{32})")

log = logging.getLogger(__name__)


class VaultFolder:
    """The vault in a home folder; TesseraError as of `require_openssl`."""

    def __init__(self, home: Path) -> None:
        require_openssl()
        self.folder = home / "vault"
        self.key_path = self.folder / "vault.key"
        self._mappings = self.folder / "mappings"
        self._former_path = self.folder / "former.key"
        self._replaced_path = self.folder / "replaced.key"
        self._keeping = True  # mappings, as far as is known

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
        sync_folder(self.folder)

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

    # --- the mappings

    def keep_mapping(self, object_id: bytes, encoding_id: bytes, sealed: bytes) -> None:
        """Keep a sealed mapping, not fsynced: the devices have it durably. Warns once where the disk refuses."""
        try:
            self._keep_mapping(object_id, encoding_id, sealed)
        except OSError as error:
            if self._keeping:
                log.warning("nothing can be kept in %s: %s; devices are asked again", self._mappings, error.strerror)
            self._keeping = False

    def _keep_mapping(self, object_id: bytes, encoding_id: bytes, sealed: bytes) -> None:
        make_folder(self._mappings)
        target = self._mapping_path(object_id, encoding_id)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(sealed)
            rename_over(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def forget_mapping(self, object_id: bytes, encoding_id: bytes) -> None:
        """Remove a mapping that is not needed any more; errors do not matter."""
        with contextlib.suppress(OSError):
            self._mapping_path(object_id, encoding_id).unlink(missing_ok=True)

    def mapping(self, key: VaultKey, object_id: bytes, encoding_id: bytes) -> Optional[Mapping]:
        """A kept mapping, opened; None where there is none, or it is damaged and has to be fetched."""
        try:
            sealed = read_limited(self._mapping_path(object_id, encoding_id), MAX_SEALED_MAPPING)
            return open_any(key, sealed, object_id, encoding_id)
        except (OSError, TesseraError):  # damage can also look like another vault's mapping
            return None

    def kept_mappings(self) -> list[tuple[bytes, bytes]]:
        """The object id and encoding id of every mapping that is kept here, the latest kept first."""
        found: list[tuple[int, bytes, bytes]] = []
        try:
            with os.scandir(self._mappings) as files:
                for file in files:
                    named = _MAPPING_NAME.fullmatch(file.name)
                    if named is None:
                        continue
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found.append((file.stat().st_mtime_ns, bytes.fromhex(named[1]), bytes.fromhex(named[2])))
        except OSError:  # there are none, or they cannot be read
            return []
        return [(object_id, encoding_id) for _, object_id, encoding_id in sorted(found, reverse=True)]

    def _mapping_path(self, object_id: bytes, encoding_id: bytes) -> Path:
        return self._mappings / f"{object_id.hex()}-{encoding_id.hex()}"
