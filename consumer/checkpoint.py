"""How far the restoring of one encoding has come: what another attempt need not fetch again."""

from __future__ import annotations

from dataclasses import dataclass, field

Blocks = dict[int, memoryview]  # by share


@dataclass
class Checkpoint:
    """The first `segments` are written; `blocks`: good blocks of the next few, by segment and share."""

    segments: int = 0
    blocks: dict[int, Blocks] = field(default_factory=dict)

    def of(self, segment: int) -> Blocks:
        """The good blocks of a segment that is not written yet; add to it."""
        return self.blocks.setdefault(segment, {})

    def wrote(self, segment: int) -> None:
        """The next segment is written: its blocks are not needed any more."""
        self.segments = segment + 1
        self.blocks.pop(segment, None)

    def forget(self) -> None:
        """Start anew."""
        self.segments = 0
        self.blocks.clear()
