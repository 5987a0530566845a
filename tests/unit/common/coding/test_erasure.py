"""Any k of n blocks restore all n; the parity is what the field's arithmetic says and what the vectors hold.

The vectors under tests/vectors/erasure are written by generate.py beside them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.erasure import ErasureCode
from common.erasure.bitmatrix import Bits, expand, invert, multiply, parity_elements
from common.erasure.code import MAX_SCHEDULES
from common.erasure.field import Field
from common.erasure.schedule import Schedule
from common.errors import NotEnoughError, UsageError
from tests import ROOT

Block = NDArray[np.uint8]

VECTORS = json.loads((ROOT / "tests" / "vectors" / "erasure" / "vectors.json").read_text(encoding="utf-8"))
SMALL_CODES = [(k, n) for n in range(1, 9) for k in range(1, n + 1)]
# n = 16 is the last with w = 4, n = 17 the first with w = 8.
codes = st.one_of(
    st.sampled_from([(4, 6), (12, 13), (4, 16), (3, 17), (64, 64), (1, 64), (63, 64)]),
    st.integers(1, 64).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
)
seeds = st.integers(0, 2**32 - 1)


def random_blocks(count: int, size: int, seed: int = 0) -> list[Block]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, size), np.uint8))


def empty_blocks(count: int, size: int) -> list[Block]:
    """Filled with what no test expects to find, to show that all of a block is overwritten."""
    return list(np.full((count, size), 0xA5, np.uint8))


def encoded(code: ErasureCode, size: int, seed: int = 0) -> list[Block]:
    """All n blocks."""
    data, parity = random_blocks(code.k, size, seed), empty_blocks(code.n - code.k, size)
    code.encode(data, parity)
    return data + parity


def assert_restores(code: ErasureCode, blocks: list[Block], present: list[int], missing: list[int]) -> None:
    restored = dict(zip(missing, empty_blocks(len(missing), blocks[0].size)))
    code.rebuild({index: blocks[index] for index in present}, restored)
    for index in missing:
        assert np.array_equal(restored[index], blocks[index]), f"block {index} of {code.k} of {code.n}"


# The field's arithmetic, as plainly as it can be written.


def product(a: int, symbols: Block, w: int) -> Block:
    """a times each symbol, by shifting and adding."""
    modulus = {4: 0x13, 8: 0x11D}[w]
    total, shifted = np.zeros(symbols.shape, np.int64), symbols.astype(np.int64)
    for bit in range(w):
        if a >> bit & 1:
            total ^= shifted
        shifted <<= 1
        shifted ^= np.where(shifted >> w, modulus, 0)
    return total.astype(np.uint8)


def symbols_of(block: Block, w: int) -> Block:
    """A block's symbols: bit b of symbol s is bit s of packet b."""
    packets = np.unpackbits(block.reshape(w, -1), axis=1)
    weights = (1 << np.arange(w)).astype(np.uint8)[:, None]
    symbols: Block = (packets * weights).sum(axis=0, dtype=np.uint8)
    return symbols


