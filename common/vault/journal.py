"""The journal of one put: what is needed to resume it after an interruption, kept on this machine, sealed.

    vault/journal/<name>      name = HKDF-Expand(journal key, "tessera/v1/journal/name" ‖ absolute path), in hex

A file of sealed rows (`one_time`), one for each chunk. Their associated data say what a chunk belongs to: the file's
name for chunk 0, the encoding id for the others, so that none can be put from one journal into another. Chunk 0 is a
`Beginning`; then come `Segment`s in order, and among them which device a lost share moved to (`Moved`) and what was to
be committed (`Ending`).

Write-ahead: nothing of a segment may leave the process before `sync` has returned for its chunk, and no commit before
it has for the ending's. That is what lets a `sealing.ResumedSealer` use the data key again. A torn or damaged end is
cut off: what it recorded was never sent. An open journal is locked; a second put of the same file goes on without one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import IO, Annotated, Optional, Union

import msgspec

from common.errors import IntegrityError, UsageError
from common.files import lock, make_folder, sync_file, sync_folder
from common.protocol.codec import pack, unpack
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import Count, Digest, Identifier, Redundancy, ShareIndex
from common.vault.keys import KEY_SIZE, VaultKey, expand
from common.vault.one_time import SealedRows
from common.vault.stamp import Stamp

_LABEL = b"tessera/v1/journal"
_NAME_LABEL = b"tessera/v1/journal/name"
_VERSION = 3
_MAX_ROW = 64 << 10  # bytes
_MAX_PATH = 4096  # bytes; the put of a file with a longer one cannot be resumed
_OLD = 30 * 86400  # seconds after which a journal that was not resumed is removed

_RawKey = Annotated[bytes, msgspec.Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]


class _Chunk(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The base of what a chunk can be; the first element tells which."""


class Beginning(_Chunk, tag=0, frozen=True):
    """The encoding: its key, and where its shares are."""

    version: int
    path: bytes
    size: Count
    modified: int
    changed: Optional[int]
    inode: int
    nonce: Identifier  # of which the encoding id was made
    encoding_id: Identifier
    data_key: _RawKey
    k: Redundancy
    n: Redundancy
    block_size: Count
    devices: list[Optional[Identifier]]  # by share; None where none was found

    def __repr__(self) -> str:
        return "<Beginning: hidden>"  # it has the data key

    @property
    def origin(self) -> Stamp:
        """The file as it was when its put began; if any of it differs, it is taken for another file."""
        return Stamp(self.path, self.size, self.modified, self.changed, self.inode)


class Segment(_Chunk, tag=1, frozen=True):
    """A segment that may have left the process."""

    segment: Count
    fingerprint: Digest  # of what was sealed
    digests: bytes  # of its n blocks, one after the other


class Moved(_Chunk, tag=2, frozen=True):
    """A lost share was begun on another device."""

    share: ShareIndex
    device: Identifier


class Ending(_Chunk, tag=3, frozen=True):
    """What is committed beside every share: the same for all of them, so the same if the commit has to be repeated."""

    sha256: Digest
    mapping: bytes  # sealed


_AnyChunk = Union[Beginning, Segment, Moved, Ending]


class InterruptedPut:
    """The state of an interrupted put, as its journal has it."""

    def __init__(self, beginning: Beginning) -> None:
        self.beginning = beginning
        self.devices = list(beginning.devices)
        self.segments: list[Segment] = []
        self.ending: Optional[Ending] = None

    def take(self, chunk: _AnyChunk) -> bool:
        """Apply the next chunk; False where it contradicts those before."""
        n = self.beginning.n
        if isinstance(chunk, Segment):
            if chunk.segment != len(self.segments) or len(chunk.digests) != n * DIGEST_SIZE:
                return False
            self.segments.append(chunk)
        elif isinstance(chunk, Moved):
            if chunk.share >= n:
                return False
            self.devices[chunk.share] = chunk.device
        elif isinstance(chunk, Ending):
            self.ending = chunk
        else:
            return False
        return True


