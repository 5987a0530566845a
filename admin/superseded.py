"""What devices hold of a vault's that was replaced, and what of it is to hold again: of any number of encodings.

As much as devices say lies in a temporary file of SQLite's, which nobody else can open and which ends with the process,
however that ends: signed commitments as they came, whose mappings are sealed. In memory is what one encoding takes.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from common.coding.commitments import content_of, leaf_of, rank
from common.errors import NoRoomError, ProtocolError
from common.protocol.codec import pack, unpack
from common.protocol.device_messages import Commitment, HeldFor
from common.protocol.messages import MOST_AHEAD

_FARTHEST = 1 << 20  # generations and revisions that devices are led on, in steps
_SCHEMA = """
PRAGMA journal_mode = OFF;
CREATE TABLE commitment (number INTEGER PRIMARY KEY, encoding BLOB, leaf BLOB, packed BLOB, UNIQUE (encoding, leaf));
CREATE TABLE said (encoding BLOB, device BLOB, share INTEGER, content BLOB, number INTEGER, part BLOB,
                   commitment INTEGER, PRIMARY KEY (encoding, device, share, content)) WITHOUT ROWID;
"""
_SAID = """SELECT said.encoding, said.number, device, part, packed FROM said
           JOIN commitment ON commitment.number = said.commitment ORDER BY said.encoding"""


class _Rank(NamedTuple):
    generation: int
    revision: int


@dataclass
class Superseded:
    """What devices say of one encoding of which something was replaced."""

    before: dict[bytes, bytes] = field(default_factory=dict)  # device → digest of what it had at the time
    said: dict[bytes, Commitment] = field(default_factory=dict)  # by that digest
    now: dict[bytes, _Rank] = field(default_factory=dict)  # device → what holds there
    everywhere: bool = True  # what each had holds there again
    signed: dict[tuple[int, int], bytes] = field(default_factory=dict)  # what was chosen, by generation and revision

    def add(self, device: bytes, part: HeldFor, commitment: Commitment) -> None:
        if device not in self.before:  # the oldest comes first
            content = self.before[device] = content_of(commitment)
            self.said[content] = min(commitment, self.said.get(content, commitment), key=rank)
            self.everywhere = self.everywhere and part.again
        self.now[device] = _Rank(part.generation, part.revision)

    @property
    def chosen(self) -> Commitment:
        """What most devices had; of as many that which ranks lowest, which was there before."""
        votes = Counter(self.before.values())
        return min(self.said.values(), key=lambda commitment: (-votes[content_of(commitment)], rank(commitment)))

    def steps(self, device: bytes) -> Iterator[Commitment]:
        """What was chosen, so that it holds; before it, what leads a device there that takes no more ahead at once."""
        chosen = self.chosen
        here = self.now.get(device, _Rank(chosen.generation, chosen.revision))
        lowest = min(each.generation for each in self.now.values()), min(each.revision for each in self.now.values())
        # Nobody has signed what a device says of what holds there: one that says too much is left behind.
        near = [each for each in self.now.values() if max(each[0] - lowest[0], each[1] - lowest[1]) <= _FARTHEST]
        generation = 1 + max((each.generation for each in near), default=lowest[0])
        revision = 1 + max((each.revision for each in near), default=lowest[1])
        ahead = max(generation - here.generation, revision - here.revision)
        for step in range(MOST_AHEAD, ahead + MOST_AHEAD, MOST_AHEAD):
            yield msgspec.structs.replace(
                chosen,
                generation=min(generation, here.generation + step),
                revision=min(revision, here.revision + step),
            )


class SupersededFile:
    """What they say of all encodings. NoRoomError where the folder for temporary files takes no more."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._count = 0

    def close(self) -> None:
        self._database.close()

    def add(self, device: bytes, part: HeldFor, commitment: Commitment, *, counts: bool) -> None:
        """Take up what a device says; `counts`: it is among `encodings`. ProtocolError where it said that before."""
        self._count += 1
        number = self._number_of(part.encoding_id, commitment) if counts else None
        name = part.encoding_id, device, part.share, content_of(commitment)
        row = *name, self._count, pack(part), number
        if self._ask("INSERT OR IGNORE INTO said VALUES (?, ?, ?, ?, ?, ?, ?)", *row).rowcount == 0:
            raise ProtocolError("the device shows something twice")

    def _number_of(self, encoding_id: bytes, commitment: Commitment) -> int:
        leaf = leaf_of(commitment)
        found = self._ask("SELECT number FROM commitment WHERE encoding = ? AND leaf = ?", encoding_id, leaf).fetchone()
        if found is None:
            row = encoding_id, leaf, pack(commitment)
            added = self._ask("INSERT INTO commitment (encoding, leaf, packed) VALUES (?, ?, ?)", *row)
            return added.lastrowid or 0
        return int(found[0])

    def _ask(self, statement: str, *values: object) -> sqlite3.Cursor:
        with _room():
            return self._database.execute(statement, values)

    def encodings(self) -> Iterator[tuple[bytes, Superseded]]:
        """Each encoding of which something counts, in the order of their ids."""
        with _room():
            for encoding_id, rows in itertools.groupby(self._database.execute(_SAID), key=lambda row: bytes(row[0])):
                superseded = Superseded()
                for _, _, device, part, packed in sorted(rows):  # as they came
                    superseded.add(device, unpack(part, HeldFor), unpack(packed, Commitment))
                yield encoding_id, superseded


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        advice = "make room there, or have TMPDIR name another folder"
        raise NoRoomError(f"the folder for temporary files takes nothing more: {error}", advice=advice) from error
