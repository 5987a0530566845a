"""Turns a bit-matrix into a short list of XORs of packets, and runs it.

A block is cut into w equal packets, packet b first holding bit b of the block's symbols; an output packet is
the XOR of the input packets that have a one in its row. The list is made shorter in three ways, once per
matrix:

1. A map that treats a block's packets all alike, as a plain XOR of blocks does, is done over whole blocks.
2. A row that differs little from another starts from that one's result (Plank 2008, "The RAID-6 Liberation
   Codes"); the minimum spanning tree of the rows' distances gives the best such starts.
3. A pair of packets that several rows contain is XORed once, the most frequent pair first (Paar 1997).

For 4 of 6 this leaves 25 packet XORs to encode, of 28, and at most 30 to decode, of up to 78.

Running, the packets go by in tiles, so that all registers of a step list fit the last cache. Everything works
on uint8: numpy is as fast on bytes as on words, and blocks may then lie at any address.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.erasure.bitmatrix import Bits

Block = NDArray[np.uint8]
Step = tuple[int, int, int]  # target, first source, second source or COPY, each the number of a register

COPY = -1
MAX_PAIRS = 128  # bounds scratch, and the time to make a schedule for n = 64 to about 0.2 s
CACHE_BUDGET = 8 * 1024 * 1024  # bytes of all registers of a tile together
MIN_TILE = 32 * 1024  # bytes; below this numpy's cost per call shows


class Schedule:
    """The XORs that make some blocks from others; immutable once made."""

    def __init__(self, bits: Bits, w: int) -> None:
        """`bits`: (outputs * w, inputs * w), no row all zero."""
        bits, self._packets = _over_whole_blocks(bits, w)
        order, terms = _start_from_other_rows(bits)
        terms, pairs = _take_out_pairs(terms)
        writer = _StepWriter(bits.shape, terms, pairs)
        for row in order:
            writer.write_row(row)
        # An array, since a cache holds many schedules and those of large codes have 100,000 steps.
        self._steps = np.array(writer.steps, np.int16).reshape(-1, 3)
        self._scratch_count = writer.scratch_count
        self._register_count = sum(bits.shape) + writer.scratch_count

    def scratch_size(self, block_size: int) -> int:
        """Bytes of scratch that a run over blocks of this size needs."""
        return self._scratch_count * self._tile_size(block_size)

    def run(self, inputs: Sequence[Block], outputs: Sequence[Block], scratch: Block) -> None:
        """Overwrite the outputs. Blocks are of one size, a multiple of w; no output overlaps another."""
        if not outputs:
            return
        blocks = [block.reshape(self._packets, -1) for block in (*inputs, *outputs)]
        steps: list[list[int]] = self._steps.tolist()
        packet, tile = blocks[0].shape[1], self._tile_size(outputs[0].size)
        spare = list(scratch[: self._scratch_count * tile].reshape(self._scratch_count, tile))
        for start in range(0, packet, tile):
            end = min(start + tile, packet)
            registers = [part for block in blocks for part in block[:, start:end]]
            registers += spare if end - start == tile else [part[: end - start] for part in spare]
            _execute(steps, registers)

    def run_together(self, segments: Sequence[Block], inputs: int, outputs: int) -> None:
        """Overwrite the outputs of several segments, each a buffer of its inputs and outputs, of whatever size.

        Their packets are laid side by side, so that numpy is called once for all: for small ones.
        """
        rows, read = (inputs + outputs) * self._packets, inputs * self._packets
        parts = [segment.reshape(rows, -1) for segment in segments]
        registers = np.empty((self._register_count, sum(part.shape[1] for part in parts)), np.uint8)
        start = 0
        for part in parts:
            registers[:read, start : start + part.shape[1]] = part[:read]
            start += part.shape[1]
        _execute(self._steps.tolist(), list(registers))
        start = 0
        for part in parts:
            part[read:] = registers[read:rows, start : start + part.shape[1]]
            start += part.shape[1]

    def _tile_size(self, block_size: int) -> int:
        # Whole cache lines, so that a tile does not begin in the middle of one.
        fitting = CACHE_BUDGET // self._register_count // 64 * 64
        return min(block_size // self._packets, max(fitting, MIN_TILE))


def _execute(steps: list[list[int]], registers: list[Block]) -> None:
    xor = np.bitwise_xor
    for target, first, second in steps:
        if second == COPY:
            np.copyto(registers[target], registers[first])
        else:
            xor(registers[first], registers[second], registers[target])


def _over_whole_blocks(bits: Bits, w: int) -> tuple[Bits, int]:
    """The matrix and its packets per block: one bit and one packet, where each element is 0 or 1."""
    elements = bits[::w, ::w]
    if np.array_equal(bits, np.kron(elements, np.eye(w, dtype=np.uint8))):
        return elements, 1
    return bits, w


def _start_from_other_rows(bits: Bits) -> tuple[list[int], Bits]:
    """The order to do the rows in, and what to XOR for each: its columns are the inputs, then the outputs.

    Prim's algorithm over the rows and the zero row; the distance of two rows is how many bits they differ in.
    """
    rows, columns = bits.shape
    ones = bits.sum(axis=1, dtype=np.intp)
    common = (bits.astype(np.float32) @ bits.T.astype(np.float32)).astype(np.intp)
    distances = ones[:, None] + ones[None, :] - 2 * common
    costs, origins = ones - 1, np.full(rows, -1)
    terms = np.concatenate([bits, np.zeros((rows, rows), np.uint8)], axis=1)
    done = np.zeros(rows, bool)
    order = []
    for _ in range(rows):
        row = int(np.where(done, np.iinfo(np.intp).max, costs).argmin())
        order.append(row)
        done[row] = True
        if origins[row] >= 0:
            terms[row, :columns] ^= bits[origins[row]]
            terms[row, columns + origins[row]] = 1
        nearer = (distances[row] < costs) & ~done
        costs[nearer] = distances[row, nearer]
        origins[nearer] = row
    return order, terms


def _take_out_pairs(terms: Bits) -> tuple[Bits, list[tuple[int, int]]]:
    """Give a pair of columns that two or more rows share a column of its own; those pairs, in order."""
    rows, columns = terms.shape
    weights = np.zeros((rows, columns + MAX_PAIRS), np.float32)
    weights[:, :columns] = terms
    shared = np.triu(weights.T @ weights, 1)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < MAX_PAIRS:
        first, second = divmod(int(shared.argmax()), len(shared))
        if shared[first, second] < 2:
            break
        new = columns + len(pairs)
        weights[:, new] = weights[:, first] * weights[:, second]
        for column in (first, second):
            weights[:, column] -= weights[:, new]
        # Only of these three another number of rows is shared now: all of them anew would take ten times as long.
        for column in (first, second, new):
            counts = weights[:, column] @ weights
            shared[column, column + 1 :] = counts[column + 1 :]
            shared[:column, column] = counts[:column]
        pairs.append((first, second))
    return weights[:, : columns + len(pairs)].astype(np.uint8), pairs


class _StepWriter:
    """Turns terms into steps. Registers are inputs, outputs, then scratch, reused once a pair is used up."""

    def __init__(self, shape: tuple[int, ...], terms: Bits, pairs: list[tuple[int, int]]) -> None:
        self._rows, self._inputs = shape
        self._terms = terms
        self._pairs = pairs
        self._uses_left: list[int] = terms.sum(axis=0, dtype=np.intp).tolist()
        for pair in pairs:
            for variable in pair:
                self._uses_left[variable] += 1
        self._register_of_pair: dict[int, int] = {}
        self._free: list[int] = []
        self.steps: list[Step] = []
        self.scratch_count = 0

    def write_row(self, row: int) -> None:
        target = self._inputs + row
        # Pairs first: what was just computed is still in the cache.
        variables = np.flatnonzero(self._terms[row])[::-1].tolist()
        first, *others = [self._register(variable) for variable in variables]
        self.steps.append((target, first, others[0] if others else COPY))
        self.steps.extend((target, target, register) for register in others[1:])
        self._release(variables)

    def _register(self, variable: int) -> int:
        """The register of a variable; a pair is computed at its first use."""
        fixed = self._inputs + self._rows
        if variable < fixed:
            return variable
        if variable not in self._register_of_pair:
            pair = self._pairs[variable - fixed]
            first, second = self._register(pair[0]), self._register(pair[1])
            self._release(pair)
            self._register_of_pair[variable] = self._free.pop() if self._free else self._grow()
            self.steps.append((self._register_of_pair[variable], first, second))
        return self._register_of_pair[variable]

    def _release(self, variables: Sequence[int]) -> None:
        for variable in variables:
            self._uses_left[variable] -= 1
            if self._uses_left[variable] == 0 and variable in self._register_of_pair:
                self._free.append(self._register_of_pair[variable])

    def _grow(self) -> int:
        self.scratch_count += 1
        return self._inputs + self._rows + self.scratch_count - 1
