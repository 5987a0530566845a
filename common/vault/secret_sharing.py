"""Shamir's scheme: a secret in `of` shares, any `need` of which give it back, and fewer tell nothing at all.

    Adi Shamir, "How to Share a Secret", Communications of the ACM 22 (11), 1979

Each byte of the secret is the value at 0 of its own polynomial of degree need − 1 over GF(2^8), with the field of AES
(x^8 + x^4 + x^3 + x + 1; FIPS 197, section 4.2), whose other coefficients are random. Share i has the polynomials'
values at i, for i from 1 to `of`. Restoring is Lagrange's interpolation at 0. The threshold scheme of
draft-mcgrew-tss-03 is the same, and its example is one of our tests.

Multiplying uses neither tables nor branches on what is secret, so that neither cache nor jumps depend on it; Python's
own timing for small numbers does. Shares are not authenticated here: whoever holds one can shift the secret.
`recovery_codes` puts a check value into the secret against that.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from common.errors import TesseraError

MAX_SHARES = 255  # the elements of the field other than 0, the secret's


def split(secret: bytes, need: int, of: int) -> dict[int, bytes]:
    """Shares by number, 1 to `of`, each as long as the secret; TesseraError unless 1 <= need <= of <= 255."""
    if not 1 <= need <= of <= MAX_SHARES:
        raise TesseraError(f"a secret cannot be split so that {need} of {of} shares restore it")
    # coefficients[0] is the secret, and of every degree there is one coefficient for each of its bytes.
    coefficients = [secret, *(secrets.token_bytes(len(secret)) for _ in range(need - 1))]
    return {number: _values_at(number, coefficients) for number in range(1, of + 1)}


def value_at(shares: Mapping[int, bytes], place: int) -> bytes:
    """What the polynomials through these shares have at `place`: the secret at 0, another share at its number.

    All shares given are used; with fewer than were needed the result is some value and nothing tells. TesseraError
    where they are none, differ in length, or one's number is not from 1 to 255.
    """
    lengths = {len(share) for share in shares.values()}
    if len(lengths) != 1 or not all(1 <= number <= MAX_SHARES for number in shares):
        raise TesseraError("these are not shares of one secret")
    result = bytes(lengths.pop())
    for number, share in shares.items():
        weight = 1
        for other in shares:
            if other != number:
                weight = multiply(weight, multiply(place ^ other, _inverse(number ^ other)))
        result = bytes(sum_ ^ multiply(weight, byte) for sum_, byte in zip(result, share))
    return result


def multiply(a: int, b: int) -> int:
    """The product of two elements of GF(2^8), without a table or a branch."""
    product = 0
    for _ in range(8):
        product ^= -(b & 1) & a
        b >>= 1
        a = (a << 1) ^ (-(a >> 7) & 0x11B)
    return product


def _inverse(a: int) -> int:
    """a^254, which is 1 / a."""
    result = 1
    for _ in range(7):
        a = multiply(a, a)
        result = multiply(result, a)
    return result


def _values_at(place: int, coefficients: list[bytes]) -> bytes:
    """Horner's rule, for every byte."""
    value = bytes(len(coefficients[0]))
    for coefficient in reversed(coefficients):
        value = bytes(multiply(byte, place) ^ added for byte, added in zip(value, coefficient))
    return value
