"""What came of work on images, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from desktop.model.entries import Tone


@dataclass(frozen=True)
class Finding:
    """What was found of one image that is not as it should be, or what became of it."""

    name: str
    words: str
    tone: Tone


@dataclass(frozen=True)
class Report:
    """What came of work on images: the sum, and each that is not as it should be."""

    summary: str
    tone: Tone
    findings: list[Finding]
    at: Optional[float] = None  # Unix seconds; when it was found, and may be different since

    @property
    def words(self) -> str:
        """The summary, and of what time it is."""
        if self.at is None:
            return self.summary
        return f"{self.summary} As of {datetime.fromtimestamp(self.at):%H:%M}."
