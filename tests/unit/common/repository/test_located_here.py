"""Where the index has an image: as the vault's own, and as others share it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.index import Learned
from common.vault.mapping import granted_object_id
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import KEY, encode

IMAGE = encode(b"an image")
MAPPING = IMAGE.trusted().mapping
OWN = IMAGE.located()
SHARED = msgspec.structs.replace(
    OWN, object_id=granted_object_id(KEY, MAPPING), encoding_id=bytes(range(16)), granted=True
)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("there", [[OWN], [SHARED], [OWN, SHARED], []])
def test_an_image_is_found_as_own_and_as_shared(tmp_path: Path, there: list[EncodingAt], is_known: bool) -> None:
    repository = Repository(MemoryCluster(4).link, VaultFolder(tmp_path), KEY)
    repository.index.apply({each.object_id: [each] for each in there})
    if is_known:
        repository.index.learn([Learned(each.object_id, each.encoding_id, b"sealed", MAPPING) for each in there])
    found = repository.located_here([MAPPING.image_sha256])[MAPPING.image_sha256]
    assert [each.encoding_id for each in found] == [each.encoding_id for each in there]
