"""Where restored images go: to one file, to stdout, or into a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Union

from common.errors import UsageError
from common.vault.mapping import Mapping
from consumer.output import STDOUT, Output, StandardOutput, safe_name


class Destination:
    """Where images go: to one file, to stdout, or into a folder under their own names."""

    def __init__(self, output: Optional[str], *, several: bool, force: bool) -> None:
        """`output`: as the user gave it. UsageError where that cannot be, before anything is fetched."""
        self._force = force
        self._stdout = output == STDOUT
        self._file: Optional[Path] = None
        self._folder = Path()
        self._given: dict[Path, bytes] = {}  # path → SHA-256 of the image it was given to
        if self._stdout:
            if several:
                raise UsageError("several images cannot all go to stdout")
        elif output is not None:
            path = Path(output)
            if several or os.path.isdir(path) or output.endswith(("/", os.sep)):
                self._folder = _made(path)
            else:
                self._file = path
                if os.path.exists(path) and not force:
                    Output(path, replace=False)  # refuses

    def open(self, mapping: Mapping) -> Union[Output, StandardOutput]:
        """The output for one image; two images of one name get names that differ."""
        if self._stdout:
            return StandardOutput()
        if self._file is not None:
            return Output(self._file, replace=self._force)
        target = self._folder / safe_name(mapping.name)
        if self._given.setdefault(target, mapping.image_sha256) != mapping.image_sha256:
            target = target.with_name(f"{target.stem}-{mapping.image_sha256.hex()[:8]}{target.suffix}")
        return Output(target, replace=self._force)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to a folder {folder}: {error.strerror}") from None
    return folder
