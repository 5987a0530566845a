"""How a command's end becomes an exit code and a line or two on stderr, and where its options' defaults come from."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Callable, Optional, Union

import pytest
import typer

from common import errors
from common.errors import TesseraError, UsageError
from common.process.program import application, exit_code
from tests import ROOT

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TESSERA_HOME without a config.toml, and none of the variables that these tests set."""
    monkeypatch.setenv("TESSERA_HOME", os.fspath(tmp_path))
    for name in ("TESSERA_SHARES", "TESSERA_LOUD", "TESSERA_DEBUG", "TESSERA_NAMES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(action: Callable[[], Optional[int]]) -> typer.Typer:
    """A program of one command that does this."""
    commands = application("Test.")

    @commands.command()
    def only() -> Optional[int]:
        return action()

    return commands


def end(action: Callable[[], Optional[int]], *, debug: bool = False) -> int:
    return exit_code(program(action), "tiny", [], debug=debug)


def raising(error: BaseException) -> Callable[[], Optional[int]]:
    def action() -> Optional[int]:
        raise error

    return action


# --- exit codes

ERRORS = {
    "TesseraError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "IntegrityError": 4,
    "ProtocolError": 4,
    "NotEnoughError": 5,
    "RefusedError": 6,
    "UnreachableError": 7,
    "NoRoomError": 8,
    "NotAgreedError": 9,
    "UnstorableError": 10,
}


def test_every_error_class_is_listed_here() -> None:
    found = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, TesseraError)
    }
    assert found == set(ERRORS)


@pytest.mark.parametrize(("name", "code"), ERRORS.items())
@pytest.mark.parametrize("debug", [False, True])
def test_each_error_has_its_exit_code_and_says_what_happened_and_what_to_do(
    name: str, code: int, debug: bool, capsys: Printed
) -> None:
    error: TesseraError = getattr(errors, name)("device nas: out of tiles", advice="buy more")
    assert end(raising(error), debug=debug) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("tiny: device nas: out of tiles\n  buy more\n")
    assert ("Traceback" in err) is debug


def test_an_error_without_advice_is_one_line(capsys: Printed) -> None:
    assert end(raising(UsageError("no"))) == 2
    assert capsys.readouterr().err == "tiny: no\n"


def test_the_advice_of_its_class_is_shown_where_an_error_has_none_of_its_own(capsys: Printed) -> None:
    end(raising(errors.NotEnoughError("2 of 3")))
    assert capsys.readouterr().err == f"tiny: 2 of 3\n  {errors.NotEnoughError.advice}\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (5, 5)])
def test_a_command_that_ends_gives_its_own_code(returned: Optional[int], code: int, capsys: Printed) -> None:
    assert end(lambda: returned) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
@pytest.mark.parametrize("debug", [False, True])
def test_an_interruption_is_130_said_once_and_never_a_traceback(
    error: BaseException, debug: bool, capsys: Printed
) -> None:
    assert end(raising(error), debug=debug) == 130
    assert capsys.readouterr().err.strip() == "tiny: interrupted"


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(5, "odd"), ValueError("odd"), MemoryError("odd")])
def test_what_nobody_expected_is_1_without_a_traceback(error: Exception, capsys: Printed) -> None:
    assert end(raising(error)) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"tiny: internal fault: {type(error).__name__}: ")
    assert "odd" in err
    assert "--debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 8),
        (errno.EROFS, 8),
        (errno.ENOENT, 3),
        (errno.EIO, 4),
        (errno.ENOTDIR, 2),
        (errno.EISDIR, 2),
        (errno.EACCES, 2),
        (errno.ELOOP, 2),
    ],
)
def test_what_the_system_refuses_of_a_path_is_named_and_no_internal_fault(
    number: int, code: int, capsys: Printed
) -> None:
    assert end(raising(OSError(number, os.strerror(number), "/the/path"))) == code
    err = capsys.readouterr().err
    assert "/the/path" in err
    assert os.strerror(number) in err
    assert "internal fault" not in err


def test_with_debug_it_shows_one(capsys: Printed) -> None:
    assert end(raising(RuntimeError("odd")), debug=True) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in action" in err


def test_a_command_may_exit_by_itself() -> None:
    assert end(raising(typer.Exit(3))) == 3


# --- usage


def choosy() -> typer.Typer:
    """A program with options of every kind; it prints what it got."""
    commands = application("Test.")

    @commands.command()
    def show(
        files: Optional[list[str]] = typer.Argument(None),
        shares: int = typer.Option(6, "-n", "--shares", envvar="TESSERA_SHARES"),
        loud_voice: bool = typer.Option(False, "--loud-voice", envvar="TESSERA_LOUD"),
        name: str = typer.Option("stdin"),
    ) -> int:
        print(shares, loud_voice, name, *(files or []))
        return 0

    return commands


def show(*arguments: str) -> int:
    return exit_code(choosy(), "choosy", list(arguments), debug=False)


