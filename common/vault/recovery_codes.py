"""The recovery kit: the vault key in codes that people can write down, any `need` of which give it back.

A code, 50 bytes, written as 20 groups of 5 characters in 5 lines of 4:

    offset  bytes
         0      1  version, 1
         1      4  set id, random: the codes of one kit have it in common
         5      1  need: how many codes restore the key
         6      1  number of this code, from 1
         7     36  this code's share (`secret_sharing`) of: vault key (32) ‖ check value (4)
        43      7  checksum: the first bytes of SHA-256("tessera/v1/recovery" ‖ all before)

    check value = the first 4 bytes of HKDF-Expand(vault key, "tessera/v1/recovery/check" ‖ set id ‖ need)

The check value says whether what was restored is the key, and is inside of what is split: so fewer codes than needed
tell nothing, whatever the computing power. Every group has four characters of Crockford's base32, which are not
mistaken for each other, and a fifth that checks them and their place: so a typing error is found, with the group that
it is in. The checksum finds the rest.

Nothing here reads, writes or prints; texts of errors name codes and groups by their place and repeat none.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.hazmat.primitives.constant_time import bytes_eq

from common.errors import IntegrityError, NotEnoughError, UsageError
from common.vault.keys import KEY_SIZE, VaultKey, expand
from common.vault.secret_sharing import split, value_at

VERSION = 1
CHECKSUM_LABEL = b"tessera/v1/recovery"
CHECK_LABEL = b"tessera/v1/recovery/check"
MAX_CODES = 16
GROUPS_IN_LINE = 4
GROUPS_IN_CODE = 20

_LAYOUT = struct.Struct(">B4sBB36s7s")
_BODY = struct.Struct(">B4sBB36s")
_SET_SIZE = 4
_CHECK_SIZE = 4
_CHECKSUM_SIZE = 7
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: without I, L, O and U
_VALUES = {**{character: value for value, character in enumerate(_ALPHABET)}, "O": 0, "I": 1, "L": 1}
_IN_GROUP = 4  # characters, beside the one that checks them
_COPY = "compare it with the paper, character by character"
_SHEET = """\
# Tessera recovery code {number} of {of}, set {set_name}
# Any {need} codes of this set, with different numbers, open the whole vault, whatever its passphrase is.
# Keep each in another place or with another person, on paper. To restore, on any machine with Tessera:
#   python admin/admin.py vault restore
# Digits, and all letters but I, L, O, U. Small letters count as capitals. Lines with # are no part of the code.
"""


@dataclass(frozen=True)
class RecoveryCode:
    """One code of a kit: of which set, how many of it are needed, its number (from 1) and its share (36 bytes)."""

    set_id: bytes
    need: int
    number: int
    share: bytes = field(repr=False)

    @property
    def kit(self) -> tuple[bytes, int]:
        """What all codes of one kit have in common."""
        return self.set_id, self.need

    @property
    def set_name(self) -> str:
        """The set as people name it: eight hexadecimal digits, which are on every sheet."""
        return self.set_id.hex().upper()

    def lines(self) -> list[str]:
        """The code as it is written down: 5 lines of 4 groups of 5 characters."""
        body = _BODY.pack(VERSION, self.set_id, self.need, self.number, self.share)
        groups = _groups(body + _checksum(body))
        return [" ".join(groups[at : at + GROUPS_IN_LINE]) for at in range(0, GROUPS_IN_CODE, GROUPS_IN_LINE)]


class Restored(NamedTuple):
    """The vault key, and the numbers of codes that were given but are not of this key's kit: altered by someone."""

    key: VaultKey
    altered: list[int]


def make_codes(key: VaultKey, need: int, of: int) -> list[RecoveryCode]:
    """`of` codes, any `need` of which restore the key; another kit each time.

    UsageError as of `require_possible`.
    """
    require_possible(need, of)
    set_id = secrets.token_bytes(_SET_SIZE)
    shares = split(key.reveal() + _check_value(key, set_id, need), need, of)
    return [RecoveryCode(set_id, need, number, share) for number, share in shares.items()]


