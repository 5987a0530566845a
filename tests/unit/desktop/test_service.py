"""What a computer does beside the window, without a process: what is started, what is written, what is said."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from common.errors import IntegrityError, NoRoomError, RefusedError, UnreachableError, UsageError
from desktop.login import LoginEntry, login_entry
from desktop.model.service import (
    Program,
    Service,
    ServiceStatus,
    State,
    decode_service,
    require_absent,
    require_room,
    service_command,
    suggested_room,
    without_settings,
)
from desktop.services import error_of, fault_at_end

DEVICE = Service(Program.WORKER, "/data/tessera", "100G", laptop=True)
BROKER = Service(Program.BROKER)
SHELL = shutil.which("sh")


def test_a_device_is_started_with_its_folder_its_room_and_what_it_is() -> None:
    assert DEVICE.arguments == ["--store", "/data/tessera", "--capacity", "100G", "--kind", "laptop"]
    assert Service(Program.WORKER, "/data/tessera").arguments == ["--store", "/data/tessera"]
    assert BROKER.arguments == ["--supervised"]


@pytest.mark.skipif(sys.platform == "win32", reason="quoted as a POSIX shell wants it")
def test_the_command_that_does_the_same_names_no_invite() -> None:
    two_words = Service(Program.WORKER, "/data/my images")
    assert service_command(two_words, invited=True) == (
        "python worker/worker.py --store '/data/my images' --join INVITE"
    )
    assert service_command(BROKER) == "python broker/broker.py --supervised"


@pytest.mark.parametrize("service", [DEVICE, BROKER])
def test_what_was_set_up_is_read_as_it_was_written(service: Service) -> None:
    assert decode_service(service.encode(), "worker.json") == service


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"program": "producer", "store": "", "room": "", "laptop": false}',
        b'{"program": "worker", "store": 5, "room": "", "laptop": false}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_nobody_set_up_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"worker\.json is damaged"):
        decode_service(content, "worker.json")


def test_a_service_gets_nothing_of_tesseras_environment_and_no_passphrase() -> None:
    variables = {"PATH": "/bin", "TESSERA_PASSPHRASE": "secret", "TESSERA_HOME": "/home", "TESSERA_CLIENT_PORT": "1"}
    assert without_settings(variables) == {"PATH": "/bin"}


def test_room_that_is_no_size_or_is_not_there_is_refused() -> None:
    require_room("", 0)
    require_room("5G", 6 * 10**9)
    with pytest.raises(UsageError, match="not a size"):
        require_room("much", 10**12)
    with pytest.raises(NoRoomError, match=r"4\.0 GB free, which is less than 5G"):
        require_room("5G", 4 * 10**9)
    with pytest.raises(NoRoomError, match=r"4\.0 GB in all, which is less than 5G"):
        require_room("5G", 4 * 10**9, "in all")
    with pytest.raises(NoRoomError, match="needs some room"):
        require_room("0", 10**12)


def test_half_of_what_is_free_is_suggested() -> None:
    assert suggested_room(83 * 10**9) == "41G"
    assert suggested_room(10**9) == ""


@pytest.mark.parametrize("state", [State.RUNNING, State.STOPPED, State.ELSEWHERE])
def test_what_a_computer_is_already_it_is_not_made_once_more(state: State) -> None:
    with pytest.raises(UsageError, match="a device already, with the folder /data/tessera"):
        require_absent(ServiceStatus(state, DEVICE))
    require_absent(ServiceStatus(State.OFF, DEVICE))


def test_it_is_said_how_a_device_is_and_why_it_stopped() -> None:
    assert "keeps shares in /data/tessera, 100G at most" in ServiceStatus(State.RUNNING, DEVICE).words
    stopped = ServiceStatus(State.STOPPED, DEVICE, "the broker does not admit this device").words
    assert "has stopped: the broker does not admit this device." in stopped
    assert ServiceStatus(State.STOPPED, DEVICE).words.endswith("and that has stopped.")
    assert "Something else than this app started that" in ServiceStatus(State.ELSEWHERE, DEVICE).words
    assert "keeps no shares yet" in ServiceStatus(State.OFF, DEVICE).words
    assert "is no broker" in ServiceStatus(State.OFF, BROKER).words


# --- login entries

AWKWARD = ["plain", "/two words", '/a"quote', "/a'quote", "/$HOME", "/a`b", "/a\\b", "/100%", "/ä;&|<>()", ""]


@pytest.mark.skipif(SHELL is None, reason="Exec is quoted as a shell's words are")
def test_an_autostart_file_starts_these_very_words() -> None:
    entry = LoginEntry("tessera-worker-1", "Tessera device", ["printf", r"%s\n", *AWKWARD])
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names are told apart by case
    parser.read_string(entry.desktop_file)
    section = parser["Desktop Entry"]
    assert (section["Type"], section["Name"], section["Terminal"]) == ("Application", "Tessera device", "false")
    words = section["Exec"].replace("\\\\", "\\").replace("%%", "%")  # as whoever reads the file undoes it
    assert SHELL is not None
    said = subprocess.run([SHELL, "-c", words], capture_output=True, text=True, check=True, timeout=30).stdout
    assert said.split("\n")[:-1] == AWKWARD


def test_the_run_key_starts_these_very_words() -> None:
    home = PureWindowsPath(r"C:\Users\Jo Doe\AppData\Local\tessera")
    entry = login_entry(Program.WORKER, home, r"C:\Program Files\Python\pythonw.exe")
    script = entry.command[1]
    assert script.endswith("desktop.py")
    assert entry.run_value == (
        rf'"C:\Program Files\Python\pythonw.exe" {script} --at-login worker '
        r'--home "C:\Users\Jo Doe\AppData\Local\tessera"'
    )


def test_each_program_of_each_folder_has_a_login_entry_of_its_own_without_any_secret() -> None:
    entries = [
        login_entry(program, PurePosixPath(home), "/usr/bin/python3") for program in Program for home in ("/a", "/b")
    ]
    assert len({entry.name for entry in entries}) == 4
    again = login_entry(Program.WORKER, PurePosixPath("/a"), "/usr/bin/python3")
    assert again in entries, "or it could not be taken back"
    assert again.command[2:] == ["--at-login", "worker", "--home", "/a"]
    assert Path(again.command[1]).is_file()


# --- what a program said as it ended


LOG = """\
2026-11-29 09:37:20,292 INFO joined the cluster as desk
worker: the broker does not accept this invite: it is over or was withdrawn
  invites work once, within an hour: get a new one with `python broker/broker.py invite`
"""


def test_a_programs_last_words_are_the_error_that_ended_it() -> None:
    error = error_of("worker", 6, LOG)
    assert isinstance(error, RefusedError)
    assert str(error) == "the broker does not accept this invite: it is over or was withdrawn"
    assert str(error.advice).startswith("invites work once")
    assert fault_at_end("worker", LOG) == str(error)


def test_a_program_that_was_killed_said_nothing_of_why() -> None:
    assert fault_at_end("worker", LOG + "2026-11-29 10:00:00,000 INFO worker keeps 0 shares in /data\n") == ""
    assert str(error_of("worker", 7, "")) == "it said nothing"
    assert isinstance(error_of("worker", 7, "a line"), UnreachableError)
