"""One field: the vault's passphrase."""

from __future__ import annotations

from desktop.model.unlock import UnlockModel
from desktop.views.controls import Button, PassphraseField, heading, note, panel
from desktop.views.sheets import CodesForm
from desktop.views.view import View


class UnlockView(View[UnlockModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure((0, 2), weight=1)
        card = panel(self)
        card.grid(row=1, column=0)
        heading(card, "Your vault is locked").grid(row=0, column=0, columnspan=2, padx=28, pady=(24, 4), sticky="w")
        note(card, "Its passphrase turns the vault's file into the key that opens your images.", wraplength=420).grid(
            row=1, column=0, columnspan=2, padx=28, sticky="w"
        )
        self._passphrase = PassphraseField(card, "Passphrase", self._unlock)
        self._passphrase.grid(row=2, column=0, columnspan=2, padx=28, pady=(16, 12), sticky="ew")
        self._button = Button(card, "Unlock", self._unlock, "main", width=120)
        self._button.grid(row=3, column=0, padx=(28, 12), pady=(0, 24), sticky="w")
        self._doing = note(card)
        self._doing.grid(row=3, column=1, padx=(0, 28), pady=(0, 24), sticky="w")
        note(card, "Forgotten? Recovery codes give the vault another one.", wraplength=420).grid(
            row=4, column=0, columnspan=2, padx=28, sticky="w"
        )
        Button(card, "Use recovery codes …", self._ask_for_codes, width=180).grid(
            row=5, column=0, columnspan=2, padx=28, pady=(6, 24), sticky="w"
        )
        self.after(100, self._passphrase.focus_set)

    def show(self) -> None:
        self._doing.configure(text=self.model.doing)
        self._button.configure(state="disabled" if self.model.doing else "normal")
        if self.model.error is not None:
            self._passphrase.focus_set()

    def _ask_for_codes(self) -> None:
        if not self.model.doing:
            self.model.show_command(by_codes=True)
            CodesForm(self, self.model.restore, lambda: self.model.show_command(by_codes=False))

    def _unlock(self) -> None:
        if not self.model.doing:
            self.model.unlock(self._passphrase.take())
