"""Key files, sealed mappings, sealed segments, recovery codes: what a vault reads."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.vault.key_file_vectors import key_file, with_cost
from tests.vectors.vault.mapping_vectors import plaintext_of, sealed_mapping
from tests.vectors.vault.reference import (
    DATA_KEY,
    ENCODING_ID,
    IMAGE,
    OTHER_ENCODING_ID,
    OTHER_KEY,
    PASSPHRASE,
    VAULT_KEY,
    expand,
    flipped,
    object_id,
)
from tests.vectors.vault.segment_vectors import sealed_segment

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SET_ID = bytes([0x7E, 0x55, 0xE7, 0xA1])


def key_files() -> list[Row]:
    file = key_file()
    damaged, refused = "IntegrityError", "RefusedError"

    def row(name: str, data: bytes, error: str, words: str, passphrase: str = PASSPHRASE) -> Row:
        return bad("key file", name, data, error, words, passphrase=passphrase)

    return [
        good("key file", "as it should be", file, passphrase=PASSPHRASE, vault_key=VAULT_KEY),
        row("empty", b"", damaged, "not a vault key file"),
        row("another magic", key_file(magic=b"TESSMAP\0"), damaged, "not a vault key file"),
        row("a later version", key_file(version=2), damaged, "format version 2, this program reads version 1"),
        row("last byte missing", file[:-1], damaged, "129 bytes, not 130"),
        row("one byte behind", file + b"\0", damaged, "131 bytes, not 130"),
        row("salt changed", flipped(file, 10), refused, "the passphrase does not open this key file"),
        row("commitment changed", flipped(file, 50), refused, "the passphrase does not open this key file"),
        row("nonce changed", flipped(file, 38), damaged, "its vault key does not unwrap"),
        row("wrapped key changed", flipped(file, 82), damaged, "its vault key does not unwrap"),
        row("tag changed", flipped(file, 129), damaged, "its vault key does not unwrap"),
        row("header not bound", key_file(bind_header=False), damaged, "its vault key does not unwrap"),
        row("another passphrase", file, refused, "the passphrase does not open", "another passphrase"),
        row("empty passphrase", file, "UsageError", "the passphrase is empty", ""),
        row("no memory for Argon2id", with_cost(file, (1, 0, 1)), refused, "memory 0, outside 19456 to 1048576"),
        row("4 TiB for Argon2id", with_cost(file, (1, 2**32 - 1, 1)), refused, "memory 4294967295, outside"),
        row("eleven passes", with_cost(file, (11, 19 * 1024, 1)), refused, "passes 11, outside 1 to 10"),
        row("nine lanes", with_cost(file, (1, 19 * 1024, 9)), refused, "lanes 9, outside 1 to 8"),
    ]


def mappings() -> list[Row]:
    image = object_id()
    plaintext = plaintext_of()
    sealed = sealed_mapping(plaintext, object_id=image)
    damaged, unsound = "the mapping is damaged, or belongs to another", "a mapping is not sound"
    place: dict[str, Any] = {"vault_key": VAULT_KEY, "object_id": image, "encoding_id": ENCODING_ID}

    def row(name: str, data: bytes, words: str, error: str = "IntegrityError", **changed: Any) -> Row:
        return bad("mapping", name, data, error, words, **{**place, **changed})

    def holding(name: str, words: str, **fields: Any) -> Row:
        return row(name, sealed_mapping(plaintext_of(**fields), object_id=image), words)

    other = sealed_mapping(plaintext, object_id=image, magic=b"TESSKEY\0")
    later = sealed_mapping(plaintext, object_id=image, version=2)
    return [
        good("mapping", "as it should be", sealed, **place),
        row("empty", b"", "not a sealed mapping"),
        row("another magic", other, "not a sealed mapping"),
        row("a later version", later, "format version 2, this program reads version 1"),
        row("last byte missing", sealed[:-1], "never has 1113 bytes"),
        row("one byte behind", sealed + b"\0", "never has 1115 bytes"),
        row("salt changed", flipped(sealed, 10), "another vault key", "RefusedError"),
        row("commitment changed", flipped(sealed, 42), "another vault key", "RefusedError"),
        row("another vault key", sealed, "another vault key", "RefusedError", vault_key=OTHER_KEY),
        row("ciphertext changed", flipped(sealed, 74), damaged),
        row("tag changed", flipped(sealed, -1), damaged),
        row("another encoding", sealed, damaged, encoding_id=OTHER_ENCODING_ID),
        row("another object", sealed, damaged, object_id=object_id(image_sha256=bytes(32))),
        holding("of another image", "another image than the one", image_sha256=bytes(32)),
        holding("data key of 31 bytes", unsound, data_key=bytes(31)),
        holding("k over n", "k = 7 is more than n = 6", k=7),
        holding("a segment too many", "sizes and its number of segments disagree", segment_count=2),
        holding("a field too many", unsound, note="hello"),
        holding("of no kind that there is", unsound, kind="image"),
        holding("kept, and false", unsound, kept=False),
        holding("a snapshot under an image's object id", "another image than the one", kind="snapshot"),
        holding("a thumbnail over 8 KiB", unsound, thumbnail=bytes(8193)),
        row("other padding", sealed_mapping(plaintext[:-1] + b"\1", object_id=image), "written in another way"),
    ]


def segments() -> list[Row]:
    sealed = sealed_segment(3, IMAGE, 0)
    words = "segment {} of encoding 000102030405060708090a0b0c0d0e0f is damaged or out of place"
    place: dict[str, Any] = {
        "data_key": DATA_KEY,
        "encoding_id": ENCODING_ID,
        "number": 3,
        "is_last": False,
        "k": 4,
        "n": 6,
    }

    def row(name: str, data: bytes, **changed: Any) -> Row:
        inputs = {**place, **changed}
        return bad("segment", name, data, "IntegrityError", words.format(inputs["number"]), **inputs)

    return [
        good("segment", "as it should be", sealed, **place),
        row("empty", b""),
        row("first byte changed", flipped(sealed, 0)),
        row("tag changed", flipped(sealed, -1)),
        row("tag missing", sealed[:-16]),
        row("one byte behind", sealed + b"\0"),
        row("as the segment after", sealed, number=4),
        row("as the last", sealed, is_last=True),
        row("another k", sealed, k=3),
        row("another data key", sealed, data_key=OTHER_KEY),
    ]


# --- recovery codes, once more: arithmetic by tables and long division, none of it the product's


def times(a: int, b: int, modulus: int, bits: int) -> int:
    product = 0
    for place in range(bits):
        if b >> place & 1:
            product ^= a << place
    for place in range(2 * bits, bits - 1, -1):
        if product >> place & 1:
            product ^= modulus << place - bits
    return product


def groups_of(content: bytes) -> list[str]:
    """The content in groups of four characters with a fifth that checks them and their place."""
    bits = "".join(f"{byte:08b}" for byte in content)
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    groups = []
    for place in range(len(values) // 4):
        group = values[4 * place : 4 * place + 4]
        check = place
        for weight, value in zip((2, 4, 8, 16), group):
            check ^= times(weight, value, 0b100101, 5)
        groups.append("".join(ALPHABET[value] for value in [*group, check]))
    return groups


def code(number: int, *, need: int = 2, version: int = 1, set_id: bytes = SET_ID, key: bytes = VAULT_KEY) -> list[str]:
    """A code's groups: of a kit whose polynomials have the coefficients 1, 2, 3, … beside the secret."""
    secret = key + expand(key, b"tessera/v1/recovery/check" + set_id + bytes([need]))[:4]
    share = bytes(byte ^ times(at + 1, number, 0x11B, 8) for at, byte in enumerate(secret))
    body = bytes([version]) + set_id + bytes([need, number]) + share
    return groups_of(body + hashlib.sha256(b"tessera/v1/recovery" + body).digest()[:7])