def require_possible(need: int, of: int) -> None:
    """UsageError unless 2 <= need <= of <= 16: a kit of which one code is enough is a copy of the key in the clear."""
    if not 2 <= need <= of <= MAX_CODES:
        raise UsageError(
            f"a recovery kit cannot have {need} of {of} codes restore the vault",
            advice=f"choose --need from 2, and --of from --need to {MAX_CODES}",
        )


def restore_key(codes: Sequence[RecoveryCode]) -> Restored:
    """The vault key from at least as many codes as are needed; a code given twice counts once.

    UsageError where they are of different kits, NotEnoughError where they are too few, IntegrityError where no choice
    among them gives a key that its check value confirms.
    """
    require_one_kit(codes)
    shares = {code.number: code.share for code in codes}
    if not codes or len(shares) < codes[0].need:
        needed = str(codes[0].need) if codes else "some"
        raise NotEnoughError(
            f"{len(shares)} different recovery codes were given, and {needed} are needed",
            advice="ask those who keep the others for theirs; fewer restore nothing",
        )
    set_id, need = codes[0].kit
    for numbers in itertools.combinations(sorted(shares), need):
        chosen = {number: shares[number] for number in numbers}
        secret = value_at(chosen, 0)
        key = VaultKey(secret[:KEY_SIZE])
        if bytes_eq(secret[KEY_SIZE:], _check_value(key, set_id, need)):
            return Restored(key, [n for n, share in shares.items() if not bytes_eq(value_at(chosen, n), share)])
    raise IntegrityError(
        "each of these recovery codes is well-formed, but together they restore no vault key: one was altered",
        advice="give all the codes of the kit that you can get: what was altered is then found and left out",
    )


def require_one_kit(codes: Sequence[RecoveryCode]) -> None:
    """UsageError where codes are of different kits, or one number stands for two of them."""
    for place, code in enumerate(codes[1:], start=2):
        if code.kit != codes[0].kit:
            raise UsageError(
                f"{_given(place)}, number {code.number} on its paper, is of another kit: set {code.set_name}, "
                f"and the first is of set {codes[0].set_name}",
                advice="give codes of one set only; it is written above each code",
            )
        for former, other in enumerate(codes[: place - 1], start=1):
            if other.number == code.number and other.share != code.share:
                raise IntegrityError(
                    f"codes {former} and {place} of those given both say that they are number {code.number} of "
                    "their kit, and differ: one was altered",
                    advice="leave one of them out, then the other",
                )


# --- reading what a person typed


