"""Trees, snapshots and plans of prunes: what a folder held, what a run recorded, what is about to be deleted."""

from __future__ import annotations

from typing import Any

import msgpack

from tests.vectors.formats.rows import Row, bad, good

FILE, FOLDER, LINK, PIPE = 1, 2, 3, 4
SHA256 = bytes(range(32))
UNSOUND = "a tree is not sound"


def entry(name: bytes = b"a.jpg", kind: int = FILE, **changed: Any) -> list[Any]:
    """An entry's fields in their order."""
    fields: dict[str, Any] = {
        "name": name,
        "type": kind,
        "mode": 0o644,
        "modified": 1_700_000_000,
        "nanoseconds": 5,
        "size": 7 if kind == FILE else None,
        "content": SHA256 if kind in (FILE, FOLDER) else None,
        "target": b"../b" if kind == LINK else None,
        "attributes": [],
        "hard_link": None,
        **changed,
    }
    return list(fields.values())


def tree(*entries: list[Any], version: int = 1) -> bytes:
    return bytes(msgpack.packb([version, list(entries)]))


def trees() -> list[Row]:
    def row(name: str, *entries: list[Any], words: str = UNSOUND) -> Row:
        return bad("tree", name, tree(*entries), "IntegrityError", words)

    whole = tree(entry())
    noted = [b"user.a", b"1"]
    return [
        good("tree", "an empty folder", tree()),
        good("tree", "a file", whole),
        good("tree", "one of each type", tree(entry(b"a"), entry(b"b", FOLDER), entry(b"c", LINK), entry(b"d", PIPE))),
        good("tree", "a name of no Unicode", tree(entry(b"\xff\xfe"))),
        good("tree", "before 1970 and a hard link", tree(entry(modified=-1, hard_link=[2**64 - 1, 7]))),
        good("tree", "extended attributes", tree(entry(attributes=[noted, [b"user.b", b""]]))),
        bad("tree", "empty", b"", "IntegrityError", UNSOUND),
        bad("tree", "last byte missing", whole[:-1], "IntegrityError", UNSOUND),
        bad("tree", "one byte behind", whole + b"\0", "IntegrityError", UNSOUND),
        bad(
            "tree",
            "a later version",
            tree(version=2),
            "IntegrityError",
            "format version 2, this program reads version 1",
        ),
        bad("tree", "written in another way", b"\x92\xcc\x01\x90", "IntegrityError", "written in another way"),
        row("two of one name", entry(), entry(), words="is not after the one before it"),
        row("out of order", entry(b"b"), entry(b"a"), words="is not after the one before it"),
        row("a name that climbs", entry(b".."), words="a name that no entry of a folder has"),
        row("its own folder", entry(b"."), words="a name that no entry of a folder has"),
        row("a path", entry(b"a/b"), words="a name that no entry of a folder has"),
        row("NUL in a name", entry(b"a\0"), words="a name that no entry of a folder has"),
        row("no name", entry(b"")),
        row("a name of 1,025 bytes", entry(b"n" * 1025)),
        row("a name that is text", entry("a")),  # type: ignore[arg-type]
        row("no such type", entry(kind=7)),
        row("more than permissions in the mode", entry(mode=0o10000)),
        row("a time of no number", entry(modified=None)),
        row("a second of nanoseconds", entry(nanoseconds=1_000_000_000)),
        row("less than nothing", entry(size=-1)),
        row("a file of no size", entry(size=None), words="another type than its size and content say"),
        row("a file of no content", entry(content=None), words="another type than its size and content say"),
        row("a folder of some size", entry(kind=FOLDER, size=1), words="another type than its size and content say"),
        row("a folder without its tree", entry(kind=FOLDER, content=None), words="another type than its size"),
        row("a SHA-256 of 31 bytes", entry(content=bytes(31))),
        row("a link to nowhere", entry(kind=LINK, target=None), words="a target that its type does not have"),
        row("a file with a target", entry(target=b"b"), words="a target that its type does not have"),
        row("NUL in a target", entry(kind=LINK, target=b"a\0"), words="a target that its type does not have"),
        row("a folder with hard links", entry(kind=FOLDER, hard_link=[1, 2]), words="is no file and has hard links"),
        row("an inode below zero", entry(hard_link=[1, -2])),
        row("attributes twice", entry(attributes=[noted, noted]), words="extended attributes out of order"),
        row("an attribute of no name", entry(attributes=[[b"", b""]])),
        row("too many attributes", entry(attributes=[[b"a", bytes(65535)], [b"b", b""]]), words="too many extended"),
        row("a field too few", entry()[:-1]),
        row("a field too many", [*entry(), None]),
    ]


def snapshot(**changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "version": 1,
        "taken_at": 1_700_000_000_000_000_005,
        "host": "laptop",
        "user": "anna",
        "label": "laptop:/home/anna/photos",
        "paths": [b"photos"],
        "root": SHA256,
        "k": 4,
        "n": 6,
        "files": 3,
        "folders": 2,
        "size": 12_345,
        "failed": 0,
        "skipped": 1,
        "nonce": bytes(16),
    }
    for name, value in changed.items():
        if value is ...:
            del fields[name]
        else:
            fields[name] = value
    return bytes(msgpack.packb(fields))


def snapshots() -> list[Row]:
    unsound = "a snapshot is not sound"

    def row(name: str, words: str = unsound, **changed: Any) -> Row:
        return bad("snapshot", name, snapshot(**changed), "IntegrityError", words)

    whole = snapshot()
    return [
        good("snapshot", "as it should be", whole),
        good("snapshot", "incomplete, and of a path that is no Unicode", snapshot(failed=1, paths=[b"\xff"])),
        bad("snapshot", "empty", b"", "IntegrityError", unsound),
        bad("snapshot", "last byte missing", whole[:-1], "IntegrityError", unsound),
        bad("snapshot", "one byte behind", whole + b"\0", "IntegrityError", unsound),
        row("a later version", "format version 2, this program reads version 1", version=2),
        row("before 1970", taken_at=-1),
        row("a host of 256 characters", host="h" * 256),
        row("a user that is no text", user=b"anna"),
        row("no label", label=""),
        row("a label of 4,097 characters", label="l" * 4097),
        row("paths that are text", paths=["photos"]),
        row("a root of 31 bytes", root=bytes(31)),
        row("k over n", "k = 7 is more than n = 6", k=7),
        row("k of 1", k=1),
        row("n of 65", n=65),
        row("less than no files", files=-1),
        row("less than no folders", folders=-1),
        row("less than no bytes", size=-1),
        row("less than nothing failed", failed=-1),
        row("less than nothing skipped", skipped=-1),
        row("a nonce of 15 bytes", nonce=bytes(15)),
        row("no nonce", nonce=...),
        row("a field too many", note="hello"),
    ]


def prune_plans() -> list[Row]:
    nonce, first, second = bytes(range(16)), bytes(32), b"\1" * 32

    def row(name: str, content: bytes) -> Row:
        return bad("prune-plan", name, content, "IntegrityError", "the plan of a prune is not sound")

    return [
        good("prune-plan", "of two", nonce + first + second),
        good("prune-plan", "of none", nonce),
        row("empty", b""),
        row("a nonce of 15 bytes", nonce[:15]),
        row("last byte missing", nonce + first + second[:-1]),
        row("one byte behind", nonce + first + second + b"\0"),
        row("not in order", nonce + second + first),
        row("one twice", nonce + first + first),
    ]


def tree_rows() -> list[Row]:
    return [*trees(), *snapshots(), *prune_plans()]
