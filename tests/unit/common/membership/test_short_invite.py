"""The short form of an invite: the same member as its line, no typing error passes, and it is of one broker only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.membership.short_invite import SEED_SIZE, ShortInvite, decode_short_invite
from common.protocol.operations import Role

BROKER_KEY, OTHER_KEY = bytes(range(100, 132)), bytes(range(101, 133))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Always the same: of codes with an error one in 2^24 passes.
CODE = "CHFW-CUXF-LF4V-LYZI-CZXW-MM54-7DFL-7UBN-CWCG-PR2O-HNIU-TOEW"  # a worker's, of that broker


def assert_refused(text: str, words: str = "this is no invite") -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        decode_short_invite(text)
    assert len(text) < 8 or text not in f"{refusal.value} {refusal.value.advice}"


@pytest.mark.parametrize("role", list(Role))
def test_it_is_read_back(role: Role) -> None:
    short = ShortInvite.generate(role, BROKER_KEY)
    read = decode_short_invite(short.encode())
    assert read == short
    assert read.one_time(BROKER_KEY) == short.one_time(BROKER_KEY)
    assert len(short.seed) == SEED_SIZE


def test_it_is_twelve_groups_of_four_characters() -> None:
    assert re.fullmatch("([A-Z2-7]{4}-){11}[A-Z2-7]{4}", CODE)


def test_it_is_read_however_it_is_typed() -> None:
    expected = decode_short_invite(CODE)
    bare = CODE.replace("-", "")
    for typed in (CODE.lower(), bare, f"  {CODE}\n", " ".join(bare), CODE.replace("-", "\t")):
        assert decode_short_invite(typed) == expected
    assert decode_short_invite(CODE.replace("O", "0").replace("I", "1").replace("B", "8")) == expected


def test_every_typing_error_of_one_character_is_found() -> None:
    for place, right in enumerate(CODE):
        if right != "-":
            for wrong in set(ALPHABET) - {right}:
                assert_refused(CODE[:place] + wrong + CODE[place + 1 :], "it has a typing error")


def test_two_neighbours_exchanged_are_found() -> None:
    bare = CODE.replace("-", "")
    for place in range(len(bare) - 1):
        first, second = bare[place], bare[place + 1]
        if first != second:
            assert_refused(bare[:place] + second + first + bare[place + 2 :], "it has a typing error")


@pytest.mark.parametrize("text", ["", "ABCD", CODE[:-1], CODE + "A", "ä" * 48, "A" * 100_000, "9" * 48, "=" * 48])
def test_what_is_no_code_is_refused(text: str) -> None:
    assert_refused(text)


@given(st.text(max_size=60))
def test_any_other_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(UsageError):
        decode_short_invite(text)


def test_it_is_of_the_broker_that_made_it_and_of_no_other() -> None:
    short = decode_short_invite(CODE)
    assert short.is_of(BROKER_KEY)
    assert not short.is_of(OTHER_KEY)
    assert short.one_time(BROKER_KEY) != short.one_time(OTHER_KEY)


def test_no_two_are_the_same() -> None:
    assert len({ShortInvite.generate(Role.CLIENT, BROKER_KEY).encode() for _ in range(50)}) == 50


def test_it_does_not_show_its_secret() -> None:
    short = decode_short_invite(CODE)
    for shown in (repr(short), str(short), f"{short}"):
        assert not any(form in shown for form in (short.seed.hex(), repr(short.seed), CODE))
