"""Safety: the last proof that all can be restored, verify and repair; the passphrase; recovery codes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Optional

import customtkinter

from desktop.model.layout import fitting
from desktop.model.recovery import MAX_CODES, KeyCopyModel, RecoveryModel
from desktop.model.report import Report
from desktop.model.safety import SafetyModel
from desktop.views.controls import (
    ACCENT,
    GROUND,
    LINE,
    PANEL,
    TEXT,
    TONES,
    Button,
    Menu,
    Scrolling,
    font,
    heading,
    label,
    note,
)
from desktop.views.sheets import Sheets, ask_for_new_key_file
from desktop.views.view import View

_SHOWN_FINDINGS = 200
_WRAP = 420  # units


class SafetyView(View[SafetyModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=5, uniform="halves")
        self.grid_columnconfigure(1, weight=4, uniform="halves")
        self.grid_rowconfigure(1, weight=1)
        heading(self, "Safety").grid(row=0, column=0, columnspan=2, sticky="w", pady=(0, 10))
        self._proofs = _ProofPanel(self, self.model)
        self._proofs.grid(row=1, column=0, sticky="nsew", padx=(0, 14))
        right = Scrolling(self, GROUND)
        right.grid(row=1, column=1, sticky="nsew")
        right.grid_columnconfigure(0, weight=1)
        self._passphrase = _PassphrasePanel(right, self.model)
        self._passphrase.grid(row=0, column=0, sticky="ew", padx=(0, 8))
        self._codes = _RecoveryPanel(right, self.model.recovery)
        self._codes.grid(row=1, column=0, sticky="ew", pady=(14, 0), padx=(0, 8))
        self._copy = _CopyPanel(right, self.model.copying)
        self._copy.grid(row=2, column=0, sticky="ew", pady=(14, 0), padx=(0, 8))
        self._sheets = Sheets(self, self.model.recovery)

    def show(self) -> None:
        self._proofs.show()
        self._passphrase.show()
        self._codes.show()
        self._copy.show()
        self._sheets.show()


class _Panel(customtkinter.CTkFrame):
    """A panel with a title and a line that explains."""

    def __init__(self, parent: Any, title: str, text: str) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)
        self.grid_columnconfigure(0, weight=1)
        heading(self, title, size=17).grid(row=0, column=0, columnspan=2, sticky="ew", padx=20, pady=(16, 2))
        self._about = note(self, text, wraplength=_WRAP)
        self._about.grid(row=1, column=0, columnspan=2, sticky="ew", padx=20)
        self._wrapped = [self._about]  # what is as wide as the panel
        self.bind("<Configure>", self._wrap)

    def _wrap(self, event: Any) -> None:
        for part in self._wrapped:
            part.configure(wraplength=max(200, int(event.width / self._get_widget_scaling()) - 44))


class _ProofPanel(_Panel):
    def __init__(self, parent: Any, model: SafetyModel) -> None:
        super().__init__(
            parent,
            "Can everything be restored?",
            "A proof reads every share at hand and puts each image together, without writing it anywhere.",
        )
        self._model = model
        self._shown: Optional[Report] = None
        self.grid_rowconfigure(7, weight=1)
        note(self, "Last proven").grid(row=2, column=0, sticky="w", padx=20, pady=(12, 0))
        self._last = label(self, size=15, bold=True, wraplength=_WRAP)
        self._last.grid(row=3, column=0, sticky="ew", padx=20)
        buttons = customtkinter.CTkFrame(self, fg_color="transparent")
        buttons.grid(row=4, column=0, sticky="w", padx=16, pady=(12, 4))
        prove = Button(buttons, "Prove everything", lambda: model.verify(deep=True), kind="main", width=130)
        quick = Button(buttons, "Quick check", lambda: model.verify(deep=False), width=96)
        repair = Button(buttons, "Repair", model.repair, width=70)
        self._buttons = (prove, quick, repair)
        for column, button in enumerate(self._buttons):
            button.grid(row=0, column=column, padx=4)
        self._cancel = Button(self, "Cancel", model.cancel, width=80)
        self._doing = label(self, wraplength=_WRAP)
        self._doing.grid(row=5, column=0, sticky="ew", padx=20, pady=(6, 0))
        self._bar = customtkinter.CTkProgressBar(self, height=10, progress_color=ACCENT, fg_color=LINE)
        self._findings = Scrolling(self, PANEL)
        self._findings.grid_columnconfigure(0, weight=1)
        self._wrapped += [self._last, self._doing]

    def show(self) -> None:
        model = self._model
        self._last.configure(text=model.proof_words(time.time()))
        busy = bool(model.doing)
        for button in self._buttons:
            button.configure(state="disabled" if busy else "normal")
        if busy:
            self._cancel.grid(row=5, column=1, padx=(0, 16), pady=(6, 0))
            words = model.stalled or (model.progress.words if model.progress is not None else "")
            self._doing.configure(text=f"{model.doing}  {words}", text_color=TEXT)
        else:
            self._cancel.grid_forget()
        if busy and model.progress is not None:
            self._bar.set(model.progress.fraction)
            self._bar.grid(row=6, column=0, columnspan=2, sticky="ew", padx=20, pady=(4, 4))
        else:
            self._bar.grid_forget()
        report = model.report
        if not busy:
            colour = TEXT if report is None else TONES[report.tone]
            self._doing.configure(text="" if report is None else report.words, text_color=colour)
        if report is not self._shown:
            self._shown = report
            self._list(report)

    def _list(self, report: Optional[Report]) -> None:
        for child in self._findings.winfo_children():
            child.destroy()
        if report is None or not report.findings:
            self._findings.grid_forget()
            return
        self._findings.grid(row=7, column=0, columnspan=2, sticky="nsew", padx=(12, 6), pady=(4, 10))
        for row, finding in enumerate(report.findings[:_SHOWN_FINDINGS]):
            line = customtkinter.CTkFrame(self._findings, fg_color="transparent")
            line.grid(row=row, column=0, sticky="ew", pady=(0, 6))
            name = label(line, fitting(finding.name, 60, len), 13, height=20)
            name.grid(row=0, column=0, sticky="w", padx=(6, 0))
            words = label(line, finding.words, 13, colour=TONES[finding.tone], height=20, wraplength=_WRAP)
            words.grid(row=1, column=0, sticky="w", padx=(6, 0))
        more = len(report.findings) - _SHOWN_FINDINGS
        if more > 0:
            note(self._findings, f"and {more:,} more; the command below names all").grid(sticky="w", padx=6)


class _PassphrasePanel(_Panel):
    def __init__(self, parent: Any, model: SafetyModel) -> None:
        super().__init__(parent, "Passphrase", "It opens the vault's key file. What is stored stays as it is.")
        self._model = model
        self._fields = [
            _secret(self, text, row)
            for row, text in enumerate(("Passphrase now", "New one, four or more words", "The new one again"), 2)
        ]
        self._fields[-1].bind("<Return>", lambda _: self._change())
        self._button = Button(self, "Change passphrase", self._change, width=170)
        self._button.grid(row=5, column=0, sticky="w", padx=20, pady=(8, 4))
        self._told = note(self, wraplength=_WRAP)
        self._told.grid(row=6, column=0, sticky="ew", padx=20, pady=(0, 12))
        self._wrapped.append(self._told)

    def _change(self) -> None:
        old, new, again = (field.get() for field in self._fields)
        self._model.change_passphrase(old, new, again)

    def show(self) -> None:
        told = self._model.told
        if told and told != self._told.cget("text"):
            for field in self._fields:
                field.delete(0, "end")
        self._told.configure(text=told)
        self._button.configure(state="disabled" if self._model.doing else "normal")


class _RecoveryPanel(_Panel):
    def __init__(self, parent: Any, model: RecoveryModel) -> None:
        super().__init__(
            parent,
            "Recovery codes",
            "For paper, each kept in another place: enough of them open the vault without its file and passphrase, "
            "fewer tell nothing.",
        )
        self._model = model
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid(row=2, column=0, sticky="w", padx=20, pady=(10, 0))
        self._need, self._of = (Menu(row, [], self._fit, GROUND, width=56) for _ in range(2))
        self._need.set(str(model.need))
        self._of.set(str(model.of))
        label(row, "any").grid(row=0, column=0, padx=(0, 6))
        self._need.grid(row=0, column=1)
        label(row, "of").grid(row=0, column=2, padx=6)
        self._of.grid(row=0, column=3)
        label(row, "codes").grid(row=0, column=4, padx=6)
        self._fit()
        self._passphrase = _secret(self, "Passphrase, once more", 3)
        self._passphrase.bind("<Return>", lambda _: self._make())
        self._button = Button(self, "Make codes", self._make, width=130)
        self._button.grid(row=4, column=0, sticky="w", padx=20, pady=(8, 18))

    def _fit(self, _: Any = None) -> None:
        """Limit the number of codes needed to that of all codes."""
        of = int(self._of.get())
        need = min(int(self._need.get()), of)
        self._of.configure(values=[str(count) for count in range(2, MAX_CODES + 1)])
        self._need.configure(values=[str(count) for count in range(2, of + 1)])
        self._need.set(str(need))

    def _make(self) -> None:
        passphrase = self._passphrase.get()
        self._passphrase.delete(0, "end")
        self._model.make(passphrase, int(self._need.get()), int(self._of.get()))

    def show(self) -> None:
        doing = self._model.doing
        self._button.configure(text=doing or "Make codes", state="disabled" if doing else "normal")


class _CopyPanel(_Panel):
    def __init__(self, parent: Any, model: KeyCopyModel) -> None:
        super().__init__(
            parent,
            "A copy of the key file",
            "For a USB stick or another computer: with it and your passphrase the images come back, though this "
            "computer is gone.",
        )
        self._model = model
        self._button = Button(self, "Save a copy …", self._save, width=130)
        self._button.grid(row=2, column=0, sticky="w", padx=20, pady=(10, 4))
        self._told = note(self, wraplength=_WRAP)
        self._told.grid(row=3, column=0, sticky="ew", padx=20, pady=(0, 12))
        self._wrapped.append(self._told)

    def _save(self) -> None:
        ask_where_to_copy(self, self._model)

    def show(self) -> None:
        self._told.configure(text=self._model.told)
        self._button.configure(state="disabled" if self._model.doing else "normal")


def ask_where_to_copy(parent: Any, model: KeyCopyModel) -> None:
    """Ask for a path, and copy the key file there."""
    file = ask_for_new_key_file(parent, model.session, "Where the copy of the key file goes", "tessera-vault.key")
    if file:
        model.save(Path(file))


def _secret(parent: Any, text: str, row: int) -> Any:
    entry = customtkinter.CTkEntry(
        parent, placeholder_text=text, show="•", height=34, font=font(), border_color=LINE, border_width=2
    )
    entry.grid(row=row, column=0, sticky="ew", padx=20, pady=(8, 0))
    return entry