class Journal:
    """One put's journal, open and locked. Chunks are written in one thread at a time; `sync` may run beside."""

    def __init__(self, path: Path, key: bytes, file: IO[bytes]) -> None:
        self.path = path
        self._rows = SealedRows(key, _LABEL, _MAX_ROW)
        self._file = file
        self._binding = path.name.encode()
        self._count = 0
        self._syncing = threading.Lock()
        self._fault: Optional[OSError] = None
        self._written = 0  # bytes
        self._synced = 0
        self.begun = self._read()

    # --- writing

    def begin(self, beginning: Beginning) -> None:
        """Start anew, durably. OSError where the disk refuses."""
        self._file.truncate(0)
        self._written = self._synced = self._count = 0
        self._binding = self.path.name.encode()
        self.write(beginning)
        self._binding = beginning.encoding_id
        self.sync()
        sync_folder(self.path.parent)

    def write(self, chunk: _AnyChunk) -> None:
        """Append a chunk; it counts only once `sync` has returned. OSError where the disk refuses."""
        row = self._rows.seal(self._count, pack(chunk), self._binding)
        self._file.write(row)
        self._file.flush()
        self._count += 1
        self._written += len(row)

    def sync(self) -> None:
        """Make all that was written so far durable; one call does it for all that wait.

        OSError where the disk refuses; from then on this journal can only be removed.
        """
        wanted = self._written
        with self._syncing:
            if self._fault is not None:
                raise self._fault
            if self._synced >= wanted or self._file.closed:
                return
            reached = self._written
            try:
                sync_file(self._file.fileno())
            except OSError as error:
                self._fault = error
                raise
            self._synced = reached

    # --- ending

    def close(self) -> None:
        """Close it, for the next run. Waits for a sync that is under way, since that keeps the lock."""
        with self._syncing:
            self._file.close()

    def remove(self) -> None:
        """Remove it: the put is done, or given up. OSError where the disk refuses: it may still be there then."""
        with self._syncing:
            os.ftruncate(self._file.fileno(), 0)
            with contextlib.suppress(OSError):  # of what a full disk did not take from the buffer
                self._file.close()
        self.path.unlink(missing_ok=True)  # closed before, since Windows removes no open file
        sync_folder(self.path.parent)

    # --- reading

    def _read(self) -> Optional[InterruptedPut]:
        """All good chunks; the rest is cut off. They count as not synced, since their writer may have been killed."""
        self._file.seek(0)
        content = memoryview(self._file.read())
        begun: Optional[InterruptedPut] = None
        end = 0
        while True:
            try:
                packed, next_end = self._rows.open(self._count, content, end, self._binding)
                chunk: _AnyChunk = unpack(packed, _AnyChunk)  # type: ignore[arg-type]  # a union is no class
            except IntegrityError:
                break
            if begun is None:
                if not isinstance(chunk, Beginning) or not _is_known(chunk):
                    break
                begun = InterruptedPut(chunk)
                self._binding = chunk.encoding_id
            elif not begun.take(chunk):
                break
            self._count += 1
            end = next_end
        self._file.truncate(end)
        self._file.seek(end)
        self._written = end
        return begun


def _is_known(beginning: Beginning) -> bool:
    return beginning.version == _VERSION and len(beginning.devices) == beginning.n and beginning.k <= beginning.n


def new_beginning(
    origin: Stamp,
    nonce: bytes,
    encoding_id: bytes,
    data_key: bytes,
    k: int,
    n: int,
    block_size: int,
    devices: list[Optional[bytes]],
) -> Beginning:
    """Chunk 0, of this version."""
    return Beginning(_VERSION, *origin, nonce, encoding_id, data_key, k, n, block_size, devices)


class Journals:
    """All journals of a vault on this machine."""

    def __init__(self, vault_folder: Path, key: VaultKey) -> None:
        self.folder = vault_folder / "journal"
        self._key = key.journal_subkey()

    def open(self, path: Path) -> Optional[Journal]:
        """The journal for the put of a file, with what an earlier run left in it.

        None where another process has it, or its path is too long. OSError where the disk refuses.
        """
        name = os.fsencode(os.path.abspath(path))
        if len(name) > _MAX_PATH:
            return None
        return self._open(self.folder / expand(self._key, _NAME_LABEL + name).hex())

    def remove_old(self, now: float) -> None:
        """Remove those that were not resumed for 30 days; `now` in Unix seconds."""
        try:
            old = [path for path in self.folder.iterdir() if now - path.stat().st_mtime > _OLD]
            for path in old:
                journal = self._open(path)
                if journal is not None:
                    journal.remove()
        except OSError:
            return  # there is none, or they stay for another time

    def _open(self, path: Path) -> Optional[Journal]:
        make_folder(self.folder)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            file = lock(path)
        except UsageError:
            return None
        try:
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise FileNotFoundError(path)
        except FileNotFoundError:
            file.close()  # its owner has removed it meanwhile
            return None
        return Journal(path, self._key, file)
