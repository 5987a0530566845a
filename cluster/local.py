"""A Tessera cluster on this machine: one broker or several, devices and a client, each a process or a home of its own.

Used by the demo, the cluster tests and the bench. Everything is in one folder:

    env                       what a shell needs to use the cluster (`set -a; . DIR/env`); there once complete
    home/                     TESSERA_HOME of the broker and of the client, which is an admin and has a vault
    broker.pid                the broker's process
    broker-2/  broker-2.pid   the second broker's home and process, and so on, where there are several
    device-1/  device-1.pid   the first device's store and process, and so on
    logs/                     the logs of broker and devices

A new folder is filled step by step: broker, devices as their invites come, client and vault. A folder that
has an `env` is started again with the identities it holds. No program's code runs in this process: all is done by
commands that a user could run, but for asking which devices there are (`alive`).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from cluster.alive import alive_devices
from cluster.environment_file import read_environment_file, write_environment_file
from cluster.interruption import held
from cluster.ports import HOST, port_answers, require_free
from cluster.process import HOME, ClusterProcess, recorded_processes, stop_all
from common.errors import NotEnoughError, TesseraError, UnreachableError, UsageError, kind_of

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_WORKERS = 6
DEFAULT_BASE_PORT = 5570
PAUSE = 0.1  # seconds between two checks of what is waited for


def program_command(program: str, *arguments: str) -> list[str]:
    """The command line that runs `program` ("producer") of this checkout with this Python."""
    return [sys.executable, str(CHECKOUT / program / f"{program}.py"), *arguments]


def require_success(program: str, result: subprocess.CompletedProcess[str]) -> None:
    """Raise the error of the exit code of `result`, with the program's stderr; none for 0."""
    if result.returncode == 0:
        return
    said = result.stderr.strip() or "(it said nothing)"
    # No advice of ours: the program's own is in its output.
    raise kind_of(result.returncode)(f"{program}.py ended with exit code {result.returncode}:\n{said}", advice="")