def read_codes(text: str) -> list[RecoveryCode]:
    """All codes in a text: its lines that begin with # are no part of them, and an empty line may stand between two.

    UsageError where one has a fault, which says in which code, and where it can be told in which group; IntegrityError
    where one is of a version that this program does not know.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    groups: list[str] = []
    codes: list[RecoveryCode] = []
    for line in [*lines, ""]:
        if line and not line.startswith("#"):
            groups += groups_of(line, _given(len(codes) + 1), len(groups))
        if groups and (not line or len(groups) >= GROUPS_IN_CODE):
            codes.append(code_of(groups, _given(len(codes) + 1)))
            groups = []
    return codes


def _given(place: int) -> str:
    """How errors name a code, whose number is not known before it is read whole."""
    return f"recovery code {place} of those given"


def groups_of(line: str, code: str, before: int) -> list[str]:
    """The groups in a line of a code, with `before` groups before it; UsageError, of the `code`, where one is wrong.

    Small letters are read too, and hyphens in place of spaces; where groups are written together they are told apart.
    """
    groups: list[str] = []
    for word in re.split(r"[\s-]+", line.strip(" \t-").upper()):
        # A word of another length is one group that lost or gained a character.
        size = _IN_GROUP + 1
        parts = [word[at : at + size] for at in range(0, len(word), size)] if len(word) % size == 0 else [word]
        for group in parts:
            _require_group(group, code, before + len(groups))
            groups.append(group)
    return groups


def _require_group(group: str, code: str, place: int) -> None:
    where = f"{code}, line {place // GROUPS_IN_LINE + 1}, group {place % GROUPS_IN_LINE + 1}"
    if place >= GROUPS_IN_CODE:
        raise UsageError(f"{code} has more than {GROUPS_IN_CODE} groups", advice=_COPY)
    if len(group) != _IN_GROUP + 1:
        raise UsageError(f"{where}: {len(group)} characters instead of {_IN_GROUP + 1}", advice=_COPY)
    if not set(group) <= set(_VALUES):
        raise UsageError(
            f"{where}: a character that no code has", advice="codes have the digits, and all letters but I, L, O, U"
        )
    values = [_VALUES[character] for character in group]
    if values[-1] != _check_character(values[:-1], place):
        raise UsageError(f"{where}: a typing error, or it stands in another place", advice=_COPY)


def code_of(groups: list[str], code: str) -> RecoveryCode:
    """The code in groups that `groups_of` passed; errors, of the `code`, as of `read_codes`."""
    if len(groups) < GROUPS_IN_CODE:
        raise UsageError(f"{code} is not complete: {len(groups)} groups instead of {GROUPS_IN_CODE}", advice=_COPY)
    bits = 0
    for group in groups:
        for character in group[:_IN_GROUP]:
            bits = bits << 5 | _VALUES[character]
    content = bits.to_bytes(_LAYOUT.size, "big")
    version, set_id, need, share_number, share, checksum = _LAYOUT.unpack(content)
    if checksum != _checksum(content[: _BODY.size]):
        raise UsageError(
            f"{code} has a typing error, and its groups do not tell where",
            advice="compare all its groups with the paper, or use another code of the same set",
        )
    # The version comes after the checksum, so that a typing error is not taken for another version.
    if version != VERSION:
        raise IntegrityError(
            f"{code} has format version {version}, this program reads version {VERSION}",
            advice="update Tessera",
        )
    if not (2 <= need <= MAX_CODES and 1 <= share_number <= MAX_CODES):
        raise IntegrityError(f"{code} contradicts itself: number {share_number}, {need} needed")
    return RecoveryCode(set_id, need, share_number, share)


# --- writing


def _groups(content: bytes) -> list[str]:
    bits = int.from_bytes(content, "big")
    groups = []
    for place in range(GROUPS_IN_CODE):
        shift = 5 * _IN_GROUP * (GROUPS_IN_CODE - 1 - place)
        values = [bits >> shift + 5 * (_IN_GROUP - 1 - at) & 31 for at in range(_IN_GROUP)]
        groups.append("".join(_ALPHABET[value] for value in [*values, _check_character(values, place)]))
    return groups


def _check_character(values: list[int], place: int) -> int:
    """Place + Σ 2^(i+1) × value i over GF(32): tells of a changed character, and of neighbours or groups swapped."""
    check, weight = place, 1
    for value in values:
        weight = _times_two(weight)
        check ^= _multiply_32(weight, value)
    return check


def _times_two(a: int) -> int:
    return (a << 1) ^ (0b100101 if a & 16 else 0)  # x^5 + x^2 + 1


def _multiply_32(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = _times_two(a), b >> 1
    return product


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(CHECKSUM_LABEL + body).digest()[:_CHECKSUM_SIZE]


def _check_value(key: VaultKey, set_id: bytes, need: int) -> bytes:
    return expand(key.reveal(), CHECK_LABEL + set_id + bytes([need]))[:_CHECK_SIZE]


def kit_text(codes: Sequence[RecoveryCode]) -> str:
    """A kit as it is put on paper, sheet by sheet."""
    return "\n".join(kit_sheets(codes))


def kit_sheets(codes: Sequence[RecoveryCode]) -> list[str]:
    """A sheet for each code of a kit, which says what it is and how it is used."""
    return [
        _SHEET.format(number=code.number, of=len(codes), need=code.need, set_name=code.set_name)
        + "\n".join(code.lines())
        + "\n"
        for code in codes
    ]
