"""The base of view models: observers, an error, the equivalent command; and questions before an action."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable, Optional

from common.errors import TesseraError
from desktop.background import Background
from desktop.session import Session


class Model:
    """For the window's thread only. A subclass changes its attributes and calls `changed()`.

    `doing`: the action under way, or empty. `told`: the outcome of the last one.
    """

    def __init__(self, session: Session, background: Background) -> None:
        self.session = session
        self.background = background
        self.error: Optional[TesseraError] = None
        self.doing = self.told = ""
        self.command = ""  # the equivalent in a terminal; see `commands.command_line`
        self._observers: list[Callable[[], None]] = []
        self._parts: list[Model] = []

    def include(self, *parts: Model) -> None:
        """Show the errors and commands of models that are parts of this one as its own."""
        for part in parts:
            self._parts.append(part)
            part.on_change(partial(self._part_changed, part, [None]))

    def _part_changed(self, part: Model, shown: list[Optional[TesseraError]]) -> None:
        """`shown`: the error of it that was shown last, which goes where the part has it no more."""
        if part.error is not None or self.error is shown[0]:
            self.error = shown[0] = part.error
        self.command = part.command or self.command
        self.changed()

    def on_change(self, observer: Callable[[], None]) -> Callable[[], None]:
        """Call the observer after every change; returns a function that ends that."""
        self._observers.append(observer)

        def forget() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return forget

    def changed(self) -> None:
        for observer in list(self._observers):
            observer()

    def started(self, doing: str, command: Optional[str] = None) -> None:
        """Start an action; clears the last outcome."""
        self.doing, self.told, self.error = doing, "", None
        self.command = self.command if command is None else command
        self.changed()

    def failed(self, error: TesseraError) -> None:
        """What was being done came to nothing."""
        self.doing = ""
        self.fail(error)

    def fail(self, error: TesseraError) -> None:
        """Show an error; can be the `failed` of a piece of work."""
        self.error = error
        self.changed()

    def dismiss_error(self) -> None:
        for model in (self, *self._parts):
            model.error = None
        self.changed()

    @property
    def unfinished(self) -> str:
        """What closing the window now would interrupt or lose, as a sentence; empty where nothing."""
        return ""

    def activate(self) -> None:
        """The view comes to the front."""

    def deactivate(self) -> None:
        """The view goes to the back, or the window is closed."""


@dataclass(frozen=True)
class Question:
    """`act`: the action; None where it can only be done at the broker, by the command.

    `command`: the equivalent in a terminal, or empty. `harmless`: a yes loses nothing.
    """

    title: str
    text: str
    yes: str
    command: str
    act: Optional[Callable[[], None]]
    no: str = "Cancel"
    harmless: bool = False