def slow_parity(data: list[Block], row: list[int], w: int) -> Block:
    """The symbols of one parity block."""
    total = np.zeros(data[0].size * 8 // w, np.uint8)
    for element, block in zip(row, data):
        total ^= product(element, symbols_of(block, w), w)
    return total


class TestAnyKOfN:
    @pytest.mark.parametrize(("k", "n"), SMALL_CODES)
    def test_every_choice_of_k_blocks_restores_all_others(self, k: int, n: int) -> None:
        code = ErasureCode(k, n)
        blocks = encoded(code, code.block_unit, seed=n)
        for present in itertools.combinations(range(n), k):
            missing = [index for index in range(n) if index not in present]
            assert_restores(code, blocks, list(present), missing)

    @pytest.mark.one_python
    @given(codes, st.integers(1, 5), seeds, st.data())
    @settings(max_examples=100, deadline=None)
    def test_a_random_choice_restores_for_any_code_and_size(
        self, code_size: tuple[int, int], units: int, seed: int, draw: st.DataObject
    ) -> None:
        code = ErasureCode(*code_size)
        blocks = encoded(code, units * code.block_unit, seed)
        order = draw.draw(st.permutations(range(code.n)))
        present = draw.draw(st.integers(code.k, code.n))
        wanted = draw.draw(st.integers(present, code.n))
        assert_restores(code, blocks, order[:present], order[present:wanted])

    @pytest.mark.parametrize(("k", "n"), [(4, 6), (10, 16), (16, 20)])
    def test_blocks_larger_than_a_tile_restore(self, k: int, n: int) -> None:
        code = ErasureCode(k, n)
        # Not a multiple of any tile, so that the last tile is a short one.
        blocks = encoded(code, 2**21 + 5 * code.block_unit)
        lost = list(range(n - k))
        assert_restores(code, blocks, list(range(n - k, n)), lost)

    @pytest.mark.parametrize(("k", "n"), [(32, 64), (48, 64)])
    def test_the_largest_codes_take_the_loop_that_rebuilds_for_no_second(self, k: int, n: int) -> None:
        code = ErasureCode(k, n)
        blocks = encoded(code, code.block_unit)
        began = time.process_time()
        assert_restores(code, blocks, list(range(n - k, n)), list(range(min(k, n - k))))
        assert time.process_time() - began < 1, "0.2 s; it was 2"

    def test_lost_parity_alone_is_rebuilt_from_the_data(self) -> None:
        code = ErasureCode(4, 6)
        assert_restores(code, encoded(code, 64), [0, 1, 2, 3, 4], [5])

    def test_of_more_than_k_blocks_the_lowest_are_used_in_whatever_order_they_come(self) -> None:
        code = ErasureCode(4, 6)
        blocks = encoded(code, 64)
        present = {5: ~blocks[5], **{index: blocks[index] for index in (4, 3, 2, 1)}}
        restored = empty_blocks(1, 64)[0]
        code.rebuild(present, {0: restored})
        assert np.array_equal(restored, blocks[0])

    def test_small_blocks_after_large_ones_and_back(self) -> None:
        code = ErasureCode(4, 6)
        for size in (32, 1 << 20, 64, 1 << 16):
            assert_restores(code, encoded(code, size), [0, 3, 4, 5], [1, 2])

    def test_more_patterns_of_loss_than_are_remembered(self) -> None:
        code = ErasureCode(4, 8)
        blocks = encoded(code, 32)
        patterns = list(itertools.combinations(range(8), 4))
        assert len(patterns) > MAX_SCHEDULES
        for present in patterns + patterns:
            assert_restores(code, blocks, list(present), [i for i in range(8) if i not in present])
        assert len(code._rebuilding) == MAX_SCHEDULES


class TestParity:
    @pytest.mark.one_python
    @given(codes, st.integers(1, 3), seeds, st.data())
    @settings(max_examples=60, deadline=None)
    def test_it_is_what_the_field_arithmetic_says(
        self, code_size: tuple[int, int], units: int, seed: int, draw: st.DataObject
    ) -> None:
        code = ErasureCode(*code_size)
        w, parities = code.block_unit // 8, code.n - code.k
        blocks = encoded(code, units * code.block_unit, seed)
        rows = parity_elements(Field(w), code.k, parities).tolist()
        for index in draw.draw(st.sets(st.integers(0, parities - 1), max_size=3)) if parities else []:
            expected = slow_parity(blocks[: code.k], rows[index], w)
            assert np.array_equal(symbols_of(blocks[code.k + index], w), expected)

    @pytest.mark.parametrize(("k", "n"), [(2, 3), (4, 6), (16, 20)])
    def test_the_first_is_the_xor_of_the_data(self, k: int, n: int) -> None:
        code = ErasureCode(k, n)
        blocks = encoded(code, code.block_unit)
        assert np.array_equal(blocks[k], np.bitwise_xor.reduce(blocks[:k]))

    def test_of_one_data_block_is_that_block(self) -> None:
        first, *others = encoded(ErasureCode(1, 4), 32)
        assert all(np.array_equal(first, other) for other in others)

    def test_encoding_leaves_the_data_alone(self) -> None:
        assert np.array_equal(encoded(ErasureCode(4, 6), 32)[:4], random_blocks(4, 32))

    @pytest.mark.parametrize(("k", "n"), [(1, 2), (2, 3), (4, 6), (16, 20), (3, 3)])
    def test_segments_of_any_sizes_together_are_coded_as_each_alone(self, k: int, n: int) -> None:
        code = ErasureCode(k, n)
        alone = [np.concatenate(encoded(code, units * code.block_unit, seed=units)) for units in (3, 1, 7, 1)]
        together = [segment.copy() for segment in alone]
        for segment in together:
            segment[k * segment.size // n :] = 0xFF
        code.encode_together(together)
        for one, other in zip(alone, together):
            assert np.array_equal(one, other)
        code.encode_together([])

    def test_a_segment_that_is_not_n_whole_blocks_is_refused(self) -> None:
        code = ErasureCode(4, 6)
        whole = np.zeros(6 * code.block_unit, np.uint8)
        with pytest.raises(UsageError):
            code.encode_together([whole, np.zeros(6 * code.block_unit + 6, np.uint8)])

    def test_no_parity_is_nothing_to_do(self) -> None:
        code = ErasureCode(3, 3)
        assert len(encoded(code, 32)) == 3
        code.rebuild(dict(enumerate(random_blocks(3, 32))), {})


class TestVectors:
    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['k']}-of-{vector['n']}")
    def test_stored_shares_stay_readable(self, vector: dict[str, Any]) -> None:
        k, n, w = vector["k"], vector["n"], vector["w"]
        assert ErasureCode(k, n).block_unit == 8 * w
        assert [row.tobytes().hex() for row in parity_elements(Field(w), k, n - k)] == vector["rows"]
        for size, blocks in vector["parity"].items():
            assert [block.tobytes().hex() for block in self.parity(k, n, int(size))] == blocks
        for size, digests in vector["parity_sha256"].items():
            assert [hashlib.sha256(block.tobytes()).hexdigest() for block in self.parity(k, n, int(size))] == digests

    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['k']}-of-{vector['n']}")
    def test_they_are_what_the_field_arithmetic_says(self, vector: dict[str, Any]) -> None:
        k, n, w = vector["k"], vector["n"], vector["w"]
        for size, blocks in vector["parity"].items():
            data = self.data(k, n, int(size))
            for row, block in zip(vector["rows"], blocks):
                expected = slow_parity(data, list(bytes.fromhex(row)), w)
                assert np.array_equal(symbols_of(np.frombuffer(bytes.fromhex(block), np.uint8), w), expected)

    def data(self, k: int, n: int, size: int) -> list[Block]:
        seed = f"tessera erasure vector {k} {n} {size}".encode()
        return list(np.frombuffer(hashlib.shake_128(seed).digest(k * size), np.uint8).reshape(k, size))

    def parity(self, k: int, n: int, size: int) -> list[Block]:
        blocks = empty_blocks(n - k, size)
        ErasureCode(k, n).encode(self.data(k, n, size), blocks)
        return blocks


