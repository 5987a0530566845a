"""The search for secrets: what nobody may find, in the spellings it could have, and where it is looked for.

Places: files, what passed over the network, and what the system tells everybody of a process.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zmq.utils import z85

from cluster.ports import HOST
from tests.soak.gate import Gate
from tests.support.programs import files_below

Needles = dict[str, bytes]


def spellings(what: str, secret: bytes) -> Needles:
    """A hash or a key: as it is, in hex, in base64 (but for its end, which depends on what follows), in Z85."""
    found = {
        what: secret,
        f"{what} in hex": secret.hex().encode(),
        f"{what} in upper-case hex": secret.hex().upper().encode(),
        f"{what} in base64": base64.b64encode(secret)[: len(secret) * 4 // 3 - 1],
        f"{what} in base32": base64.b32encode(secret).lower()[: len(secret) * 8 // 5 - 1],
    }
    if len(secret) % 4 == 0:
        found[f"{what} in Z85"] = z85.encode(secret)
    return found


def slices(what: str, content: bytes, length: int = 32) -> Needles:
    """Pieces from a content's beginning, middle and end."""
    offsets = (0, len(content) // 2, len(content) - length)
    return {f"a slice of {what} at {offset}": content[offset : offset + length] for offset in offsets}


def occurrences(places: Mapping[str, bytes], needles: Needles) -> list[str]:
    """What was found, and where."""
    return [
        f"{what} in {place}"
        for place, content in places.items()
        for what, needle in needles.items()
        if needle in content
    ]


def files(folders: Iterable[Path], *, without: Iterable[Path] = ()) -> dict[str, bytes]:
    """The files below the folders, and their names as a place of their own."""
    paths = [path for folder in folders for path in files_below(folder) if path not in set(without)]
    found = {str(path): path.read_bytes() for path in paths}
    found["the files' names"] = "\n".join(str(path) for path in paths).encode("utf-8", "surrogateescape")
    return found


def processes(pids: Iterable[int], *kinds: str) -> dict[str, bytes]:
    """What /proc tells of processes: kinds are `cmdline`, which everybody may read, and `environ`."""
    found = {}
    for pid in pids:
        for kind in kinds:
            with contextlib.suppress(OSError):  # it has ended
                found[f"{kind} of {pid}"] = Path(f"/proc/{pid}/{kind}").read_bytes()
    return found


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


class Recorder(Gate):
    """A gate that keeps what passes, each connection's two ways apart."""

    def __init__(self, port: int, onward: int, host: str = HOST) -> None:
        super().__init__(port, onward, host)
        self._passed: defaultdict[asyncio.StreamWriter, bytearray] = defaultdict(bytearray)

    def _passing(self, way: asyncio.StreamWriter, data: bytes) -> None:
        self._passed[way] += data

    @property
    def recorded(self) -> dict[str, bytes]:
        """What passed on each way so far."""
        return {f"way {number}": bytes(passed) for number, passed in enumerate(list(self._passed.values()))}


@contextlib.contextmanager
def recorder(port: int, onward: int, host: str = HOST) -> Iterator[Recorder]:
    """A recorder before a port of 127.0.0.1, closed at the end."""
    made = Recorder(port, onward, host)
    made.start()
    try:
        yield made
    finally:
        made.close()