class LocalCluster:
    """The cluster in `directory`, running or not; making the object touches nothing.

    `directory`: its folder; new or empty for a new cluster. `workers`: devices of a new cluster; default 6. Of an
    existing one: what it has. `base_port`: the clients' port on 127.0.0.1, the workers' is the next; default 5570.
    Likewise. A second broker has the two behind them, and so on. `brokers`: of a new cluster; default 1. Likewise.
    UsageError where the folder holds a cluster with another number of devices or brokers or another port. `wire`: what
    its messages travel on, `lane` or `curve`, until it is stopped.

    As a context manager it starts on entry and stops at the end. Devices and brokers are numbered from 1.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: Optional[int] = None,
        base_port: Optional[int] = None,
        brokers: Optional[int] = None,
        wire: str = "lane",
    ) -> None:
        self.directory = directory.resolve()
        recorded = self._read_environment()
        if recorded:
            there = sum(1 for path in self.directory.glob("device-*") if path.is_dir())
            workers = _agreed("workers", workers, there)
            base_port = _agreed("base-port", base_port, int(recorded["TESSERA_CLIENT_PORT"]))
            others = sum(1 for path in self.directory.glob("broker-*") if path.is_dir())
            brokers = _agreed("brokers", brokers, 1 + others)
        self.base_port = base_port or DEFAULT_BASE_PORT
        self._wire = wire
        self.devices = [f"device-{index}" for index in range(1, (workers or DEFAULT_WORKERS) + 1)]
        self._passphrase = recorded.get("TESSERA_PASSPHRASE") or secrets.token_urlsafe(24)
        self._brokers = [ClusterProcess(_broker_name(index), self.directory) for index in range(1, (brokers or 1) + 1)]
        self._workers = [ClusterProcess(name, self.directory) for name in self.devices]

    @property
    def broker_count(self) -> int:
        return len(self._brokers)

    @property
    def ports(self) -> list[int]:
        """The ports of all brokers, each one's for clients before its one for workers."""
        return list(range(self.base_port, self.base_port + 2 * len(self._brokers)))

    @property
    def environment_file(self) -> Path:
        return self.directory / "env"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the client's programs run: ours, with the cluster's settings."""
        return self._environment_of(HOME, self._passphrase)

    def broker_environment(self, index: int) -> dict[str, str]:
        """The environment in which a broker, and the commands for its operator, run."""
        client_port, worker_port = self._ports_of(index)
        ports = {"TESSERA_CLIENT_PORT": str(client_port), "TESSERA_WORKER_PORT": str(worker_port)}
        return {**self._environment_of(self._brokers[index - 1].home.name), **ports}

    def start(self, deadline: float = 60.0) -> None:
        """Start everything and return when every device is registered.

        A new cluster gets its identities, client and vault; an existing one keeps them. What was started is
        stopped again if this fails.

        UsageError where it runs already, a port is taken, or the folder holds something else; TesseraError, with the
        end of its log, where a program failed, or was not ready within `deadline` seconds.
        """
        if any(process.pid is not None for process in recorded_processes(self.directory)):
            raise UsageError(f"the cluster in {self.directory} is running already", advice="end it with --stop")
        complete = self.environment_file.exists()
        if not complete and self.directory.is_dir() and any(self.directory.iterdir()):
            raise UsageError(
                f"{self.directory} is not empty and holds no complete cluster",
                advice="choose another folder, or delete this one",
            )
        require_free(self.ports)
        try:
            if complete:
                self._start_again(deadline)
            else:
                self._create(deadline)
            # At every start: the folder may have been moved since.
            write_environment_file(self.environment_file, self._settings(HOME, self._passphrase))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """End devices and brokers; returns how many processes were running. Ctrl-C does not interrupt it."""
        with held():
            return stop_all(self._workers) + stop_all(self._brokers)

    def start_broker(self, index: int = 1, deadline: float = 30.0) -> None:
        """Start a broker, and return when both its ports answer; for the first time a further one joins the first."""
        broker = self._brokers[index - 1]
        client_port, worker_port = self._ports_of(index)
        command = program_command("broker", "--host", HOST)
        command += ["--client-port", str(client_port), "--worker-port", str(worker_port)]
        command += ["--lane-port", "0", "--wire", self._wire]
        environment = self.broker_environment(index)
        if index > 1 and not broker.home.exists():
            environment["TESSERA_JOIN"] = self.invite("broker")
        broker.start(command, environment)
        end = time.monotonic() + deadline
        while not (port_answers(client_port) and port_answers(worker_port)):
            if broker.died or time.monotonic() > end:
                raise UnreachableError(f"the broker did not start\n{broker.log_tail()}", advice="")
            time.sleep(PAUSE)

    def kill_broker(self, index: int = 1) -> None:
        """End a broker at once (SIGKILL, TerminateProcess)."""
        self._brokers[index - 1].kill()

    def start_device(self, index: int, *arguments: str) -> None:
        """Start a device that has joined before, with more `arguments` if wanted (`--capacity`)."""
        worker = self._workers[index - 1]
        command = program_command("worker", "--store", str(worker.home), *arguments)
        worker.start(command, self._environment_of(worker.name))

    def stop_device(self, index: int) -> None:
        """Ask a device to end, and return when it has."""
        stop_all([self._workers[index - 1]])

    def kill_device(self, index: int) -> None:
        """End a device at once (SIGKILL, TerminateProcess)."""
        self._workers[index - 1].kill()

    def device_pid(self, index: int) -> Optional[int]:
        """The pid of a device's process, None while it does not run."""
        return self._workers[index - 1].pid

    def broker_pid(self, index: int = 1) -> Optional[int]:
        """The pid of a broker's process, None while it does not run."""
        return self._brokers[index - 1].pid

    def run(
        self,
        program: str,
        *arguments: str,
        environment: Optional[Mapping[str, str]] = None,
        timeout: float = 600.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `program` to its end as the client (or in `environment`): no stdin, output kept as text.

        Raises `UnreachableError` if it does not end in `timeout` seconds; the exit code is the caller's.
        """
        try:
            return subprocess.run(
                program_command(program, *arguments),
                env=dict(environment or self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"{program}.py did not end within {timeout:.0f} s") from None

    def invite(self, role: str, broker: int = 1, *, options: Sequence[str] = ()) -> str:
        """A broker's new invite for a `role`: "worker", "client", "admin" or "broker"."""
        result = self.run("broker", "invite", role, *options, environment=self.broker_environment(broker), timeout=60)
        require_success("broker", result)
        return result.stdout.strip()

    def add_client(
        self, name: str, passphrase: Optional[str], role: str = "client", *, options: Sequence[str] = ()
    ) -> dict[str, str]:
        """Admit a client or "admin", its home the folder `name`; returns its environment.

        With a vault of its own under `passphrase`, or without one where that is None. `options`: of the invite.
        """
        environment = self._environment_of(name, passphrase)
        joining = {**environment, "TESSERA_JOIN": self.invite(role, options=options)}
        require_success("admin", self.run("admin", "join", environment=joining, timeout=60))
        if passphrase is not None:
            require_success("admin", self.run("admin", "vault", "create", environment=environment, timeout=60))
        return environment

    def status(self) -> dict[str, Any]:
        """The output of `admin.py status --json`. Raises the error of its exit."""
        result = self.run("admin", "status", "--json", timeout=30)
        if result.returncode != NotEnoughError.exit_code or not result.stdout:  # so it ends where an image is in danger
            require_success("admin", result)
        try:
            return dict(json.loads(result.stdout))
        except ValueError:
            raise TesseraError(f"admin.py status --json printed no JSON object: {result.stdout!r}") from None

    def alive(self) -> set[str]:
        """The names of the devices that are alive for every running broker.

        TesseraError where one does not answer, or none runs.
        """
        running = [index for index, broker in enumerate(self._brokers, 1) if broker.pid is not None]
        seen = [alive_devices(self.directory / HOME, self._ports_of(index)[0]) for index in running]
        if not seen:
            raise UnreachableError("no broker of this cluster runs")
        return set.intersection(*seen)

    def wait_registered(self, count: int, deadline: float = 60.0) -> None:
        """Return when at least `count` devices are alive for every running broker.

        NotEnoughError, with the ends of the logs concerned, where they are not within `deadline` seconds, or a process
        has ended that nobody ended through this object.
        """
        end = time.monotonic() + deadline
        while True:
            died = [process for process in (*self._brokers, *self._workers) if process.died]
            obstacle = ""
            try:
                alive = self.alive()
            except TesseraError as error:
                alive, obstacle = set(), f"; {error}"
            if len(alive) >= count and not died:
                return
            if died or time.monotonic() > end:
                missing = [worker for worker in self._workers if worker.name not in alive]
                tails = _tails(died or [*missing, *self._brokers])
                raise NotEnoughError(f"{len(alive)} of {count} devices registered{obstacle}\n{tails}", advice="")
            time.sleep(PAUSE)

    def log_tail(self, name: str = "broker") -> str:
        """The end of a log, under its name; for error messages."""
        return ClusterProcess(name, self.directory).log_tail()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    def _create(self, deadline: float) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for index in range(1, len(self._brokers) + 1):
            self.start_broker(index)
        for worker in self._workers:
            # An invite is made while the devices before are starting: both cores are used.
            self._join(worker)
        self.add_client(HOME, self._passphrase, "admin")
        self.wait_registered(len(self.devices), deadline)

    def _join(self, worker: ClusterProcess) -> None:
        # The invite is a secret: it goes by the environment, as every user of a machine can read arguments.
        environment = {**self._environment_of(worker.name), "TESSERA_JOIN": self.invite("worker")}
        command = program_command("worker", "--name", worker.name, "--store", str(worker.home))
        worker.start(command, environment)

    def _start_again(self, deadline: float) -> None:
        for index in range(1, len(self._brokers) + 1):
            self.start_broker(index)
        for index in range(1, len(self.devices) + 1):
            self.start_device(index)
        self.wait_registered(len(self.devices), deadline)

    def _ports_of(self, broker: int) -> tuple[int, int]:
        """A broker's port for clients, and its port for workers."""
        return self.ports[2 * broker - 2], self.ports[2 * broker - 1]

    def _settings(self, home: str, passphrase: Optional[str] = None) -> dict[str, str]:
        settings = {
            "TESSERA_HOME": str(self.directory / home),
            "TESSERA_HOST": HOST,
            "TESSERA_CLIENT_PORT": str(self.base_port),
            "TESSERA_WORKER_PORT": str(self.base_port + 1),
        }
        return settings if passphrase is None else {**settings, "TESSERA_PASSPHRASE": passphrase}

    def _environment_of(self, home: str, passphrase: Optional[str] = None) -> dict[str, str]:
        # The user's own TESSERA_… variables are for another cluster; broker and devices get no passphrase.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
        return {**inherited, **self._settings(home, passphrase)}

    def _read_environment(self) -> dict[str, str]:
        try:
            return read_environment_file(self.environment_file)
        except FileNotFoundError:
            return {}


def stop_cluster(directory: Path) -> int:
    """End whatever the pid files in `directory` say is running; returns how many processes were.

    Needs only the pid files, so that a cluster whose making was interrupted can be ended too.
    """
    processes = recorded_processes(directory.resolve())
    devices = [process for process in processes if not process.name.startswith("broker")]
    return stop_all(devices) + stop_all(process for process in processes if process.name.startswith("broker"))


def _broker_name(index: int) -> str:
    return "broker" if index == 1 else f"broker-{index}"


def _agreed(option: str, wanted: Optional[int], there: int) -> int:
    if wanted is not None and wanted != there:
        raise UsageError(f"the cluster in this folder has --{option} {there}; leave the option out, or say {there}")
    return there


def _tails(processes: Iterable[ClusterProcess]) -> str:
    return "\n".join(process.log_tail() for process in processes)
