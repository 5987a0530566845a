"""Tessera and its peers on a LAN of eight hosts, in turn in one run: python -m bench.lan (Linux, root)

The hosts are network namespaces of this machine, whose processors they share: a client, the broker and six devices,
each with a link of a set rate (`network`). Whole commands are timed. Peers with servers have their storage on the six
devices, Swift its proxy where the broker is; Tahoe's gateway and GlusterFS's mount are the client's. Neither these nor
Tessera (4 of 6) nor three copies by scp lose anything with two machines. `limit`: what the links allow, with nothing
but image bytes on them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Optional

import typer

from bench.contenders import Contender, OverSsh, SshServer, TesseraClient, prepare_ssh_server
from bench.gluster import Gluster
from bench.metering import Measured, find_memory, run_metered
from bench.network import BROKER, CLIENT, DEVICES, Lan, Rates, Traffic, lan
from bench.peers import with_servers
from bench.report import GET, PUT, TESSERA, YARDSTICK
from bench.swift import Swift
from bench.workloads import MIB, Workload, make_workloads
from cluster.local import program_command
from common.errors import TesseraError, UsageError
from common.process.program import application, run, warn

commands = application("Measure Tessera and its peers on a LAN of network namespaces.")
NETWORKS = {
    rates.name: rates
    for rates in (
        Rates("1 Gbit/s", 1000, 1000),
        Rates("client 300 Mbit/s", 1000, 300),
        Rates("100 Mbit/s", 100, 100),
        Rates("1 Gbit/s, 20 ms", 1000, 1000, delay=10),
    )
}
_THREE = "scp to three machines at once"
_CODED = {TESSERA: (1.0, 1.5), _THREE: (3.0, 1.0), Swift.name: (1.0, 1.5), Gluster.name: (1.5, 0.25)}
_CLIENT_PORT, _WORKER_PORT, _SSH_PORT = 5570, 5571, 2222
_TIMEOUT = 60.0  # seconds
_SPARE_MEMORY = 64 * MIB


@dataclass(frozen=True)
class Run:
    network: str
    workload: Workload
    what: str
    contender: str
    seconds: float
    client: Traffic
    broker: Traffic


@commands.command()
def measure(
    networks: list[str] = typer.Option(list(NETWORKS), "--network", help="Which; default are all."),
    repeats: int = typer.Option(5, min=1, help="Rounds; in each every contender has its turn."),
    scale: float = typer.Option(1.0, min=0.01, max=1.0, help="Make the workloads smaller, for a try."),
    with_tahoe: bool = typer.Option(False, "--with-tahoe", help="Tahoe-LAFS too, which is installed at first."),
    with_gluster: bool = typer.Option(False, "--with-gluster", help="GlusterFS too."),
    with_swift: bool = typer.Option(False, "--with-swift", help="OpenStack Swift too, which is installed at first."),
    stores: Optional[Path] = typer.Option(None, help="Where stores lie: a folder on tmpfs or on a disk."),
) -> None:
    """Print a table in Markdown."""
    unknown = set(networks) - set(NETWORKS)
    if unknown:
        raise UsageError(f"there is no network {', '.join(sorted(unknown))}", advice=f"there are {', '.join(NETWORKS)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    asked = {"tahoe": with_tahoe, "gluster": with_gluster, "swift": with_swift}
    servers = {name for name, yes in asked.items() if yes}
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="tessera-lan-", dir=stores) as folder:
        workloads = make_workloads(Path(folder) / "workloads", scale)
        for number, name in enumerate(networks):
            place = Path(folder) / str(number)
            try:
                with lan(NETWORKS[name]) as network, _contenders(network, place, servers) as contenders:
                    runs += _measured(network, NETWORKS[name], contenders, workloads, repeats, place / "got")
            except TesseraError as error:
                warn(f"{name} is left out: {error}")
            shutil.rmtree(place, ignore_errors=True)
    print(_table(runs))


def _measured(
    network: Lan, rates: Rates, contenders: Sequence[Contender], workloads: Sequence[Workload], repeats: int, got: Path
) -> Iterator[Run]:
    for workload in workloads:
        for _ in range(repeats):
            for contender in contenders:
                yield _run(network, rates, contender, workload, PUT, got)
                yield _run(network, rates, contender, workload, GET, got)
                contender.empty()


def _run(network: Lan, rates: Rates, contender: Contender, workload: Workload, what: str, got: Path) -> Run:
    find_memory(_SPARE_MEMORY + 5 * workload.size)
    before = [network.traffic(host) for host in (CLIENT, BROKER)]
    measured = contender.put(workload) if what == PUT else contender.get(workload, got)
    client, broker = (network.traffic(host).since(b) for host, b in zip((CLIENT, BROKER), before))
    if what == GET:
        if _hashes(got) != _hashes(workload.folder):
            raise TesseraError(f"{contender.name} did not bring {workload.name} back")
        shutil.rmtree(got)
    warn(f"{rates.name}: {contender.name}: {workload.name}: {what}: {measured.command.wall:.2f} s")
    return Run(rates.name, workload, what, contender.name, measured.command.wall, client, broker)


def _hashes(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def _table(runs: Sequence[Run]) -> str:
    lines = [
        "| network | workload | | contender | s: median (least to most) | × scp's rate | × limit "
        "| bytes a byte at the client | at the broker |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str, str], list[Run]] = {}
    for each in runs:
        groups.setdefault((each.network, each.workload.name, each.what, each.contender), []).append(each)
    for (network, workload, what, contender), group in groups.items():
        seconds = statistics.median(each.seconds for each in group)
        scp = statistics.median(each.seconds for each in groups[network, workload, what, YARDSTICK])
        least, most = min(each.seconds for each in group), max(each.seconds for each in group)
        shown = [
            f"{seconds:.2f} ({least:.2f} to {most:.2f})",
            f"{scp / seconds:.2f}",
            f"{seconds / _limit(NETWORKS[network], group[0]):.2f}",
            *(f"{statistics.median(_carried(each, host) for each in group):.2f}" for host in (CLIENT, BROKER)),
        ]
        lines.append(f"| {' | '.join([network, workload, what, contender, *shown])} |")
    return "\n".join(lines)


def _limit(rates: Rates, run: Run) -> float:
    """Seconds that the slowest link needs for the image's bytes alone."""
    at_client, elsewhere = _sent(run.contender) if run.what == PUT else (1.0, 1.0)
    return run.workload.size * 8 / 1e6 * max(at_client / rates.client, elsewhere / rates.all)


