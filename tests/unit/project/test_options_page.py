"""docs/options.md says what the programs' options are today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import ROOT


def test_the_page_of_options_is_what_the_programs_declare(tmp_path: Path) -> None:
    made = tmp_path / "options.md"
    subprocess.run([sys.executable, str(ROOT / "docs" / "make_options.py"), str(made)], timeout=60, check=True)
    written = made.read_text(encoding="utf-8")
    assert written == (ROOT / "docs" / "options.md").read_text(encoding="utf-8"), "run python docs/make_options.py"
