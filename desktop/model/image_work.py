"""The actions on chosen images and folders: save into a folder, restore, share, delete, undelete."""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional, Union

from admin.deleting import delete_image, list_trash, undelete_image
from admin.pruning import let_go
from admin.sharing import adding, change_image, removing
from common.errors import NotEnoughError, NotFoundError, TesseraError, UsageError
from common.process.events import BytesDone, BytesExpected, ignore
from common.repository.images import Held
from common.repository.repository import Repository
from common.text import count, printable
from common.vault.contact_card import decode_card
from common.vault.contacts import Contacts
from consumer.destination import Destination
from consumer.events import Event, Missing, NotRestored
from consumer.restore_tree import TreeRestorer
from consumer.restorer import Restorer, restore_all
from consumer.snapshots import KeptSnapshot, Path, SnapshotReader, shown_path
from consumer.target_folder import TargetFolder
from desktop.background import Background, Task, void
from desktop.model.commands import SHOWN_DIGITS, command_line
from desktop.model.entries import Entry, Tone
from desktop.model.model import Model, Question
from desktop.model.report import Counter, Finding, Progress, Report, Warnings
from desktop.model.restoring import FolderRestore, RestoreProgress
from desktop.model.sharing import Recipient
from desktop.model.snapshots import SHOWN_ID, path_option
from desktop.model.wording import names
from desktop.session import Session

TRASH_DAYS = 7
_SHOWN_HASHES = 2  # in a command

Work = Callable[[Repository], Coroutine[Any, Any, Report]]
Change = Callable[[Repository, Held], Awaitable[list[str]]]


