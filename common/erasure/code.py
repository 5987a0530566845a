"""The erasure code as the programs use it: k data blocks give n - k of parity, any k of the n give all back.

1. `ErasureCode(k, n)` makes the code's matrix.
2. `encode` makes the schedule that encodes, once (a millisecond for 4 of 6), and runs it over one segment's blocks.
3. `rebuild` inverts the rows of k blocks that are there, multiplies by the rows of those that are wanted, and
   runs the schedule of that. The latest 64 schedules are kept, by which blocks are there and wanted.

It does not detect damage: callers check every block's digest first. `schedule` defines the layout of a block,
`bitmatrix` the bits in it.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.erasure.bitmatrix import Bits, expand, invert, multiply, parity_elements
from common.erasure.field import Field
from common.erasure.schedule import Block, Schedule
from common.errors import NotEnoughError, UsageError

MAX_BLOCKS = 64
MAX_SCHEDULES = 64
SMALL = 64 << 10  # bytes of all blocks of a segment: below, the calls of numpy cost more than the bytes
BYTE = np.dtype(np.uint8)
LARGEST_N_OF_SMALL_FIELD = 16  # GF(2^4) has 16 elements, and each block needs one of its own


class ErasureCode:
    """Any k of n blocks restore all n.

    Several threads may use one instance at a time; it keeps schedules, and scratch for each of them. Instances share
    nothing, and all instances of the same k and n produce the same parity.

    k, n: how many blocks hold data, and how many there are in all.
    keeps_scratch: up to 3 MiB a thread, from one call to the next; without, each call has its own.
    block_unit: every block's size in bytes is a positive multiple of this.
    """

    def __init__(self, k: int, n: int, *, keeps_scratch: bool = True) -> None:
        """UsageError unless 1 <= k <= n <= 64."""
        if not 1 <= k <= n <= MAX_BLOCKS:
            raise UsageError(f"{k} of {n} blocks is not offered: 1 <= k <= n <= {MAX_BLOCKS} must hold")
        self.k = k
        self.n = n
        self._w = 4 if n <= LARGEST_N_OF_SMALL_FIELD else 8
        self.block_unit = self._w * 8
        field = Field(self._w)
        self._parity_bits = expand(field, parity_elements(field, k, n - k))
        self._generator = np.concatenate([np.eye(k * self._w, dtype=np.uint8), self._parity_bits])
        self._rebuilding: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], Schedule] = OrderedDict()
        self._lock = threading.Lock()  # of these schedules
        self._keeps_scratch = keeps_scratch
        self._scratch: list[Block] = []  # that no call uses now

    @cached_property
    def _encoding(self) -> Schedule:
        """Made when it is needed: of 32 of 64 it takes seconds, for which a broker, which rebuilds, must not wait."""
        return Schedule(self._parity_bits, self._w)

    def encode(self, data: Sequence[NDArray[np.uint8]], parity: Sequence[NDArray[np.uint8]]) -> None:
        """Overwrite the n - k blocks of `parity` with the parity of the k blocks of `data`.

        All are one-dimensional contiguous uint8 arrays of one size, a multiple of `block_unit`, at any
        address; no parity block overlaps another block. UsageError for other counts, sizes or arrays.
        """
        parities = self.n - self.k
        if len(data) != self.k or len(parity) != parities:
            raise UsageError(f"got {len(data)} data and {len(parity)} parity blocks, expected {self.k} and {parities}")
        self._check_blocks(data, parity)
        self._run(self._encoding, data, parity)

    def encode_together(self, segments: Sequence[NDArray[np.uint8]]) -> None:
        """Overwrite the parity of segments: buffers of the k blocks of data and the n - k of parity in a row.

        Each as in `encode`, and of whatever size: many small ones cost hardly more calls than one. UsageError as there.
        """
        for segment in segments:
            self._check_blocks([segment], [segment])
            if segment.size % (self.n * self.block_unit):
                raise UsageError(f"{segment.size} bytes are not {self.n} blocks of whole units")
        small = [segment for segment in segments if segment.size <= SMALL]
        if small and self.n > self.k:
            self._encoding.run_together(small, self.k, self.n - self.k)
        for segment in segments:
            if segment.size > SMALL:
                blocks = list(segment.reshape(self.n, -1))
                self.encode(blocks[: self.k], blocks[self.k :])

    def rebuild(self, present: Mapping[int, NDArray[np.uint8]], missing: Mapping[int, NDArray[np.uint8]]) -> None:
        """Rebuild the blocks of `missing` in place, from k of the blocks of `present`.

        Both map a block's index (data 0 to k - 1, parity k to n - 1) to an array as in `encode`. Of more than
        k present blocks those with the lowest indices are used. NotEnoughError where fewer than k are present;
        UsageError for an index out of range or in both mappings, and for what `encode` refuses.
        """
        self._check_indices(present, missing)
        self._check_blocks(present.values(), missing.values())
        if len(present) < self.k:
            raise NotEnoughError(f"{len(present)} of {self.n} blocks are present, {self.k} are needed")
        # Data first: a data block among the k needs no inverting, so that less is left to XOR.
        used, wanted = tuple(sorted(present)[: self.k]), tuple(sorted(missing))
        if wanted:
            inputs, outputs = [present[index] for index in used], [missing[index] for index in wanted]
            with self._lock:
                schedule = self._rebuilding_schedule(used, wanted)
            self._run(schedule, inputs, outputs)

    def _rebuilding_schedule(self, used: tuple[int, ...], wanted: tuple[int, ...]) -> Schedule:
        schedule = self._rebuilding.get((used, wanted))
        if schedule is None:
            bits = multiply(self._rows(wanted), invert(self._rows(used)))
            schedule = self._rebuilding[used, wanted] = Schedule(bits, self._w)
            if len(self._rebuilding) > MAX_SCHEDULES:
                self._rebuilding.popitem(last=False)
        else:
            self._rebuilding.move_to_end((used, wanted))
        return schedule

    def _rows(self, indices: Sequence[int]) -> Bits:
        """The generator's rows of these blocks."""
        blocks = self._generator.reshape(self.n, self._w, -1)
        return blocks[list(indices)].reshape(len(indices) * self._w, -1)

    def _run(self, schedule: Schedule, inputs: Sequence[Block], outputs: Sequence[Block]) -> None:
        needed = schedule.scratch_size(inputs[0].size)
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = np.empty(needed, np.uint8)
        if scratch.size < needed:
            scratch = np.empty(needed, np.uint8)
        schedule.run(inputs, outputs, scratch)
        if self._keeps_scratch:
            self._scratch.append(scratch)

    def _check_indices(self, present: Mapping[int, Block], missing: Mapping[int, Block]) -> None:
        for index in (*present, *missing):
            if not 0 <= index < self.n:
                raise UsageError(f"there is no block {index}: the blocks are 0 to {self.n - 1}")
        both = sorted(present.keys() & missing.keys())
        if both:
            raise UsageError(f"blocks {both} are given both as present and as missing")

    def _check_blocks(self, sources: Iterable[Block], targets: Iterable[Block]) -> None:
        size = None
        for block in itertools.chain(sources, targets):
            if block.dtype != BYTE or block.ndim != 1 or not block.flags.c_contiguous:
                raise UsageError("a block must be a one-dimensional contiguous uint8 array")
            if size is None:
                size = block.size
                if size == 0 or size % self.block_unit:
                    raise UsageError(f"a block of {size} bytes is not a positive multiple of {self.block_unit}")
            elif block.size != size:
                raise UsageError(f"blocks must be of one size, got {size} and {block.size} bytes")
        for block in targets:
            if not block.flags.writeable:
                raise UsageError("a block to be overwritten is read-only")
