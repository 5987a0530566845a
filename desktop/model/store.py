"""Placeholder."""

from __future__ import annotations

from desktop.model.model import Model


class StoreModel(Model):
    """Nothing yet."""