def typed(*codes: list[str]) -> bytes:
    return "\n\n".join("\n".join(" ".join(c[at : at + 4]) for at in range(0, len(c), 4)) for c in codes).encode()


def changed_at(groups: list[str], place: int, group: str) -> list[str]:
    return [*groups[:place], group, *groups[place + 1 :]]


def recovery_codes() -> list[Row]:
    one, two, three = code(1), code(2), code(3)
    other_set = code(2, set_id=bytes(4))
    wrong = "8" if one[0][0] != "8" else "9"
    swapped = [one[1], one[0], *one[2:]]
    # Each group checks, and the code does not.
    body = bytes([1]) + SET_ID + bytes([2, 1]) + bytes(36)
    unchecked = groups_of(body + bytes(7))
    forged = code(2, key=OTHER_KEY)

    def row(name: str, data: bytes, words: str, error: str = "UsageError") -> Row:
        return bad("recovery codes", name, data, error, words)

    return [
        good("recovery codes", "two of three", typed(one, three), vault_key=VAULT_KEY),
        good("recovery codes", "in another order, small letters", typed(three, two).lower(), vault_key=VAULT_KEY),
        good("recovery codes", "one with O for 0, l for 1", typed(one, two).replace(b"0", b"O").replace(b"1", b"l")),
        row("none", b"# only a remark\n", "0 different recovery codes were given", "NotEnoughError"),
        row("one of two", typed(one), "1 different recovery codes were given, and 2 are needed", "NotEnoughError"),
        row("the same one twice", typed(one, one), "1 different recovery codes", "NotEnoughError"),
        row(
            "of two sets",
            typed(one, other_set),
            "2 of those given, number 2 on its paper, is of another kit: set 00000000",
        ),
        row(
            "of two thresholds",
            typed(one, code(2, need=3)),
            "2 of those given, number 2 on its paper, is of another kit",
        ),
        row(
            "a typing error",
            typed(two, changed_at(one, 0, wrong + one[0][1:])),
            "2 of those given, line 1, group 1: a typing",
        ),
        row(
            "a typing error in the last group",
            typed(changed_at(one, 19, "7" * 5)),
            "1 of those given, line 5, group 4: a typ",
        ),
        row("two groups exchanged", typed(swapped), "1 of those given, line 1, group 1: a typing error, or it stands"),
        row(
            "a group of four", typed(changed_at(one, 5, one[5][:4])), "1 of those given, line 2, group 2: 4 characters"
        ),
        row("a letter of no code", typed(changed_at(one, 6, "U" + one[6][1:])), "line 2, group 3: a character that no"),
        row("a group missing", typed(one[:19], two), "1 of those given is not complete: 19 groups instead of 20"),
        row("a wrong checksum", typed(unchecked, two), "1 of those given has a typing error, and its groups do not"),
        row("a later version", typed(code(1, version=2)), "format version 2, this program reads", "IntegrityError"),
        row(
            "need of 1",
            typed(code(1, need=1)),
            "1 of those given contradicts itself: number 1, 1 needed",
            "IntegrityError",
        ),
        row("number 0", typed(code(0)), "1 of those given contradicts itself: number 0", "IntegrityError"),
        row("an altered share", typed(one, forged), "together they restore no vault key", "IntegrityError"),
        row("two that are both number 2", typed(two, forged), "differ: one was altered", "IntegrityError"),
        row("not ASCII", "Schlüssel".encode(), "1 of those given, line 1, group 1: 9 characters instead of 5"),
    ]


def vault_rows() -> list[Row]:
    return key_files() + mappings() + segments() + recovery_codes()
