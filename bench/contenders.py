"""What is measured: Tessera, and what people use instead. Each stores a folder and brings it back, as one command."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Protocol, runtime_checkable

from bench.metering import Measured, Meter, run_metered
from bench.report import TESSERA
from bench.workloads import Workload
from cluster.local import LocalCluster, program_command, require_success
from cluster.ports import HOST, find_base_port, port_answers

_CIPHER = "aes128-gcm@openssh.com"
_TIMEOUT = 30.0  # seconds
COMMANDS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])  # where servers are looked for


class Contender(Protocol):
    name: str
    lacks: str  # what it does not do

    def put(self, workload: Workload) -> Measured:
        """Store the workload, where nothing of it is stored."""

    def get(self, workload: Workload, into: Path) -> Measured:
        """Bring it back; the files are below `into` then."""

    def empty(self) -> None:
        """Let go of what was stored."""


@runtime_checkable
class Redundant(Contender, Protocol):
    """One that brings all back when two of its six devices are gone."""

    def lose_two(self) -> None:
        """Take two devices away for good."""


class TesseraClient:
    """4 of 6 over six devices, each run with a vault of its own."""

    name = TESSERA
    lacks = ""

    def __init__(
        self,
        joined: Mapping[str, str],
        place: Path,
        behind: Callable[[], Mapping[str, Sequence[int]]],
        within: Callable[[Sequence[str]], Sequence[str]] = list,
    ) -> None:
        """`joined`: the environment of a client that was let in; `behind`: the broker's processes, and the workers'.

        `within`: the command that runs one where the client is.
        """
        self._joined = joined
        self._place = place
        self._behind = behind
        self._within = within
        self.environment: dict[str, str] = {}
        self.empty()

    def empty(self) -> None:
        """Begin another vault; what was stored stays, as it would for the devices' hold if it were deleted."""
        home = self._place / secrets.token_hex(4)
        shutil.copytree(Path(self._joined["TESSERA_HOME"]) / "client", home / "client")
        passphrase = secrets.token_urlsafe(16)
        self.environment = {**self._joined, "TESSERA_HOME": os.fspath(home), "TESSERA_PASSPHRASE": passphrase}
        self.run("admin", "vault", "create")

    def put(self, workload: Workload) -> Measured:
        return self._measured("producer", os.fspath(workload.folder))

    def get(self, workload: Workload, into: Path) -> Measured:
        into.mkdir(exist_ok=True)
        return self._measured("consumer", "--all", "--output", os.fspath(into))

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the client's printed."""
        command, nothing = self._within(program_command(program, *arguments)), subprocess.DEVNULL
        ended = subprocess.run(command, env=self.environment, stdin=nothing, capture_output=True, text=True)
        require_success(program, ended)
        return ended.stdout

    def _measured(self, program: str, *arguments: str) -> Measured:
        meter = Meter(self._behind())
        return meter.measured(run_metered(self._within(program_command(program, *arguments)), self.environment))


class Tessera(TesseraClient):
    """The same with a cluster on this machine."""

    def __init__(self, cluster: LocalCluster, place: Path) -> None:
        self._cluster = cluster
        super().__init__(cluster.environment, place, self._pids)

    def lose_two(self) -> None:
        for index in (1, 2):
            self._cluster.kill_device(index)

    def _pids(self) -> dict[str, list[int]]:
        devices = [self._cluster.device_pid(index) for index in range(1, len(self._cluster.devices) + 1)]
        broker = self._cluster.broker_pid()
        return {"broker": [pid for pid in [broker] if pid], "workers": [pid for pid in devices if pid]}


class OverSsh:
    """`scp` or `rsync` to an sshd of its own on this machine."""

    lacks = "no encryption at rest, no redundancy, no fsync"

    def __init__(self, name: str, server: SshServer) -> None:
        self.name = f"{name}, one plain copy"
        self._tool = name
        self._server = server
        self._stored = server.place / f"stored by {name}".replace(" ", "-")

    def empty(self) -> None:
        shutil.rmtree(self._stored, ignore_errors=True)

    def put(self, workload: Workload) -> Measured:
        return self._copy(os.fspath(workload.folder), f"{self._server.address}:{self._stored}")

    def get(self, workload: Workload, into: Path) -> Measured:
        return self._copy(f"{self._server.address}:{self._stored}", os.fspath(into))

    def _copy(self, source: str, target: str) -> Measured:
        return Measured(run_metered(self._server.within(self.command(source, target))))

    def command(self, source: str, target: str) -> list[str]:
        """What copies a folder."""
        if self._tool == "scp":
            return ["scp", "-q", "-r", "-P", str(self._server.port), *self._server.options, source, target]
        shell = " ".join(["ssh", "-p", str(self._server.port), *self._server.options])
        return ["rsync", "-a", "-e", shell, f"{source}/", target]


class Restic:
    name = "restic, local repository"
    lacks = "no network, no redundancy"

    def __init__(self, place: Path) -> None:
        self._repository = place / "restic"
        self._environment = {**os.environ, "RESTIC_PASSWORD": secrets.token_urlsafe(16)}
        self._options = ["restic", "--no-cache", "-q", "-r", os.fspath(self._repository)]
        self.empty()

    def empty(self) -> None:
        shutil.rmtree(self._repository, ignore_errors=True)
        run_metered([*self._options, "init"], self._environment)

    def put(self, workload: Workload) -> Measured:
        return Measured(run_metered([*self._options, "backup", "."], self._environment, workload.folder))

    def get(self, workload: Workload, into: Path) -> Measured:
        command = [*self._options, "restore", "latest", "--target", os.fspath(into)]
        return Measured(run_metered(command, self._environment))


@dataclass(frozen=True)
class SshServer:
    """An sshd with keys of its own in `place`. `within`: the command that runs one where its clients are."""

    place: Path
    port: int
    options: list[str]
    address: str = HOST
    within: Callable[[Sequence[str]], Sequence[str]] = list

    @property
    def command(self) -> list[str]:
        """What runs it."""
        sshd = shutil.which("sshd", path=COMMANDS) or "sshd"
        return [sshd, "-D", "-q", "-f", os.fspath(self.place / "ssh" / "config")]


@contextmanager
def ssh_server(place: Path) -> Iterator[SshServer]:
    """An sshd on a port of this machine."""
    server = prepare_ssh_server(place, HOST, find_base_port(1))
    with subprocess.Popen(server.command) as process:
        try:
            end = time.monotonic() + _TIMEOUT
            while not port_answers(server.port):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the sshd of the bench did not start")
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()


def prepare_ssh_server(
    place: Path, address: str, port: int, within: Callable[[Sequence[str]], Sequence[str]] = list
) -> SshServer:
    """Make the keys and the settings of one, which is not started."""
    keys = place / "ssh"
    keys.mkdir(mode=0o700, parents=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.fspath(keys / name)]
        subprocess.run(command, check=True)
    settings = [
        f"Port {port}",
        f"ListenAddress {address}",
        f"HostKey {keys / 'host'}",
        f"AuthorizedKeysFile {keys / 'user.pub'}",
        f"Ciphers {_CIPHER}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "Subsystem sftp internal-sftp",
    ]
    (keys / "config").write_text("\n".join(settings) + "\n")
    with suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd asks for it when root starts it
    known = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={keys / 'known'}", f"Ciphers={_CIPHER}"]
    options = [word for setting in known for word in ("-o", setting)]
    options = ["-F", "none", "-i", os.fspath(keys / "user"), *options]
    return SshServer(place, port, options, address, within)
