"""Progress is for a person at a terminal, of what takes longer than a second; else stderr stays quiet."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Optional

import pytest

from common.errors import RefusedError
from common.process.events import BytesDone, BytesExpected, BytesLeft, Warned, waiting
from common.process.program import exit_code
from common.process.progress import Printer, Waiting
from producer.command import commands
from producer.sources import Source


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("common.process.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    return Terminal()


@pytest.mark.parametrize("total", [None, 1000])
def test_where_stderr_is_no_terminal_nothing_is_written(
    clock: Clock, capfd: pytest.CaptureFixture[str], total: Optional[int]
) -> None:
    with Printer("storing") as printer:
        if total is not None:
            printer(BytesExpected(total))
        for _ in range(5):
            clock.now += 10
            printer(BytesDone(100))
            printer(BytesExpected(100))
    assert capfd.readouterr() == ("", "")


def test_what_is_done_within_a_second_shows_nothing(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Printer("storing") as printer:
        printer(BytesExpected(1000))
        clock.now += 0.9
        printer(BytesDone(1000))
    assert terminal.getvalue() == ""


def test_a_passphrase_that_takes_long_to_type_makes_short_work_no_longer(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Printer("verifying") as printer:
        clock.now += 30
        printer(BytesExpected(1000))
        clock.now += 0.9
        printer(BytesDone(1000))
    assert terminal.getvalue() == ""


def test_what_takes_longer_shows_what_it_is_and_how_far_it_is(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Printer("storing") as printer:
        printer(BytesExpected(4000))
        printer(BytesDone(1000))
        clock.now += 1.5
        printer(BytesDone(1000))
        clock.now += 1.5
        printer(BytesDone(1000))
    assert "storing" in terminal.getvalue()
    assert "3.0/4.0 kB" in terminal.getvalue()


def test_what_is_to_come_may_show_only_later(clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Printer("restoring") as printer:
        printer(BytesExpected(2000))
        clock.now += 1.5
        printer(BytesDone(1000))
        printer(BytesExpected(2000))
        clock.now += 1.5
        printer(BytesDone(1000))
    assert "2.0/4.0 kB" in terminal.getvalue()


def test_stdout_is_for_results_only(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Printer("storing") as printer:
        printer(BytesExpected(4000))
        clock.now += 1.5
        printer(BytesDone(1000))
    assert capsys.readouterr().out == ""


def test_results_go_to_a_file_also_while_a_bar_is_shown(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    with Printer("storing") as printer:
        printer(BytesExpected(4000))
        clock.now += 1.5
        printer(BytesDone(1000))
        print("a result")
    assert file.getvalue() == "a result\n"
    assert "storing" in terminal.getvalue() and "a result" not in terminal.getvalue()


# --- what has no bytes to count


def test_what_is_waited_for_is_said_after_a_second_and_gone_when_it_is_over(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("common.process.progress._SHOW_AFTER", 0.01)
    with Waiting("reaching the broker\x1b"):
        end = time.monotonic() + 20
        while "…" not in terminal.getvalue():
            assert time.monotonic() < end
    said = terminal.getvalue()
    assert said.startswith("\rreaching the broker� …\r") and "\n" not in said
    assert said.rsplit("\r", 2)[-2].strip() == "" and said.endswith("\r")


def test_what_takes_less_or_has_no_terminal_is_waited_for_in_silence(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    with Waiting("reaching the broker"):
        pass
    assert terminal.getvalue() == ""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("common.process.progress._SHOW_AFTER", 0.0)
    with Waiting("reaching the broker"):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_takes_long_to_look_through_is_no_silence(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_arguments: list[str], _name: str) -> list[Source]:
        end = time.monotonic() + 20
        while "looking for what is to be stored …" not in terminal.getvalue():
            assert time.monotonic() < end
        return []

    monkeypatch.setenv("TESSERA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("common.process.progress._SHOW_AFTER", 0.01)
    monkeypatch.setattr("producer.command.find_sources", slow)
    assert exit_code(commands, "producer", ["folder"], debug=False) == RefusedError.exit_code, "no cluster yet"


# --- what the steps of a program tell


def test_a_printer_shows_warnings_bytes_and_what_is_waited_for(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("common.process.progress._SHOW_AFTER", 0.01)
    with Printer("storing") as printer:
        printer(Warned("2 of 2: the loss of a single device\x1b loses what is stored now"))
        with waiting(printer, "reaching the broker"):
            end = time.perf_counter() + 20
            while "reaching the broker …" not in terminal.getvalue():
                assert time.perf_counter() < end
        printer(BytesExpected(4000))
        clock.now += 1.5
        printer(BytesDone(1000))
        clock.now += 1.5
        printer(BytesLeft(1000))
    assert terminal.getvalue().startswith("2 of 2: the loss of a single device� loses what is stored now\n")
    assert "storing" in terminal.getvalue() and "3.0/4.0 kB" in terminal.getvalue()
