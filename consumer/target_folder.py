"""A folder that a snapshot is restored to: which names it takes, and what can be set of a file beside its content."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import unicodedata
from pathlib import Path
from typing import IO

from common.errors import TesseraError, UsageError, cannot_write
from common.files import TRIAL, is_device_name, open_held, remove_unheld
from common.vault.tree import Entry, EntryType

# What some file system refuses or changes: such a name is tried before it is believed.
_DOUBTFUL = re.compile(rb'[^\x20-\x7e]|[<>:"\\|?*]|[. ]\Z')
_LONG = 100  # bytes
_HELD = "held"
_COMPOSED, _DECOMPOSED = "é.probe", "e\N{COMBINING ACUTE ACCENT}.probe"


class TargetFolder:
    """`naming.Target` of a folder on this machine; it is made where it is not there. To be closed."""

    def __init__(self, folder: Path) -> None:
        """UsageError where there is no folder but something else; errors as of `cannot_write`."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_trials(folder)
            held, self._held = _hold_trial(folder)
        except FileExistsError:
            raise UsageError(f"{folder} is no folder, and a snapshot needs one") from None
        except OSError as error:
            raise cannot_write(f"to the folder {folder}", error) from None
        self._trial = held.parent
        self._folds_case = self._are_one("probe", "PROBE")
        self._folds_forms = self._are_one(_COMPOSED, _DECOMPOSED)

    def close(self) -> None:
        self._held.close()
        shutil.rmtree(self._trial, ignore_errors=True)

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def takes(self, name: bytes) -> bool:
        text = os.fsdecode(name)
        if not _DOUBTFUL.search(name) and len(name) <= _LONG and not is_device_name(text):
            return True
        if not self._make(text):
            return False
        try:
            return sorted(os.listdir(self._trial)) == sorted([_HELD, text])
        finally:
            (self._trial / text).unlink(missing_ok=True)

    def folded(self, name: bytes) -> bytes:
        if not (self._folds_case or self._folds_forms):
            return name
        text = unicodedata.normalize("NFC", os.fsdecode(name))
        if self._folds_case:
            text = unicodedata.normalize("NFC", text.casefold())
        return os.fsencode(text)

    def _are_one(self, name: str, other: str) -> bool:
        made = self._make(name)
        try:
            return made and os.path.lexists(self._trial / other)
        finally:
            if made:
                (self._trial / name).unlink(missing_ok=True)

    def _make(self, name: str) -> bool:
        try:
            os.close(os.open(self._trial / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except (OSError, ValueError):
            return False
        return True


def _hold_trial(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        try:
            return open_held(lambda: _new_trial(folder) / _HELD)
        except FileNotFoundError:
            if not folder.is_dir():
                raise  # else it was removed before it was held


def _new_trial(folder: Path) -> Path:
    """A folder in which names are tried."""
    trial = folder / f".tessera-{secrets.token_hex(6)}"
    trial.mkdir(0o700)
    return trial


def _remove_trials(folder: Path) -> None:
    """Remove those that restores left which were killed."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not TRIAL.fullmatch(path.name) or path.is_symlink():
                continue
            if remove_unheld(path / _HELD) or not os.path.lexists(path / _HELD):
                shutil.rmtree(path, ignore_errors=True)


def make_folder(path: Path) -> bool:
    """Whether it was made: one that is there already will do, a link to one will not.

    UsageError there, as what is restored is written through no link that was planted in the target; else errors as of
    `cannot_write`.
    """
    try:
        path.mkdir(0o700)
        return True
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise UsageError(f"{path} is there, and is no folder") from None
        with contextlib.suppress(OSError):  # what an earlier restore left may not be writable; it gets its mode again
            path.chmod(path.stat().st_mode | stat.S_IRWXU)
        return False
    except OSError as error:
        raise cannot_write(f"a folder {path}", error) from None


def set_attributes(path: Path, entry: Entry) -> list[tuple[str, str]]:
    """Give what is at a path the mode, times and extended attributes of an entry; what could not be set, and why."""
    failed: list[tuple[str, str]] = []
    is_link = entry.type is EntryType.LINK

    if sys.platform == "linux":
        for attribute in entry.attributes:
            try:
                os.setxattr(path, attribute.name, attribute.value, follow_symlinks=False)
            except OSError as error:
                failed.append((f"extended attribute {os.fsdecode(attribute.name)}", error.strerror or str(error)))
    if not is_link:
        try:
            os.chmod(path, entry.mode)
        except OSError as error:
            failed.append(("mode", error.strerror or str(error)))
    if not is_link or os.utime in os.supports_follow_symlinks:
        try:
            os.utime(path, ns=(entry.modified_ns, entry.modified_ns), follow_symlinks=not is_link)
        except (OSError, OverflowError) as error:
            failed.append(("time of modification", getattr(error, "strerror", None) or str(error)))
    return failed


def make_link(path: Path, entry: Entry, *, replace: bool) -> None:
    """A symbolic link; one with the same target will do. UsageError where something else is there."""
    target = os.fsdecode(entry.target or b"")
    try:
        if path.is_symlink() and os.readlink(path) == target:
            return
        if replace and os.path.lexists(path) and not (path.is_dir() and not path.is_symlink()):
            path.unlink()
        os.symlink(target, path)
    except FileExistsError:
        raise there(path) from None
    except OSError as error:
        raise cannot_write(f"a link {path}", error) from None


def there(path: Path) -> TesseraError:
    return UsageError(f"{path} is there already", advice="write over it with --force, or use another --output")
