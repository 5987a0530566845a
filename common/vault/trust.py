"""The checks on an image that is restored, all in one place, without input or output.

In this order, each step relying only on what the one before has proven:

1. the mapping, because it opens under the vault key for this object id and encoding id (`mapping`);
2. the recipe, because its digest is the one the mapping names, and its sizes are those that the mapping implies;
3. a block, because its digest is the one the recipe names (`Recipe.accepts`);
4. a segment, because its tag holds under the mapping's data key (`sealing`);
5. the image, because its whole SHA-256 is the one that was asked for. Before, it is not given out.

Nothing that a peer says replaces a check. Of an image of one segment steps 2 and 3 may be left out: the last two prove
it as well, and only cannot tell whose block is bad.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Union

from common.coding.recipe import Recipe, decode_recipe, digest
from common.coding.slicing import TAG_SIZE, Slicing
from common.errors import IntegrityError
from common.vault.granting import open_any
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping
from common.vault.sealing import Buffer, Bytes, DataKey, SegmentOpener


class TrustedImage:
    """One encoding of one image, as far as it has been proven."""

    def __init__(self, mapping: Mapping, encoding_id: bytes) -> None:
        """`mapping`: opened for this encoding id."""
        self.mapping = mapping
        self.encoding_id = encoding_id
        self._opener = SegmentOpener(DataKey(mapping.data_key), encoding_id, mapping.k, mapping.n)
        self._sha256 = hashlib.sha256()
        self._verified = 0

    @classmethod
    def from_sealed(cls, key: VaultKey, sealed: bytes, object_id: bytes, encoding_id: bytes) -> TrustedImage:
        """Step 1; IntegrityError or RefusedError where the mapping does not open."""
        return cls(open_any(key, sealed, object_id, encoding_id), encoding_id)

    def accept_recipe(self, packed: Union[bytes, memoryview], unit: int) -> Recipe:
        """Step 2, with the erasure code's unit in bytes; IntegrityError where it is not the mapping's recipe."""
        if digest(packed) != self.mapping.recipe_digest:
            raise IntegrityError("the recipe is not the one that the mapping names")
        recipe = decode_recipe(packed)
        mapping = self.mapping
        block_size, rest = divmod(mapping.segment_size + TAG_SIZE, mapping.k)
        if rest or block_size % unit:
            raise IntegrityError("the mapping names an impossible segment size")
        slicing = Slicing(mapping.k, unit, block_size)
        last = slicing.segment_length(mapping.image_size, mapping.segment_count - 1)
        expected = (self.encoding_id, mapping.k, mapping.n, mapping.segment_count, block_size)
        found = (recipe.encoding_id, recipe.k, recipe.n, recipe.segment_count, recipe.block_size)
        if found != expected or recipe.last_block_size != slicing.block_length(last):
            raise IntegrityError("the recipe does not fit the mapping")
        self._recipe = recipe
        return recipe

    @property
    def recipe(self) -> Recipe:
        """The recipe that was accepted; step 3 is its `accepts`."""
        return self._recipe

    def segment_length(self, segment: int) -> int:
        """Bytes of the image in a segment."""
        mapping = self.mapping
        return min(mapping.segment_size, mapping.image_size - segment * mapping.segment_size)

    def open_segment(self, segment: int, sealed: Bytes, out: Bytes) -> int:
        """Step 4: the segment's plaintext into `out`; its length. IntegrityError where the tag fails."""
        last = segment == self.mapping.segment_count - 1
        length = self.segment_length(segment)
        return self._opener.open(segment, sealed[: length + TAG_SIZE], last, out)

    def open_blocks(self, segment: int, blocks: Sequence[Buffer], out: Bytes) -> int:
        """Step 4, as `open_segment`, from the segment's k data blocks where they lie."""
        last = segment == self.mapping.segment_count - 1
        return self._opener.open_blocks(segment, blocks, self.segment_length(segment) + TAG_SIZE, last, out)

    def update(self, plaintext: memoryview) -> None:
        """Hash the next segment's plaintext; to be called in order."""
        self._sha256.update(plaintext)
        self._verified += plaintext.nbytes

    def verify(self) -> None:
        """Step 5; IntegrityError where the whole is not the image."""
        if self._verified != self.mapping.image_size or self._sha256.digest() != self.mapping.image_sha256:
            raise IntegrityError("what was restored is not the image; it was thrown away")