def _sent(contender: str) -> tuple[float, float]:
    """Bytes for each image byte that a put has to bring over the client's link, and over the busiest other one."""
    if contender.startswith("Tahoe"):
        return 1.5, 0.25
    return _CODED.get(contender, (1.0, 1.0))


def _carried(run: Run, host: str) -> float:
    """Bytes on the busier way of a host's link for each image byte."""
    traffic = run.client if host == CLIENT else run.broker
    return max(traffic.sent, traffic.received) / run.workload.size


# --- who takes part


@contextmanager
def _contenders(network: Lan, place: Path, asked: Collection[str]) -> Iterator[list[Contender]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(_ssh_server(network, place / host, host)) for host in DEVICES[:3]]
        product = stack.enter_context(_tessera(network, place / "tessera"))
        one = servers[0]
        peers = stack.enter_context(with_servers(place, asked, network.site))
        yield [product, OverSsh("scp", one), ThreeCopies(servers), OverSsh("rsync", one), *peers]


@contextmanager
def _ssh_server(network: Lan, place: Path, host: str) -> Iterator[SshServer]:
    server = prepare_ssh_server(place, Lan.address(host), _SSH_PORT, lambda command: network.within(CLIENT, command))
    with network.hosts[host].running(place / "log", *server.command):
        _wait(network, host, _SSH_PORT)
        yield server


def _wait(network: Lan, host: str, port: int) -> None:
    end = time.monotonic() + _TIMEOUT
    while not network.answers(host, port):
        if time.monotonic() > end:
            raise TesseraError(f"nothing answers at port {port} of {host}")
        time.sleep(0.1)


class ThreeCopies:
    """scp of the same to three machines at once."""

    name = _THREE
    lacks = OverSsh.lacks

    def __init__(self, servers: Sequence[SshServer]) -> None:
        self._servers = servers
        self._copies = [OverSsh("scp", server) for server in servers]

    def put(self, workload: Workload) -> Measured:
        each = [
            shlex.join(copy.command(os.fspath(workload.folder), f"{server.address}:{server.place / 'third'}"))
            for copy, server in zip(self._copies, self._servers)
        ]
        begin = " ".join(f"{command} & p{number}=$!;" for number, command in enumerate(each))
        end = " && ".join(f"wait $p{number}" for number in range(len(each)))
        return Measured(run_metered(self._servers[0].within(["sh", "-c", f"{begin} {end}"])))

    def get(self, workload: Workload, into: Path) -> Measured:
        server = self._servers[0]
        command = self._copies[0].command(f"{server.address}:{server.place / 'third'}", os.fspath(into))
        return Measured(run_metered(server.within(command)))

    def empty(self) -> None:
        for server in self._servers:
            shutil.rmtree(server.place / "third", ignore_errors=True)


@contextmanager
def _tessera(network: Lan, place: Path) -> Iterator[TesseraClient]:
    """A broker, six devices and a client, each on its host."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    where = {
        "TESSERA_HOST": Lan.address(BROKER),
        "TESSERA_CLIENT_PORT": str(_CLIENT_PORT),
        "TESSERA_WORKER_PORT": str(_WORKER_PORT),
    }

    def environment(host: str) -> dict[str, str]:
        return {**inherited, **where, "TESSERA_HOME": os.fspath(place / host)}

    def invited(role: str, host: str) -> dict[str, str]:
        line = network.hosts[BROKER].run(*program_command("broker", "invite", role), environment=environment(BROKER))
        return {**environment(host), "TESSERA_JOIN": line.strip()}

    place.mkdir(parents=True)
    with ExitStack() as stack:

        def start(host: str, command: list[str], settings: dict[str, str]) -> None:
            running = network.hosts[host].running(place / f"{host}.log", *command, environment=settings)
            stack.enter_context(running)

        options = ["--host", Lan.address(BROKER), "--client-port", str(_CLIENT_PORT)]
        start(BROKER, program_command("broker", *options, "--worker-port", str(_WORKER_PORT)), environment(BROKER))
        _wait(network, BROKER, _CLIENT_PORT)
        for host in DEVICES:
            command = program_command("worker", "--name", host, "--store", os.fspath(place / host))
            start(host, command, invited("worker", host))
        network.hosts[CLIENT].run(*program_command("admin", "join"), environment=invited("client", CLIENT))

        def behind() -> dict[str, list[int]]:
            workers = [pid for host in DEVICES for pid in network.hosts[host].processes("worker.py")]
            return {"broker": network.hosts[BROKER].processes("broker.py"), "workers": workers}

        yield TesseraClient(environment(CLIENT), place, behind, lambda command: network.within(CLIENT, command))


def main() -> NoReturn:
    run(commands, "bench.lan")


if __name__ == "__main__":
    main()