class TestBuffers:
    @given(st.lists(st.integers(0, 15), min_size=6, max_size=6), seeds)
    @settings(deadline=None)
    def test_blocks_may_lie_at_any_address(self, offsets: list[int], seed: int) -> None:
        code = ErasureCode(4, 6)
        aligned = encoded(code, 96, seed)
        shifted = [np.zeros(96 + 16, np.uint8)[offset : offset + 96] for offset in offsets]
        for index in range(4):
            shifted[index][:] = aligned[index]
        code.encode(shifted[:4], shifted[4:])
        assert np.array_equal(shifted, aligned)
        shifted[1][:], shifted[2][:] = 0, 0
        code.rebuild({i: shifted[i] for i in (0, 3, 4, 5)}, {i: shifted[i] for i in (1, 2)})
        assert np.array_equal(shifted, aligned)

    def test_sources_may_be_read_only_slices_of_one_message(self) -> None:
        code = ErasureCode(2, 4)
        message = b"x" + bytes(range(64))
        views = [np.frombuffer(memoryview(message)[1 + i * 32 : 33 + i * 32], np.uint8) for i in range(2)]
        parity = empty_blocks(2, 32)
        code.encode(views, parity)
        assert_restores(code, [*views, *parity], [2, 3], [0, 1])

    def test_nothing_beside_the_outputs_is_written(self) -> None:
        code = ErasureCode(4, 6)
        buffer = np.full(2 * 32 + 2, 7, np.uint8)
        code.encode(random_blocks(4, 32), [buffer[1:33], buffer[33:65]])
        assert buffer[0] == buffer[65] == 7


