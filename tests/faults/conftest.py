"""The proofs of `tests/soak/`, shorter: the same code, a few faults of each kind instead of hundreds."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.soak.proof import Figures, Terms

SEED = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


Run = Callable[..., Figures]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a proof at a part of its size; it does all of that, however long the machine takes."""

    def prove(proof: Callable[[Terms], Figures], scale: float) -> Figures:
        return proof(Terms(SEED, tmp_path, 600.0, scale))

    return prove
