"""What this computer runs beside the window: a device, a broker, and setting them up."""

from __future__ import annotations

import tkinter
from tkinter import filedialog
from typing import Any, Callable, Optional

import customtkinter

from desktop.model.operator import operator_command
from desktop.model.service import Program, ServiceStatus, State
from desktop.model.this_computer import Device, ThisComputerModel
from desktop.views.controls import GROUND, LINE, PANEL, Button, CheckBox, Scrolling, font, heading, note, text_box, wrap
from desktop.views.overlay import Overlay, ask

_TITLES = {Program.WORKER: "Keep shares on this computer", Program.BROKER: "Run a broker on this computer"}


class ThisComputer(Scrolling):
    """`open_over`: called with an overlay, which replaces the present one."""

    def __init__(self, view: Any, model: ThisComputerModel, open_over: Callable[[Overlay], None]) -> None:
        super().__init__(view, GROUND)
        self.grid_columnconfigure(0, weight=1)
        self._cards = [_Card(self, view, model, program, open_over) for program in (Program.WORKER, Program.BROKER)]
        for row, card in enumerate(self._cards):
            card.grid(row=row, column=0, sticky="ew", pady=(0, 10), padx=(0, 8))

    def show(self) -> None:
        for card in self._cards:
            card.show()


class _Card(customtkinter.CTkFrame):
    """One of the programs: its state, and its actions."""

    def __init__(
        self,
        parent: Any,
        view: Any,
        model: ThisComputerModel,
        program: Program,
        open_over: Callable[[Overlay], None],
    ) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)
        self._view, self._model, self._program, self._open_over = view, model, program, open_over
        self._shown: Optional[tuple[Optional[ServiceStatus], bool]] = None
        self.grid_columnconfigure(0, weight=1)
        heading(self, _TITLES[program], size=17).grid(row=0, column=0, sticky="ew", padx=20, pady=(14, 2))
        self._words = note(self)
        self._words.grid(row=1, column=0, sticky="ew", padx=20)
        self._buttons = customtkinter.CTkFrame(self, fg_color="transparent", height=0)
        self._buttons.grid(row=2, column=0, sticky="w", padx=14, pady=(8, 14))
        self.bind("<Configure>", lambda event: wrap(self._words, event.width - 44), add=True)

    def show(self) -> None:
        status, busy = self._model.statuses.get(self._program), bool(self._model.doing)
        if (status, busy) == self._shown:
            return
        self._shown = status, busy
        self._words.configure(text=self._model.words(self._program))
        for button in self._buttons.winfo_children():
            button.destroy()
        for column, (text, act) in enumerate(self._offered(status)):
            button = Button(self._buttons, text, act, state="disabled" if busy else "normal")
            button.grid(row=0, column=column, padx=6)

    def _offered(self, status: Optional[ServiceStatus]) -> list[tuple[str, Callable[[], None]]]:
        """The buttons."""
        view, model, program, open_over = self._view, self._model, self._program, self._open_over
        is_device = program is Program.WORKER
        if status is None or status.state is State.ELSEWHERE:
            return []
        if status.state is State.OFF and is_device:
            return [("Make this computer a device …", lambda: open_over(DeviceForm(view, model)))]
        if status.state is State.OFF and not model.operator.is_here:
            return [("Make this computer a broker, too …", lambda: open_over(OtherBrokerForm(view, model)))]
        start = [] if status.state is State.RUNNING else [("Start it", lambda: model.start_again(program))]
        if not status.is_set_up:
            return start
        stop = "Stop being a device …" if is_device else "Stop being a broker …"
        return [*start, (stop, lambda: open_over(ask(view, model.stopping(program))))]


class _SetUpForm(Overlay):
    """Stays open until its action is done: after an error it can be corrected and tried again."""

    def __init__(self, view: Any, title: str, model: ThisComputerModel) -> None:
        super().__init__(view, title, model.on_change(self._changed))
        self._model = model
        self._done = model.done  # completed actions, when it was opened

    def _end(self, yes: str, first: Any = None) -> None:
        """Add the last line of the form and its buttons. `first`: what has the focus, by default the yes button."""
        self._doing = note(self.body)
        self._doing.grid(sticky="ew")
        self.button("Cancel", self.close)
        self._yes = self.button(yes, self._begin, kind="main")
        self._yes.configure(width=150)
        if first is None:
            tkinter.Misc.focus_set(self._yes)
        else:
            first.focus_set()

    def _begin(self) -> None:
        raise NotImplementedError

    def _changed(self) -> None:
        if not self.winfo_exists():
            return
        if self._model.done != self._done:
            self.close()
            return
        self._doing.configure(text=self._model.doing)
        self._yes.configure(state="disabled" if self._model.doing else "normal")

    def _invite_box(self, text: str) -> Any:
        note(self.body, text, 464).grid(sticky="ew", pady=(4, 2))
        box = text_box(self.body, 46)
        box.grid(sticky="ew", pady=(0, 6))
        return box


