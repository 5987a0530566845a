"""What tests of the worker's store share.

An encoding whose shares lie in packs, and one whose shares are files; a store that holds one share of it, and whatever
is deleted or replaced for HOLD.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clocks import SetClock
from tests.support.sample_shares import HOLD, Sample, large, sample
from worker.store import ShareStore


@pytest.fixture(params=[sample, large], ids=["small", "large"])
def encoding(request: pytest.FixtureRequest) -> Sample:
    made: Sample = request.param()
    return made


@pytest.fixture
def holding_store(tmp_path: Path, clock: SetClock, encoding: Sample) -> Iterator[ShareStore]:
    store = ShareStore(tmp_path / "store", clock=clock, hold=HOLD)
    encoding.put(store, 0)
    yield store
    store.close()
