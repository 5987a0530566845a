"""What is asked before something is done that cannot simply be taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional


@dataclass(frozen=True)
class Question:
    """`act`: what a yes does; None where it can only be done at the broker, by the command.

    `command`: what does the same in a terminal; empty where nothing does. `harmless`: nothing is lost by a yes.
    """

    title: str
    text: str
    yes: str
    command: str
    act: Optional[Callable[[], None]]
    no: str = "Cancel"
    harmless: bool = False