class TestRefused:
    @pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 0), (-1, 3), (3, 2), (1, 65), (65, 65)])
    def test_k_and_n_outside_what_is_offered(self, k: int, n: int) -> None:
        with pytest.raises(UsageError, match="1 <= k <= n <= 64"):
            ErasureCode(k, n)

    @pytest.mark.parametrize(("data", "parity"), [(3, 2), (5, 2), (4, 1), (4, 3), (0, 0)])
    def test_encoding_other_counts(self, data: int, parity: int) -> None:
        with pytest.raises(UsageError, match="expected 4 and 2"):
            ErasureCode(4, 6).encode(random_blocks(data, 32), empty_blocks(parity, 32))

    @pytest.mark.parametrize("size", [0, 1, 31, 33, 48])
    def test_sizes_that_are_no_positive_multiple_of_the_unit(self, size: int) -> None:
        blocks = random_blocks(6, size)
        code = ErasureCode(4, 6)
        with pytest.raises(UsageError, match="multiple of 32"):
            code.encode(blocks[:4], blocks[4:])
        with pytest.raises(UsageError, match="multiple of 32"):
            code.rebuild(dict(enumerate(blocks[:5])), {5: blocks[5]})

    def test_the_unit_of_large_codes_is_larger(self) -> None:
        with pytest.raises(UsageError, match="multiple of 64"):
            ErasureCode(16, 17).encode(random_blocks(16, 32), empty_blocks(1, 32))

    @pytest.mark.parametrize("odd", range(6))
    def test_blocks_of_two_sizes(self, odd: int) -> None:
        blocks = random_blocks(6, 64)
        blocks[odd] = blocks[odd][:32]
        with pytest.raises(UsageError, match="one size"):
            ErasureCode(4, 6).encode(blocks[:4], blocks[4:])
        with pytest.raises(UsageError, match="one size"):
            ErasureCode(4, 6).rebuild(dict(enumerate(blocks[:4])), dict(enumerate(blocks[4:], 4)))

    @pytest.mark.parametrize(
        "block",
        [
            np.zeros(64, np.uint8)[::2],
            np.zeros((4, 8), np.uint8),
            np.zeros(32, np.uint16),
            np.zeros(32, np.int8),
        ],
        ids=["strided", "two-dimensional", "uint16", "int8"],
    )
    def test_arrays_that_are_no_contiguous_bytes(self, block: Block) -> None:
        with pytest.raises(UsageError, match="contiguous uint8"):
            ErasureCode(1, 2).encode([block], empty_blocks(1, 32))
        with pytest.raises(UsageError, match="contiguous uint8"):
            ErasureCode(1, 2).rebuild({1: random_blocks(1, 32)[0]}, {0: block})

    def test_overwriting_what_is_read_only(self) -> None:
        fixed = np.frombuffer(bytes(32), np.uint8)
        with pytest.raises(UsageError, match="read-only"):
            ErasureCode(1, 2).encode(random_blocks(1, 32), [fixed])

    @pytest.mark.parametrize("index", [-1, 6])
    def test_indices_out_of_range(self, index: int) -> None:
        blocks = dict(enumerate(random_blocks(4, 32)))
        extra = {index: random_blocks(1, 32)[0]}
        with pytest.raises(UsageError, match=f"no block {index}"):
            ErasureCode(4, 6).rebuild(blocks, extra)
        with pytest.raises(UsageError, match=f"no block {index}"):
            ErasureCode(4, 6).rebuild({**blocks, **extra}, {4: empty_blocks(1, 32)[0]})

    def test_a_block_both_present_and_missing(self) -> None:
        blocks = dict(enumerate(random_blocks(5, 32)))
        with pytest.raises(UsageError, match=r"\[2\]"):
            ErasureCode(4, 6).rebuild(blocks, {2: empty_blocks(1, 32)[0]})

    @pytest.mark.parametrize("present", [0, 1, 3])
    def test_too_few_present(self, present: int) -> None:
        missing = {5: empty_blocks(1, 32)[0]}
        with pytest.raises(NotEnoughError, match=f"{present} of 6 blocks are present, 4 are needed"):
            ErasureCode(4, 6).rebuild(dict(enumerate(random_blocks(present, 32))), missing)
        assert (missing[5] == 0xA5).all()


