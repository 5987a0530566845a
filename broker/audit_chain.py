"""The chain of the audit log's lines: each names the SHA-256 of the line before it, so that none changes unnoticed.

`previous` is the SHA-256 (hexadecimal) of the line before, without its line feed; 64 zeros in the very first. Whoever
can write the file can also write the whole chain anew: that it was not shows a digest which was noted elsewhere, as a
syslog does with every line. No disk: contents of files come in, lines go out. After Schneier and Kelsey, "Secure Audit
Logs to Support Computer Forensics" (1999), section 3.1, without its keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional, Union

from common.errors import IntegrityError

FIRST = "0" * 64  # in the place of the digest of a line before the first

Fact = Union[str, int]


class Tail(NamedTuple):
    """Where a file's chain ends: the whole lines, and the bytes behind them that a power cut left of one."""

    lines: list[bytes]  # without line feeds
    torn: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.lines[-1]) if self.lines else FIRST


class Chain(NamedTuple):
    """A chain that is whole; `begin` and `end` are the times in its first and its last line."""

    lines: int
    begin: str
    end: str
    digest: str  # of the last line


def digest_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def chained(records: Iterable[Mapping[str, Fact]], digest: str) -> list[bytes]:
    """The lines of these records, without line feeds, behind the line with this digest."""
    lines = []
    for record in records:
        line = json.dumps({"previous": digest, **record}).encode("ascii")
        digest = digest_of(line)
        lines.append(line)
    return lines


def tail_of(content: bytes) -> Tail:
    """What the end of a file, from the beginning of a line on, consists of."""
    lines = content.split(b"\n")
    torn = [lines.pop()]
    while lines and _entry(lines[-1]) is None:
        torn.insert(0, lines.pop())
    return Tail(lines, b"\n".join(torn))


def check(files: Sequence[tuple[str, bytes]], *, from_start: bool, includes: Optional[str] = None) -> Chain:
    """Follow the chain through files (name, content), the oldest first.

    `from_start`: the files reach back to the very first line. `includes`: the digest of a line that must be among them.
    IntegrityError, with file and line, where the chain is broken.
    """
    begin, end, digest, count, found = "", "", None, 0, includes is None
    for name, content in files:
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            entry = _entry(line)
            if entry is None or not isinstance(entry.get("previous"), str):
                raise IntegrityError(f"{name}, line {number}: this is no line of the audit log")
            previous = entry["previous"]
            if digest is None and from_start and previous != FIRST:
                raise IntegrityError(f"{name}, line {number}: the lines before it are missing")
            if digest is not None and previous != digest:
                raise IntegrityError(
                    f"{name}, line {number}: the line before it is not the one that it was written behind: "
                    "one of the two was changed, or lines were taken out or put in"
                )
            digest, end, count = digest_of(line), str(entry.get("time")), count + 1
            begin = begin or end
            found = found or digest == includes
        if torn:
            raise IntegrityError(f"{name}: its last line is not whole", advice="the broker's next line repairs that")
    if not found:
        raise IntegrityError(f"no line of the audit log has the SHA-256 {includes}: lines were cut off, or changed")
    return Chain(count, begin, end, digest or FIRST)


def _entry(line: bytes) -> Optional[dict[str, object]]:
    """What a line says; None where it is no whole one."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
