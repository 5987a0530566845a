"""Restores a snapshot, or a folder of it: the plan of names, then files, then links, times and modes; folders last.

Each content is fetched once. What is there already with the right content counts as restored and costs no traffic, so
an interrupted restore goes on where it stopped. Equal files are copied here, hard links made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from common.chunks import chunks
from common.errors import NotFoundError, TesseraError, UnstorableError, cannot_write
from common.files import open_regular, rename_new, rename_over, unfinished
from common.process.events import Warned
from common.protocol.messages import EncodingAt, is_at_hand
from common.repository.repository import Repository
from common.text import printable
from common.vault.mapping import Mapping
from common.vault.tree import KEPT, EntryType
from consumer.batch import MAX_IMAGES, SmallImage, fits
from consumer.events import Changed, NotRestored, Restored
from consumer.naming import Plan, plan_names
from consumer.output import Output, is_special, remove_unfinished, told_removed
from consumer.restorer import Restorer
from consumer.snapshots import Listed, Listing, Located, shown_path
from consumer.target_folder import TargetFolder, make_folder, make_link, set_attributes, there

_AT_ONCE = 3 * MAX_IMAGES  # contents, located together: as many as are restored at a time
_PIECE = 1 << 20  # bytes
_NOTED = {EntryType.PIPE: "named pipe", EntryType.SOCKET: "socket", EntryType.DEVICE: "device"}

HardLinkName = tuple[int, int, bytes]
Locate = Callable[[Sequence[bytes]], Awaitable[dict[bytes, Located]]]


class _Found(NamedTuple):
    """A content, the first path for it, and where it is: in the target, or in the cluster, with its first mapping."""

    sha256: bytes
    path: Path
    here: Optional[Path]
    located: Optional[Located]
    mapping: Optional[Mapping]


class TreeRestorer:
    """Restores into one folder. What came of each file is emitted, and what could not be as it was."""

    def __init__(self, repository: Repository, target: TargetFolder, locate: Locate, *, force: bool) -> None:
        """`locate`: as `SnapshotReader.locate`."""
        self._repository = repository
        self._locate = locate
        self._restorer = Restorer(repository, repository.emit)
        self._target = target
        self._force = force
        self._plan = Plan({})
        self._folders: dict[tuple[bytes, ...], Path] = {}  # where they are restored
        self._made: set[tuple[bytes, ...]] = set()  # of these, in which therefore is nothing yet
        self._unset: Counter[tuple[str, str]] = Counter()

    async def restore(self, listing: Listing, below: int = 0) -> None:
        """Restore all entries, without the first `below` names of their paths."""
        for failed in listing.failed:
            self._repository.emit(failed)
        entries: Sequence[Listed] = listing.entries
        if below:
            entries = [Listed(each.path[below:], each.entry) for each in entries if len(each.path) > below]
        self._plan = plan_names((each.path for each in entries), self._target)
        for path in self._plan.mended:
            self._repository.emit(Changed(shown_path(path), f"is restored as {shown_path(self._plan.names(path))}"))
        folders = {each.path[:-1] for each in entries}
        entries = self._make_folders(entries)
        if removed := sum(remove_unfinished(self._at(folder)) for folder in folders):
            self._repository.emit(told_removed(removed))
        await self._files(each for each in entries if each.entry.type is EntryType.FILE)
        for each in entries:
            if each.entry.type is EntryType.LINK:
                self._link(each, self._at(each.path))
            elif each.entry.type not in KEPT:
                self._repository.emit(Warned(f"{printable(each.shown)}: a {_NOTED[each.entry.type]}; it was not kept"))
        for each in reversed(entries):
            if each.entry.type is EntryType.FOLDER:
                self._set(self._at(each.path), each)
        for (what, why), count in self._unset.items():
            self._repository.emit(Changed("", f"the {what} of {count:,} could not be set: {why}"))

    def _at(self, path: tuple[bytes, ...]) -> Path:
        """Where an entry is restored. Kept of folders only: of a million files it would take most of the memory."""
        if not path:
            return self._target.folder
        folder = self._folders.get(path[:-1])
        if folder is None:
            folder = self._folders[path[:-1]] = self._at(path[:-1])
        return folder / os.fsdecode(self._plan.name(path))

    # --- folders and links

    def _make_folders(self, entries: Sequence[Listed]) -> list[Listed]:
        """Make all folders; the entries that can be restored, since the folders that they are in are there."""
        barred: set[tuple[bytes, ...]] = set()
        kept = []
        for each in entries:
            if each.path[:-1] in barred:
                if each.entry.type is EntryType.FOLDER:
                    barred.add(each.path)
                else:
                    self._fail(each, UnstorableError("the folder that it is in could not be made"))
                continue
            if each.entry.type is EntryType.FOLDER:
                try:
                    if make_folder(self._at(each.path)):
                        self._made.add(each.path)
                except TesseraError as error:
                    barred.add(each.path)
                    self._fail(each, error)
                    continue
            kept.append(each)
        return kept

    def _link(self, each: Listed, path: Path) -> None:
        try:
            make_link(path, each.entry, replace=self._force)
        except TesseraError as error:
            self._fail(each, error)
        else:
            self._set(path, each)

    # --- files

    async def _files(self, files: Iterable[Listed]) -> None:
        by_content: dict[bytes, list[Listed]] = {}
        for each in files:
            by_content.setdefault(each.entry.content or b"", []).append(each)
        contents = list(by_content)
        found = asyncio.ensure_future(self._find(contents[:_AT_ONCE], by_content))
        running: deque[asyncio.Future[list[None]]] = deque()  # two: at the end of one alone devices have little to do
        try:
            for end in range(_AT_ONCE, len(contents) + _AT_ONCE, _AT_ONCE):
                contents_found = await found
                found = asyncio.ensure_future(self._find(contents[end : end + _AT_ONCE], by_content))
                running.append(asyncio.gather(*self._restoring(contents_found, by_content)))
                if len(running) > 1:
                    await running.popleft()
            while running:
                await running.popleft()
        finally:
            left: list[asyncio.Future[Any]] = [found, *running]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _find(self, contents: Sequence[bytes], files: dict[bytes, list[Listed]]) -> list[_Found]:
        """Where contents are in the target, and where the others are in the cluster."""
        paths = [self._at(files[sha256][0].path) for sha256 in contents]
        present = {sha256: await self._here(sha256, files[sha256], path) for sha256, path in zip(contents, paths)}
        lacking = [sha256 for sha256, path in present.items() if path is None]
        located = await self._locate(lacking) if lacking else {}
        first = {sha256: each[0] for sha256, each in located.items() if not isinstance(each, NotFoundError)}
        mappings = await self._repository.mappings.of(filter(is_at_hand, first.values()))
        return [
            _Found(sha256, path, here, located.get(sha256), _mapping_of(first.get(sha256), mappings))
            for (sha256, here), path in zip(present.items(), paths)
        ]

    def _restoring(self, found: Sequence[_Found], files: dict[bytes, list[Listed]]) -> Iterator[Awaitable[None]]:
        """The work that restores contents: those that are small together."""
        small: list[tuple[_Found, SmallImage]] = []
        for each in found:
            image = self._small(each, files[each.sha256])
            if image is None:
                yield self._content(each.sha256, files[each.sha256], each.here, each.located)
            else:
                small.append((each, image))
        for some in chunks(small, MAX_IMAGES):
            yield self._batch(some, files)

    def _small(self, found: _Found, files: Sequence[Listed]) -> Optional[SmallImage]:
        """What a batch makes of a content; None where it is not for one."""
        mapping, located = found.mapping, found.located
        if mapping is None or not isinstance(located, list) or len(files) > 1 or files[0].entry.hard_link is not None:
            return None
        if not fits(located[0], mapping):
            return None
        if files[0].path[:-1] not in self._made and os.path.lexists(found.path):
            return None
        return SmallImage(located[0], mapping, partial(Output, found.path, replace=False))

    async def _batch(self, batch: Sequence[tuple[_Found, SmallImage]], files: dict[bytes, list[Listed]]) -> None:
        """Restore small images together, and each that does not come so by itself."""
        left = []
        restored = await self._restorer.restore_small([image for _, image in batch])
        for (found, _), done in zip(batch, restored):
            (each,) = files[found.sha256]
            if done is None:
                left.append(self._content(found.sha256, [each], None, found.located))
            else:
                self._set(found.path, each)
                self._repository.emit(replace(done, name=each.shown))
        await asyncio.gather(*left)

    async def _here(self, sha256: bytes, files: Sequence[Listed], first: Path) -> Optional[Path]:
        """Where the content is in the target already; `first`: the path of the first file."""
        for number, each in enumerate(files):
            if each.path[:-1] in self._made:
                continue
            path, size = self._at(each.path) if number else first, each.entry.size or 0
            # Most often nothing is there, which takes a thread ten times as long to say as this one.
            if _may_be_there(path, size) and await asyncio.to_thread(_is_there, path, sha256, size):
                return path
        return None

    async def _content(
        self,
        sha256: bytes,
        files: Sequence[Listed],
        source: Optional[Path],
        located: Optional[Located],
    ) -> None:
        """Restore one content to all its paths; `source`: where it is here already."""
        linked: dict[HardLinkName, Path] = {}
        for each in files:
            began = time.monotonic()
            path = self._at(each.path)
            link = each.entry.hard_link
            name = None if link is None else (link.device, link.inode, sha256)
            try:
                if name in linked:
                    await asyncio.to_thread(self._hard_link, linked[name], path, each)
                elif source is None:
                    await self._fetch(sha256, path, located)
                    source = path
                elif path != source and not await asyncio.to_thread(_is_there, path, sha256, each.entry.size or 0):
                    await asyncio.to_thread(self._copy, source, path, sha256)
                if name is not None:
                    linked.setdefault(name, path)
                self._set(path, each)
            except TesseraError as error:
                self._fail(each, error)
                continue
            seconds = time.monotonic() - began
            self._repository.emit(Restored(sha256.hex(), each.shown, each.entry.size or 0, path, seconds))

    async def _fetch(self, sha256: bytes, path: Path, located: Optional[Located]) -> None:
        if isinstance(located, NotFoundError):
            raise located

        def open_output(_: Mapping) -> Output:
            return Output(path, replace=self._force)

        await self._restorer.restore(located or [], sha256.hex(), open_output)

    def _copy(self, source: Path, path: Path, sha256: bytes) -> None:
        """Copy a file that was restored; IntegrityError where it is not what it was."""
        output = Output(path, replace=self._force)
        hashed = hashlib.sha256()
        try:
            with open_regular(source) as file:
                while piece := file.read(_PIECE):
                    hashed.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[output.file.write(view) :]
        except OSError as error:
            output.discard()
            raise cannot_write(path, error) from None
        except BaseException:
            output.discard()
            raise
        if hashed.digest() != sha256:
            output.discard()
            raise UnstorableError(f"{source} was changed while it was copied")
        output.keep()

    def _hard_link(self, first: Path, path: Path, each: Listed) -> None:
        """Make a hard link; where the file system has none, a copy, and say so."""
        if os.path.lexists(path) and os.path.samestat(os.lstat(first), os.lstat(path)):
            return
        same = _is_there(path, each.entry.content or b"", each.entry.size or 0)
        if os.path.lexists(path) and not same and (not self._force or is_special(path) or os.path.isdir(path)):
            raise there(path)
        temporary = unfinished(path)
        try:
            os.link(first, temporary, follow_symlinks=False)
            (rename_over if same or self._force else rename_new)(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._unset["hard link", error.strerror or str(error)] += 1
            if not same:
                self._copy(first, path, each.entry.content or b"")

    # --- what is said

    def _set(self, path: Path, each: Listed) -> None:
        for what, why in set_attributes(path, each.entry):
            self._unset[what, why] += 1

    def _fail(self, each: Listed, error: TesseraError) -> None:
        sha256 = each.entry.content.hex() if each.entry.content is not None else ""
        text = str(error) if str(error).startswith(each.shown) else f"{printable(each.shown)}: {error}"
        self._repository.emit(NotRestored(sha256, type(error)(text, advice=error.advice)))


def _mapping_of(encoding: Optional[EncodingAt], mappings: dict[tuple[bytes, bytes], Mapping]) -> Optional[Mapping]:
    return None if encoding is None else mappings.get((encoding.object_id, encoding.encoding_id))


def _may_be_there(path: Path, size: int) -> bool:
    """Whether a regular file of so many bytes is at the path, and no link."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _is_there(path: Path, sha256: bytes, size: int) -> bool:
    """Whether a regular file with this content is at the path; it may not be read through a link."""
    if not _may_be_there(path, size):
        return False
    hashed = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while piece := file.read(_PIECE):
                hashed.update(piece)
    except OSError:
        return False
    return hashed.digest() == sha256
