"""Whatever is asked of a program, it does or refuses."""

from __future__ import annotations

import sys

import pytest

from tests.faults.conftest import Run
from tests.soak import command_lines

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the programs are forked, with pidfds")


def test_no_command_line_leads_to_an_internal_fault_or_has_no_end(run: Run) -> None:
    figures = run(command_lines.never_an_internal_fault, 200 / 2000)
    assert figures["runs"] == 200
    assert figures["internal faults"] == 0
