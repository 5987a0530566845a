"""The plan of names: under which path each entry of a snapshot is restored. Pure and deterministic.

It is made for a whole run before the first file is opened. A name stays what it is where the target takes it. Where the
target refuses it, or would put two entries on one path (as file systems do that fold case or Unicode's forms), it is
mended: by a name that is safe everywhere, and the first digits of the SHA-256 of the real name, so that it is the same
in every run. Of names that would fall together the first, by its bytes, keeps its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Protocol

from consumer.output import safe_name

Path = tuple[bytes, ...]
_DIGITS = 8


class Target(Protocol):
    """What the file system of the target does with names."""

    def takes(self, name: bytes) -> bool:
        """Whether a file can have this name there."""
        ...

    def folded(self, name: bytes) -> bytes:
        """What names have in common that lead to one file there."""
        ...


class Plan:
    """Under which names each entry is restored. Only of what is mended is anything kept.

    `mended`: entry's path → its name, where that is not its own.
    """

    def __init__(self, mended: dict[Path, bytes]) -> None:
        self.mended = mended

    def name(self, path: Path) -> bytes:
        """The name of the entry with this path, which is not empty."""
        return self.mended.get(path, path[-1])

    def names(self, path: Path) -> Path:
        """The names, from the target on, under which the entry with this path is restored."""
        return tuple(self.name(path[:depth]) for depth in range(1, len(path) + 1))


def plan_names(entries: Iterable[Path], target: Target) -> Plan:
    """The plan for entries, each once, folders among them before what is in them."""
    below: dict[Path, list[bytes]] = {}
    for path in entries:
        below.setdefault(path[:-1], []).append(path[-1])
    mended: dict[Path, bytes] = {}
    for folder, inside in below.items():
        given = _in_folder(sorted(set(inside)), target)
        mended.update({(*folder, name): given[name] for name in inside if given[name] != name})
    return Plan(mended)


def _in_folder(names: list[bytes], target: Target) -> dict[bytes, bytes]:
    """Name → the name under which it is restored, of what is in one folder."""
    given: dict[bytes, bytes] = {}
    taken: set[bytes] = set()
    left = []
    for name in names:
        folded = target.folded(name)
        if folded not in taken and target.takes(name):
            taken.add(folded)
            given[name] = name
        else:
            left.append(name)
    for name in left:
        given[name] = _mended(name, lambda other: target.folded(other) not in taken)
        taken.add(target.folded(given[name]))
    return given


def _mended(name: bytes, is_free: Callable[[bytes], bool]) -> bytes:
    """A name that every file system takes, and that is free."""
    digits = hashlib.sha256(name).hexdigest()
    safe = safe_name(os.fsdecode(name).encode("utf-8", "replace").decode())
    stem, dot, suffix = safe.rpartition(".")
    if not stem:
        stem, dot, suffix = safe, "", ""
    for length in range(_DIGITS, len(digits) + 1):
        candidate = f"{stem}-{digits[:length]}{dot}{suffix}".encode()
        if is_free(candidate):
            return candidate
    raise AssertionError("two names have one SHA-256")
