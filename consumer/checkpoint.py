"""How far the restoring of one encoding has come: what another attempt need not ask for again."""

from __future__ import annotations

from dataclasses import dataclass, field

Blocks = dict[int, memoryview]  # by share


@dataclass
class Checkpoint:
    """`segments` are written, from the first on; `blocks` are good blocks of those behind them, by segment and share.

    There are never blocks of more segments than are gathered ahead.
    """

    segments: int = 0
    blocks: dict[int, Blocks] = field(default_factory=dict)

    def of(self, segment: int) -> Blocks:
        """The good blocks of a segment that is not written yet, to which those that come are added."""
        return self.blocks.setdefault(segment, {})

    def wrote(self, segment: int) -> None:
        """The next segment is written: its blocks are not needed any more."""
        self.segments = segment + 1
        self.blocks.pop(segment, None)

    def forget(self) -> None:
        """Nothing of it is any good."""
        self.segments = 0
        self.blocks.clear()
