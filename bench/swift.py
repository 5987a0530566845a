"""OpenStack Swift with a 4+2 erasure-coding policy and its encryption on: a proxy, six object servers, memcached.

The releases of PyPI in an environment of their own; accounts and containers have one server and one copy each, which is
less work than any real installation has. All of it runs in a sandbox with nothing but loopback. Files are uploaded by
the proxy's web API into a container that is new each time.
"""

from __future__ import annotations

import base64
import getpass
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.environments import environment
from bench.metering import Measured, Meter, run_metered
from bench.sandbox import TOOLS, Sandbox, end, sandbox, wait_until
from bench.transfers import Transfer, curl
from bench.workloads import Workload
from cluster.ports import HOST
from common.errors import TesseraError

NEEDED = ("curl", "memcached", *TOOLS)
_RELEASES = ("swift==2.38.3", "pyeclib==1.8.0", "cryptography>=43")
_NODES = 6
_AT_ONCE = 4  # requests under way
_PROXY, _MEMCACHED, _ACCOUNT, _CONTAINER, _OBJECT = 8080, 11211, 6202, 6201, 6210  # ports
_URL = f"http://{HOST}:{_PROXY}"

# Swift's commands read /etc/swift/swift.conf for the policies, whatever their settings say of `swift_dir`.
_START = "import sys; from swift.common.utils import set_swift_dir; set_swift_dir(sys.argv.pop(1)); " + (
    "from swift.{kind}.server import main; main()"
)
_MODULES = {"object": "obj"}

Section = Mapping[str, object]

_POLICY: Section = {
    "name": "ec42",
    "default": "yes",
    "policy_type": "erasure_coding",
    "ec_type": "isa_l_rs_vand",
    "ec_num_data_fragments": 4,
    "ec_num_parity_fragments": 2,
}
_ASK = ("curl", "-q", "-sSf", "--noproxy", "*")
_PIPELINE = ("catch_errors", "gatekeeper", "cache", "tempauth", "copy", "keymaster", "encryption")


class Swift:
    name = "OpenStack Swift, EC 4+2, encrypted at the proxy"
    lacks = "no encryption between client and proxy, which has the keys; names are in the clear"

    def __init__(self, box: Sandbox, place: Path, storage: list[subprocess.Popen[bytes]]) -> None:
        self._box = box
        self._place = place
        self._storage = storage
        self._token = ["--config", os.fspath(place / "token")]
        self._container = ""
        self.empty()

    def empty(self) -> None:
        """Deleting would leave tombstones: the fragments go from the nodes' disks."""
        for objects in self._place.glob("object-*/disk/objects"):
            shutil.rmtree(objects)
        self._container = f"{_URL}/v1/AUTH_bench/{secrets.token_hex(4)}"
        self._box.run(*_ASK, "-X", "PUT", *self._token, self._container)

    def put(self, workload: Workload) -> Measured:
        nowhere = Path(os.devnull)
        return self._transfer([(f"{self._container}/{path.name}", nowhere, path) for path in workload.files])

    def get(self, workload: Workload, into: Path) -> Measured:
        into.mkdir()
        return self._transfer([(f"{self._container}/{path.name}", into / path.name, None) for path in workload.files])

    def lose_two(self) -> None:
        for node in self._storage[:2]:
            end(node)

    def _transfer(self, transfers: list[Transfer]) -> Measured:
        command = self._box.within(*curl(self._place / "transfers", transfers, _AT_ONCE, *self._token))
        between = self._box.processes(os.fspath(self._place / "proxy.conf")) + self._box.processes("memcached")
        meter = Meter({"broker": between, "workers": self._box.processes(os.fspath(self._place / "object-"))})
        return meter.measured(run_metered(command))


