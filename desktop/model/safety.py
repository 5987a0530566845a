"""Safety: verify and repair; the passphrase; recovery codes."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Callable, Optional

from admin.events import Event, Repaired, Stalled
from admin.repairing import repair_images
from admin.verifying import Found, Proof, Verdict, keep_proof, last_proof, verify_images, with_missing
from common.errors import TesseraError
from common.repository.images import counted
from common.repository.repository import Repository
from common.text import count, format_duration, printable
from common.vault import system_keyring
from desktop.background import Background, Task
from desktop.model.commands import command_line
from desktop.model.entries import Tone, badge_of
from desktop.model.first_start import fault_of
from desktop.model.model import Model
from desktop.model.recovery import KeyCopyModel, RecoveryModel
from desktop.model.report import Counter, Finding, Progress, Report, Warnings
from desktop.session import Session

_JUST_NOW = 60  # seconds


class SafetyModel(Model):
    """`progress`: that of the action, where it is known. `stalled`: a text while it makes no progress."""

    def __init__(self, session: Session, background: Background) -> None:
        super().__init__(session, background)
        self.recovery = RecoveryModel(session, background)
        self.copying = KeyCopyModel(session, background)
        self.proof: Optional[Proof] = None
        self.report: Optional[Report] = None
        self.stalled = ""
        self.progress: Optional[Progress] = None
        self.command = command_line("admin", "verify", "--all", "--deep")
        self._task: Optional[Task] = None
        self.include(self.recovery, self.copying)

    def activate(self) -> None:
        self.proof = last_proof(self.session.home)
        self.changed()

    def proof_words(self, now: float) -> str:
        """When all was last proven restorable, and how long ago that is."""
        if self.proof is None:
            return "Not proven yet on this machine."
        when = datetime.fromtimestamp(self.proof.at).strftime("%Y-%m-%d %H:%M")
        images = count(self.proof.images, "image")
        since = int(now) - self.proof.at
        ago = "just now" if since < _JUST_NOW else f"{format_duration(since)} ago"
        return f"{when}, {ago}: {images}, every share at hand read."

    # --- verify and repair

    def verify(self, *, deep: bool) -> None:
        """Ask which shares are there; deep, read every share and prove each image. Nothing is written."""
        self.command = command_line("admin", "verify", "--all", *(["--deep"] if deep else []))
        self._begin(
            "Reading every share …" if deep else "Asking the devices …",
            lambda repository: _verified(repository, deep),
            self._verified,
        )

    def repair(self) -> None:
        """Have all missing shares rebuilt now."""
        self.command = command_line("admin", "repair", "--all")
        self._begin("Having lost shares rebuilt …", _repaired, self._repaired)

    def cancel(self) -> None:
        """Cancel the action; a repair goes on in the broker."""
        if self._task is not None:
            self._task.cancel()
            self._end()
            self.changed()

    def _begin(
        self,
        doing: str,
        work: Callable[[Repository], Coroutine[Any, Any, Any]],
        done: Callable[[Any, Sequence[Finding]], None],
    ) -> None:
        """`done`: called with the outcome and the warnings."""
        counter = Counter(lambda progress: self.background.post(self._advanced, progress))

        warnings = Warnings()

        def emit(event: Event) -> None:
            counter.take(event)
            if isinstance(event, Stalled):
                self.background.post(self._stall, printable(event.text))
            else:
                warnings.take(event)

        async def serve() -> Any:
            async with self.session.opened(emit) as repository:
                return await work(repository)

        self.doing, self.progress, self.report, self.error = doing, None, None, None
        self._task = self.background.start(
            serve, done=lambda result: done(result, warnings.findings), failed=self._failed
        )
        self.changed()

    def _end(self) -> None:
        self._task, self.doing, self.stalled, self.progress = None, "", "", None

    def _advanced(self, progress: Progress) -> None:
        if self._task is not None:
            before, self.progress = self.progress, progress
            if before is None or (before.done, before.total) != (progress.done, progress.total):
                self.stalled = ""
            self.changed()

    def _stall(self, text: str) -> None:
        if self._task is not None:
            self.stalled = text[:1].upper() + text[1:]
            self.changed()

    def _verified(self, found: Found, warned: Sequence[Finding] = ()) -> None:
        self._end()
        report = verify_report(found)
        self.report = replace(report.noting(warned), at=time.time())
        if found.proof is not None:
            self.proof = found.proof
            home, proof = self.session.home, found.proof
            self.background.run(lambda: keep_proof(home, proof), done=lambda _: None, failed=self.fail)
        self.changed()

    def _repaired(self, told: Report, warned: Sequence[Finding] = ()) -> None:
        self._end()
        self.report = replace(told.noting(warned), at=time.time())
        self.changed()

    def _failed(self, error: TesseraError) -> None:
        self._end()
        self.fail(error)

    # --- the passphrase

    def change_passphrase(self, old: str, new: str, again: str) -> None:
        """Wrap the vault's key under another passphrase; nothing that is stored changes."""
        self.command = command_line("admin", "vault", "passphrase")
        error = fault_of(new, again)
        if error is not None:
            self.fail(error)
            return
        vault, home = self.session.vault, self.session.home

        def change() -> None:
            vault.change_passphrase(old, new)
            if system_keyring.is_stored(home):
                system_keyring.store(home, new)

        self.started("Changing the passphrase …")
        self.background.run(change, done=self._passphrase_changed, failed=self._failed)

    def _passphrase_changed(self, _: None) -> None:
        self._end()
        self.told = (
            "The passphrase is changed. Copies of the key file made before still open with the old one: replace them "
            f"({command_line('admin', 'vault', 'export')} FILE)."
        )
        self.changed()

    @property
    def unfinished(self) -> str:
        return self.recovery.unfinished


