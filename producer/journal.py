"""Writes the journal of one put ahead of what is sent, and removes it in the end.

There is no journal for stdin, a small file, an image for another's vault, a file that another producer is storing, or
on a full disk. Then the put cannot be resumed, and everything here does nothing. A journal that the disk refuses to
extend is removed at once, durably: it must not lack what was sent. Where it cannot be removed either, nothing more of
that encoding is sent: the put starts anew without a journal.
"""

from __future__ import annotations

from typing import Optional, Union

from common.errors import TesseraError
from common.process.events import Warned
from common.vault.journal import Beginning, Ending, InterruptedPut, Journal, Moved, Segment
from producer.events import Emit
from producer.owner import Owner
from producer.sources import Source
from producer.threads import Threads


class OutdatedError(TesseraError):
    """The journal does not match any more: the put has to start anew."""


class StuckJournalError(TesseraError):
    """The journal can be neither extended nor removed."""


class WriteAhead:
    def __init__(self, owner: Owner, threads: Threads, source: Source, emit: Emit, *, wanted: bool) -> None:
        """`wanted`: keep a journal; the source is a file then."""
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
        self.begun: Optional[InterruptedPut] = None if self._journal is None else self._journal.begun
        self._begins = False

    @property
    def active(self) -> bool:
        """Whether there is a journal of this put."""
        return self._journal is not None and (self._begins or self.begun is not None)

    # --- before anything is sent

    async def begin(self, beginning: Beginning) -> None:
        """Start a new put, in place of what the journal had."""
        if self._journal is not None:
            try:
                await self._threads.run(self._journal.begin, beginning)
                self._begins = True
            except OSError as error:
                self._give_up(error)

    def forget(self) -> None:
        """Drop the interrupted put: what follows is a new one."""
        self.begun = None

    def segment(self, segment: int, fingerprint: bytes, digests: list[bytes]) -> None:
        """Record an encoded segment; to be followed by `sync` before it is sent."""
        self._write(Segment(segment, fingerprint, b"".join(digests)))

    def moved(self, share: int, device: bytes) -> None:
        """Record the new device of a lost share. Not synced: without it only a surplus copy may be left."""
        self._write(Moved(share, device))

    async def ending(self, sha256: bytes, mapping: bytes) -> None:
        """Record what is about to be committed."""
        self._write(Ending(sha256, mapping))
        await self.sync()

    async def sync(self) -> None:
        """Make all that was written durable. StuckJournalError where nothing more may be sent."""
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
        if self._journal is not None:  # another segment's error may have done it already
            self._warn(error)
            self._remove()
        elif self._stuck is not None:
            raise self._stuck

    def _warn(self, error: OSError) -> None:
        why = f"no journal can be kept: {error.strerror}; interrupted, it would begin anew"
        self._emit(Warned(f"{self._source.shown}: {why}"))

    # --- in the end

    def close(self) -> None:
        """Close the journal, for another run; one that was not used is removed."""
        if self._journal is not None and self.active:
            self._journal.close()
            self._journal = None
        self.finish()

    def finish(self) -> None:
        """Remove the journal: the put is done, or given up."""
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
