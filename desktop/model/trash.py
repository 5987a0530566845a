"""The trash: what was deleted, from any machine, and can still be undeleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from admin.deleting import EMPTY_TRASH, DeletedImage, deleted_images, list_trash, undelete_encodings
from common.errors import TesseraError
from common.text import count, printable
from desktop.background import Background, Task
from desktop.model.commands import SHOWN_DIGITS, command_line
from desktop.model.model import Model
from desktop.model.report import Finding, Warnings
from desktop.session import Session


class TrashModel(Model):
    """`images`: what can be undeleted, the last deleted first; None until it is known."""

    def __init__(self, session: Session, background: Background, ended: Callable[[], None] = lambda: None) -> None:
        """`ended`: called when something was undeleted."""
        super().__init__(session, background)
        self.images: Optional[list[DeletedImage]] = None
        self._changed_cluster = ended
        self._task: Optional[Task] = None

    @property
    def words(self) -> str:
        """What is under way, or a summary."""
        if self._task is not None:
            return "Asking the devices …" if self.images is None else "Taking back …"
        return self.told or (
            "" if self.images or self.images is None else f"{EMPTY_TRASH[:1].upper()}{EMPTY_TRASH[1:]}."
        )

    @property
    def busy(self) -> bool:
        return self._task is not None

    def look(self) -> None:
        """Ask what is in the trash."""
        if self._task is not None:
            return
        self.images, self.told, self.error = None, "", None
        self.command = command_line("admin", "undelete", "--list")
        self._task = self.background.start(self._look, done=self._see, failed=self._failed)
        self.changed()

    def take_back(self, images: Sequence[DeletedImage]) -> None:
        """Undelete these."""
        if self._task is not None or not images:
            return
        self.told, self.error = "", None
        hashes = [word for image in images[:1] for word in ("--hash", image.sha256[:SHOWN_DIGITS] or "SHA-256")]
        self.command = command_line("admin", "undelete", *hashes, *(["--hash", "…"] if len(images) > 1 else []))
        warnings = Warnings()
        self._task = self.background.start(
            lambda: self._take_back(images, warnings),
            done=lambda outcomes: self._taken(outcomes, warnings.findings),
            failed=self._failed,
        )
        self.changed()

    def leave(self) -> None:
        """Stop asking; an undelete goes on."""
        if self._task is not None and self.images is None:
            self._task.cancel()
            self._task = None

    async def _look(self) -> list[DeletedImage]:
        async with self.session.opened() as repository:
            return newest_first(deleted_images(repository, await list_trash(repository)))

    async def _take_back(
        self, images: Sequence[DeletedImage], warnings: Warnings
    ) -> list[tuple[DeletedImage, Optional[TesseraError]]]:
        outcomes: list[tuple[DeletedImage, Optional[TesseraError]]] = []
        async with self.session.opened(warnings.take) as repository:
            await repository.list_devices()  # for their names
            for image in images:
                try:
                    await undelete_encodings(repository, image.encodings)
                    outcomes.append((image, None))
                except TesseraError as error:
                    outcomes.append((image, error))
        return outcomes

    def _see(self, images: list[DeletedImage]) -> None:
        self._task, self.images = None, images
        self.changed()

    def _taken(
        self, outcomes: list[tuple[DeletedImage, Optional[TesseraError]]], warned: Sequence[Finding] = ()
    ) -> None:
        self._task = None
        back = [image for image, error in outcomes if error is None]
        self.images = [image for image in self.images or [] if image not in back]
        self.told = " ".join([taken_back_words(outcomes), *(f"{each.name}: {each.words}." for each in warned)])
        self.changed()
        self._changed_cluster()

    def _failed(self, error: TesseraError) -> None:
        self._task = None
        self.fail(error)


def newest_first(images: Sequence[DeletedImage]) -> list[DeletedImage]:
    """The last deleted first."""
    return sorted(images, key=lambda image: (-image.until, image.name, image.sha256))


def name_of(image: DeletedImage) -> str:
    return printable(image.name) if image.sha256 else "(stored from another machine)"


def taken_back_words(outcomes: Sequence[tuple[DeletedImage, Optional[TesseraError]]]) -> str:
    """How many are undeleted, and the first error."""
    failed = [(image, error) for image, error in outcomes if error is not None]
    if not failed:
        return f"{count(len(outcomes), 'image')} taken back."
    image, error = failed[0]
    done = f"{len(outcomes) - len(failed)} of {count(len(outcomes), 'image')} taken back"
    more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{done}. {name_of(image)}: {printable(str(error))}{more}."