async def _verified(repository: Repository, deep: bool) -> Found:
    return await with_missing(repository, await verify_images(repository, await repository.holdings(), deep=deep))


async def _repaired(repository: Repository) -> Report:
    images = (await repository.holdings()).images
    return repair_report(counted(image.mapping for image in images), await repair_images(repository, images))


def verify_report(found: Found) -> Report:
    """The outcome of `verify` for the user: that all is well, or which images are not."""
    verdicts, unreadable = found.verdicts, found.unreadable
    findings = [finding for finding in map(_finding, verdicts) if finding is not None]
    findings.sort(key=lambda finding: finding.tone is not Tone.ALARM)
    findings += [Finding(printable(each.name), "no device tells of it", Tone.ALARM) for each in found.missing]
    lost = sum(not verdict.health.restorable for verdict in verdicts) + len(found.missing)
    all_of_them = counted([*(verdict.image.mapping for verdict in verdicts), *found.missing])
    if lost or unreadable:
        cannot = f"{lost:,} of {all_of_them} cannot be restored now" if lost else f"{all_of_them} can be restored"
        unnamed = f"; {unreadable:,} more cannot even be named: their devices are not connected" if unreadable else ""
        return Report(f"{cannot}{unnamed}.", Tone.ALARM, findings)
    if findings:
        return Report(f"All of {all_of_them} can be restored; {len(findings):,} not whole.", Tone.NOTICE, findings)
    how = "every share at hand was read" if found.proof is not None else "by what the devices say"
    return Report(f"All of {all_of_them} are whole and can be restored ({how}).", Tone.GOOD, findings)


def _finding(verdict: Verdict) -> Optional[Finding]:
    badge = badge_of(verdict.health)
    if badge.tone is Tone.GOOD and not verdict.troubles:
        return None
    words = "; ".join([badge.words, *map(printable, verdict.troubles)])
    return Finding(printable(verdict.image.mapping.name), words, badge.tone)


def repair_report(images: str, outcomes: list[Repaired]) -> Report:
    if not outcomes:
        return Report(f"All of {images} are whole; there was nothing to repair.", Tone.GOOD, [])
    repaired = sum(outcome.repaired for outcome in outcomes)
    findings = [
        Finding(
            printable(outcome.image.mapping.name),
            outcome.text.lstrip(": "),
            Tone.GOOD if outcome.repaired else Tone.ALARM,
        )
        for outcome in outcomes
    ]
    tone = Tone.GOOD if repaired == len(outcomes) else Tone.ALARM
    return Report(f"{repaired:,} of {len(outcomes):,} images that lacked shares are whole again.", tone, findings)
