"""Tahoe-LAFS, 4 of 6: an introducer, six storage nodes, and a gateway for each of its two protocols.

All of it runs in sandboxes, since a node's log port listens on all interfaces whatever its settings say. Files are
uploaded unlinked through the gateway's web API, which is the fastest that Tahoe has: no directory is written, so their
names are not kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from bench.environments import environment
from bench.metering import Measured, Meter, run_metered
from bench.sandbox import NODES, TOOLS, Sandbox, Site, end, one_sandbox, wait_until
from bench.transfers import curl
from bench.workloads import Workload
from cluster.ports import HOST

NEEDED = ("curl", *TOOLS)
_RELEASE = "tahoe-lafs==1.20.0"
_AT_ONCE = 4  # requests under way: with fewer Tahoe is slower, with more not faster
_INTRODUCER, _STORAGE, _GATEWAY = 10000, 10001, 10011  # ports; a sandbox has all of them free


@dataclass(frozen=True)
class Grid:
    place: Path
    site: Site
    storage: list[subprocess.Popen[bytes]]
    gateways: dict[str, subprocess.Popen[bytes]]  # by their folders' names


class Tahoe:
    """The grid, used through one of its gateways."""

    lacks = "no fsync, no name kept with a file (its directories would, and make it slower)"

    def __init__(self, grid: Grid, protocol: str, number: int) -> None:
        self.name = f"Tahoe-LAFS, 4 of 6, {protocol}"
        self._grid = grid
        self._url = f"http://{HOST}:{_GATEWAY + number}/uri"
        self._gateway = grid.gateways[gateway_folder(number)]
        self._capabilities = grid.place / f"capabilities-{number}"
        self.empty()

    def empty(self) -> None:
        """A grid has no way to delete: the shares go from the nodes' disks."""
        for node in range(NODES):
            for folder in (self._grid.place / f"storage-{node}" / "storage" / "shares").glob("??"):
                shutil.rmtree(folder)
        shutil.rmtree(self._capabilities, ignore_errors=True)
        self._capabilities.mkdir()

    def put(self, workload: Workload) -> Measured:
        return self._transfer([(self._url, self._capabilities / path.name, path) for path in workload.files])

    def get(self, workload: Workload, into: Path) -> Measured:
        into.mkdir()
        read = [(path.name, (self._capabilities / path.name).read_text()) for path in workload.files]
        return self._transfer([(f"{self._url}/{capability}", into / name, None) for name, capability in read])

    def lose_two(self) -> None:
        for node in self._grid.storage[:2]:
            end(node)

    def _transfer(self, transfers: list[tuple[str, Path, Any]]) -> Measured:
        settings = self._grid.place / "transfers"
        command = self._grid.site.client.within(*curl(settings, transfers, _AT_ONCE))
        nodes = [node.pid for node in self._grid.storage if node.poll() is None]
        meter = Meter({"broker": [self._gateway.pid], "workers": nodes})
        return meter.measured(run_metered(command))


@contextmanager
def tahoe(place: Path, given: Optional[Site] = None) -> Iterator[list[Tahoe]]:
    """Its contenders, one for each protocol. `given`: where its parts run; None for one sandbox.

    TesseraError where a sandbox cannot be had, or the grid did not start.
    """
    program = os.fspath(environment("tahoe", _RELEASE) / "tahoe")
    place.mkdir()
    log = place / "log"
    with ExitStack() as stack:
        site = given or stack.enter_context(one_sandbox())

        def create(box: Sandbox, kind: str, folder: str, port: int, *options: str) -> None:
            listen = [f"--port=tcp:{port}:interface={box.address}", f"--location=tcp:{box.address}:{port}"]
            box.run(program, kind, *(listen if port else []), *options, os.fspath(place / folder))

        def start(box: Sandbox, folder: str) -> subprocess.Popen[bytes]:
            run = [program, "run", "--allow-stdin-close", os.fspath(place / folder)]
            return stack.enter_context(box.running(log, *run))

        create(site.between, "create-introducer", "introducer", _INTRODUCER)
        introducer = start(site.between, "introducer")
        address = place / "introducer" / "private" / "introducer.furl"
        wait_until(address.exists, [introducer], "Tahoe's introducer", log)
        known = f"--introducer={address.read_text().strip()}"
        storage = []
        for node, box in enumerate(site.nodes):
            create(box, "create-node", f"storage-{node}", _STORAGE + node, known, "--webport=none")
            storage.append(start(box, f"storage-{node}"))
        code = ["--shares-needed=4", "--shares-happy=6", f"--shares-total={NODES}"]
        gateways = {}
        for number, foolscap in enumerate([False, True]):
            web = f"--webport=tcp:{_GATEWAY + number}:interface={HOST}"
            folder = gateway_folder(number)
            create(site.client, "create-client", folder, 0, known, web, *code)
            if foolscap:
                settings = place / folder / "tahoe.cfg"
                settings.write_text(settings.read_text().replace("[client]", "[client]\nforce_foolscap = true"))
            gateways[folder] = start(site.client, folder)
        servers = [*storage, *gateways.values()]
        wait_until(
            lambda: all(_is_connected(site.client, n) for n in range(len(gateways))), servers, "Tahoe's grid", log
        )
        grid = Grid(place, site, storage, gateways)
        yield [Tahoe(grid, "HTTPS (its default)", 0), Tahoe(grid, "Foolscap", 1)]


def gateway_folder(number: int) -> str:
    return f"gateway-{number}"


def _is_connected(box: Sandbox, gateway: int) -> bool:
    """Whether the gateway speaks with all storage nodes."""
    ask = box.within("curl", "-q", "-sf", "--noproxy", "*", f"http://{HOST}:{_GATEWAY + gateway}/?t=json")
    answer = subprocess.run(ask, stdout=subprocess.PIPE)
    if answer.returncode != 0:
        return False
    servers = json.loads(answer.stdout)["servers"]
    return sum(server["version"] is not None for server in servers) == NODES
