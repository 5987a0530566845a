"""Where a passphrase comes from: a file, the environment, or the person at the terminal."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotFoundError, RefusedError, TesseraError, UsageError
from common.vault.passphrase import check_new_passphrase, read_new_passphrase, read_passphrase

LONG = "four words for keeping"


class Terminal:
    """In place of the person: what they type, and what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *typed: str, is_there: bool = True) -> None:
        self.prompts: list[str] = []
        self._typed = list(typed)

        class Stdin:
            @staticmethod
            def isatty() -> bool:
                return is_there

        stdin: Any = Stdin()
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("getpass.getpass", self._ask)

    def _ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self._typed.pop(0)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSERA_PASSPHRASE", raising=False)
    monkeypatch.delenv("TESSERA_NEW_PASSPHRASE", raising=False)


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"four words for keeping", "four words for keeping"),
        (b"four words\n", "four words"),
        (b"four words\r\n", "four words"),
        (b"four words\n\n", "four words\n"),
        (b" spaces stay \n", " spaces stay "),
        (b"\n", ""),
        ("пароль 写真\n".encode(), "пароль 写真"),
        pytest.param("naïve 写真\r\n".encode("utf-8-sig"), "naïve 写真", id="Notepad: UTF-8 with a mark"),
        pytest.param("\ufeffnaïve 写真\r\n".encode("utf-16-le"), "naïve 写真", id="PowerShell: UTF-16"),
        pytest.param("\ufeffnaïve 写真\n".encode("utf-16-be"), "naïve 写真", id="UTF-16, big-endian"),
    ],
)
def test_a_files_content_is_the_passphrase_without_its_last_line_end(
    tmp_path: Path, content: bytes, passphrase: str
) -> None:
    (tmp_path / "words").write_bytes(content)
    assert read_passphrase(tmp_path / "words") == passphrase


@pytest.mark.parametrize("given", ["\ufefffour words for it", "four words for it\r", "\ufefffour words for it\r\n"])
def test_what_a_shell_puts_around_a_new_passphrase_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", given)
    assert read_new_passphrase(None, prompt="") == "four words for it"


@pytest.mark.parametrize("untypable", ["two lines\nof words", "four words for it\n\n", "four\0words", "a \ufeffmark"])
def test_a_new_passphrase_that_cannot_be_typed_is_refused(untypable: str) -> None:
    with pytest.raises(UsageError, match="can be typed"):
        check_new_passphrase(untypable)


def test_the_file_goes_before_the_environment_and_that_before_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch, "typed")
    (tmp_path / "words").write_text("from the file\n")
    monkeypatch.setenv("TESSERA_PASSPHRASE", "from the environment")
    assert read_passphrase(tmp_path / "words") == "from the file"
    assert read_passphrase(None) == "from the environment"
    assert terminal.prompts == []
    monkeypatch.delenv("TESSERA_PASSPHRASE")
    assert read_passphrase(None, prompt="Passphrase now: ") == "typed"
    assert terminal.prompts == ["Passphrase now: "]


def test_a_new_passphrase_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "old")
    monkeypatch.setenv("TESSERA_NEW_PASSPHRASE", "new")
    assert read_passphrase(None, variable="TESSERA_NEW_PASSPHRASE") == "new"


def test_a_new_one_has_to_be_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, LONG, LONG)
    assert read_new_passphrase(None, prompt="New: ") == LONG
    Terminal(monkeypatch, LONG, LONG + "?")
    with pytest.raises(UsageError, match="differ"):
        read_new_passphrase(None, prompt="New: ")


@pytest.mark.parametrize("refused", ["", "short", "aaaaaaaaaaaa"])
def test_a_new_one_that_is_refused_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    terminal = Terminal(monkeypatch, refused)
    with pytest.raises(UsageError, match="at least"):
        read_new_passphrase(None, prompt="New: ")
    assert terminal.prompts == ["New: "]


def test_without_anybody_to_ask_one_is_told_how_to_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, is_there=False)
    with pytest.raises(RefusedError) as raised:
        read_passphrase(None)
    assert "TESSERA_PASSPHRASE" in (raised.value.advice or "")
    assert "--passphrase-file" in (raised.value.advice or "")
    assert terminal.prompts == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="missing"):
        read_passphrase(tmp_path / "missing")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=tmp_path.name):
        read_passphrase(tmp_path)


def test_a_file_that_is_no_text_is_refused_without_repeating_it(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"secret\xff")
    with pytest.raises(UsageError) as raised:
        read_passphrase(tmp_path / "words")
    assert "secret" not in str(raised.value)


def test_a_file_too_large_for_a_passphrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(bytes(70_000))
    with pytest.raises(TesseraError, match="words"):
        read_passphrase(tmp_path / "words")


# --- new ones


@pytest.mark.parametrize(
    "weak", ["", "a", "1234567", "pässwrd", "e\u0301" * 7, "aaaaaaaaaaaaaaaa", "abcabcabcabc", " " * 20]
)
def test_a_new_passphrase_too_short_or_too_uniform_is_refused_without_repeating_it(weak: str) -> None:
    with pytest.raises(UsageError, match="at least") as raised:
        check_new_passphrase(weak)
    assert "four or more words" in (raised.value.advice or "")
    assert len(weak) < 2 or weak not in str(raised.value)


@pytest.mark.parametrize("short", ["password", "Tr0ub4dor&3", "пароль12"])
def test_a_short_one_is_taken_with_a_warning_that_does_not_repeat_it(
    caplog: pytest.LogCaptureFixture, short: str
) -> None:
    check_new_passphrase(short)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "short" in record.getMessage()
    assert short not in record.getMessage()


@pytest.mark.parametrize("good", ["four words for keeping", "fünfzehn Zeichen", "x" * 12 + "abcdef"])
def test_a_long_one_is_taken_without_a_word(caplog: pytest.LogCaptureFixture, good: str) -> None:
    check_new_passphrase(good)
    assert not caplog.records


def test_a_passphrase_that_is_there_already_is_never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "old")
    assert read_passphrase(None) == "old"
