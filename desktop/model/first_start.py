"""Placeholder."""

from __future__ import annotations

from typing import Callable

from desktop.background import Background
from desktop.model.model import Model
from desktop.session import Session


class FirstStartModel(Model):
    """Nothing yet."""

    def __init__(self, session: Session, background: Background, go_on: Callable[[], None]) -> None:
        super().__init__(session, background)
        self.go_on = go_on
