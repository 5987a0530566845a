"""What differs between two snapshots. Pure."""

from __future__ import annotations

from typing import Optional

import msgspec

from common.vault.tree import EntryType
from consumer.snapshots import Listed, Path

Difference = tuple[str, Path, Optional[Path]]  # what, path, and the new path where it was renamed


def differences(before: dict[Path, Listed], after: dict[Path, Listed]) -> list[Difference]:
    """What differs: `added`, `removed`, `changed`, or `renamed` with the new path, by path.

    A file is renamed where one path of its content went and another came. A folder has not changed for what is in it.
    """
    gone = {path: each for path, each in before.items() if path not in after}
    new = {path: each for path, each in after.items() if path not in before}
    by_content: dict[bytes, list[Path]] = {}
    for path, each in new.items():
        if each.entry.type is EntryType.FILE and each.entry.content is not None:
            by_content.setdefault(each.entry.content, []).append(path)
    changes: list[Difference] = [
        ("changed", path, None) for path in before if path in after and _differ(before[path], after[path])
    ]
    for path, each in gone.items():
        others = by_content.get(each.entry.content or b"", []) if each.entry.type is EntryType.FILE else []
        if others:
            other = others.pop(0)
            del new[other]
            changes.append(("renamed", path, other))
        else:
            changes.append(("removed", path, None))
    changes += [("added", path, None) for path in new]
    return sorted(changes, key=lambda change: change[1])


def _differ(one: Listed, other: Listed) -> bool:
    if one.entry.type is EntryType.FOLDER and other.entry.type is EntryType.FOLDER:
        return (one.entry.mode, one.entry.attributes) != (other.entry.mode, other.entry.attributes)
    return msgspec.structs.replace(one.entry, hard_link=None) != msgspec.structs.replace(other.entry, hard_link=None)
