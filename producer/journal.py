"""The journal of one put, as the put sees it: what is written ahead, and what becomes of it in the end.

A put goes on without a journal where there can be none: stdin, a small file, an image for another's vault, another
producer that stores the same file, a disk that is full. Then it cannot be resumed, and everything here does nothing. A
journal whose disk refused in the middle is removed at once, durably: it must not tell less than what has left the
process. Where it cannot be removed either, nothing more leaves of what it tells of: the put begins anew without one.
"""

from __future__ import annotations

from typing import Optional, Union

from common.errors import TesseraError
from common.process.events import Warned
from common.vault.journal import Beginning, Begun, Ending, Journal, Moved, Segment
from producer.events import Emit
from producer.owner import Owner
from producer.sources import Source
from producer.threads import Threads


class OutdatedError(TesseraError):
    """What a journal tells does not fit any more: the put has to begin anew."""


class StuckJournalError(TesseraError):
    """A journal can be neither gone on with nor removed."""


class WriteAhead:
    def __init__(self, owner: Owner, threads: Threads, source: Source, emit: Emit, *, wanted: bool) -> None:
        """`wanted`: it is worth a journal; the source is a file then."""
        self._threads = threads
        self._emit = emit
        self._source = source
        self._journal: Optional[Journal] = None
        self._stuck: Optional[StuckJournalError] = None
        if wanted and source.path is not None:
            try:
                self._journal = owner.journal(source.path)
            except OSError as error:
                self._warn(error)
        self.begun: Optional[Begun] = None if self._journal is None else self._journal.begun
        self._begins = False

    @property
    def active(self) -> bool:
        """Whether there is a journal that knows of this put."""
        return self._journal is not None and (self._begins or self.begun is not None)

    # --- before it leaves the process

    async def begin(self, beginning: Beginning) -> None:
        """A new put: whatever the journal told of before is void."""
        if self._journal is not None:
            try:
                await self._threads.run(self._journal.begin, beginning)
                self._begins = True
            except OSError as error:
                self._give_up(error)

    def forget(self) -> None:
        """An interrupted put cannot go on: whatever comes is a new one."""
        self.begun = None

    def segment(self, segment: int, fingerprint: bytes, digests: list[bytes]) -> None:
        """A segment is encoded; to be followed by `sync` before it is sent."""
        self._write(Segment(segment, fingerprint, b"".join(digests)))

    def moved(self, share: int, device: bytes) -> None:
        """A lost share goes to another device. Not synced: without it only a copy too many may be left behind."""
        self._write(Moved(share, device))

    async def ending(self, sha256: bytes, mapping: bytes) -> None:
        """What is about to be committed."""
        self._write(Ending(sha256, mapping))
        await self.sync()

    async def sync(self) -> None:
        """Return once all that was written is durable. StuckJournalError where nothing more may be sent."""
        journal = self._journal
        if self._stuck is not None:
            raise self._stuck
        if journal is not None:
            try:
                await self._threads.run(journal.sync)
            except OSError as error:
                self._give_up(error)

    def _write(self, chunk: Union[Segment, Moved, Ending]) -> None:
        if self._stuck is not None:
            raise self._stuck
        if self._journal is not None:
            try:
                self._journal.write(chunk)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._journal is not None:  # another segment may have met the same
            self._warn(error)
            self._remove()
        elif self._stuck is not None:
            raise self._stuck

    def _warn(self, error: OSError) -> None:
        why = f"no journal can be kept: {error.strerror}; interrupted, it would begin anew"
        self._emit(Warned(f"{self._source.shown}: {why}"))

    # --- in the end

    def close(self) -> None:
        """Leave the journal as it is, for another run; one that tells nothing is removed."""
        if self._journal is not None and self.active:
            self._journal.close()
            self._journal = None
        self.finish()

    def finish(self) -> None:
        """The put is done, or given up."""
        try:
            self._remove()
        except StuckJournalError as error:
            self._emit(Warned(str(error)))

    def _remove(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            try:
                journal.remove()
            except OSError as error:
                self._stuck = StuckJournalError(
                    f"{self._source.shown}: its journal {journal.path} cannot be removed: {error.strerror}"
                )
                raise self._stuck from None
