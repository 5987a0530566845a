"""Where a restored image is written: under another name until it is proven, then renamed.

A file name that a mapping brings along was chosen on another machine. It is made safe once, here: what remains is a
plain name in the folder at hand, whatever the mapping says.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Optional

from common.errors import NotFoundError, TesseraError, UsageError
from common.files import rename_new, rename_over, sync_file, sync_folder
from common.vault.mapping import Mapping
from consumer.begun import Begun

STDOUT = "-"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")
_MAX_NAME_BYTES = 200
_FALLBACK = "image"


def safe_name(name: str) -> str:
    """A name that is a file in the current folder on Linux and Windows alike, as close to the original as can be."""
    text = _UNSAFE.sub("_", name)
    while (mended := _mend(text)) != text:  # mending one fault may show another: a shortened name may end in a space
        text = mended
    return text


def _mend(name: str) -> str:
    """One step towards a safe name, from one that has no unsafe characters; the name itself where it is safe."""
    text = name.strip().rstrip(".")
    if set(text) <= {"_", "."}:
        return _FALLBACK
    if _RESERVED.fullmatch(text):
        return f"_{text}"
    if len(text.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        stem, dot, suffix = text.rpartition(".")
        return f"{stem[:-1]}{dot}{suffix}" if stem and len(suffix) < 16 else text[:-1]
    return text


class Output:
    """A file that appears under its name only once `keep` was called; `discard` leaves nothing."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        """UsageError where the target exists and may not be replaced, NotFoundError where its folder is missing."""
        self.target = target
        self._replace = replace
        if os.path.isdir(target) or (os.path.exists(target) and not replace):
            raise _exists(target)
        self._temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.part")
        try:
            self.file: IO[bytes] = open(self._temporary, "xb", buffering=0)  # noqa: SIM115 - closed by keep or discard
        except FileNotFoundError:
            raise NotFoundError(f"there is no folder {target.parent}") from None
        except OSError as error:
            raise TesseraError(f"cannot write to {target.parent}: {error.strerror}") from None

    def keep(self) -> None:
        """Give the file its name; to be called only once its whole content is proven."""
        try:
            sync_file(self.file.fileno())
            self.file.close()
            (rename_over if self._replace else rename_new)(self._temporary, self.target)
        except FileExistsError:
            self.discard()
            raise _exists(self.target) from None
        except OSError as error:
            self.discard()
            raise TesseraError(f"cannot write {self.target}: {error.strerror}") from None
        except BaseException:  # interrupted
            self.discard()
            raise
        sync_folder(self.target.parent)

    def discard(self) -> None:
        self.file.close()
        self._temporary.unlink(missing_ok=True)


class StandardOutput:
    """As `Output`, for stdout: nothing is written to it before the whole image is proven."""

    target: Optional[Path] = None

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by keep or discard

    def keep(self) -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
        self.file.close()

    def discard(self) -> None:
        self.file.close()


class HeldOutput:
    """As `Output`, for whoever shows an image before it is saved: in memory, if it is no larger than `limit` bytes.

    A larger one is in a file without a name. An attempt that fails leaves in it what is good, for the next one to go on
    with. To be closed by whoever has it in the end.
    """

    target: Optional[Path] = None

    def __init__(self, limit: int) -> None:
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(limit)  # noqa: SIM115 - closed by its owner
        self._limit = limit
        self.begun = Begun()  # of one encoding: another's segments may be of another length
        self.size = 0  # bytes, once it is proven
        self._kept = False
        self._reading = threading.Lock()

    @property
    def proven(self) -> bool:
        """Whether it has the whole image."""
        return self._kept and self.begun.segments > 0

    def keep(self) -> None:
        self.size, self._kept = self.file.tell(), True

    def discard(self) -> None:
        self.file.close()

    def leave_memory(self) -> None:
        """Be in a file from now on, whatever the size."""
        if isinstance(self.file, tempfile.SpooledTemporaryFile):
            self.file.rollover()

    def content(self) -> Optional[bytes]:
        """The whole image, for any thread; None where it is too large to be in memory."""
        if self.size > self._limit:
            return None
        with self._reading:
            self.file.seek(0)
            return self.file.read()

    def save(self, target: Path) -> None:
        """Write it to a file, in place of one that is there, in any thread; UsageError, NotFoundError, TesseraError."""
        output = Output(target, replace=True)
        try:
            with self._reading:
                self._copy_to(output)
        except OSError as error:
            output.discard()
            raise TesseraError(f"cannot write {target}: {error.strerror}") from None
        except BaseException:
            output.discard()
            raise
        output.keep()

    def _copy_to(self, output: Output) -> None:
        self.file.seek(0)
        while piece := memoryview(self.file.read(1 << 20)):
            while piece:  # a file without a buffer may take less than it is given
                piece = piece[output.file.write(piece) :]


class HeldImage:
    """One image that is brought back before it is saved, in as many attempts as it takes.

    Of each encoding that is tried it has an output of its own. Only the one tried last is in memory.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: the most bytes in memory."""
        self._limit = limit
        self._outputs: dict[bytes, HeldOutput] = {}  # by the digest of the recipe, which names the encoding

    def open(self, mapping: Mapping) -> HeldOutput:
        """The output for the encoding of this mapping, with what earlier attempts left in it."""
        for digest, other in self._outputs.items():
            if digest != mapping.recipe_digest:
                other.leave_memory()
        if mapping.recipe_digest not in self._outputs:
            self._outputs[mapping.recipe_digest] = HeldOutput(self._limit)
        return self._outputs[mapping.recipe_digest]

    def discard(self) -> None:
        for output in self._outputs.values():
            output.discard()
        self._outputs.clear()


def _exists(target: Path) -> UsageError:
    what = "is a folder" if target.is_dir() else "exists already"
    advice = "give another name with --output" if target.is_dir() else "write over it with --force, or use --output"
    return UsageError(f"{target} {what}; it was not touched", advice=advice)
