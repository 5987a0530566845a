"""The devices and the clients: a row for each, invites, and actions after a question."""

from __future__ import annotations

import tkinter
from typing import Any, Optional

import customtkinter

from desktop.model.devices import DeviceRow, DevicesModel, Invite
from desktop.model.operator import ROLES, MachineRow, operator_command
from desktop.views.controls import (
    ACCENT,
    DANGER,
    GROUND,
    LINE,
    PANEL,
    QUIET,
    TEXT,
    TONES,
    WARNING,
    Button,
    Choice,
    FittingLabel,
    RadioButton,
    Scrolling,
    font,
    heading,
    label,
    note,
    text_box,
    wrap,
)
from desktop.views.machines import MachineList
from desktop.views.overlay import NameForm, Overlay, ask, copy, readonly
from desktop.views.this_computer import ThisComputer
from desktop.views.view import View

_QR_EDGE = 250  # units at most
_BESIDE_QR, _SHORT_CODE = 250, 90  # units of the rest of the sheet, and of the code to type
_QR_MARGIN = 4  # squares, which a reader needs
DEVICES = "Devices that keep shares"
MACHINES = "Machines that store and bring back"
THIS_COMPUTER = "This computer"


class DevicesView(View[DevicesModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure(4, weight=1)
        top = customtkinter.CTkFrame(self, fg_color="transparent")
        top.grid(row=0, column=0, sticky="ew")
        top.grid_columnconfigure(1, weight=1)
        heading(top, "Devices").grid(row=0, column=0, sticky="w")
        self._title = note(top)
        self._title.grid(row=0, column=1, sticky="w", padx=12, pady=(6, 0))
        self._even = Button(top, "Spread shares evenly", self.model.rebalance, width=170)
        self._even.grid(row=0, column=2, padx=(0, 10))
        Button(top, "Invite …", self._choose_role, kind="main", width=110).grid(row=0, column=3)
        self._which = Choice(self, [DEVICES, MACHINES, THIS_COMPUTER], font=font(13), height=30, command=self.turn)
        self._which.set(DEVICES)
        self._which.grid(row=1, column=0, sticky="w", pady=(8, 4))
        self._summary = note(self)
        self._summary.grid(row=2, column=0, sticky="ew", pady=(2, 0))
        self.bind("<Configure>", lambda event: wrap(self._summary, event.width), add=True)
        self._told = label(self, bold=True)
        self._list = Scrolling(self, GROUND)
        self._list.grid_columnconfigure(0, weight=1)
        self._machines = MachineList(self, self.model, self.revoke_machine)
        self._here = ThisComputer(self, self.model.here, self._open)
        self._rows: dict[str, _Row] = {}
        self._overlay: Optional[Overlay] = None
        self._invite: Optional[Invite] = None

    def turn(self, which: str) -> None:
        """Show one of the two lists, or what this computer runs."""
        self._which.set(which)
        if which == THIS_COMPUTER:
            self.model.turn_to_this_computer()
        else:
            self.model.turn_to(machines=which == MACHINES)

    def show(self) -> None:
        model = self.model
        self._title.configure(text=model.title, text_color=WARNING if model.notice else QUIET)
        which = self._which.get()
        summaries = {DEVICES: "  ·  ".join(model.summary), MACHINES: self._machines.summary}
        self._summary.configure(text=summaries.get(which, f"{model.here.machine}, beside this window"))
        lists = {DEVICES: self._list, MACHINES: self._machines, THIS_COMPUTER: self._here}
        for name, each in lists.items():
            if name != which:
                each.grid_forget()
        lists[which].grid(row=4, column=0, sticky="nsew", pady=(8, 0))
        self._machines.show()
        self._here.show()
        of_what = model.here if which == THIS_COMPUTER else model
        told = of_what.doing or of_what.told
        self._told.configure(text=told)
        if told:
            self._told.grid(row=3, column=0, sticky="ew", pady=(4, 0))
        else:
            self._told.grid_forget()
        for key in [key for key in self._rows if key not in {row.key for row in model.rows}]:
            self._rows.pop(key).destroy()
        for place, row in enumerate(model.rows):
            if row.key not in self._rows:
                self._rows[row.key] = _Row(self._list, self)
            self._rows[row.key].show(row)
            self._rows[row.key].grid(row=place, column=0, sticky="ew", pady=(0, 8), padx=(0, 8))
        if model.invite is not self._invite:
            self._invite = model.invite
            if model.invite is not None:
                self._open(_InviteSheet(self, model.invite, model.close_invite))

    # --- questions

    def _open(self, overlay: Overlay) -> None:
        if self._overlay is not None and self._overlay.winfo_exists():
            self._overlay.destroy()
        self._overlay = overlay

    def _choose_role(self) -> None:
        self._open(_RoleForm(self, self.model))

    def retire(self, name: str) -> None:
        self._open(ask(self, self.model.retiring(name)))

    def keep(self, name: str) -> None:
        self.model.keep(name)

    def revoke(self, name: str) -> None:
        self._open(ask(self, self.model.revoking(name)))

    def revoke_machine(self, row: MachineRow) -> None:
        self._open(ask(self, self.model.revoking_machine(row)))

    def rename(self, name: str) -> None:
        model = self.model

        def done(new_name: str) -> None:
            act = model.renaming(name, new_name).act
            if act is not None and new_name and new_name != name:
                act()

        def command(new_name: str) -> str:
            return operator_command("rename", name, new_name)

        self._open(NameForm(self, name, command, done, model.operator.is_here))


class _Row(customtkinter.CTkFrame):
    """One device."""

    def __init__(self, parent: Any, view: DevicesView) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)
        self._view = view
        self._shown: Optional[DeviceRow] = None
        for column, weight in ((1, 8), (2, 7), (3, 12)):
            self.grid_columnconfigure(column, weight=weight, uniform="wide")
        self._dot = customtkinter.CTkFrame(self, width=12, height=12, corner_radius=6)
        self._dot.grid(row=0, column=0, rowspan=2, padx=(14, 10))
        self._called = FittingLabel(self, 24, font=font(15, bold=True), text_color=TEXT)
        self._called.grid(row=0, column=1, sticky="ew", pady=(10, 0))
        self._state = FittingLabel(self, 20, font=font(13))
        self._state.grid(row=1, column=1, sticky="ew", pady=(0, 10))
        self._shares = FittingLabel(self, 24, font=font(14), text_color=TEXT)
        self._shares.grid(row=0, column=2, sticky="ew", pady=(10, 0))
        self._seen = FittingLabel(self, 20, font=font(12), text_color=QUIET)
        self._seen.grid(row=1, column=2, sticky="ew", pady=(0, 10))
        self._room = FittingLabel(self, 24, font=font(12), text_color=QUIET)
        self._room.grid(row=0, column=3, sticky="ew", pady=(10, 0), padx=(0, 6))
        self._bar = customtkinter.CTkProgressBar(self, height=8, progress_color=ACCENT, fg_color=LINE)
        self._bar.grid(row=1, column=3, sticky="ew", pady=(0, 10), padx=(0, 12))
        rename = Button(self, "Rename", lambda: view.rename(self._device), width=64)
        self._retire = Button(self, "Retire", self._retire_or_keep, width=64)
        revoke = Button(self, "Revoke", lambda: view.revoke(self._device), text_color=DANGER, width=64)
        for column, (button, right) in enumerate(((rename, 2), (self._retire, 2), (revoke, 12)), 4):
            button.configure(font=font(13))
            button.grid(row=0, column=column, rowspan=2, padx=(2, right))

    @property
    def _device(self) -> str:
        return "" if self._shown is None else self._shown.name

    def _retire_or_keep(self) -> None:
        if self._shown is not None:
            (self._view.keep if self._shown.retiring else self._view.retire)(self._shown.name)

    def show(self, row: DeviceRow) -> None:
        if row == self._shown:
            return
        self._shown = row
        colour = TONES[row.tone]
        self._dot.configure(fg_color=colour)
        self._called.say(row.name)
        self._state.configure(text_color=colour)
        self._state.say(row.state)
        self._shares.say(f"{row.shares} shares")
        self._seen.say(f"seen {row.last_seen}")
        self._room.say(row.room)
        self._bar.set(row.fullness or 0.0)
        self._retire.configure(text="Keep" if row.retiring else "Retire")


class _RoleForm(Overlay):
    """Asks whom an invite is for."""

    def __init__(self, view: DevicesView, model: DevicesModel) -> None:
        super().__init__(view, "Invite")
        self.say("An invite lets one machine in, once, within an hour. What is it for?")
        self._role = tkinter.StringVar(self, next(iter(ROLES)))
        for role, meaning in ROLES.items():
            choice = RadioButton(self.body, meaning, variable=self._role, value=role)
            choice.grid(sticky="w", pady=5)

        def make() -> None:
            role = self._role.get()
            self.close()
            model.make_invite(role)

        cancel = self.button("Cancel", self.close)
        self.button("Make invite", make, kind="main")
        tkinter.Misc.focus_set(cancel)


class _InviteSheet(Overlay):
    """An invite, as a line to copy, as a QR code, and as a short code to type."""

    def __init__(self, view: DevicesView, invite: Invite, closed: Any) -> None:
        super().__init__(view, f"Invite for {ROLES[invite.role]}", closed)
        self.say("It works once, within an hour. Whoever reads it may use it, so show it to nobody else.")
        text = text_box(self.body, 68)
        text.insert("1.0", invite.line)
        text.configure(state="disabled")
        text.grid(sticky="ew", pady=(4, 8))
        beside = _BESIDE_QR + (_SHORT_CODE if invite.code else 0)
        self._draw_code(invite.qr, min(_QR_EDGE, int(view.winfo_height() / self._get_widget_scaling()) - beside))
        if invite.code:
            self.say("Or type this on a machine of the same network. Upper or lower case and the dashes do not matter.")
            readonly(self.body, invite.code).grid(sticky="ew", pady=(4, 8))
        self.button("Close", self.close)
        main = self.button("Copy", lambda: copy(self, invite.line), kind="main")
        tkinter.Misc.focus_set(main)

    def _draw_code(self, squares: list[list[bool]], room: int) -> None:
        """Dark on white in both appearances: not all readers take it inverted. `room`: units at most."""
        across = len(squares) + 2 * _QR_MARGIN
        square = max(2, int(room * self._get_widget_scaling()) // across)
        edge = square * across
        canvas = tkinter.Canvas(self.body, width=edge, height=edge, background="#ffffff", highlightthickness=0)
        canvas.grid(pady=(0, 2))
        for y, row in enumerate(squares, _QR_MARGIN):
            for x, dark in enumerate(row, _QR_MARGIN):
                if dark:
                    corner = (x * square, y * square, (x + 1) * square, (y + 1) * square)
                    canvas.create_rectangle(*corner, fill="#000000", width=0)
