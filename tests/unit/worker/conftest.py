"""What tests of the worker's store share: an encoding whose shares lie in packs, and one whose shares are files."""

from __future__ import annotations

import pytest

from tests.support.sample_shares import Sample, large, sample


@pytest.fixture(params=[sample, large], ids=["small", "large"])
def encoding(request: pytest.FixtureRequest) -> Sample:
    made: Sample = request.param()
    return made
