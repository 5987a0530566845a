"""Placeholder."""

from __future__ import annotations

from typing import Callable

from desktop.background import Background
from desktop.model.model import Model
from desktop.session import Session
from producer.viewing import Viewer


class GalleryModel(Model):
    """Nothing yet."""

    def __init__(
        self, session: Session, background: Background, viewer: Viewer, reassemble: Callable[[str], None]
    ) -> None:
        super().__init__(session, background)
        self.viewer = viewer
        self.reassemble = reassemble
