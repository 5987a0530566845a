"""Shamir's scheme over GF(2^8): enough shares give the secret back, and fewer tell nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TesseraError
from common.vault.secret_sharing import multiply, split, value_at


def test_multiplying_is_that_of_aes() -> None:
    assert multiply(0x57, 0x83) == 0xC1  # FIPS 197, section 4.2
    assert multiply(0x57, 0x13) == 0xFE  # and 4.2.1


def test_every_element_but_zero_has_one_inverse_and_products_distribute() -> None:
    for a in range(1, 256):
        assert sorted(multiply(a, b) for b in range(256)) == list(range(256))
        assert multiply(a, 0x53 ^ 0xCA) == multiply(a, 0x53) ^ multiply(a, 0xCA) == multiply(0x53 ^ 0xCA, a)


def test_the_published_example_is_restored() -> None:
    # draft-mcgrew-tss-03, section 9; the first byte of its shares is their number.
    shares = {1: bytes.fromhex("b9fa07e185"), 2: bytes.fromhex("f5409b4511")}
    assert value_at(shares, 0) == b"test\0"


@pytest.mark.parametrize(("need", "of"), [(need, of) for of in range(1, 8) for need in range(1, of + 1)])
def test_any_choice_of_as_many_shares_as_are_needed_restores(need: int, of: int) -> None:
    secret = bytes(range(7, 7 + 36))
    shares = split(secret, need, of)
    assert list(shares) == list(range(1, of + 1))
    for count in range(need, of + 1):
        for numbers in itertools.permutations(shares, count) if of < 5 else itertools.combinations(shares, count):
            assert value_at({number: shares[number] for number in numbers}, 0) == secret


@pytest.mark.one_python
@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=8), st.data())
def test_any_secret_comes_back_from_any_enough_shares_of_up_to_255(secret: bytes, data: st.DataObject) -> None:
    need = data.draw(st.integers(1, 12))
    of = data.draw(st.integers(need, 255))
    shares = split(secret, need, of)
    chosen = data.draw(st.lists(st.sampled_from(list(shares)), min_size=need, max_size=need, unique=True))
    known = {number: shares[number] for number in chosen}
    assert value_at(known, 0) == secret
    other = data.draw(st.sampled_from(list(shares)))
    assert value_at(known, other) == shares[other]


@pytest.mark.parametrize(("need", "of"), [(2, 3), (3, 5), (5, 5)])
def test_with_one_share_too_few_every_secret_is_as_possible_as_any_other(need: int, of: int) -> None:
    """For each choice of need − 1 shares and each byte there is one polynomial through them and each of 256 secrets.

    Each is as likely, since the coefficients were drawn alike: so the shares say nothing about the secret.
    """
    shares = split(b"\x2a", need, of)
    for numbers in itertools.combinations(shares, need - 1):
        known = {number: shares[number] for number in numbers}
        missing = next(number for number in shares if number not in known)
        secrets = [value_at({**known, missing: bytes([value])}, 0)[0] for value in range(256)]
        assert sorted(secrets) == list(range(256))


def test_a_share_by_itself_is_spread_evenly_whatever_the_secret_is() -> None:
    for secret in (b"\0", b"\xff"):
        counts = Counter(split(secret, 2, 2)[1][0] for _ in range(256 * 64))
        # χ² of 255 degrees of freedom: above 400 once in 10^8 runs
        assert sum((counts[value] - 64) ** 2 / 64 for value in range(256)) < 400


def test_the_same_secret_is_split_in_another_way_each_time() -> None:
    assert split(bytes(36), 2, 2) != split(bytes(36), 2, 2)


@pytest.mark.parametrize(("need", "of"), [(0, 1), (2, 1), (1, 256), (-1, 3)])
def test_what_cannot_be_is_refused(need: int, of: int) -> None:
    with pytest.raises(TesseraError):
        split(bytes(36), need, of)


@pytest.mark.parametrize("shares", [{}, {1: b"a", 2: b"ab"}, {0: b"a"}, {256: b"a"}])
def test_what_are_no_shares_of_one_secret_is_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(TesseraError, match="not shares"):
        value_at(shares, 0)
