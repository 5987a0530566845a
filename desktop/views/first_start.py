"""The way in: two steps, each explained in a sentence."""

from __future__ import annotations

from tkinter import filedialog
from typing import Any

import customtkinter

from desktop.model.first_start import FirstStartModel
from desktop.session import Stage
from desktop.views.controls import LINE, TEXT, Button, Choice, PassphraseField, fixed_font, font, heading, note, panel
from desktop.views.view import View

_WIDTH = 620
_CREATE, _IMPORT = "Make a new vault", "Bring one from another machine"


class FirstStartView(View[FirstStartModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure((0, 3), weight=1)
        top = customtkinter.CTkFrame(self, fg_color="transparent")
        top.grid(row=1, column=0, pady=(0, 14))
        heading(top, "Welcome to Tessera", 26).grid(row=0, column=0, sticky="w")
        note(
            top,
            "Tessera keeps your images in pieces on the devices of your network, encrypted: none of them has a whole "
            "one, and a few may be lost without losing anything.",
            _WIDTH,
        ).grid(row=1, column=0, sticky="w")
        self._join = self._build_join()
        self._vault = self._build_vault()

    def _build_join(self) -> Any:
        card = self._card("1 of 2   Join a cluster")
        note(
            card,
            "An invite lets this machine in, once. Whoever runs the broker makes one with: "
            "python broker/broker.py invite client. Paste its line, or type the short code below it.",
            _WIDTH,
        ).grid(row=1, column=0, columnspan=2, padx=24, sticky="w")
        self._invite = customtkinter.CTkTextbox(card, width=_WIDTH, height=84, font=fixed_font(), wrap="char")
        self._invite.configure(border_width=2, border_color=LINE, text_color=TEXT)
        self._invite.grid(row=2, column=0, columnspan=2, padx=24, pady=(10, 8), sticky="ew")
        self._invite.bind("<Tab>", self._leave_invite)
        self._name = customtkinter.CTkEntry(card, font=font(), height=34)
        self._name.insert(0, self.model.machine)
        self._nearby = note(card, wraplength=_WIDTH)
        self._nearby.grid(row=3, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="w")
        note(card, "What this machine is called in the cluster").grid(
            row=4, column=0, columnspan=2, padx=24, sticky="w"
        )
        self._name.grid(row=5, column=0, columnspan=2, padx=24, pady=(2, 10), sticky="ew")
        self._name.bind("<Return>", lambda _: self._do_join())
        self._join_button = Button(card, "Join", self._do_join, "main", width=120)
        self._join_button.grid(row=6, column=0, padx=(24, 12), pady=(2, 22), sticky="w")
        self._joining = note(card)
        self._joining.grid(row=6, column=1, pady=(2, 22), sticky="w")
        return card

    def _build_vault(self) -> Any:
        card = self._card("2 of 2   Your vault")
        self._joined = note(card, wraplength=_WIDTH)
        self._joined.grid(row=1, column=0, columnspan=2, padx=24, sticky="w")
        note(
            card,
            "The vault is the key to your images. It lies in a file that only your passphrase opens; without the two "
            "nobody, not even you, gets an image back.",
            _WIDTH,
        ).grid(row=2, column=0, columnspan=2, padx=24, sticky="w")
        self._choice = Choice(card, [_CREATE, _IMPORT], font=font(), command=self._chosen, height=34)
        self._choice.set(_CREATE)
        self._choice.grid(row=3, column=0, columnspan=2, padx=24, pady=12, sticky="ew")
        self._file_row = customtkinter.CTkFrame(card, fg_color="transparent")
        self._file_row.grid_columnconfigure(0, weight=1)
        self._file = customtkinter.CTkEntry(
            self._file_row, font=font(), height=34, placeholder_text="Key file, as `admin.py vault export` wrote it"
        )
        self._file.grid(row=0, column=0, sticky="ew", padx=(0, 10))
        Button(self._file_row, "Choose…", self._choose_file, width=100).grid(row=0, column=1)
        self._passphrase = PassphraseField(card, "Passphrase", self._do_vault)
        self._passphrase.grid(row=5, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="ew")
        self._again = PassphraseField(card, "The same again", self._do_vault)
        self._advice = note(card, "Four or more words that have nothing to do with each other are best.")
        self._vault_button = Button(card, "", self._do_vault, "main", width=160)
        self._vault_button.grid(row=8, column=0, padx=(24, 12), pady=(6, 22), sticky="w")
        self._doing = note(card)
        self._doing.grid(row=8, column=1, pady=(6, 22), sticky="w")
        self._show_choice()
        return card

    def _card(self, title: str) -> Any:
        card = panel(self)
        card.grid_columnconfigure(1, weight=1)
        heading(card, title, 18).grid(row=0, column=0, columnspan=2, padx=24, pady=(18, 4), sticky="w")
        return card

    # --- what the model says

    def show(self) -> None:
        model = self.model
        front, back = (self._join, self._vault) if model.stage is Stage.JOIN else (self._vault, self._join)
        if not front.winfo_manager():
            back.grid_forget()
            front.grid(row=2, column=0)
            self.after(100, (self._invite if front is self._join else self._passphrase).focus_set)
        self._joined.configure(text=model.joined)
        self._joining.configure(text=model.doing)
        self._nearby.configure(text=model.nearby_text)
        self._doing.configure(text=model.doing)
        for button in (self._join_button, self._vault_button):
            button.configure(state="disabled" if model.doing else "normal")

    @property
    def _importing(self) -> bool:
        return bool(self._choice.get() == _IMPORT)

    def _show_choice(self) -> None:
        if self._importing:
            self._again.grid_forget()
            self._advice.grid_forget()
            self._file_row.grid(row=4, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="ew")
        else:
            self._file_row.grid_forget()
            self._again.grid(row=6, column=0, columnspan=2, padx=24, pady=(0, 4), sticky="ew")
            self._advice.grid(row=7, column=0, columnspan=2, padx=24, sticky="w")
        self._vault_button.configure(text="Import and unlock" if self._importing else "Make the vault")

    # --- what is clicked

    def _do_join(self) -> None:
        if not self.model.doing:
            self.model.join(self._invite.get("1.0", "end"), self._name.get())

    def _leave_invite(self, event: Any) -> str:
        event.widget.tk_focusNext().focus()
        return "break"

    def _chosen(self, _: str) -> None:
        self._show_choice()
        self.model.show_command(importing=self._importing)

    def _choose_file(self) -> None:
        chosen = filedialog.askopenfilename(parent=self, title="The vault's key file")
        if chosen:
            self._file.delete(0, "end")
            self._file.insert(0, chosen)

    def _do_vault(self) -> None:
        if self.model.doing:
            return
        if self._importing:
            self.model.import_vault(self._file.get(), self._passphrase.take())
        else:
            self.model.create_vault(self._passphrase.take(), self._again.take())
