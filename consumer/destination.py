"""Where restored images go: to one path, to stdout, or into a folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Optional, Union

from common.errors import NoRoomError, NotFoundError, TesseraError, UsageError, cannot_write
from common.vault.mapping import Mapping
from consumer.output import STDOUT, Output, ThroughOutput, name_here, open_named, remove_unfinished


class Destination:
    """Where images go: to one path, to stdout, or into a folder under their own names."""

    def __init__(self, output: Optional[str], *, several: bool, force: bool) -> None:
        """Checks the path before anything is fetched; errors as of `Output`."""
        self.removed = 0  # files that earlier restores left unfinished
        self.refusal: Optional[TesseraError] = None  # why nothing can be written to the folder any more
        self._force = force
        self._stdout = output == STDOUT
        self._path: Optional[Path] = None
        self._folder = Path()
        self._given: dict[Path, bytes] = {}  # path → SHA-256 of the image it was given to
        if self._stdout:
            if several:
                raise UsageError("several images cannot all go to stdout")
            return
        if output is not None:
            path = Path(output)
            if several or os.path.isdir(path) or output.endswith(("/", os.sep)):
                self._folder = _made(path)
            else:
                self._path = path
                open_named(path, replace=force).discard()
                self.removed = remove_unfinished(path.parent, path.name)
                return
        _require_writable(self._folder)
        self.removed = remove_unfinished(self._folder)

    def open(self, mapping: Mapping) -> Union[Output, ThroughOutput]:
        """The output for one image; two images of one name get names that differ."""
        if self._stdout:
            return ThroughOutput()
        if self._path is not None:
            return open_named(self._path, replace=self._force)
        if self.refusal is not None:
            raise self.refusal
        target = self._folder / name_here(mapping.name)
        if self._given.setdefault(target, mapping.image_sha256) != mapping.image_sha256:
            target = target.with_name(f"{target.stem}-{mapping.image_sha256.hex()[:8]}{target.suffix}")
        try:
            return Output(target, replace=self._force)
        except NoRoomError as error:
            self.refusal = error  # the same for each further image
            raise


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is no folder, and several images need one") from None
    except OSError as error:
        raise cannot_write(f"to a folder {folder}", error) from None
    return folder


def _require_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except FileNotFoundError:
        raise NotFoundError(f"there is no folder {folder}") from None
    except OSError as error:
        raise cannot_write(f"to the folder {folder}", error) from None
