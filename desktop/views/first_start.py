"""The first start: two steps, each explained in a sentence."""

from __future__ import annotations

import tkinter
from tkinter import filedialog
from typing import Any

import customtkinter

from desktop.model.first_start import FirstStartModel, VaultFrom
from desktop.session import Stage
from desktop.views.controls import Button, Choice, PassphraseField, font, heading, note, panel, text_box
from desktop.views.safety import ask_where_to_copy
from desktop.views.sheets import Sheets
from desktop.views.this_computer import BrokerForm
from desktop.views.view import View

_WIDTH = 620
_SOURCES = {
    "Make a new vault": VaultFrom.NEW,
    "Bring one from another machine": VaultFrom.KEY_FILE,
    "Use recovery codes": VaultFrom.CODES,
}
_MAKE = {VaultFrom.NEW: "Make the vault", VaultFrom.KEY_FILE: "Import and unlock", VaultFrom.CODES: "Restore"}


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
        self._keeping = self._build_keeping()
        self._sheets = Sheets(self, self.model.recovery)

    def _build_join(self) -> Any:
        card = self._card("1 of 2   Join a cluster")
        note(
            card,
            "An invite lets this machine in, once. Whoever runs the broker makes one with: "
            "python broker/broker.py invite client. Paste its line, or type the short code below it.",
            _WIDTH,
        ).grid(row=1, column=0, columnspan=2, padx=24, sticky="w")
        self._invite = text_box(card, 84, 13, width=_WIDTH)
        self._invite.grid(row=2, column=0, columnspan=2, padx=24, pady=(10, 8), sticky="ew")
        self._called = customtkinter.CTkEntry(card, font=font(), height=34)
        self._called.insert(0, self.model.machine)
        self._nearby = note(card, wraplength=_WIDTH)
        self._nearby.grid(row=3, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="w")
        note(card, "What this machine is called in the cluster").grid(
            row=4, column=0, columnspan=2, padx=24, sticky="w"
        )
        self._called.grid(row=5, column=0, columnspan=2, padx=24, pady=(2, 10), sticky="ew")
        self._called.bind("<Return>", lambda _: self._do_join())
        self._join_button = Button(card, "Join", self._do_join, "main", width=120)
        self._join_button.grid(row=6, column=0, padx=(24, 12), pady=(2, 22), sticky="w")
        self._joining = note(card)
        self._joining.grid(row=6, column=1, pady=(2, 22), sticky="w")
        self._begin_cluster = Button(card, "No cluster yet: make this computer the broker …", self._open_broker_form)
        self._begin_cluster.grid(row=6, column=1, padx=(0, 24), pady=(2, 22), sticky="e")
        return card

    def _open_broker_form(self) -> None:
        BrokerForm(self, self.model.here, self._called.get)

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
        self._choice = Choice(card, list(_SOURCES), font=font(), command=self._chosen, height=34)
        self._choice.set(next(iter(_SOURCES)))
        self._choice.grid(row=3, column=0, columnspan=2, padx=24, pady=12, sticky="ew")
        self._file_row = customtkinter.CTkFrame(card, fg_color="transparent")
        self._file_row.grid_columnconfigure(0, weight=1)
        self._file = customtkinter.CTkEntry(
            self._file_row, font=font(), height=34, placeholder_text="Key file, as `admin.py vault export` wrote it"
        )
        self._file.grid(row=0, column=0, sticky="ew", padx=(0, 10))
        Button(self._file_row, "Choose…", self._choose_file, width=100).grid(row=0, column=1)
        self._codes = text_box(card, 130, wrap="word")
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

    def _build_keeping(self) -> Any:
        card = self._card("Before you store: if this computer breaks")
        note(
            card,
            "The key to your images is on this computer only. If it is lost, so are all images, though every device "
            "keeps its share. Two ways out, and it takes a minute now; better both:",
            _WIDTH,
        ).grid(row=1, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="w")
        recovery, copying = self.model.recovery, self.model.copying
        self._make_codes = Button(card, "Make recovery codes", recovery.make_at_once, "main", width=180)
        self._make_codes.grid(row=2, column=0, padx=(24, 12), pady=6, sticky="w")
        self._codes_told = note(card, wraplength=_WIDTH - 220)
        self._codes_told.grid(row=2, column=1, padx=(0, 24), sticky="w")
        self._save_copy = Button(card, "Save a copy of the key …", lambda: ask_where_to_copy(self, copying), width=180)
        self._save_copy.grid(row=3, column=0, padx=(24, 12), pady=6, sticky="w")
        self._copy_told = note(card, wraplength=_WIDTH - 220)
        self._copy_told.grid(row=3, column=1, padx=(0, 24), sticky="w")
        self._on = Button(card, "", self.model.go_on, width=120)
        self._on.grid(row=4, column=0, padx=(24, 12), pady=(14, 22), sticky="w")
        return card

    def _card(self, title: str) -> Any:
        card = panel(self)
        card.grid_columnconfigure(1, weight=1)
        heading(card, title, 18).grid(row=0, column=0, columnspan=2, padx=24, pady=(18, 4), sticky="w")
        return card

    # --- what the model says

    def show(self) -> None:
        model = self.model
        cards = {
            Stage.JOIN: (self._join, self._invite),
            Stage.VAULT: (self._vault, self._passphrase),
            Stage.OPEN: (self._keeping, self._make_codes),
        }
        front, first = cards[model.stage]
        if not front.winfo_manager():
            for card, _ in cards.values():
                card.grid_forget()
            front.grid(row=2, column=0)
            self.after(100, tkinter.Misc.focus_set if isinstance(first, Button) else type(first).focus_set, first)
        self._show_keeping()
        self._joined.configure(text="\n".join(filter(None, (model.joined, model.here.told))))
        self._joining.configure(text=model.doing)
        self._nearby.configure(text=model.nearby_text)
        self._doing.configure(text=model.doing or model.here.doing)
        for button in (self._join_button, self._begin_cluster, self._vault_button):
            button.configure(state="disabled" if model.doing else "normal")

    def _show_keeping(self) -> None:
        recovery, copying, session = self.model.recovery, self.model.copying, self.model.session
        self._sheets.show()
        codes = "Made." if session.has_codes else "For paper, with people and in places that you trust: any 3 of 5 do."
        self._codes_told.configure(text=recovery.doing or codes)
        told = "For a USB stick. It opens with your passphrase only."
        self._copy_told.configure(text=copying.told or told)
        self._make_codes.configure(state="disabled" if recovery.doing else "normal")
        self._save_copy.configure(state="disabled" if copying.doing else "normal")
        self._on.configure(text="Go on" if session.has_codes or session.has_copy else "Later")

    @property
    def _source(self) -> VaultFrom:
        return _SOURCES[self._choice.get()]

    def _show_choice(self) -> None:
        source = self._source
        for widget in (self._again, self._advice, self._file_row, self._codes):
            widget.grid_forget()
        if source is VaultFrom.KEY_FILE:
            self._file_row.grid(row=4, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="ew")
        else:
            self._again.grid(row=6, column=0, columnspan=2, padx=24, pady=(0, 4), sticky="ew")
            self._advice.grid(row=7, column=0, columnspan=2, padx=24, sticky="w")
        if source is VaultFrom.CODES:
            self._codes.grid(row=4, column=0, columnspan=2, padx=24, pady=(0, 8), sticky="ew")
        self._vault_button.configure(text=_MAKE[source])

    # --- what is clicked

    def _do_join(self) -> None:
        if not self.model.doing:
            self.model.join(self._invite.get("1.0", "end"), self._called.get())

    def _chosen(self, _: str) -> None:
        self._show_choice()
        self.model.show_command(self._source)

    def _choose_file(self) -> None:
        session = self.model.session
        chosen = filedialog.askopenfilename(parent=self, title="The vault's key file", initialdir=session.key_folder)
        if chosen:
            session.chose_for_key(chosen)
            self._file.delete(0, "end")
            self._file.insert(0, chosen)

    def _do_vault(self) -> None:
        if self.model.doing:
            return
        if self._source is VaultFrom.KEY_FILE:
            self.model.import_vault(self._file.get(), self._passphrase.take())
        elif self._source is VaultFrom.CODES:
            codes = self._codes.get("1.0", "end")
            self.model.restore_vault(codes, self._passphrase.entry.get(), self._again.entry.get())
        else:
            self.model.create_vault(self._passphrase.take(), self._again.take())
