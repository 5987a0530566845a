"""A list with nothing in it says so, on stderr: silence could as well be a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from admin.command import commands as admin
from broker.command import commands as broker
from common.membership.identity import KeyPair, save_key_pair
from common.process.program import exit_code


@pytest.mark.parametrize(
    ("commands", "program", "line", "said"),
    [
        (admin, "admin", "contacts list", "there are no contacts on this machine"),
        (broker, "broker", "members", "nobody is admitted yet"),
        (broker, "broker", "invites", "no invite is open"),
    ],
)
def test_an_empty_list_says_so_on_stderr(
    commands: typer.Typer,
    program: str,
    line: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TESSERA_HOME", str(tmp_path))
    save_key_pair(tmp_path / "broker" / "broker.key", KeyPair.generate())  # a broker ran here once
    assert exit_code(commands, program, line.split(), debug=False) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err.splitlines()
