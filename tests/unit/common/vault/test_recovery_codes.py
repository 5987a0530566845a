"""Recovery codes: enough of one kit restore the key, and whatever is wrong with one is told, with where it is."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import IntegrityError, NotEnoughError, TesseraError, UsageError
from common.vault import recovery_codes as recovery
from common.vault.keys import VaultKey
from common.vault.recovery_codes import RecoveryCode, make_codes, read_codes, restore_key
from common.vault.secret_sharing import multiply, value_at

KEY = VaultKey(bytes(range(32)))
KIT = make_codes(KEY, 3, 5)
CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def text(*codes: RecoveryCode) -> str:
    return "\n\n".join("\n".join(code.lines()) for code in codes) + "\n"


def assert_refused(typed: str, words: str) -> None:
    """Refused, and no group of what was typed is in the message."""
    with pytest.raises((UsageError, IntegrityError), match=words) as raised:
        read_codes(typed)
    shown = f"{raised.value} {raised.value.advice}"
    assert not any(group in shown for group in re.findall(r"[0-9A-Z]{5}", typed.upper()))


# --- what restores


@pytest.mark.parametrize(("need", "of"), [(2, 2), (2, 3), (3, 5), (5, 5), (2, 16), (16, 16)])
def test_a_kits_codes_restore_the_key(need: int, of: int) -> None:
    codes = make_codes(KEY, need, of)
    assert [code.number for code in codes] == list(range(1, of + 1))
    assert restore_key(codes[-need:]) == (KEY, [])
    assert restore_key(codes) == (KEY, [])


def test_any_three_of_five_restore_it_in_any_order_and_one_given_twice_does_no_harm() -> None:
    for chosen in itertools.permutations(KIT, 3):
        assert restore_key(read_codes(text(*chosen))).key == KEY
        assert restore_key([*chosen, chosen[0]]) == (KEY, [])


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_key_comes_back_from_what_is_written_down(raw: bytes, data: st.DataObject) -> None:
    need = data.draw(st.integers(2, 5))
    codes = make_codes(VaultKey(raw), need, data.draw(st.integers(need, 7)))
    chosen = data.draw(st.permutations(codes))[:need]
    assert restore_key(read_codes(text(*chosen))).key.reveal() == raw


def test_two_kits_of_one_key_have_nothing_in_common() -> None:
    first, second = make_codes(KEY, 2, 2), make_codes(KEY, 2, 2)
    assert first[0].set_id != second[0].set_id
    assert first[0].share != second[0].share


def test_a_code_is_five_lines_of_four_groups_of_five_unmistakable_characters() -> None:
    for code in KIT:
        assert len(code.lines()) == 5
        assert all(re.fullmatch(rf"[{CHARACTERS}]{{5}}( [{CHARACTERS}]{{5}}){{3}}", line) for line in code.lines())


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(lambda written: written.lower(), id="small letters"),
        pytest.param(lambda written: written.replace("0", "o").replace("1", "l"), id="letters for digits"),
        pytest.param(lambda written: written.replace(" ", "-"), id="hyphens"),
        pytest.param(lambda written: written.replace(" ", ""), id="groups written together"),
        pytest.param(lambda written: written.replace("\n\n", "\n"), id="no empty line between codes"),
        pytest.param(lambda written: written.replace("\n", "\r\n"), id="lines of Windows"),
        pytest.param(lambda written: "\ufeff\n\n" + written + "\n\n", id="a mark at the beginning, empty lines"),
        pytest.param(lambda written: re.sub("(?m)^(.)", r"   \1", written), id="indented"),
        pytest.param(lambda written: "# of my vault\n" + written.replace("\n", " \n"), id="remarks"),
    ],
)
def test_what_people_write_otherwise_is_read_all_the_same(typed: object) -> None:
    assert callable(typed)
    assert read_codes(typed(text(*KIT))) == KIT


# --- what does not


@pytest.mark.parametrize(
    "given_codes", [[], KIT[:1], KIT[:2], [KIT[0], KIT[1], KIT[1], KIT[0]]], ids=["none", "one", "two", "two twice"]
)
def test_too_few_codes_restore_nothing_and_say_how_many_are_needed(given_codes: list[RecoveryCode]) -> None:
    with pytest.raises(NotEnoughError) as raised:
        restore_key(given_codes)
    assert raised.value.exit_code == 5
    assert not given_codes or "3 are needed" in str(raised.value)


@pytest.mark.parametrize("raw", [bytes(32), b"\xff" * 32, bytes(range(1, 33))])
def test_with_one_code_too_few_every_key_is_possible(raw: bytes) -> None:
    """Beside two of three codes there is, for any key at all, a third that gives this key, and confirms it."""
    wanted = raw + recovery._check_value(VaultKey(raw), KIT[0].set_id, 3)
    at_zero = value_at({1: KIT[0].share, 2: KIT[1].share, 3: bytes(36)}, 0)
    weight = value_at({1: b"\0", 2: b"\0", 3: b"\1"}, 0)[0]  # what the third share's bytes are multiplied by
    inverse = next(a for a in range(256) if multiply(a, weight) == 1)
    third = bytes(multiply(inverse, a ^ b) for a, b in zip(wanted, at_zero))
    assert restore_key([KIT[0], KIT[1], replace(KIT[2], share=third)]) == (VaultKey(raw), [])


def test_codes_of_two_kits_are_told_apart_with_the_names_of_their_sets() -> None:
    other = make_codes(KEY, 3, 5)
    with pytest.raises(UsageError, match=r"code 2 of those given, number \d on its paper, is of") as raised:
        restore_key([KIT[0], other[1], KIT[2]])
    assert KIT[0].set_name in str(raised.value)
    assert other[0].set_name in str(raised.value)


def test_an_altered_code_restores_nothing_and_is_found_where_there_are_more() -> None:
    altered = replace(KIT[1], share=bytes([KIT[1].share[0] ^ 1]) + KIT[1].share[1:])
    with pytest.raises(IntegrityError, match="one was altered"):
        restore_key([KIT[0], altered, KIT[2]])
    assert restore_key([KIT[0], altered, KIT[2], KIT[4]]) == (KEY, [2])
    with pytest.raises(IntegrityError, match=r"codes 1 and 2 .* number 2"):
        restore_key([KIT[1], altered, KIT[2]])


def test_every_character_changed_to_any_other_is_found_with_the_group_that_it_is_in() -> None:
    written = "\n".join(KIT[1].lines())
    groups = written.split()
    for place in range(20):
        for at in range(5):
            for other in CHARACTERS:
                if other != groups[place][at]:
                    changed = [*groups]
                    changed[place] = groups[place][:at] + other + groups[place][at + 1 :]
                    where = (
                        f"recovery code 1 of those given, line {place // 4 + 1}, group {place % 4 + 1}: a typing error"
                    )
                    assert_refused(" ".join(changed), where)


def test_every_bit_of_a_code_counts_even_where_all_groups_check() -> None:
    body = recovery._BODY.pack(1, KIT[0].set_id, 3, 1, KIT[0].share)
    content = body + recovery._checksum(body)
    assert " ".join(recovery._groups(content)).split() == " ".join(KIT[0].lines()).split()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert_refused(" ".join(recovery._groups(bytes(damaged))), "has a typing error, and its groups")


def test_neighbours_exchanged_are_found_and_so_are_groups_and_lines_exchanged() -> None:
    groups = " ".join(KIT[0].lines()).split()
    for place, at in itertools.product(range(20), range(4)):
        group = groups[place]
        if group[at] != group[at + 1]:
            swapped = group[:at] + group[at + 1] + group[at] + group[at + 2 :]
            assert_refused(" ".join([*groups[:place], swapped, *groups[place + 1 :]]), f"group {place % 4 + 1}: a typ")
    for first, second in itertools.combinations(range(20), 2):
        changed = [*groups]
        changed[first], changed[second] = groups[second], groups[first]
        if changed != groups:
            assert_refused(" ".join(changed), "another place")
    lines = KIT[0].lines()
    assert_refused("\n".join([lines[1], lines[0], *lines[2:]]), "line 1, group 1: .* another place")


def test_the_second_codes_fault_is_told_of_the_second_code() -> None:
    lines = KIT[1].lines()
    broken = "\n".join([*lines[:3], lines[3][:-1] + ("0" if lines[3][-1] != "0" else "1"), lines[4]])
    assert_refused(text(KIT[0]) + "\n" + broken, "recovery code 2 of those given, line 4, group 4")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("07QDV P9YX1", "code 1"),
        (" ".join(" ".join(KIT[0].lines()).split()[:19]), "not complete: 19 groups instead of 20"),
        ("\n".join(KIT[0].lines()[:4]), "not complete: 16 groups"),
        ("\n".join(KIT[0].lines()) + " " + KIT[0].lines()[0][:5], "more than 20 groups"),
        (KIT[0].lines()[0][:4], "line 1, group 1: 4 characters instead of 5"),
        (KIT[0].lines()[0] + "7", "line 1, group 4: 6 characters"),
        ("U" + KIT[0].lines()[0][1:], "line 1, group 1: a character that no code has"),
        ("é" + KIT[0].lines()[0][1:], "line 1, group 1: a character that no code has"),
    ],
    ids=["short", "19 groups", "four lines", "21 groups", "4 characters", "6 characters", "no letter of it", "é"],
)
def test_what_is_no_whole_code_is_refused_with_what_is_wrong(typed: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_codes(typed)


def test_a_code_of_a_later_version_is_told_from_a_typing_error() -> None:
    body = recovery._BODY.pack(2, KIT[0].set_id, 3, 1, KIT[0].share)
    with pytest.raises(IntegrityError, match="version 2, this program reads version 1"):
        read_codes(" ".join(recovery._groups(body + recovery._checksum(body))))


@pytest.mark.parametrize(("need", "number"), [(0, 1), (1, 1), (17, 1), (3, 0), (3, 17)])
def test_a_code_that_contradicts_itself_is_refused(need: int, number: int) -> None:
    with pytest.raises(IntegrityError, match="contradicts itself"):
        read_codes(text(RecoveryCode(KIT[0].set_id, need, number, KIT[0].share)))


@pytest.mark.parametrize(("need", "of"), [(1, 5), (0, 0), (6, 5), (2, 17), (3, -1)])
def test_a_kit_that_cannot_be_or_is_a_copy_of_the_key_is_not_made(need: int, of: int) -> None:
    with pytest.raises(UsageError, match=f"{need} of {of}"):
        make_codes(KEY, need, of)


@settings(max_examples=300)
@given(st.text(max_size=200) | st.text(alphabet=CHARACTERS + " \n", max_size=200))
def test_any_other_text_is_refused_or_holds_no_code(typed: str) -> None:
    try:
        assert read_codes(typed) == []
    except TesseraError as error:
        assert error.exit_code in (2, 4)


def test_a_code_does_not_show_its_share() -> None:
    assert KIT[0].share.hex() not in repr(KIT[0])
    assert repr(KIT[0].share) not in repr(KIT[0])
    assert "share" not in repr(KIT[0])
