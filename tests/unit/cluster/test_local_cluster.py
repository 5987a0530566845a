"""The local cluster's folder, ports and processes, as far as they show without Tessera's programs running."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.alive import alive_devices
from cluster.environment_file import read_environment_file, write_environment_file
from cluster.local import LocalCluster, require_success, stop_cluster
from cluster.process import ClusterProcess
from common.discovery.addresses import BrokerAddress
from common.errors import IntegrityError, NotEnoughError, NotFoundError, TesseraError, UsageError
from common.membership.identity import save_brokers
from tests.support.ports import own_base_port

SHELL = shutil.which("sh")
AWKWARD_VALUES = [
    "plain",
    "",
    "with space",
    "it's",
    '"$HOME" `date` \\',
    "a=b",
    "line\nbreak",
    " ends with space ",
    "ünï/写真",
]
KEPT = "four words for keeping"
READY_AND_WAITING = "import time; print('ready', flush=True); time.sleep(600)"
READY_AND_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY_AND_WAITING


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ClusterProcess]:
    started = ClusterProcess("device-1", tmp_path)
    yield started
    started.kill()


def start_and_wait_until_ready(process: ClusterProcess, code: str) -> int:
    process.start([sys.executable, "-c", code], os.environ)
    deadline = time.monotonic() + 60
    while "ready" not in process.log_tail():
        assert process.pid is not None, process.log_tail()
        assert time.monotonic() < deadline, process.log_tail()
    assert process.pid is not None
    return process.pid


def complete_folder(directory: Path, *, workers: int, base_port: int) -> None:
    """A cluster's folder as a finished start leaves it, as far as the next start looks at it."""
    for index in range(1, workers + 1):
        (directory / f"device-{index}").mkdir(parents=True)
    settings = {"TESSERA_CLIENT_PORT": str(base_port), "TESSERA_PASSPHRASE": KEPT}
    write_environment_file(directory / "env", settings)


