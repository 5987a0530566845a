"""GlusterFS, a disperse volume 4+2: six bricks, one management daemon, and the volume mounted by FUSE.

All of it runs in a sandbox with a network and mounts of its own, over folders of the bench's: the machine's settings of
GlusterFS, if it has any, are neither read nor written.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.metering import Measured, Meter, run_metered
from bench.sandbox import TOOLS, Sandbox, sandbox, wait_until
from bench.workloads import Workload
from cluster.ports import HOST
from common.errors import TesseraError

NEEDED = ("glusterd", "gluster", "glusterfs", "mount", *TOOLS)
_BRICKS = 6
_PEER = "bricks"  # a name for loopback: GlusterFS takes no brick whose host is written as localhost or 127.0.0.1
_VOLUME = "bench"


class Gluster:
    name = "GlusterFS, disperse 4+2"
    lacks = "no encryption, no authentication, no fsync"

    def __init__(self, box: Sandbox, place: Path) -> None:
        self._box = box
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
        for brick in self._box.processes("glusterfsd ")[:2]:
            os.kill(brick, signal.SIGKILL)

    def mount(self) -> None:
        """Returns once the volume can be used."""
        client = ["glusterfs", f"--volfile-server={_PEER}", f"--volfile-id={_VOLUME}", os.fspath(self._mounted)]
        self._box.run(*client)
        self._box.run("stat", os.fspath(self._mounted))

    def _copy(self, source: Path, target: Path) -> Measured:
        client = self._box.processes(f"--volfile-id={_VOLUME} ")
        meter = Meter({"broker": client, "workers": self._box.processes("glusterfsd ")})
        return meter.measured(run_metered(self._box.within("cp", "-r", os.fspath(source), os.fspath(target))))


@contextmanager
def gluster(place: Path) -> Iterator[list[Gluster]]:
    """The contender, its volume started.

    TesseraError where a sandbox or a mount cannot be had here, or the volume did not start.
    """
    place.mkdir()
    log = place / "log"
    with sandbox(mounts=True) as box:
        _own_folders(box, place)
        with box.running(log, "glusterd", "--no-daemon") as daemon:
            wait_until(lambda: _answers(box), [daemon], "GlusterFS", log)
            bricks = [f"{_PEER}:{place / f'brick-{number}'}" for number in range(_BRICKS)]
            command = ["gluster", "--mode=script", "volume"]
            box.run(*command, "create", _VOLUME, "disperse", str(_BRICKS), "redundancy", "2", *bricks, "force")
            box.run(*command, "start", _VOLUME)
            contender = Gluster(box, place)
            try:
                yield [contender]
            finally:
                box.run("umount", "--lazy", os.fspath(place / "mounted"))


def _own_folders(box: Sandbox, place: Path) -> None:
    """In place of the machine's, for all that GlusterFS keeps, and with a name for loopback."""
    for name, machine in (("state", "/var/lib/glusterd"), ("logs", "/var/log/glusterfs"), ("run", "/run")):
        if not Path(machine).is_dir():
            raise TesseraError(f"{machine} is not there: GlusterFS is not installed as its packages do")
        (place / name).mkdir()
        box.run("mount", "--bind", os.fspath(place / name), machine)
    hosts = place / "hosts"
    hosts.write_text(f"{HOST} localhost\n{HOST} {_PEER}\n")
    box.run("mount", "--bind", os.fspath(hosts), "/etc/hosts")


def _answers(box: Sandbox) -> bool:
    ask = box.within("gluster", "--mode=script", "volume", "list")
    return subprocess.run(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
