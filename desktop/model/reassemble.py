"""Placeholder."""

from __future__ import annotations

from desktop.background import Background
from desktop.model.model import Model
from desktop.session import Session
from producer.viewing import Viewer


class ReassembleModel(Model):
    """Nothing yet."""

    def __init__(self, session: Session, background: Background, viewer: Viewer) -> None:
        super().__init__(session, background)
        self.viewer = viewer

    def begin(self, sha256: str) -> None:
        """Bring back the image with this hash."""