@pytest.mark.skipif(SHELL is None or sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("value", AWKWARD_VALUES)
def test_a_shell_that_sources_env_passes_every_value_on_unchanged(tmp_path: Path, value: str) -> None:
    write_environment_file(tmp_path / "env", {"TESSERA_FIRST": value, "TESSERA_SECOND": "after"})
    program = "import os; print(ascii([os.environ['TESSERA_FIRST'], os.environ['TESSERA_SECOND']]))"
    script = 'set -a; . "$1"; exec "$2" -c "$3"'
    shell = [str(SHELL), "-c", script, "sh", str(tmp_path / "env"), sys.executable, program]
    result = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ascii([value, "after"])


@pytest.mark.parametrize("value", AWKWARD_VALUES)
def test_env_is_read_back_as_written(tmp_path: Path, value: str) -> None:
    variables = {"TESSERA_FIRST": value, "TESSERA_SECOND": "after"}
    write_environment_file(tmp_path / "env", variables)
    assert read_environment_file(tmp_path / "env") == variables


@pytest.mark.skipif(sys.platform == "win32", reason="no such file modes")
def test_env_holds_the_passphrase_for_its_owner_alone(tmp_path: Path) -> None:
    write_environment_file(tmp_path / "env", {"TESSERA_PASSPHRASE": KEPT})
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["no pair", "NAME='never closed"])
def test_a_damaged_env_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "env").write_text(text)
    with pytest.raises(IntegrityError, match="env is damaged"):
        read_environment_file(tmp_path / "env")


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_taken_port_is_refused_and_nothing_is_made(tmp_path: Path, which: int) -> None:
    base_port = own_base_port(brokers=2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", base_port + which))
        other.listen()
        with pytest.raises(UsageError, match=f"port {base_port + which} of 127.0.0.1 is taken"):
            LocalCluster(tmp_path / "new", base_port=base_port, brokers=2).start()
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no complete cluster"):
        LocalCluster(tmp_path, base_port=own_base_port()).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_start_is_refused_and_the_first_goes_on(tmp_path: Path, process: ClusterProcess) -> None:
    complete_folder(tmp_path, workers=1, base_port=own_base_port())
    pid = start_and_wait_until_ready(process, READY_AND_WAITING)
    with pytest.raises(UsageError, match="is running already"):
        LocalCluster(tmp_path).start()
    assert process.pid == pid


def test_an_existing_cluster_keeps_its_size_ports_and_passphrase(tmp_path: Path) -> None:
    base_port = own_base_port()
    complete_folder(tmp_path, workers=3, base_port=base_port)
    cluster = LocalCluster(tmp_path)
    assert cluster.devices == ["device-1", "device-2", "device-3"]
    assert cluster.base_port == base_port
    assert cluster.environment["TESSERA_PASSPHRASE"] == KEPT


def test_an_existing_cluster_keeps_its_brokers_and_each_has_two_ports(tmp_path: Path) -> None:
    complete_folder(tmp_path, workers=3, base_port=6000)
    (tmp_path / "broker-2").mkdir()
    cluster = LocalCluster(tmp_path)
    assert cluster.broker_count == 2
    assert cluster.ports == [6000, 6001, 6002, 6003]
    ports = [cluster.broker_environment(index)["TESSERA_CLIENT_PORT"] for index in (1, 2)]
    assert ports == ["6000", "6002"]


def test_only_a_broker_that_the_client_knows_is_asked_which_devices_there_are(tmp_path: Path) -> None:
    broker = BrokerAddress("127.0.0.1", 6000, 6001, bytes(32))
    save_brokers(tmp_path / "client" / "brokers.json", [broker])
    with pytest.raises(NotFoundError, match="no broker at port 6004"):
        alive_devices(tmp_path, 6004)


@pytest.mark.parametrize(("option", "wanted"), [("workers", 4), ("base_port", 1), ("brokers", 2)])
def test_an_existing_cluster_with_another_size_or_port_is_refused(tmp_path: Path, option: str, wanted: int) -> None:
    complete_folder(tmp_path, workers=3, base_port=5570)
    with pytest.raises(UsageError, match="the cluster in this folder has"):
        LocalCluster(tmp_path, **cast(Any, {option: wanted}))


def test_the_programs_do_not_see_the_settings_of_another_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_SETTING_OF_ANOTHER", "1")
    monkeypatch.setenv("TESSERA_HOME", "another")
    environment = LocalCluster(tmp_path).environment
    assert "TESSERA_SETTING_OF_ANOTHER" not in environment
    assert environment["TESSERA_HOME"] == str(tmp_path.resolve() / "home")


def test_stopping_what_is_not_running_stops_nothing(tmp_path: Path) -> None:
    assert stop_cluster(tmp_path) == 0
    assert stop_cluster(tmp_path / "never made") == 0


def test_stop_ends_the_processes_and_removes_the_pid_files(tmp_path: Path, process: ClusterProcess) -> None:
    start_and_wait_until_ready(process, READY_AND_WAITING)
    assert stop_cluster(tmp_path) == 1
    assert process.pid is None
    assert list(tmp_path.glob("*.pid")) == []
    assert stop_cluster(tmp_path) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no process can refuse to end there")
def test_a_process_that_does_not_end_when_asked_is_killed(process: ClusterProcess) -> None:
    start_and_wait_until_ready(process, READY_AND_STUBBORN)
    process.terminate()
    assert not process.wait_gone(0)
    process.kill()
    assert process.pid is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc whose process it is")
def test_a_pid_that_now_belongs_to_a_stranger_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", READY_AND_WAITING], stdout=subprocess.DEVNULL) as stranger:
        try:
            (tmp_path / "device-1.pid").write_text(f"{stranger.pid}\n")
            assert stop_cluster(tmp_path) == 0
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_process_that_ended_by_itself_has_died_and_its_log_tells_why(process: ClusterProcess) -> None:
    process.start([sys.executable, "-c", "print('no room left')"], os.environ)
    assert process.wait_gone(60)
    assert process.died
    assert "no room left" in process.log_tail()


def test_a_process_that_we_ended_has_not_died(process: ClusterProcess) -> None:
    start_and_wait_until_ready(process, READY_AND_WAITING)
    process.kill()
    assert not process.died


def test_a_failed_program_raises_the_error_of_its_exit_code() -> None:
    with pytest.raises(NotEnoughError, match=r"producer.py ended with exit code 5:\n3 devices"):
        require_success("producer", subprocess.CompletedProcess([], 5, "", "3 devices"))
    with pytest.raises(TesseraError, match="exit code -9"):
        require_success("producer", subprocess.CompletedProcess([], -9, "", ""))
    require_success("producer", subprocess.CompletedProcess([], 0, "", ""))
