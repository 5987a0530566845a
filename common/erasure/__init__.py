"""The erasure code: systematic Cauchy Reed-Solomon over GF(2^w), done as XORs of packets, in numpy.

In the order to read them:

    field       GF(2^4) and GF(2^8), for the matrix only
    bitmatrix   the matrix: chosen, normalised, expanded to bits, inverted
    schedule    a bit-matrix as a list of XORs, and running it
    code        ErasureCode: encode, rebuild

Blömer, Kalfane, Karp, Karpinski, Luby & Zuckerman 1995, "An XOR-Based Erasure-Resilient Coding Scheme"; Plank
& Xu 2006, "Optimizing Cauchy Reed-Solomon Codes for Fault-Tolerant Network Storage Applications". w is 4 up
to n = 16, 8 beyond.
"""

from __future__ import annotations

from common.erasure.code import ErasureCode

__all__ = ["ErasureCode"]
