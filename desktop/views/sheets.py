"""Recovery codes, over a view, until they are saved, printed or written down; and the form to enter them."""

from __future__ import annotations

import tkinter
from pathlib import Path
from tkinter import filedialog
from typing import Any, Callable, Optional

from desktop.model.recovery import RecoveryModel
from desktop.session import Session
from desktop.views.controls import DANGER, TEXT, PassphraseField, note, text_box
from desktop.views.overlay import Overlay, copy_for_a_minute


class Sheets:
    """Shows codes over a view as long as a model has some."""

    def __init__(self, view: Any, model: RecoveryModel) -> None:
        self._view = view
        self._model = model
        self._shown: Optional[_Sheets] = None

    def show(self) -> None:
        if self._model.sheets and self._shown is None:
            self._shown = _Sheets(self._view, self._model)
        elif not self._model.sheets:
            self._shown = None
        if self._shown is not None:
            self._shown.tell(self._model.told)


class _Sheets(Overlay):
    def __init__(self, view: Any, model: RecoveryModel) -> None:
        super().__init__(view, f"{model.of} recovery codes, any {model.need} open the vault", model.forget)
        self.say("Shown only now. Save or print them, and keep each in another place.")
        box = text_box(self.body, 250, wrap="word")
        box.insert("1.0", model.text)
        box.configure(state="disabled")
        box.grid(sticky="ew", pady=(4, 4))
        self._told = note(self.body, wraplength=440)
        self._told.grid(sticky="ew")
        self._model = model
        self._sheets = model.sheets
        self._copied = 0  # codes, one after the other
        self._asking = False
        self._offer()

    def _offer(self) -> None:
        self._asking = False
        self.clear_buttons()
        self.button("Close", self.close)
        self._copy = self.button(self._copy_words, self._copy_one)
        if self._model.can_print:
            self.button("Print", self._model.print_out)
        save = self.button("Save …", self._save, kind="main")
        self.tell(self._model.told)
        tkinter.Misc.focus_set(save)

    @property
    def _copy_words(self) -> str:
        return f"Copy code {self._copied % len(self._sheets) + 1}"

    def _copy_one(self) -> None:
        """One at a time: whatever reads the clipboard, or keeps what was there, has no kit by one look."""
        number = self._copied % len(self._sheets)
        copy_for_a_minute(self, self._sheets[number])
        self._copied += 1
        self.tell(f"Code {number + 1} can be pasted for a minute.")
        self._copy.configure(text=self._copy_words)

    def close(self) -> None:
        """Close, but first ask where the codes are not kept: they are not shown again."""
        if not self._model.unfinished:
            super().close()
        elif not self._asking:
            self._asking = True
            self.clear_buttons()
            self.button("Throw them away", super().close, kind="danger")
            self.button("I have written them down", self._written_down)
            back = self.button("Keep showing them", self._offer, kind="main")
            self._told.configure(text=f"{self._model.unfinished} Close all the same?", text_color=DANGER)
            tkinter.Misc.focus_set(back)
        else:  # a second Escape is no answer
            self._offer()

    def _written_down(self) -> None:
        self._model.written_down()
        super().close()

    def _save(self) -> None:
        file = ask_for_new_key_file(self, self._model.session, "Where the codes go", "tessera-recovery.txt")
        if file:
            self._model.save(Path(file))

    def tell(self, told: str) -> None:
        if not self._asking:
            self._told.configure(text=told, text_color=TEXT)


class CodesForm(Overlay):
    """Asks for recovery codes and a new passphrase."""

    def __init__(self, view: Any, restore: Callable[[str, str, str], None], closed: Callable[[], None]) -> None:
        super().__init__(view, "A new passphrase, by recovery codes", closed)
        self.say(
            "Type or paste as many codes as their sheets ask for, one below the other. The key file that is here is "
            "kept beside the new one."
        )
        self._codes = text_box(self.body, 170, wrap="word")
        self._codes.grid(sticky="ew", pady=(4, 8))
        self._passphrase = PassphraseField(self.body, "New passphrase, four or more words", self._restore)
        self._passphrase.grid(sticky="ew", pady=(0, 8))
        self._again = PassphraseField(self.body, "The same again", self._restore)
        self._again.grid(sticky="ew")
        self._do = restore
        self.button("Cancel", self.close)
        self.button("Restore", self._restore, kind="main")
        self._codes.focus_set()

    def escape(self) -> None:
        """Do not lose typed codes by an accidental Escape."""
        if not self._codes.get("1.0", "end").strip():
            self.close()

    def _restore(self) -> None:
        self._do(self._codes.get("1.0", "end"), self._passphrase.entry.get(), self._again.entry.get())


def ask_for_new_key_file(parent: Any, session: Session, title: str, name: str) -> str:
    """Ask for the path of a key file or codes; empty where cancelled."""
    folder = session.key_folder
    file: str = filedialog.asksaveasfilename(parent=parent, title=title, initialfile=name, initialdir=folder)
    if file:
        session.chose_for_key(file)
    return file
