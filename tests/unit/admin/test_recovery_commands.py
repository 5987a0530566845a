"""`vault recovery` and `vault restore`: codes go only where they were asked for; the key comes back or nothing does."""

from __future__ import annotations

import io
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from admin.command import commands
from common.process.program import exit_code
from common.vault.folder import VaultFolder
from tests.support.passphrases import cheap_passphrases

OLD, NEW = "four words for keeping", "five words for restoring it"


class Machine:
    """A home of its own, where commands are given as at a terminal or in a script."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._monkeypatch = monkeypatch

    def run(self, *arguments: str, passphrase: str = OLD, typed: str = "", terminal: bool = False, **more: str) -> int:
        stdin: Any = io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8")
        with self._monkeypatch.context() as patch:
            patch.setattr(stdin, "isatty", lambda: terminal)
            patch.setattr("sys.stdin", stdin)
            patch.setenv("TESSERA_HOME", str(self.home))
            patch.setenv("TESSERA_PASSPHRASE", passphrase)
            for name, value in more.items():
                patch.setenv(name, value)
            return exit_code(commands, "admin", ["vault", *arguments], debug=False)

    @property
    def vault(self) -> VaultFolder:
        return VaultFolder(self.home)


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "home", monkeypatch)
    made.vault.create(OLD)
    return made


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "other", monkeypatch)


def printed_codes(machine: Machine, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The sheets of a kit, one a code."""
    capsys.readouterr()
    assert machine.run("recovery", *options) == 0
    return capsys.readouterr().out.split("\n\n")


def test_any_three_of_five_printed_sheets_restore_the_vault_under_a_new_passphrase(
    machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheets = printed_codes(machine, capsys)
    assert len(sheets) == 5
    (tmp_path / "typed").write_text("\n\n".join(sheets[1:4]), encoding="utf-8")
    assert other.run("restore", str(tmp_path / "typed"), passphrase=NEW) == 0
    assert other.vault.unlock(NEW) == machine.vault.unlock(OLD)
    said = capsys.readouterr()
    assert not any(line in said.out + said.err for sheet in sheets for line in sheet.splitlines()[-5:])


def test_codes_and_passphrases_in_files_of_notepad_and_powershell_are_what_they_say(
    machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheets = printed_codes(machine, capsys)
    codes, words = tmp_path / "codes.txt", tmp_path / "words.txt"
    codes.write_bytes(("\ufeff" + "\r\n\r\n".join(sheets[:3]) + "\r\n").encode("utf-16-le"))
    words.write_bytes(f"{NEW}\r\n".encode("utf-8-sig"))
    assert other.run("restore", str(codes), "--passphrase-file", str(words)) == 0
    assert other.vault.unlock(NEW) == machine.vault.unlock(OLD)
    words.write_bytes(f"\ufeff{OLD}\r\n".encode("utf-16-be"))
    assert other.run("passphrase", "--new-passphrase-file", str(words), passphrase="\ufeff" + NEW) == 0
    assert other.vault.unlock(OLD) == machine.vault.unlock(OLD)


def test_codes_are_read_from_stdin_too(machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    sheets = printed_codes(machine, capsys, "--of", "3", "--need", "2")
    for arguments in (["restore", "-"], ["restore"]):
        assert other.run(*arguments, passphrase=NEW, typed="\n".join(sheets[:2])) == 0
        assert other.vault.unlock(NEW) == machine.vault.unlock(OLD)
        other.vault.key_path.unlink()


def test_each_sheet_says_what_it_is_and_how_it_is_used(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for number, sheet in enumerate(printed_codes(machine, capsys, "--of", "4", "--need", "2"), start=1):
        assert f"recovery code {number} of 4" in sheet
        assert "Any 2 codes" in sheet
        assert "admin.py vault restore" in sheet
        assert all(len(line) <= 120 for line in sheet.splitlines())


def test_codes_in_a_file_are_for_its_owner_only_and_nowhere_else(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "codes"
    assert machine.run("recovery", "--file", str(file)) == 0
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = capsys.readouterr()
    groups = [group for line in file.read_text().splitlines() if not line.startswith("#") for group in line.split()]
    assert len(groups) == 100
    assert not any(group in said.out + said.err for group in groups)


def test_a_file_that_exists_is_not_overwritten_with_codes(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "codes").write_text("precious")
    assert machine.run("recovery", "--file", str(tmp_path / "codes")) == 2
    assert (tmp_path / "codes").read_text() == "precious"


def test_a_wrong_passphrase_gets_no_codes(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.run("recovery", passphrase="a guess at it") == 6
    assert capsys.readouterr().out == ""


def test_a_vault_is_never_overwritten_by_restoring(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "typed").write_text("\n\n".join(printed_codes(machine, capsys)), encoding="utf-8")
    before = machine.vault.key_file()
    assert machine.run("restore", str(tmp_path / "typed"), passphrase=NEW) == 2
    assert machine.vault.key_file() == before


def test_too_few_or_mixed_or_mistyped_codes_leave_no_vault(
    machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = printed_codes(machine, capsys), printed_codes(machine, capsys)
    lines = first[2].splitlines()
    mistyped = "\n".join([*lines[:-1], ("7" if lines[-1][0] != "7" else "8") + lines[-1][1:]])
    for sheets, code, words in (
        (first[:2], 5, "3 are needed"),
        ([*first[:2], second[2]], 2, "another kit"),
        ([*first[:2], mistyped], 2, "recovery code 3 of those given, line 5, group 1"),
    ):
        assert other.run("restore", passphrase=NEW, typed="\n\n".join(sheets)) == code
        assert words in capsys.readouterr().err
        assert not other.vault.key_path.exists()


def test_a_weak_new_passphrase_is_refused_and_leaves_no_vault(
    machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "\n\n".join(printed_codes(machine, capsys))
    assert other.run("restore", passphrase="short", typed=typed) == 2
    assert not other.vault.key_path.exists()


def test_at_a_terminal_a_line_or_a_code_with_a_fault_is_asked_for_again(
    machine: Machine, other: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    first, strange = printed_codes(machine, capsys, "--of", "3", "--need", "2"), printed_codes(machine, capsys)
    one, two = (sheet.splitlines()[-5:] for sheet in first[:2])
    wrong = ("7" if one[1][0] != "7" else "8") + one[1][1:]
    typed = [one[0], wrong, *one[1:], *strange[0].splitlines()[-5:], *one, *two]
    assert other.run("restore", passphrase=NEW, typed="\n".join(typed) + "\n", terminal=True) == 0
    said = capsys.readouterr().err
    assert "line 2, group 1: a typing error" in said
    assert "this is code number 1 of set" in said and "those before are of set" in said
    assert "any code of the set" in said and "1 more, with other numbers" in said
    assert "that is code number 2 of set" in said
    assert "given before" in said
    assert other.vault.unlock(NEW) == machine.vault.unlock(OLD)


def test_where_the_person_gives_up_nothing_is_made(other: Machine) -> None:
    assert other.run("restore", terminal=True, typed="\n") == 130
    assert not other.vault.key_path.exists()


def test_a_file_with_codes_that_is_missing_or_no_text_is_named(other: Machine, tmp_path: Path) -> None:
    assert other.run("restore", str(tmp_path / "missing")) == 3
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert other.run("restore", str(tmp_path / "bytes")) == 2
    (tmp_path / "large").write_bytes(bytes(70_000))
    assert other.run("restore", str(tmp_path / "large")) == 4
