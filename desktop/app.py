"""The window: first start, unlocking, the views and navigation, errors, and the equivalent command."""

from __future__ import annotations

import logging
import sys
import tkinter
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional

import customtkinter

from common.errors import TesseraError
from desktop.background import Background, as_tessera_error
from desktop.garbage import WindowCollects
from desktop.model.devices import DevicesModel
from desktop.model.first_start import FirstStartModel
from desktop.model.gallery import GalleryModel
from desktop.model.model import Model, Question
from desktop.model.reassemble import ReassembleModel
from desktop.model.safety import SafetyModel
from desktop.model.store import StoreModel
from desktop.model.unlock import UnlockModel
from desktop.session import Session, Stage
from desktop.views.controls import GROUND, reveal_focus, ring_fields
from desktop.views.devices import DevicesView
from desktop.views.first_start import FirstStartView
from desktop.views.frame import CommandLine, ErrorBar, Sidebar
from desktop.views.gallery import GalleryView
from desktop.views.overlay import Overlay, ask
from desktop.views.reassemble import ReassembleView
from desktop.views.safety import SafetyView
from desktop.views.store import StoreView
from desktop.views.unlock import UnlockView
from desktop.views.view import View
from viewer.process import Viewer

log = logging.getLogger(__name__)

# Seconds until another thread has to release the interpreter to this one, which waits for it after each call of Tk's.
# At Python's own 5 ms a window that draws much is blocked by a thread that computes.
_SWITCH = 0.0005
_USUAL_DENSITY = 96  # pixels an inch
_MOST_SCALE = 3.0
_DELIVER_EVERY = 20  # milliseconds
_DELIVER_MORE = 1  # milliseconds, while something is left: clicks and drawing are handled in between


class Route(NamedTuple):
    title: str
    view: Callable[[Any, Any], View[Any]]


ROUTES = {
    "store": Route("Store", StoreView),
    "gallery": Route("Gallery", GalleryView),
    "reassemble": Route("Reassemble", ReassembleView),
    "devices": Route("Devices", DevicesView),
    "safety": Route("Safety", SafetyView),
}