class DeviceForm(_SetUpForm):
    """Asks where shares are kept, and how much room they get."""

    def __init__(self, view: Any, model: ThisComputerModel) -> None:
        super().__init__(view, "Make this computer a device", model)
        self.say("It keeps shares, now and again at each login, and can read none.")
        self._invite: Any = None
        if not model.operator.is_here:
            self._invite = self._invite_box(
                f"An invite, made at the broker by: {operator_command('invite', 'worker')}. Its line or its short "
                "code; none where the folder was a device of this cluster before."
            )
        self._store = _StoreFields(self.body, model.suggested)
        self._store.grid(sticky="ew")
        self._end("Make it a device", self._invite)

    def _begin(self) -> None:
        invite = "" if self._invite is None else self._invite.get("1.0", "end")
        self._model.become_device(self._store.device(invite))


class BrokerForm(_SetUpForm):
    """Asks whether to start a cluster on this computer, and to keep shares in it."""

    def __init__(self, view: Any, model: ThisComputerModel, name: Callable[[], str]) -> None:
        super().__init__(view, "Make this computer the broker", model)
        self._machine = name
        self.say(
            "It begins a cluster of its own: all devices and all who store reach each other through it, so it should "
            "always be on. Its firewall must let TCP ports 5570 and 5571 in. It starts now, and again at each login."
        )
        self._also = tkinter.BooleanVar(self, True)
        also = CheckBox(self.body, "Also keep shares on this computer", variable=self._also, command=self._fit)
        also.grid(sticky="w", pady=(4, 6))
        self._store = _StoreFields(self.body, model.suggested)
        self._store.grid(sticky="ew")
        self._end("Make it the broker")

    def _fit(self) -> None:
        (self._store.grid if self._also.get() else self._store.grid_remove)()

    def _begin(self) -> None:
        self._model.become_broker(self._machine(), self._store.device() if self._also.get() else None)


class OtherBrokerForm(_SetUpForm):
    """Asks for the invite of one more broker."""

    def __init__(self, view: Any, model: ThisComputerModel) -> None:
        super().__init__(view, "Make this computer a broker, too", model)
        self.say(
            "With two brokers everything goes on when one is away. It should always be on; its firewall must let TCP "
            "ports 5570 and 5571 in. It starts now, and again at each login."
        )
        self._invite = self._invite_box(f"An invite, made at the broker by: {operator_command('invite', 'broker')}.")
        self._end("Make it a broker", self._invite)

    def _begin(self) -> None:
        self._model.become_other_broker(self._invite.get("1.0", "end"))


class _StoreFields(customtkinter.CTkFrame):
    """Where shares are kept, how much room they get, and whether the computer is often away."""

    def __init__(self, parent: Any, suggested: Device) -> None:
        super().__init__(parent, fg_color="transparent")
        self.grid_columnconfigure(0, weight=1)
        note(self, "The folder for shares").grid(row=0, column=0, sticky="w")
        self._folder = customtkinter.CTkEntry(self, font=font(), height=34)
        self._folder.insert(0, suggested.folder)
        self._folder.grid(row=1, column=0, sticky="ew", padx=(0, 10))
        Button(self, "Choose…", self._choose, width=100).grid(row=1, column=1)
        note(self, "The most that they may take, such as 100G; empty for all but a reserve").grid(
            row=2, column=0, columnspan=2, sticky="w", pady=(6, 0)
        )
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid(row=3, column=0, columnspan=2, sticky="w")
        self._room = customtkinter.CTkEntry(row, font=font(), height=34, width=120)
        self._room.insert(0, suggested.room)
        self._room.grid(row=0, column=0)
        self._laptop = tkinter.BooleanVar(self, False)
        laptop = CheckBox(row, "It is a laptop, which may be away for days", variable=self._laptop)
        laptop.grid(row=0, column=1, padx=(16, 0))

    def device(self, invite: str = "") -> Device:
        return Device(self._folder.get(), self._room.get(), self._laptop.get(), invite)

    def _choose(self) -> None:
        chosen = filedialog.askdirectory(parent=self, title="The folder for shares", mustexist=False)
        if chosen:
            self._folder.delete(0, "end")
            self._folder.insert(0, chosen)