class TestMatrix:
    @pytest.mark.parametrize("w", [4, 8])
    def test_the_field_multiplies_like_polynomials(self, w: int) -> None:
        field, elements = Field(w), np.arange(1 << w, dtype=np.uint8)
        for element in elements.reshape(-1, 1):
            assert np.array_equal(field.multiply(element, elements), product(int(element[0]), elements, w))
        assert (field.multiply(elements[1:], field.inverse(elements[1:])) == 1).all()

    @given(st.sampled_from([(2, 4), (4, 6), (8, 16), (10, 30)]), st.data())
    def test_bits_map_as_elements_do(self, code_size: tuple[int, int], draw: st.DataObject) -> None:
        k, n = code_size
        field = Field(4 if n <= 16 else 8)
        elements = parity_elements(field, k, n - k)
        vector = draw.draw(st.lists(st.integers(0, field.size - 1), min_size=k, max_size=k))
        sources = np.array(vector, np.uint8)
        column = ((sources[:, None] >> np.arange(field.w)) & 1).astype(np.uint8).reshape(-1, 1)
        result = multiply(expand(field, elements), column).reshape(n - k, field.w)
        expected = np.bitwise_xor.reduce(field.multiply(elements, sources), axis=1)
        assert np.array_equal((result << np.arange(field.w)).sum(axis=1), expected)

    @given(st.integers(1, 40), seeds)
    def test_an_inverse_undoes_its_matrix(self, size: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        # A product of triangles with ones on the diagonal, its rows shuffled, always has an inverse.
        lower, upper = (np.tril(generator.integers(0, 2, (size, size), np.uint8), -1) for _ in range(2))
        identity = np.eye(size, dtype=np.uint8)
        matrix = multiply(lower | identity, (upper | identity).T)[generator.permutation(size)]
        assert np.array_equal(multiply(matrix, invert(matrix)), identity)

    def test_two_parities_have_the_fewest_ones_there_can_be(self) -> None:
        field = Field(4)
        ones = [int(expand(field, np.array([[element]], np.uint8)).sum()) for element in range(1, 16)]
        for k in range(1, 14):
            # The first row is all ones, and the second needs k different elements.
            second = expand(field, parity_elements(field, k, 2)[1:])
            assert second.sum() == sum(sorted(ones)[:k])


def test_who_only_rebuilds_does_not_wait_for_what_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counted(Schedule):
        def __init__(self, bits: Bits, w: int) -> None:
            made.append(len(bits) // w)
            super().__init__(bits, w)

    monkeypatch.setattr("common.erasure.code.Schedule", Counted)
    code = ErasureCode(32, 64)
    assert made == [], "seconds, in the broker's loop"
    code.rebuild({share: np.zeros(64, np.uint8) for share in range(1, 33)}, {0: np.empty(64, np.uint8)})
    assert made == [1]
