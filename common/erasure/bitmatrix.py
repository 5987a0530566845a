"""The code's matrix: chosen over GF(2^w), expanded to bits, inverted over GF(2).

1. Parity row i, data column j of a Cauchy matrix holds 1 / (x_i + y_j), all x_i and y_j distinct. Every
   square part of it can be inverted, which is what makes any k of n blocks enough (Blömer et al. 1995).
2. Multiplying a whole row or column keeps that. Each column is divided by its first element, so that the
   first parity row is all ones, a plain XOR of the data; each other row is scaled to the fewest ones in its
   bits, since ones are XORs (Plank & Xu 2006).
3. Which y_j are used is free too: the k columns with the fewest ones are taken and the rows scaled again,
   until nothing is gained. For two parity blocks this finds the least possible.
4. An element becomes the w x w bits of "multiply by it": column c holds the bits of element times 2^c.

The matrix is part of the format of every stored share: a change here makes all of them unreadable. The
vectors under tests/vectors/erasure hold it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.erasure.field import Field

Bits = NDArray[np.uint8]  # each 0 or 1
Elements = NDArray[np.uint8]  # each an element of the field


def parity_elements(field: Field, k: int, parities: int) -> Elements:
    """The parity rows of the code, (parities, k) elements; k + parities is at most the field's size."""
    if parities == 0:
        return np.zeros((0, k), np.uint8)
    candidates = _candidate_columns(field, parities)
    ones = _ones_of_elements(field)
    columns = np.arange(k)
    best, fewest = candidates[:, :0], -1
    while True:
        scaled = _scale_rows(field, candidates, columns, ones)
        columns = np.sort(np.argsort(ones[scaled].sum(axis=0), kind="stable")[:k])
        count = int(ones[scaled[:, columns]].sum())
        if 0 <= fewest <= count:
            return best
        best, fewest = scaled[:, columns], count


def expand(field: Field, elements: Elements) -> Bits:
    """(rows, columns) elements to the (rows * w, columns * w) bits of the same linear map."""
    rows, columns = elements.shape
    bits = _bits_of_elements(field)[elements]
    return bits.transpose(0, 2, 1, 3).reshape(rows * field.w, columns * field.w)


def invert(bits: Bits) -> Bits:
    """The inverse over GF(2) of a square matrix that has one, by Gauss-Jordan elimination."""
    size = len(bits)
    work = np.concatenate([bits, np.eye(size, dtype=np.uint8)], axis=1)
    for column in range(size):
        pivot = column + int(work[column:, column].argmax())
        work[[column, pivot]] = work[[pivot, column]]
        others = work[:, column].astype(bool)
        others[column] = False
        work[others] ^= work[column]
    return work[:, size:]


def multiply(a: Bits, b: Bits) -> Bits:
    """The product of two bit-matrices over GF(2)."""
    # Floats go through BLAS, and a sum of at most a few hundred ones is exact in them.
    sums = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.intp)
    product: Bits = (sums & 1).astype(np.uint8)
    return product


def _candidate_columns(field: Field, parities: int) -> Elements:
    """The normalised Cauchy columns of every y that is not one of x = 0, 1, ..., parities - 1."""
    x = np.arange(parities)[:, None]
    y = np.arange(parities, field.size)[None, :]
    cauchy = field.inverse((x ^ y).astype(np.uint8))
    return field.multiply(cauchy, field.inverse(cauchy[:1]))


def _scale_rows(field: Field, rows: Elements, columns: NDArray[np.intp], ones: NDArray[np.intp]) -> Elements:
    """Each row but the first, times what gives it the fewest ones in `columns`."""
    factors = np.arange(1, field.size, dtype=np.uint8)[:, None]
    scaled: Elements = rows.copy()
    for row in scaled[1:]:
        counts = ones[field.multiply(factors, row[columns])].sum(axis=1)
        row[:] = field.multiply(factors[counts.argmin()], row)
    return scaled


def _bits_of_elements(field: Field) -> Bits:
    """For every element its w x w bits: (element, row, column)."""
    elements = np.arange(field.size, dtype=np.uint8)[:, None]
    products = field.multiply(elements, (1 << np.arange(field.w)).astype(np.uint8))
    rows = np.arange(field.w, dtype=np.uint8)[:, None]
    bits: Bits = products[:, None, :] >> rows & np.uint8(1)
    return bits


def _ones_of_elements(field: Field) -> NDArray[np.intp]:
    ones: NDArray[np.intp] = _bits_of_elements(field).sum(axis=(1, 2), dtype=np.intp)
    return ones
