"""GlusterFS, a disperse volume 4+2: six bricks, a management daemon where bricks are, and the volume mounted by FUSE.

All of it runs in sandboxes with a network and mounts of their own, over folders of the bench's: the machine's settings
of GlusterFS, if it has any, are neither read nor written.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Optional

from bench.metering import Measured, Meter, run_metered
from bench.sandbox import NODES, TOOLS, Sandbox, Site, one_sandbox, wait_until
from bench.workloads import Workload
from cluster.ports import HOST
from common.errors import TesseraError

NEEDED = ("glusterd", "gluster", "glusterfs", "mount", *TOOLS)
_VOLUME = "bench"


class Gluster:
    name = "GlusterFS, disperse 4+2"
    lacks = "no encryption, no authentication, no fsync"

    def __init__(self, site: Site, place: Path) -> None:
        self._site = site
        self._box = site.client
        self._mounted = place / "mounted"
        self._stored = self._mounted / "stored"
        self._mounted.mkdir()
        self.mount()

    def empty(self) -> None:
        self._box.run("rm", "-rf", os.fspath(self._stored))

    def put(self, workload: Workload) -> Measured:
        return self._copy(workload.folder, self._stored)

    def get(self, workload: Workload, into: Path) -> Measured:
        self._box.run("umount", os.fspath(self._mounted))  # what was just written is in its client's caches
        self.mount()
        return self._copy(self._stored, into)

    def lose_two(self) -> None:
        for brick in self._site.processes_of_nodes("glusterfsd ")[:2]:
            os.kill(brick, signal.SIGKILL)

    def mount(self) -> None:
        """Returns once the volume can be used."""
        client = ["glusterfs", f"--volfile-server={_name(0)}", f"--volfile-id={_VOLUME}", os.fspath(self._mounted)]
        self._box.run(*client)
        self._box.run("stat", os.fspath(self._mounted))

    def _copy(self, source: Path, target: Path) -> Measured:
        client = self._box.processes(f"--volfile-id={_VOLUME} ")
        meter = Meter({"broker": client, "workers": self._site.processes_of_nodes("glusterfsd ")})
        return meter.measured(run_metered(self._box.within("cp", "-r", os.fspath(source), os.fspath(target))))


@contextmanager
def gluster(place: Path, given: Optional[Site] = None) -> Iterator[list[Gluster]]:
    """The contender, its volume started. `given`: where its parts run; None for one sandbox.

    TesseraError where a sandbox or a mount cannot be had here, or the volume did not start.
    """
    place.mkdir()
    log = place / "log"
    with ExitStack() as stack:
        site = given or stack.enter_context(one_sandbox(mounts=True))
        servers = list(dict.fromkeys(site.nodes))
        for box in dict.fromkeys([*servers, site.client]):
            _own_folders(box, place, servers)
        daemons = [stack.enter_context(box.running(log, "glusterd", "--no-daemon")) for box in servers]
        wait_until(lambda: all(map(_answers, servers)), daemons, "GlusterFS", log)
        first, command = servers[0], ["gluster", "--mode=script"]
        for number in range(1, len(servers)):
            first.run(*command, "peer", "probe", _name(number))
        wait_until(lambda: all(_joined(box) == len(servers) - 1 for box in servers), daemons, "GlusterFS", log)
        bricks = [f"{_name(servers.index(box))}:{place / f'brick-{node}'}" for node, box in enumerate(site.nodes)]
        code = ["disperse", str(NODES), "redundancy", "2"]
        first.run(*command, "volume", "create", _VOLUME, *code, *bricks, "force")
        first.run(*command, "volume", "start", _VOLUME)
        contender = Gluster(site, place)
        try:
            yield [contender]
        finally:
            site.client.run("umount", "--lazy", os.fspath(place / "mounted"))


def _name(server: int) -> str:
    """Of a host with bricks: GlusterFS takes none that is written as localhost or 127.0.0.1."""
    return f"bricks-{server}"


def _own_folders(box: Sandbox, place: Path, servers: Sequence[Sandbox]) -> None:
    """In place of the machine's, for all that GlusterFS keeps, and with names for the hosts with bricks."""
    own = place / f"host-{box.address}"
    own.mkdir()
    for name, machine in (("state", "/var/lib/glusterd"), ("logs", "/var/log/glusterfs"), ("run", "/run")):
        if not Path(machine).is_dir():
            raise TesseraError(f"{machine} is not there: GlusterFS is not installed as its packages do")
        (own / name).mkdir()
        box.run("mount", "--bind", os.fspath(own / name), machine)
    (own / "run" / "sshd").mkdir()  # for an sshd of the bench on the same host
    hosts = own / "hosts"
    names = [f"{each.address} {_name(number)}" for number, each in enumerate(servers)]
    hosts.write_text("\n".join([f"{HOST} localhost", *names]) + "\n")
    box.run("mount", "--bind", os.fspath(hosts), "/etc/hosts")


def _joined(box: Sandbox) -> int:
    """How many others its management daemon is connected with."""
    return box.run("gluster", "--mode=script", "peer", "status").count("Peer in Cluster (Connected)")


def _answers(box: Sandbox) -> bool:
    ask = box.within("gluster", "--mode=script", "volume", "list")
    return subprocess.run(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
