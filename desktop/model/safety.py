"""Placeholder."""

from __future__ import annotations

from desktop.model.model import Model


class SafetyModel(Model):
    """Nothing yet."""