class ImageWorkModel(Model):
    """`report`: the outcome of the last action, with each failure.

    `deleted`: what was deleted last, and can be undeleted.
    """

    def __init__(self, session: Session, background: Background, ended: Callable[[], None] = lambda: None) -> None:
        """`ended`: called when something was changed in the cluster."""
        super().__init__(session, background)
        self.progress: Optional[Union[Progress, RestoreProgress]] = None
        self.report: Optional[Report] = None
        self.deleted: list[Entry] = []
        self._changed_cluster = ended
        self._task: Optional[Task] = None

    @property
    def unfinished(self) -> str:
        return f"{self.doing.rstrip(' …')} is not done, and breaks off." if self.doing else ""

    def dismiss(self) -> None:
        """Close the report."""
        self.report = None
        self.changed()

    def cancel(self) -> None:
        """Cancel; what is done stays done."""
        if self._task is not None:
            self._task.cancel()
            self._end(Report("Cancelled. What was done before stays done.", Tone.NOTICE, []))

    # --- into a folder

    def save(self, images: Sequence[Entry], folder: str) -> None:
        """Restore images into a folder, under their names; an existing file is not touched."""
        self.command = command_line("consumer", *_hashes(images), "--output", folder)
        counter = Counter(lambda progress: self.background.post(self._advanced, progress))

        async def work(repository: Repository) -> Report:
            counter.take(BytesExpected(sum(image.size for image in images)))
            destination = Destination(folder, several=True, force=False)
            held, failed = await _held(repository, images)
            called = {image.sha256: image.mapping.name for image in held}
            lacking: set[str] = set()

            def emit(event: Event) -> None:
                if isinstance(event, BytesDone):
                    counter.take(event)
                elif isinstance(event, NotRestored):
                    failed.append(_failure(called[event.sha256], event.error))
                elif isinstance(event, Missing):
                    lacking.add(event.device)

            await restore_all(
                Restorer(repository, emit), {image.sha256: image.encodings for image in held}, destination.open
            )
            report = _report(len(images), failed, f"saved in {folder}, byte for byte as stored")
            if lacking:
                where = names(sorted(lacking))
                summary = f"{report.summary} Shares were missing or damaged on {where}."
                report = replace(report, summary=summary, tone=report.tone if failed else Tone.NOTICE)
            return report

        self._begin(f"Saving {count(len(images), 'image')} …", work)

    def restore(self, kept: KeptSnapshot, below: Path, folder: str) -> None:
        """Restore a folder of a snapshot, or all of it, into a folder; other content that is there is not touched."""
        given = ("--snapshot", kept.id[:SHOWN_ID], *path_option(below), "--output", folder)
        self.command = command_line("consumer", *given)
        restoring = FolderRestore(lambda progress: self.background.post(self._advanced, progress))

        async def work(repository: Repository) -> Report:
            reader = SnapshotReader(repository)
            listing = await reader.listing(kept.snapshot.root, below)
            restoring.expect(listing.entries)
            with TargetFolder(pathlib.Path(folder)) as target:
                await TreeRestorer(repository, target, reader.locate, force=False).restore(
                    listing, max(0, len(below) - 1)
                )
            return restoring.report(kept, folder)

        what = printable(shown_path(below[-1:])) if below else "the snapshot"
        self._begin(f"Restoring {what} …", work, restoring.take)

    # --- delete

    def deleting(self, images: Sequence[Entry]) -> Question:
        what = printable(images[0].name) if len(images) == 1 else count(len(images), "image")
        return Question(
            f"Delete {what}?",
            f"Gone from all devices, also from those that are away, for everybody that it was shared with, and from "
            f"all folders of all snapshots that have it. For {TRASH_DAYS} days it can be taken back, and then no more.",
            "Delete",
            command_line("admin", "delete", *_hashes(images)),
            lambda: self.delete(images),
        )

    def delete(self, images: Sequence[Entry]) -> None:
        """Delete images from all devices, after the question."""
        self.command = command_line("admin", "delete", *_hashes(images))
        self.deleted = []

        async def change(repository: Repository, image: Held) -> list[str]:
            await let_go(repository, [image.mapping.image_sha256], TRASH_DAYS)
            return await delete_image(repository, image, TRASH_DAYS)

        def done(gone: list[str]) -> None:
            self.deleted = [image for image in images if image.sha256 in gone]

        self._change(f"Deleting {count(len(images), 'image')} …", images, change, "deleted", done)

    def take_back(self) -> None:
        """Undelete what was deleted last."""
        images, self.deleted, warnings = self.deleted, [], Warnings()
        self.command = command_line("admin", "undelete", *_hashes(images))

        async def work(repository: Repository) -> Report:
            trash = await list_trash(repository)
            failed = []
            for image in images:
                try:
                    await undelete_image(repository, trash, image.sha256)
                except TesseraError as error:
                    failed.append(_failure(image.name, error))
            return _report(len(images), failed, "taken back").noting(warnings.findings)

        self._begin(f"Taking back {count(len(images), 'image')} …", work, warnings.take)

    # --- share

    def share_with_new(self, images: Sequence[Entry], name: str, card: str, known: Callable[[], None]) -> None:
        """Add a contact card by a name, call `known`, and share with it."""
        contacts = Contacts(self.session.home, self.session.key)
        name = name.strip()
        if not name or not card.strip():
            self.fail(UsageError("a name and a contact card are needed", advice="paste the line of their card"))
            return

        def share(_: None) -> None:
            known()
            self.share(images, name)

        self.error = None
        self.background.run(lambda: contacts.add(name, decode_card(card)), done=share, failed=self.fail)

    def share(self, images: Sequence[Entry], name: str) -> None:
        """Let a contact restore images with their own vault."""
        self.command = command_line("admin", "share", *_hashes(images), "--with", name)
        contacts = Contacts(self.session.home, self.session.key)

        async def change(repository: Repository, image: Held) -> list[str]:
            return await change_image(repository, image, adding(name, contacts.card(name), repository.key), name)

        self._change(f"Sharing {count(len(images), 'image')} …", images, change, f"shared with {name}", void)

    def unshare(self, images: Sequence[Entry], recipient: Recipient) -> None:
        """Unshare images with somebody, for the future."""
        shared = [image for image in images if image.sha256 in recipient.images]
        name = recipient.contact or "NAME"
        self.command = command_line("admin", "unshare", *_hashes(shared), "--with", name)

        async def change(repository: Repository, image: Held) -> list[str]:
            return await change_image(repository, image, removing(recipient.owner), recipient.name)

        done = f"taken back from {recipient.name}"
        self._change(f"Taking back from {recipient.name} …", shared, change, done, void)

    # --- running them

    def _change(
        self,
        doing: str,
        images: Sequence[Entry],
        change: Change,
        done: str,
        changed: Callable[[list[str]], None],
    ) -> None:
        """Change images in the cluster, one after the other; `changed` is called with the hashes of those that were."""
        warnings = Warnings()

        async def work(repository: Repository) -> Report:
            held, failed = await _held(repository, images)
            away: set[str] = set()
            gone: list[str] = []
            for image in held:
                try:
                    away |= set(await change(repository, image))
                    gone.append(image.sha256)
                except TesseraError as error:
                    failed.append(_failure(image.mapping.name, error))
            self.background.post(changed, gone)
            report = _report(len(images), failed, done).noting(warnings.findings)
            away -= warnings.devices  # whose answers are in the report
            if away:
                absent = ", ".join(sorted(map(printable, away)))
                report = replace(report, summary=f"{report.summary} {absent}: away; told when they come back.")
            return report

        self._begin(doing, work, warnings.take)

    def _begin(self, doing: str, work: Work, emit: Callable[[Any], None] = ignore) -> None:
        async def opened() -> Report:
            async with self.session.opened(emit) as repository:
                return await work(repository)

        if self.doing:
            return
        self.doing, self.progress, self.report, self.error = doing, None, None, None
        self._task = self.background.start(opened, done=self._done, failed=self._failed)
        self.changed()

    def _advanced(self, progress: Union[Progress, RestoreProgress]) -> None:
        if self._task is not None:
            self.progress = progress
            self.changed()

    def _done(self, report: Report) -> None:
        self._end(report)

    def _failed(self, error: TesseraError) -> None:
        self._end(None)
        self.fail(error)

    def _end(self, report: Optional[Report]) -> None:
        self._task, self.doing, self.progress, self.report = None, "", None, report
        self.changed()
        self._changed_cluster()


async def _held(repository: Repository, images: Sequence[Entry]) -> tuple[list[Held], list[Finding]]:
    """These images as the cluster has them, and findings for those that it has not."""
    unread = await repository.learn_all()
    held, lost = [], []
    for image in images:
        try:
            held.append(await repository.find(image.sha256, unread))
        except (NotFoundError, NotEnoughError):
            lost.append(Finding(image.name, "no connected device has it", Tone.ALARM))
    return held, lost


def _failure(name: str, error: TesseraError) -> Finding:
    words = f"{error}; {error.advice}" if error.advice else str(error)
    return Finding(printable(name), printable(words), Tone.ALARM)


def _report(total: int, failed: list[Finding], done: str) -> Report:
    if not failed:
        return Report(f"{count(total, 'image')} {done}.", Tone.GOOD, [])
    return Report(f"{total - len(failed)} of {count(total, 'image')} {done}; the others not.", Tone.ALARM, failed)


def _hashes(images: Sequence[Entry]) -> list[str]:
    """The options that name images; of many only the first few."""
    shown = images if len(images) <= _SHOWN_HASHES + 1 else images[:_SHOWN_HASHES]
    words = [word for image in shown for word in ("--hash", image.sha256[:SHOWN_DIGITS])]
    return words if len(shown) == len(images) else [*words, "--hash", "…"]
