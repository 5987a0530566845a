"""What the survey found of encodings, and what is to be done about them and when: rows beside the catalog's.

However many lack something, none of them is in memory: queues are indexes of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from broker.catalog_rows import CatalogRows, groups
from broker.steward.assessment import State

_STATES = tuple(State)
_COLUMNS = "encoding, state, spare, unannounced, incomplete, bytes_left, leaving, since, stale, k, n"


class Found(NamedTuple):
    """Of an encoding that is not simply whole. `state`: None where it was deleted, and devices still hold shares of it.

    since: when it was first found as it is, in monotonic seconds, and stale: when it was first found to have shares
    that are stale, or was taken last; None where that does not matter.
    """

    state: Optional[State]
    spare: int = 0
    unannounced: bool = False
    incomplete: bool = False
    bytes_left: int = 0
    leaving: tuple[bytes, ...] = ()  # retiring devices, one for each share that only they have
    since: Optional[float] = None
    stale: Optional[float] = None
    code: tuple[int, int] = (0, 0)  # k and n of what was deleted

    @property
    def in_danger(self) -> bool:
        """As of `Finding`."""
        return self.spare == 0 and self.state in (State.WAITING, State.LACKING)


class ToDo(NamedTuple):
    """What is to be done about an encoding."""

    owner: Optional[bytes] = None  # whose turn it is where it lacks something; None where it does not
    drop_surplus: bool = False
    look_again: Optional[float] = None  # when


NOTHING = ToDo()


class Findings:
    def __init__(self, rows: CatalogRows) -> None:
        """CatalogDamaged as from each method, where the rows cannot be read or written."""
        self._rows = rows
        self._held: dict[bytes, Optional[Found]] = {}  # of those that are being looked at
        self._changed: dict[bytes, tuple[Optional[Found], ToDo]] = {}  # what is to be written of these
        self._count = 0  # of rows: where there are none, none is asked for
        self._may_lack = self._may_have_surplus = False  # whether these queues may have anything
        self._next_due = self._next_stale = math.inf  # before which the others have nothing
        self._turn = b""  # the owner whose turn it was last
        with rows.asked():
            rows.begin()
            rows.connection.execute("DELETE FROM findings")  # of a run before: all is looked at anew

    def hold(self, encoding_ids: Sequence[bytes]) -> None:
        """Read all of these at once."""
        self._held.update(dict.fromkeys(encoding_ids))
        for some in groups(encoding_ids if self._count else ()):
            marks = ",".join("?" * len(some))
            with self._rows.asked():
                statement = f"SELECT {_COLUMNS} FROM findings WHERE encoding IN ({marks})"  # noqa: S608
                for row in self._rows.connection.execute(statement, some):
                    self._held[row[0]] = _found(*row[1:])

    def get(self, encoding_id: bytes) -> Optional[Found]:
        """None where an encoding is whole, or there is none."""
        if encoding_id not in self._held:
            self.hold([encoding_id])
        return self._held[encoding_id]

    def put(self, encoding_id: bytes, found: Optional[Found], to_do: ToDo = NOTHING) -> None:
        self._count += (found is not None) - (self.get(encoding_id) is not None)
        self._held[encoding_id] = found
        self._changed[encoding_id] = found, to_do

    def write(self) -> None:
        """Write what was put, and hold nothing any more."""
        gone, rows = [], []
        for encoding_id, (found, to_do) in sorted(self._changed.items(), key=lambda each: each[0]):
            if found is None:
                gone.append((encoding_id,))
            else:
                rows.append(_row(encoding_id, found, to_do))
                self._note(found, to_do)
        self._changed.clear()
        self._held.clear()
        if not gone and not rows:
            return
        with self._rows.asked():
            self._rows.begin()
            self._rows.connection.executemany("DELETE FROM findings WHERE encoding = ?", gone)
            values = ",".join("?" * 14)
            self._rows.connection.executemany(f"INSERT OR REPLACE INTO findings VALUES ({values})", rows)  # noqa: S608

    def _note(self, found: Found, to_do: ToDo) -> None:
        """What the queues have from now on."""
        self._may_lack |= to_do.owner is not None
        self._may_have_surplus |= to_do.drop_surplus
        self._next_due = min(self._next_due, math.inf if to_do.look_again is None else to_do.look_again)
        self._next_stale = min(self._next_stale, math.inf if found.stale is None else found.stale)

    # --- what is to be done

    def take_lacking(self) -> Optional[tuple[bytes, int]]:
        """An encoding that lacks something, and its spare; owners take turns, the least spare of each comes first."""
        for after in (self._turn, b"") if self._may_lack else ():
            owner = self._one("SELECT owner FROM findings WHERE owner > ? ORDER BY owner LIMIT 1", after)
            if owner is not None:
                break
        else:
            self._may_lack = False
            return None
        self._turn = bytes(owner[0])
        taken = self._one("SELECT encoding, spare FROM findings WHERE owner = ? ORDER BY spare LIMIT 1", self._turn)
        if taken is None:
            return None
        self._do("UPDATE findings SET owner = NULL WHERE encoding = ?", taken[0])
        return taken[0], taken[1]

    def has_lacking(self) -> bool:
        """Whether `take_lacking` has any."""
        return self._may_lack and self._one("SELECT 1 FROM findings WHERE owner IS NOT NULL LIMIT 1") is not None

    def count_lacking(self, owner: Optional[bytes]) -> int:
        """How many of them are an owner's, or all."""
        counted = "SELECT count(*) FROM findings WHERE owner"
        row = self._one(f"{counted} IS NOT NULL") if owner is None else self._one(f"{counted} = ?", owner)
        return 0 if row is None else int(row[0])

    def take_surplus(self) -> Optional[bytes]:
        taken = self._one("SELECT encoding FROM findings WHERE surplus LIMIT 1") if self._may_have_surplus else None
        if taken is None:
            self._may_have_surplus = False
            return None
        self._do("UPDATE findings SET surplus = NULL WHERE encoding = ?", taken[0])
        return bytes(taken[0])

    def take_due(self, now: float, limit: int) -> list[bytes]:
        """Those that are to be looked at again by now."""
        if now < self._next_due:
            return []
        due = self._all("SELECT encoding FROM findings WHERE again <= ? ORDER BY again LIMIT ?", now, limit)
        if due:
            with self._rows.asked():
                self._rows.begin()
                done = "UPDATE findings SET again = NULL WHERE encoding = ?"
                self._rows.connection.executemany(done, [(encoding_id,) for encoding_id in due])
        earliest = self._one("SELECT min(again) FROM findings WHERE again IS NOT NULL")
        self._next_due = math.inf if earliest is None or earliest[0] is None else float(earliest[0])
        return due

    def stale_since(self, when: float, limit: int) -> list[bytes]:
        if when < self._next_stale:
            return []
        return self._all("SELECT encoding FROM findings WHERE stale <= ? ORDER BY stale LIMIT ?", when, limit)

    def take_stale(self, encoding_id: bytes, now: float) -> None:
        self._do("UPDATE findings SET stale = ? WHERE encoding = ?", now, encoding_id)

    def not_whole(self, after: bytes, limit: int) -> list[bytes]:
        """Up to `limit` behind `after`, in order of their ids."""
        statement = "SELECT encoding FROM findings WHERE encoding > ? AND state > 0 ORDER BY encoding LIMIT ?"
        return self._all(statement, after, limit)

    def without_encoding(self, after: bytes, limit: int) -> tuple[list[bytes], Optional[bytes]]:
        """Of up to `limit` behind `after` those that the catalog has not, and the last; None where none was left."""
        some = self._all("SELECT encoding FROM findings WHERE encoding > ? ORDER BY encoding LIMIT ?", after, limit)
        gone = "encoding > ? AND encoding <= ? AND encoding NOT IN (SELECT encoding FROM encodings)"
        if not some:
            return [], None
        return self._all(f"SELECT encoding FROM findings WHERE {gone}", after, some[-1]), some[-1]  # noqa: S608

    def _one(self, statement: str, *values: object) -> Optional[tuple[Any, ...]]:
        if not self._count:
            return None
        with self._rows.asked():
            row: Optional[tuple[Any, ...]] = self._rows.connection.execute(statement, values).fetchone()
            return row

    def _all(self, statement: str, *values: object) -> list[bytes]:
        if not self._count:
            return []
        with self._rows.asked():
            return [row[0] for row in self._rows.connection.execute(statement, values)]

    def _do(self, statement: str, *values: object) -> None:
        with self._rows.asked():
            self._rows.begin()
            self._rows.connection.execute(statement, values)


def _row(encoding_id: bytes, found: Found, to_do: ToDo) -> tuple[object, ...]:
    state = -1 if found.state is None else _STATES.index(found.state)
    leaving = b"".join(found.leaving)
    what = state, found.spare, found.unannounced, found.incomplete, found.bytes_left, leaving, found.since, found.stale
    return (encoding_id, *what, *found.code, to_do.owner, to_do.drop_surplus or None, to_do.look_again)


def _found(
    state: int,
    spare: int,
    unannounced: int,
    incomplete: int,
    bytes_left: int,
    leaving: bytes,
    since: Optional[float],
    stale: Optional[float],
    k: int,
    n: int,
) -> Found:
    devices = tuple(leaving[at : at + 16] for at in range(0, len(leaving), 16))
    known = None if state < 0 else _STATES[state]
    return Found(known, spare, bool(unannounced), bool(incomplete), bytes_left, devices, since, stale, (k, n))