@pytest.mark.parametrize(
    "arguments",
    [["--no-such-option"], ["--shares"], ["--shares", "many"], ["-n", "1.5"], ["--loud-voice=perhaps"]],
)
def test_a_usage_error_is_2_and_told_on_stderr(arguments: list[str], capsys: Printed) -> None:
    assert show(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert arguments[0].split("=")[0] in err
    assert "Traceback" not in err


def test_a_command_that_does_not_exist_is_a_usage_error(capsys: Printed) -> None:
    commands = application("Test.")
    commands.command("one")(lambda: None)
    commands.command("two")(lambda: None)
    assert exit_code(commands, "tiny", ["three"], debug=False) == 2
    assert "three" in capsys.readouterr().err


def test_help_is_a_result(capsys: Printed) -> None:
    assert show("--help") == 0
    assert "--shares" in capsys.readouterr().out


# --- defaults


def test_without_anything_said_the_programs_own_defaults_count(capsys: Printed) -> None:
    assert show("a.png") == 0
    assert capsys.readouterr().out == "6 False stdin a.png\n"


def test_config_toml_comes_before_them(home: Path, capsys: Printed) -> None:
    (home / "config.toml").write_text('[choosy]\nshares = 4\nloud-voice = true\nname = "写真"\n', encoding="utf-8")
    assert show() == 0
    assert capsys.readouterr().out == "4 True 写真\n"


def test_the_table_of_another_program_counts_nothing(home: Path, capsys: Printed) -> None:
    (home / "config.toml").write_text("[producer]\nshares = 4\n")
    show()
    assert capsys.readouterr().out == "6 False stdin\n"


def test_the_environment_comes_before_config_toml_and_flags_before_both(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    (home / "config.toml").write_text("[choosy]\nshares = 4\nloud-voice = true\n")
    monkeypatch.setenv("TESSERA_SHARES", "5")
    show()
    assert capsys.readouterr().out == "5 True stdin\n"
    show("--shares", "3")
    assert capsys.readouterr().out == "3 True stdin\n"
    monkeypatch.setenv("TESSERA_LOUD", "0")
    show()
    assert capsys.readouterr().out == "5 False stdin\n"


def test_each_command_of_a_program_has_a_table_of_its_own(home: Path, capsys: Printed) -> None:
    commands = application("Test.")

    @commands.command()
    def first(shares: int = typer.Option(6)) -> None:
        print("first", shares)

    @commands.command()
    def second(shares: int = typer.Option(6)) -> None:
        print("second", shares)

    (home / "config.toml").write_text("[tiny.second]\nshares = 4\n")
    exit_code(commands, "tiny", ["first"], debug=False)
    exit_code(commands, "tiny", ["second"], debug=False)
    assert capsys.readouterr().out == "first 6\nsecond 4\n"


@pytest.mark.parametrize("content", [b"[choosy\n", b"\xff", b"choosy = 3\n"])
def test_a_config_toml_that_does_not_read_is_a_usage_error_that_names_it(
    home: Path, content: bytes, capsys: Printed
) -> None:
    (home / "config.toml").write_bytes(content)
    assert show() == 2
    assert os.fspath(home / "config.toml") in capsys.readouterr().err


def test_an_option_that_does_not_exist_in_config_toml_is_a_usage_error_that_names_it(
    home: Path, capsys: Printed
) -> None:
    (home / "config.toml").write_text("[choosy]\nshraes = 4\n")
    assert show() == 2
    assert "shraes" in capsys.readouterr().err


def test_a_value_of_the_wrong_kind_in_config_toml_is_a_usage_error(home: Path, capsys: Printed) -> None:
    (home / "config.toml").write_text('[choosy]\nshares = "many"\n')
    assert show() == 2
    assert '[choosy]: "shares"' in capsys.readouterr().err


# --- a real process

SCRIPT = """
import logging
import typer
from common.process.program import application, run

commands = application("Test.")

@commands.command()
def only(text: str = "out", times: int = 1, fail: bool = False) -> None:
    logging.getLogger("test").warning("careful")
    logging.getLogger("test").info("by the way")
    for _ in range(times):
        print(text)
    if fail:
        raise RuntimeError("odd")

run(commands, "tiny")
"""


def start(
    *arguments: str,
    before: str = "",
    stdout: Union[int, IO[bytes]] = subprocess.PIPE,
    stderr: Union[int, IO[bytes]] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    # As in most locales, and unlike in C: what cannot be encoded is an error.
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    environment.pop("PYTHONUNBUFFERED", None)  # what is printed waits in a buffer, as it does for most
    return subprocess.Popen(
        [sys.executable, "-c", before + SCRIPT, *arguments],
        env=environment,
        stdout=stdout,
        stderr=stderr,
    )


def test_results_go_to_stdout_and_warnings_with_the_programs_name_to_stderr() -> None:
    process = start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.splitlines() == [b"out"]
    assert err.splitlines() == [b"tiny: careful"]


def test_debug_may_stand_anywhere_among_the_arguments() -> None:
    process = start("--fail", "--debug", "--text", "other")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.splitlines() == [b"other"]
    assert b"by the way" in err
    assert b"Traceback" in err


def test_a_reader_that_goes_away_is_no_fault_to_report() -> None:
    process = start("--times", "100000")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 8
    assert err.splitlines() == [b"tiny: careful"]


def test_version_names_the_release_that_the_project_is() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    out, err = start("--version").communicate(timeout=60)
    assert (out.decode().split(), err) == (["tiny.py", "(Tessera)", version], b"")


@pytest.mark.parametrize("arguments", [[], ["--fail"], ["--unknown"]])
def test_a_program_that_has_said_its_last_word_ends_whatever_of_it_would_not(arguments: list[str]) -> None:
    """Seen on CPython 3.13.0: its end hung."""
    process = start(*arguments, before="import atexit, threading; atexit.register(threading.Event().wait)")
    process.communicate(timeout=60)
    assert process.returncode == {"": 0, "--fail": 1, "--unknown": 2}["".join(arguments)]


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there, and streams have no numbers")


@FULL
@pytest.mark.parametrize(("arguments", "code"), [([], 8), (["--times", "10000"], 8), (["--help"], 8), (["--fail"], 1)])
def test_results_that_could_not_be_written_are_8_said_once_and_all_else_is_done(
    arguments: list[str], code: int
) -> None:
    with open("/dev/full", "wb") as full:
        process = start(*arguments, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.count(b"cannot write to stdout: No space left") == 1
    assert (b"internal fault" in err) is ("--fail" in arguments)


@FULL
def test_a_stderr_that_takes_nothing_changes_nothing() -> None:
    with open("/dev/full", "wb") as full:
        process = start("--fail", stderr=full)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"out\n")


@POSIX
@pytest.mark.parametrize(("closed", "code", "out"), [(1, 8, b""), (2, 0, b"out\n")])
def test_without_a_stream_what_belongs_there_goes_nowhere_else(closed: int, code: int, out: bytes) -> None:
    """By itself Python prints on stdout what it cannot print on a stderr that is closed."""
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {closed}>&-', "sh", *command],
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    printed, err = process.communicate(timeout=60)
    assert (process.returncode, printed) == (code, out), err


@POSIX
def test_a_reader_that_is_slow_is_waited_for_though_the_pipe_would_not() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start("--times", "100000", stdout=writing)
    os.close(writing)
    with open(reading, "rb") as out:
        assert len(out.read()) == 400_000
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@POSIX
def test_a_name_that_is_not_unicode_is_printed_as_it_is_on_disk() -> None:
    process = start("--text", os.fsdecode(b"caf\xe9.png"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == b"caf\xe9.png\n"


# --- an end that is asked for

WAITING_SCRIPT = """
import asyncio
import sys
import time
from common.process.program import application, run

commands = application("Test.")

@commands.command()
def only(within_asyncio: bool = False) -> None:
    async def wait() -> None:
        try:
            print("waiting", flush=True)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            print("cleaned up", flush=True)

    if within_asyncio:
        asyncio.run(wait())
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

run(commands, "tiny")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("ignores_ctrl_c", [False, True])
@pytest.mark.parametrize("arguments", [[], ["--within-asyncio"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_a_program_as_ctrl_c_does(
    arguments: list[str], number: signal.Signals, ignores_ctrl_c: bool
) -> None:
    if ignores_ctrl_c and number == signal.SIGINT:
        pytest.skip("that is what ignoring it means")
    # Said in either case: a shell's `&` has all that it starts ignore Ctrl-C.
    heeding = f"signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignores_ctrl_c else 'default_int_handler'})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal\n" + heeding + WAITING_SCRIPT, *arguments],
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"waiting\n"
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()  # shows, below, how far it came
    assert (process.returncode, out.splitlines()) == (130, [b"cleaned up"]), err
    assert err.splitlines() == [b"tiny: interrupted"]


@pytest.mark.parametrize("arguments", [[], ["--fail"], ["--unknown"]])
def test_an_interruption_after_the_last_word_is_no_traceback(arguments: list[str]) -> None:
    """It came when all was told and the handlers were still there."""
    interrupted = """
import signal
from common.process import program
def interrupted_once(ending=program.end_at_once):
    program.end_at_once = ending
    signal.raise_signal(signal.SIGINT)
program.end_at_once = interrupted_once
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    process = start(*arguments, before=interrupted)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("program", ["broker", "worker", "producer", "consumer", "admin", "cluster", "desktop"])
@pytest.mark.parametrize("as_module", [False, True])
def test_ctrl_c_while_a_program_is_being_loaded_ends_it_without_a_word(
    program: str, as_module: bool, tmp_path: Path
) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    started = ["-m", program] if as_module else [str(ROOT / program / f"{program}.py")]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ended = subprocess.run(
        [sys.executable, *started], env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGINT
    assert (ended.stdout, ended.stderr) == (b"", b"")
