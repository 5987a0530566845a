"""Envelopes, headers, invites, and the lists and keys kept as JSON: what comes from others, or from who edits files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.formats.stored_rows import packed
from tests.vectors.vault.reference import ENCODING_ID

ONE_TIME = bytes(range(32))
BROKER_KEY = bytes(range(100, 132))
SEED = bytes(range(200, 216))
SHORT_LABEL = b"tessera/v1/short-invite"
BROKER = ["broker.lan", 5570, 5571, BROKER_KEY]


def envelope(
    *, magic: bytes = b"TSR1", kind: int = 1, operation: int = 36, zero: int = 0, rest: bytes = bytes(52)
) -> bytes:
    return magic + bytes([kind, operation]) + zero.to_bytes(2, "big") + rest


def envelopes() -> list[Row]:
    def row(name: str, data: bytes, words: str) -> Row:
        return bad("envelope", name, data, "ProtocolError", words)

    return [
        good("envelope", "as it should be", envelope()),
        good("envelope", "a reply", envelope(kind=2)),
        good("envelope", "with an account, among two members", envelope(zero=2) + bytes(range(16))),
        row("members without an account", envelope(zero=2), "no envelope of this protocol"),
        row("an account among no members", envelope() + bytes(range(16)), "no envelope of this protocol"),
        row("an account of zeros", envelope(zero=2) + bytes(16), "no envelope of this protocol"),
        row("an account cut off", envelope(zero=2) + bytes(range(15)), "this one 75"),
        row("empty", b"", "an envelope has 60 bytes, or an account behind them, this one 0"),
        row("last byte missing", envelope()[:-1], "this one 59"),
        row("one byte behind", envelope() + b"\0", "this one 61"),
        row("another magic", envelope(magic=b"TSR0"), "no envelope of this protocol"),
        row("bytes that are kept zero", envelope(zero=1), "no envelope of this protocol"),
        row("kind 0", envelope(kind=0), "unknown kind or operation"),
        row("kind 9", envelope(kind=9), "unknown kind or operation"),
        row("operation 0", envelope(operation=0), "unknown kind or operation"),
        row("operation 255", envelope(operation=255), "unknown kind or operation"),
    ]


def headers() -> list[Row]:
    opening: list[Any] = [ENCODING_ID, 1, 2, 3, 64, 0]

    def changed(place: int, value: object) -> bytes:
        return packed([*opening[:place], value, *opening[place + 1 :]])

    def row(name: str, data: bytes, words: str = "without the expected shape (Open)", header: str = "Open") -> Row:
        return bad("header", name, data, "ProtocolError", words, header=header)

    return [
        good("header", "an opening", packed(opening), header="Open"),
        good("header", "a commit", packed([ENCODING_ID, 1]), header="Commit"),
        row("empty", b""),
        row("no msgpack", b"\xc1"),
        row("cut", packed(opening)[:-1]),
        row("more behind", packed(opening) + b"\0"),
        row("a field missing", packed(opening[:4])),
        row("a map in an array's place", packed({"share": 1})),
        row("encoding id of 15 bytes", changed(0, bytes(15))),
        row("encoding id as text", changed(0, "0123456789abcdef")),
        row("share 64", changed(1, 64)),
        row("share −1", changed(1, -1)),
        row("k of 1", changed(2, 1)),
        row("n as a float", changed(3, 3.0)),
        row("n as true", changed(3, True)),
        row("blocks over 4 MiB", changed(4, 2**22 + 1)),
        row("more bytes than can be counted", changed(5, 2**53)),
        row("over 4 KiB", packed([ENCODING_ID, 1, 2, 3, 64, 0, bytes(4096)]), "over the limit of 4096"),
        row("nested 3000 deep", b"\x91" * 3000),
        row("arrays of 2^32 entries", b"\xdd\xff\xff\xff\xff" * 3),
        row("an append without a digest", packed([ENCODING_ID, 1, 0]), "(Append)", "Append"),
        row("a digest of 31 bytes", packed([ENCODING_ID, 1, 0, bytes(31)]), "(Append)", "Append"),
        row("65 blocks fetched at once", packed([[[ENCODING_ID, 1, 0]] * 65]), "(Fetch)", "Fetch"),
        row("an amendment without a signature", packed([ENCODING_ID, 2, bytes(32)]), "(Amend)", "Amend"),
    ]


def invite(
    role: str = "worker", *, version: int = 2, brokers: object = None, checked_as: str = "", secret: bytes = ONE_TIME
) -> bytes:
    content = bytes([version]) + secret + packed([BROKER] if brokers is None else brokers)
    checksum = hashlib.sha256(b"tessera/v1/invite" + (checked_as or role).encode() + content).digest()[:4]
    text = base64.b32encode(content + checksum).decode("ascii").rstrip("=").lower()
    return f"tessera-{role}-{text}".encode()


def invites() -> list[Row]:
    whole = invite()

    def row(name: str, data: bytes) -> Row:
        return bad("invite", name, data, "UsageError", "this invite is not complete or has a typing error")

    return [
        good("invite", "a worker's", whole),
        good("invite", "a client's, in capitals", invite("client").replace(b"-client-", b"-CLIENT-").lower()),
        good("invite", "an add-only client's", invite("add-only")),
        row("empty", b""),
        row("one character changed", whole[:40] + (b"a" if whole[40:41] != b"a" else b"b") + whole[41:]),
        row("last character missing", whole[:-1]),
        row("one character behind", whole + b"a"),
        row("first character missing", whole[1:]),
        row("for another role than it was made for", invite("client", checked_as="worker")),
        row("for no role there is", invite("owner")),
        row("a former version", invite(version=1)),
        row("no broker", invite(brokers=[])),
        row("five brokers", invite(brokers=[BROKER] * 5)),
        row("a port of 0", invite(brokers=[["broker.lan", 0, 5571, BROKER_KEY]])),
        row("a broker's key of 31 bytes", invite(brokers=[["broker.lan", 5570, 5571, bytes(31)]])),
        row("a secret of 31 bytes", invite(secret=bytes(31))),
        row("over 1024 characters", whole + b"a" * 1024),
        row("characters of another base", whole[:-2] + b"18"),
    ]


def short_invite(
    *, version: int = 1, role: int = 1, seed: bytes = SEED, broker_key: bytes = BROKER_KEY, label: bytes = SHORT_LABEL
) -> bytes:
    check = derived(b"/broker", seed, broker_key)[:10]
    body = bytes([version << 4 | role]) + seed + check
    text = base64.b32encode(body + hashlib.sha256(label + body).digest()[:3]).decode("ascii")
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4)).encode()


def derived(purpose: bytes, seed: bytes = SEED, broker_key: bytes = BROKER_KEY) -> bytes:
    """RFC 5869 by hand: extract with a salt of zeros, then one block of expand."""
    extracted = hmac.digest(bytes(32), seed, "sha256")
    return hmac.digest(extracted, SHORT_LABEL + purpose + broker_key + b"\1", "sha256")


def short_invites() -> list[Row]:
    whole = short_invite()
    inputs = {"broker_key": BROKER_KEY, "secret": derived(b"/secret")}
    misread = whole.translate(bytes.maketrans(b"OIB", b"018"))

    def row(name: str, data: bytes, words: str = "this is no invite: it has a typing error") -> Row:
        return bad("short invite", name, data, "UsageError", words, **inputs)

    return [
        good("short invite", "a worker's", whole, **inputs),
        good("short invite", "a broker's", short_invite(role=4), **inputs),
        good("short invite", "an add-only client's", short_invite(role=5), **inputs),
        good("short invite", "in small letters, without groups", whole.lower().replace(b"-", b""), **inputs),
        good("short invite", "0, 1 and 8 typed for O, I and B", misread, **inputs),
        row("empty", b"", "nothing that could be one"),
        row("one character changed", whole[:10] + (b"A" if whole[10:11] != b"A" else b"C") + whole[11:]),
        row("last character missing", whole[:-1], "has 48 characters, this one 47"),
        row("one character behind", whole + b"A", "has 48 characters, this one 49"),
        row("two groups exchanged", whole[5:10] + whole[:5] + whole[10:]),
        row("a character of no base", b"9" + whole[1:]),
        row("a later version", short_invite(version=2)),
        row("for no role there is", short_invite(role=6)),
        row("for role 0", short_invite(role=0)),
        row("the checksum of a whole invite", short_invite(label=b"tessera/v1/invite")),
    ]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode("ascii")


def members(**changed: Any) -> bytes:
    member = {"public_key": "ab" * 32, "standing": "worker", "name": "shelf", "added": 1_700_000_000}
    return as_json({"members": [{**member, **changed}], "version": 1})


def member_lists() -> list[Row]:
    def row(name: str, data: bytes, words: str = "members.json is damaged") -> Row:
        return bad("list of members", name, data, "IntegrityError", words)

    return [
        good("list of members", "as it should be", members()),
        row("empty", b""),
        row("cut", members()[:-1]),
        row("no JSON", b"\xff\xfe"),
        row("a later version", as_json({"members": [], "version": 2}), "is of version 2; this broker reads 1"),
        row("no members", as_json({"version": 1})),
        row("a key of 62 digits", members(public_key="ab" * 31)),
        row("a key in capitals", members(public_key="AB" * 32)),
        row("a standing that there is not", members(standing="owner")),
        row("a name of 101 characters", members(name="n" * 101)),
        row("added before 1970", members(added=-1)),
        row("added as text", members(added="today")),
    ]


def kept_as_json() -> list[Row]:
    key = {"tessera": "curve-key", "version": 1, "secret": "0" * 40}
    broker = {"host": "broker.lan", "client_port": 5570, "worker_port": 5571, "public_key": "ab" * 32}
    not_key, not_list = "is not a Tessera key file", "is not a list of brokers"

    def bad_key(name: str, data: bytes) -> Row:
        return bad("CURVE key", name, data, "IntegrityError", not_key)

    def bad_list(name: str, data: bytes) -> Row:
        return bad("list of brokers", name, data, "UsageError", not_list)

    return [
        good("CURVE key", "as it should be", as_json(key)),
        bad_key("empty", b""),
        bad_key("a later version", as_json({**key, "version": 2})),
        bad_key("of another program", as_json({**key, "tessera": "vault-key"})),
        bad_key("a secret of 35 characters", as_json({**key, "secret": "0" * 35})),
        bad_key("a secret as a number", as_json({**key, "secret": 7})),
        bad_key("a list", as_json([key])),
        good("list of brokers", "as it should be", as_json([broker])),
        bad_list("empty", b""),
        bad_list("of none", as_json([])),
        bad_list("without a port", as_json([{"host": "broker.lan"}])),
        bad_list("a key of 31 bytes", as_json([{**broker, "public_key": "ab" * 31}])),
        bad_list("a key that is no hexadecimal", as_json([{**broker, "public_key": "xy" * 32}])),
    ]


def wire_rows() -> list[Row]:
    return envelopes() + headers() + invites() + short_invites() + member_lists() + kept_as_json()
