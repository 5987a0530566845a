"""A thief with all of a vault's keys, as `tests/soak/stolen_vault.py` has it, shorter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak import stolen_vault
from tests.soak.proof import Terms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as the other proofs")
SCHEDULES = 3


def test_within_the_hold_all_comes_back_whatever_a_thief_with_all_keys_did(tmp_path: Path) -> None:
    figures = stolen_vault.stolen_vault(Terms(1, tmp_path, 600.0, SCHEDULES / stolen_vault.SCHEDULES))
    assert figures["schedules"] == SCHEDULES
    assert int(figures["amended"]) > 0 and int(figures["deleted"]) > 0


def test_behind_the_hold_what_they_deleted_or_gave_away_is_gone(tmp_path: Path) -> None:
    stolen_vault.behind_the_hold(Terms(1, tmp_path, 600.0))
