"""Arithmetic in GF(2^w), for w = 4 and w = 8.

An element is a number below 2^w whose bits are the coefficients of a polynomial; adding is XOR, multiplying
is multiplying polynomials modulo a primitive one. It is needed only to make matrices, a few hundred elements
at a time, so a whole table of products (64 KiB for w = 8) is simplest. Blocks are coded by XOR alone, without this
module.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRIMITIVE = {4: 0b1_0011, 8: 0b1_0001_1101}  # x^4 + x + 1 and x^8 + x^4 + x^3 + x^2 + 1


class Field:
    """GF(2^w). `multiply` and `inverse` take single elements or arrays of them (`uint8`), and broadcast."""

    def __init__(self, w: int) -> None:
        self.w = w
        self.size = 1 << w
        powers = self._powers_of_two()
        logarithm = np.zeros(self.size, np.intp)
        logarithm[powers] = np.arange(self.size - 1)
        sums = logarithm[1:, None] + logarithm[None, 1:]
        self._products = np.zeros((self.size, self.size), np.uint8)
        self._products[1:, 1:] = powers[sums % (self.size - 1)]
        self._inverses = np.zeros(self.size, np.uint8)
        self._inverses[1:] = powers[-logarithm[1:] % (self.size - 1)]

    def multiply(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
        products: NDArray[np.uint8] = self._products[a, b]
        return products

    def inverse(self, a: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """1 / a. Zero has no inverse; the caller's elements are never zero."""
        inverses: NDArray[np.uint8] = self._inverses[a]
        return inverses

    def _powers_of_two(self) -> NDArray[np.uint8]:
        powers = np.empty(self.size - 1, np.uint8)
        element = 1
        for exponent in range(self.size - 1):
            powers[exponent] = element
            element <<= 1
            if element >= self.size:
                element ^= PRIMITIVE[self.w]
        return powers