@contextmanager
def swift(place: Path) -> Iterator[list[Swift]]:
    """The contender.

    TesseraError where it is not root, Swift cannot be installed, a sandbox cannot be had, or it did not start.
    """
    if os.geteuid() != 0:
        raise TesseraError("its servers change their user, which needs root")
    commands = environment("swift", *_RELEASES)
    place.mkdir()
    log, password = place / "log", secrets.token_urlsafe(16)
    with sandbox() as box, ExitStack() as stack:
        _write(place / "swift.conf", {"swift-hash": _random("swift_hash_path_suffix"), "storage-policy:0": _POLICY})
        _write(place / "proxy.conf", _proxy(place, password))

        def start(kind: str, settings: str) -> subprocess.Popen[bytes]:
            code = _START.format(kind=_MODULES.get(kind, kind))
            command = [os.fspath(commands / "python"), "-c", code, os.fspath(place), os.fspath(place / settings)]
            return stack.enter_context(box.running(log, *command))

        def ring(kind: str, ports: list[int]) -> None:
            build = [os.fspath(commands / "swift-ring-builder"), os.fspath(place / f"{kind}.builder")]
            box.run(*build, "create", "8", str(len(ports)), "1")
            devices = [word for n, port in enumerate(ports) for word in (f"r1z{n + 1}-{HOST}:{port}/disk", "1")]
            box.run(*build, "add", *devices)
            box.run(*build, "rebalance")

        def node(kind: str, number: int, port: int) -> subprocess.Popen[bytes]:
            (place / f"{kind}-{number}" / "disk").mkdir(parents=True)
            _write(place / f"{kind}-{number}.conf", _server(place, kind, number, port))
            return start(kind, f"{kind}-{number}.conf")

        ring("account", [_ACCOUNT])
        ring("container", [_CONTAINER])
        ring("object", [_OBJECT + number for number in range(_NODES)])
        others = [node("account", 0, _ACCOUNT), node("container", 0, _CONTAINER)]
        storage = [node("object", number, _OBJECT + number) for number in range(_NODES)]
        memcached = ["memcached", "-u", "root", "-l", HOST, "-p", str(_MEMCACHED), "-U", "0"]
        others += [stack.enter_context(box.running(log, *memcached)), start("proxy", "proxy.conf")]
        (place / "password").write_text(
            f'header = "X-Storage-User: bench:bench"\nheader = "X-Storage-Pass: {password}"\n'
        )
        wait_until(lambda: _lets_in(box, place), [*others, *storage], "Swift", log)
        if str(_POLICY["name"]) not in box.run(*_ASK, f"{_URL}/info"):
            raise TesseraError("Swift has not taken the erasure-coding policy")
        yield [Swift(box, place, storage)]


def _lets_in(box: Sandbox, place: Path) -> bool:
    """Whether the proxy answers; its token is kept where curl finds it, in no command line."""
    ask = box.within(
        "curl", "-q", "-sfi", "--noproxy", "*", "--config", os.fspath(place / "password"), f"{_URL}/auth/v1.0"
    )
    answer = subprocess.run(ask, stdout=subprocess.PIPE, text=True).stdout
    tokens = [line for line in answer.splitlines() if line.lower().startswith("x-auth-token: ")]
    (place / "token").write_text("".join(f'header = "{token}"\n' for token in tokens))
    return bool(tokens)


def _write(path: Path, sections: Mapping[str, Section]) -> None:
    lines = []
    for name, settings in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items()), ""]
    path.write_text("\n".join(lines))


def _random(name: str) -> Section:
    return {name: secrets.token_hex(16)}


def _common(place: Path, port: int) -> dict[str, object]:
    return {"bind_ip": HOST, "bind_port": port, "swift_dir": place, "user": getpass.getuser(), "log_level": "ERROR"}


def _server(place: Path, kind: str, number: int, port: int) -> Mapping[str, Section]:
    own = {"devices": place / f"{kind}-{number}", "mount_check": "false", "workers": 0}
    return {
        "DEFAULT": {**_common(place, port), **own},
        "pipeline:main": {"pipeline": f"{kind}-server"},
        f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
    }


def _proxy(place: Path, password: str) -> Mapping[str, Section]:
    filters: dict[str, Section] = {f"filter:{name}": {"use": f"egg:swift#{name}"} for name in _PIPELINE}
    filters["filter:cache"] = {"use": "egg:swift#memcache", "memcache_servers": f"{HOST}:{_MEMCACHED}"}
    filters["filter:tempauth"] = {"use": "egg:swift#tempauth", "user_bench_bench": f"{password} .admin"}
    root = base64.b64encode(secrets.token_bytes(32)).decode()
    filters["filter:keymaster"] = {"use": "egg:swift#keymaster", "encryption_root_secret": root}
    return {
        "DEFAULT": {**_common(place, _PROXY), "workers": 2},
        "pipeline:main": {"pipeline": " ".join([*_PIPELINE, "proxy-server"])},
        **filters,
        "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
    }