class App(customtkinter.CTk):
    """The window. `show(name)` brings a view of ROUTES to the front; `models[name]` is what it shows."""

    def __init__(self) -> None:
        super().__init__(fg_color=GROUND, className="Tessera")
        self.title("Tessera")
        _fit_to_screen(self)
        self.geometry("1180x680")
        self.minsize(900, 560)
        self.session = Session()
        self.background = Background()
        self.viewer = Viewer()  # its process decodes what this one shows
        self.viewer.start()  # while the passphrase is typed
        self._garbage = WindowCollects()
        sys.setswitchinterval(_SWITCH)
        customtkinter.set_appearance_mode(self.session.settings.appearance)
        self.models: dict[str, Model] = {}
        self._views: dict[str, View[Any]] = {}
        self._front: Optional[View[Any]] = None
        self._forget_front: Callable[[], None] = lambda: None
        self.grid_columnconfigure(1, weight=1)
        self.grid_rowconfigure(1, weight=1)
        self._sidebar = Sidebar(self, {name: route.title for name, route in ROUTES.items()}, self.show)
        self._sidebar.on_appearance(self.session.settings.appearance, self._set_appearance)
        self._errors = ErrorBar(self)
        self._commands = CommandLine(self)
        self._commands.grid(row=2, column=0, columnspan=2, sticky="ew")
        self.protocol("WM_DELETE_WINDOW", self.ask_to_close)
        self._asking: Optional[Overlay] = None
        self.overlays: list[Overlay] = []  # the one on top is the last
        self.closing: list[Callable[[], None]] = []  # what is to be done before the window is gone
        self.bind("<Escape>", lambda _: self.overlays[-1].escape() if self.overlays else None)
        for number, name in enumerate(ROUTES, 1):
            self.bind(f"<Control-Key-{number}>", lambda _event, name=name: self._show_by_key(name))
        for kind in ("Entry", "Text"):
            self.bind_class(kind, "<Control-a>", _select_all)
        ring_fields(self)
        self.bind("<FocusIn>", reveal_focus)
        self.go_on()
        self._deliver()

    # --- what is in front

    def go_on(self) -> None:
        """Show what has to be done next: the first start, or the first view once the vault is open."""
        stage = self.session.stage
        if stage is Stage.OPEN:
            self._sidebar.grid(row=0, column=0, rowspan=2, sticky="ns")
            self.show("gallery")
        elif stage is Stage.UNLOCK:
            self._bring_forward(UnlockView(self, UnlockModel(self.session, self.background, self.go_on)))
            self._name("Unlock")
        else:
            self._bring_forward(FirstStartView(self, FirstStartModel(self.session, self.background, self.go_on)))
            self._name("Welcome")

    def show(self, name: str) -> None:
        """Bring a view to the front; it is made when it is first shown."""
        if name not in self._views:
            self.models[name] = self._model(name)
            self._views[name] = ROUTES[name].view(self, self.models[name])
        self._sidebar.mark(name)
        self._bring_forward(self._views[name])
        self._name(ROUTES[name].title)

    def reassemble(self, sha256: str) -> None:
        """Reassemble an image of the vault and show the progress."""
        self.show("reassemble")
        model = self.models["reassemble"]
        if isinstance(model, ReassembleModel):
            model.begin(sha256)

    def _name(self, title: str) -> None:
        """What a taskbar shows."""
        self.title(f"{title} - Tessera")

    def _model(self, name: str) -> Model:
        session, background = self.session, self.background
        if name == "gallery":
            return GalleryModel(session, background, self.viewer, self.reassemble)
        if name == "reassemble":
            return ReassembleModel(session, background, self.viewer)
        if name == "devices":
            return DevicesModel(session, background)
        if name == "safety":
            return SafetyModel(session, background)
        return StoreModel(session, background)

    def _bring_forward(self, view: View[Any]) -> None:
        before = self._front
        if before is view:
            return
        if before is not None:
            before.model.deactivate()
            self._forget_front()
            before.grid_forget()
            if before not in self._views.values():
                before.destroy()
        self._front = view
        self._forget_front = view.model.on_change(self._show_state)
        view.grid(row=1, column=1, sticky="nsew", padx=24, pady=(18, 8))
        self.focus_set()  # what had the focus may be gone, and keys with it
        view.model.activate()
        self._show_state()

    def _show_by_key(self, name: str) -> None:
        if self._sidebar.winfo_manager():
            self.show(name)

    def _show_state(self) -> None:
        """Show the error and the command of the view in front, and reminders."""
        kept = self.session.has_codes or self.session.has_copy
        self._sidebar.remind("" if kept else "Your key is on this\ncomputer only", lambda: self.show("safety"))
        model = self._front.model if self._front is not None else None
        self._commands.show("" if model is None else model.command)
        if model is None or model.error is None:
            self._errors.grid_forget()
        else:
            self._errors.show(model.error, model.dismiss_error)
            self._errors.grid(row=0, column=1, sticky="ew", padx=24, pady=(14, 0))

    # --- work in the background

    def _deliver(self) -> None:
        left = True
        try:
            left = self.background.deliver()
            self._garbage.step()
        finally:  # an error in one delivery is shown; the others go on
            self.after(_DELIVER_MORE if left else _DELIVER_EVERY, self._deliver)

    def report_callback_exception(
        self, kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]
    ) -> None:
        """Called by Tk for an exception in a callback: show it, and go on."""
        if isinstance(error, KeyboardInterrupt):
            self.close()
            return
        shown = (
            error if isinstance(error, TesseraError) else as_tessera_error(Exception(error).with_traceback(traceback))
        )
        if self._front is not None:
            self._front.model.fail(shown)

    def _set_appearance(self, appearance: str) -> None:
        customtkinter.set_appearance_mode(appearance)
        self.session.keep_settings(appearance=appearance)

    def ask_to_close(self) -> None:
        """Close, but first ask where something would be lost or interrupted."""
        models = [*self.models.values(), *([] if self._front is None else [self._front.model])]
        unfinished = list(dict.fromkeys(model.unfinished for model in models if model.unfinished))
        if not unfinished or self._front is None:
            self.close()
        elif self._asking is None or not self._asking.winfo_exists():
            question = Question("Close Tessera?", "\n".join(unfinished), "Close", "", self.close, no="Stay")
            self._asking = ask(self._front, question)

    def close(self) -> None:
        """Clean up and end: an interrupted put can be resumed."""
        if self._front is not None:
            self._front.model.deactivate()
        for each in self.closing:
            each()
        self.withdraw()
        self.background.close()
        self.viewer.close()
        self.destroy()
        self._garbage.end()


def _select_all(event: Any) -> str:
    """Select all of a field: on X11, Tk's own Ctrl-A goes to its beginning."""
    if isinstance(event.widget, tkinter.Text):
        event.widget.tag_add("sel", "1.0", "end-1c")
    else:
        event.widget.select_range(0, "end")
    return "break"


def _fit_to_screen(window: App) -> None:
    """Scale units by the screen's density, in quarters, since few screens report theirs exactly.

    On Windows customtkinter does that itself.
    """
    if sys.platform != "win32":
        scale = max(1.0, min(_MOST_SCALE, int(4 * window.winfo_fpixels("1i") / _USUAL_DENSITY) / 4))
        customtkinter.set_widget_scaling(scale)
        customtkinter.set_window_scaling(scale)


def open_window() -> None:
    """Open the window, and return when it is closed."""
    App().mainloop()
