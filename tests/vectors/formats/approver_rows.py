"""Approvers as a device keeps them, and what they sign: a reference of its own, which shares no code with Tessera."""

from __future__ import annotations

import struct
from typing import Any, Optional

from blake3 import blake3
from msgpack import packb

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.vault.reference import ENCODING_ID, OTHER_ENCODING_ID, OTHER_KEY, VAULT_KEY, owner_key, signing_key

_UNKNOWN = "UnknownVersionError"
_ANNA, _BOB, _CARL = (bytes([number]) * 32 for number in (51, 52, 53))
Named = list[Any]  # owner key, generation, approvers, needed, signature


def _said(generation: int, approvers: list[bytes], needed: int) -> bytes:
    return b"tessera/v1/approvers" + struct.pack(">IB", generation, needed) + blake3(b"".join(approvers)).digest()


def _named(generation: int = 1, needed: int = 2, key: bytes = VAULT_KEY) -> Named:
    approvers = sorted(map(owner_key, (_ANNA, _BOB, _CARL)))
    signature = signing_key(key).sign(_said(generation, approvers, needed))
    return [owner_key(key), generation, approvers, needed, signature]


_NAMED = _named()


def _record(
    in_effect: Optional[Named] = _NAMED, under_way: Optional[Named] = None, magic: str = "tessera-approvers",
    version: int = 1, times: tuple[int, int] = (2**31, 2**31 + 604800),
) -> bytes:  # fmt: skip
    body = bytes(packb([magic, version, in_effect, under_way, *times]))
    return body + bytes(packb(blake3(body).digest()))


def _records() -> list[Row]:
    def row(name: str, data: bytes, words: str, error: str = "IntegrityError") -> Row:
        return bad("approvers", name, data, error, words)

    whole = _record()
    changed = bytearray(whole)
    changed[40] ^= 1
    short = [*_NAMED[:2], [bytes(31)], 2, _NAMED[4]]
    return [
        good("approvers", "in effect", whole),
        good("approvers", "under way", _record(None, _NAMED)),
        good("approvers", "both", _record(_NAMED, _named(2))),
        row("empty", b"", "the file is damaged"),
        row("cut", whole[:-1], "the file is damaged"),
        row("a byte changed", bytes(changed), "the file is damaged"),
        row("another magic", _record(magic="tessera-approver"), "this is no approvers"),
        row("a later version", _record(version=2), "of version 2 of its format", _UNKNOWN),
        row("no list", _record(None), "names no approvers"),
        row("of two owners", _record(_NAMED, _named(2, key=OTHER_KEY)), "approvers of two owners"),
        row("a key of 31 bytes", _record(short), "no format that this worker knows", _UNKNOWN),
        row("before 1970", _record(times=(-1, 0)), "no format that this worker knows", _UNKNOWN),
    ]


def _part(*deletions: tuple[bytes, int]) -> bytes:
    return blake3(b"".join(encoding + struct.pack(">I", generation) for encoding, generation in deletions)).digest()


_DELETED = (ENCODING_ID, 1)
_PARTS = [_part((OTHER_ENCODING_ID, 3)), _part(_DELETED)]


def _approval(key: bytes, named: Named = _NAMED, parts: list[bytes] = _PARTS) -> list[bytes]:
    listed = blake3(named[0] + _said(named[1], named[2], named[3])).digest()
    statement = b"tessera/v1/emptying" + listed + blake3(b"".join(parts)).digest()
    return [owner_key(key), signing_key(key).sign(statement)]


def _approved(
    approvals: list[list[bytes]], named: Named = _NAMED, parts: list[bytes] = _PARTS, deleted: Any = _DELETED
) -> bytes:
    return bytes(packb([named, approvals, [parts, [list(deleted)]]]))


def _approvals() -> list[Row]:
    def row(name: str, data: bytes, words: str) -> Row:
        return bad("approved emptying", name, data, "IntegrityError", words)

    anna, bob = _approval(_ANNA), _approval(_BOB)
    later, other, three = _named(2), _named(key=OTHER_KEY), _named(needed=3)
    unsigned = [*_NAMED[:3], 3, _NAMED[4]]
    unordered = [*_NAMED[:2], _NAMED[2][::-1], *_NAMED[3:]]
    return [
        good("approved emptying", "by two", _approved([anna, bob])),
        good("approved emptying", "by three", _approved([anna, bob, _approval(_CARL)])),
        row("by nobody", _approved([]), "0 approvers signed"),
        row("by one", _approved([anna]), "1 approvers signed"),
        row("by one twice", _approved([anna, anna]), "signed twice"),
        row("by the owner", _approved([anna, _approval(VAULT_KEY)]), "none of the approvers"),
        row("by a stranger", _approved([anna, bob, _approval(OTHER_KEY)]), "none of the approvers"),
        row("of another generation", _approved([anna, _approval(_BOB, later)]), "of something else"),
        row("of another vault", _approved([anna, _approval(_BOB, other)]), "of something else"),
        row("of other deletions", _approved([anna, _approval(_BOB, parts=_PARTS[:1])]), "of something else"),
        row("a deletion in place of another", _approved([anna, bob], deleted=(ENCODING_ID, 3)), "not among those"),
        row("one part more", _approved([anna, bob], parts=[*_PARTS, _part(_DELETED)]), "of something else"),
        row("two where three are needed", _approved([anna, bob], three), "of something else"),
        row("a list that the owner did not sign", _approved([anna, bob], unsigned), "did not sign this list"),
        row("a list in another order", _approved([anna, bob], unordered), "in order"),
        row("a list of which one is enough", _approved([anna], _named(needed=1)), "at least 2"),
    ]


def _file(*fields: Any) -> bytes:
    body = bytes(packb(fields))
    return body + blake3(body).digest()


def _request(
    named: Named = _NAMED, magic: str = "tessera-emptying", version: int = 1, deleted: tuple[bytes, int] = _DELETED
) -> bytes:
    return _file(magic, version, named, [deleted], 1, 3600, 2**31)


def _files() -> list[Row]:
    def row(kind: str, name: str, data: bytes, words: str) -> Row:
        return bad(kind, name, data, "IntegrityError", words)

    asked, signed = "request to empty a trash", "approval"
    request, approval = _request(), _file("tessera-approval", 1, _approval(_ANNA))
    return [
        good(asked, "of one deletion", request),
        row(asked, "empty", b"", "or it is damaged"),
        row(asked, "cut", request[:-1], "or it is damaged"),
        row(asked, "a later version", _request(version=2), "of a version that is known here"),
        row(asked, "another magic", _request(magic="tessera-emptyin"), "of a version that is known here"),
        row(asked, "generation 0", _request(deleted=(ENCODING_ID, 0)), "of a version that is known here"),
        row(asked, "an approval", approval, "of a version that is known here"),
        row(
            asked, "a list that the owner did not sign", _request([*_NAMED[:3], 3, _NAMED[4]]), "did not sign this list"
        ),
        row(asked, "a list of which one is enough", _request(_named(needed=1)), "at least 2"),
        good(signed, "as it should be", approval),
        row(signed, "cut", approval[:-1], "or it is damaged"),
        row(signed, "a request", request, "of a version that is known here"),
        row(signed, "a key of 31 bytes", _file("tessera-approval", 1, [bytes(31), bytes(64)]), "of a version that"),
        row(signed, "a later version", _file("tessera-approval", 2, _approval(_ANNA)), "of a version that"),
    ]


def approver_rows() -> list[Row]:
    return _records() + _approvals() + _files()
