"""What one can put together from tools that everybody has: encrypt, zfec 4 of 6, rsync the shares to six folders."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import SshServer
from bench.environments import environment
from bench.metering import Measured, run_metered
from bench.workloads import Workload
from cluster.ports import HOST

NEEDED = ("bash", "rsync", "xargs")
_RELEASE = "zfec==1.6.0.0"
_SCRIPT = Path(__file__).resolve().parent / "by_hand.sh"
_SHARES, _ENOUGH = 6, 4
CIPHERS = ("openssl", "age")


class ByHand:
    """One of the ciphers, over the bench's own sshd."""

    def __init__(self, cipher: str, zfec: Path, server: SshServer, place: Path) -> None:
        self.name = f"{cipher}, zfec, rsync by hand, 4 of 6"
        self.lacks = "no fsync, no check of shares, no index, nothing rebuilt"
        if cipher == "openssl":
            self.lacks = f"no authentication, {self.lacks}"
        self._cipher = cipher
        self._place = place
        place.mkdir()
        self._key = place / "key"
        if cipher == "age":
            command = ["age-keygen", "-o", os.fspath(self._key)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        else:
            self._key.write_text(secrets.token_hex(32))
        shell = ["ssh", "-p", str(server.port), *server.options]
        path = os.pathsep.join([os.fspath(zfec), os.environ.get("PATH", os.defpath)])
        self._environment = {**os.environ, "PATH": path, "RSYNC_RSH": " ".join(shell)}
        self.empty()

    def empty(self) -> None:
        shutil.rmtree(self._place / "stored", ignore_errors=True)
        (self._place / "stored").mkdir()

    def put(self, workload: Workload) -> Measured:
        return self._run("put", workload.folder, range(_SHARES))

    def get(self, workload: Workload, into: Path) -> Measured:
        into.mkdir()
        here = [share for share in range(_SHARES) if (self._place / "stored" / str(share)).exists()]
        return self._run("get", into, here[:_ENOUGH])

    def lose_two(self) -> None:
        for share in range(_SHARES - _ENOUGH):  # of the file's own bytes, not of parity
            shutil.rmtree(self._place / "stored" / str(share))

    def _run(self, action: str, files: Path, shares: Sequence[int]) -> Measured:
        remote, scratch = f"{HOST}:{self._place / 'stored'}", self._place / "scratch"
        places = [os.fspath(self._key), os.fspath(files), remote, os.fspath(scratch)]
        command = ["bash", os.fspath(_SCRIPT), action, self._cipher, *places, *map(str, shares)]
        cost = run_metered(command, self._environment)
        shutil.rmtree(scratch)
        return Measured(cost)


@contextmanager
def by_hand(cipher: str, server: SshServer, place: Path) -> Iterator[list[ByHand]]:
    """With this one of the ciphers; TesseraError where zfec could not be installed."""
    yield [ByHand(cipher, environment("zfec", _RELEASE), server, place)]
