"""OpenStack Swift with a 4+2 erasure-coding policy and its encryption on: a proxy, six object servers, memcached.

The releases of PyPI in an environment of their own; accounts and containers have one server and one copy each, which is
less work than any real installation has. All of it runs in sandboxes. Files are uploaded by
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
from typing import Optional

from bench.environments import environment
from bench.metering import Measured, Meter, run_metered
from bench.sandbox import TOOLS, Sandbox, Site, end, one_sandbox, wait_until
from bench.transfers import Transfer, curl
from bench.workloads import Workload
from cluster.ports import HOST
from common.errors import TesseraError

NEEDED = ("curl", "memcached", *TOOLS)
_RELEASES = ("swift==2.38.3", "pyeclib==1.8.0", "cryptography>=43")
_AT_ONCE = 4  # requests under way
_PROXY, _MEMCACHED, _ACCOUNT, _CONTAINER, _OBJECT = 8080, 11211, 6202, 6201, 6210  # ports

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

    def __init__(self, site: Site, place: Path, storage: list[subprocess.Popen[bytes]]) -> None:
        self._site = site
        self._place = place
        self._storage = storage
        self._token = ["--config", os.fspath(place / "token")]
        self._container = ""
        self.empty()

    def empty(self) -> None:
        """Deleting would leave tombstones: the fragments go from the nodes' disks."""
        for objects in self._place.glob("object-*/disk/objects"):
            shutil.rmtree(objects)
        self._container = f"{_url(self._site)}/v1/AUTH_bench/{secrets.token_hex(4)}"
        self._site.client.run(*_ASK, "-X", "PUT", *self._token, self._container)

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
        command = self._site.client.within(*curl(self._place / "transfers", transfers, _AT_ONCE, *self._token))
        box, proxy = self._site.between, os.fspath(self._place / "proxy.conf")
        nodes = self._site.processes_of_nodes(os.fspath(self._place / "object-"))
        meter = Meter({"broker": box.processes(proxy) + box.processes("memcached"), "workers": nodes})
        return meter.measured(run_metered(command))


@contextmanager
def swift(place: Path, given: Optional[Site] = None) -> Iterator[list[Swift]]:
    """The contender. `given`: where its parts run; None for one sandbox.

    TesseraError where it is not root, Swift cannot be installed, a sandbox cannot be had, or it did not start.
    """
    if os.geteuid() != 0:
        raise TesseraError("its servers change their user, which needs root")
    commands = environment("swift", *_RELEASES)
    place.mkdir()
    log, password = place / "log", secrets.token_urlsafe(16)
    with ExitStack() as stack:
        site = given or stack.enter_context(one_sandbox())
        between, here = site.between, site.between.address
        _write(place / "swift.conf", {"swift-hash": _random("swift_hash_path_suffix"), "storage-policy:0": _POLICY})
        _write(place / "proxy.conf", _proxy(place, here, password))

        def start(box: Sandbox, kind: str, settings: str) -> subprocess.Popen[bytes]:
            code = _START.format(kind=_MODULES.get(kind, kind))
            command = [os.fspath(commands / "python"), "-c", code, os.fspath(place), os.fspath(place / settings)]
            return stack.enter_context(box.running(log, *command))

        def ring(kind: str, places: list[str]) -> None:
            build = [os.fspath(commands / "swift-ring-builder"), os.fspath(place / f"{kind}.builder")]
            between.run(*build, "create", "8", str(len(places)), "1")
            devices = [word for n, each in enumerate(places) for word in (f"r1z{n + 1}-{each}/disk", "1")]
            between.run(*build, "add", *devices)
            between.run(*build, "rebalance")

        def node(box: Sandbox, kind: str, number: int, port: int) -> subprocess.Popen[bytes]:
            (place / f"{kind}-{number}" / "disk").mkdir(parents=True)
            _write(place / f"{kind}-{number}.conf", _server(place, box.address, kind, number, port))
            return start(box, kind, f"{kind}-{number}.conf")

        ring("account", [f"{here}:{_ACCOUNT}"])
        ring("container", [f"{here}:{_CONTAINER}"])
        ring("object", [f"{box.address}:{_OBJECT + number}" for number, box in enumerate(site.nodes)])
        others = [node(between, "account", 0, _ACCOUNT), node(between, "container", 0, _CONTAINER)]
        storage = [node(box, "object", number, _OBJECT + number) for number, box in enumerate(site.nodes)]
        memcached = ["memcached", "-u", "root", "-l", HOST, "-p", str(_MEMCACHED), "-U", "0"]
        others += [stack.enter_context(between.running(log, *memcached)), start(between, "proxy", "proxy.conf")]
        (place / "password").write_text(
            f'header = "X-Storage-User: bench:bench"\nheader = "X-Storage-Pass: {password}"\n'
        )
        wait_until(lambda: _lets_in(site, place), [*others, *storage], "Swift", log)
        if str(_POLICY["name"]) not in site.client.run(*_ASK, f"{_url(site)}/info"):
            raise TesseraError("Swift has not taken the erasure-coding policy")
        yield [Swift(site, place, storage)]


def _url(site: Site) -> str:
    return f"http://{site.between.address}:{_PROXY}"


def _lets_in(site: Site, place: Path) -> bool:
    """Whether the proxy answers; its token is kept where curl finds it, in no command line."""
    password = ["--config", os.fspath(place / "password")]
    ask = site.client.within("curl", "-q", "-sfi", "--noproxy", "*", *password, f"{_url(site)}/auth/v1.0")
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


def _common(place: Path, address: str, port: int) -> dict[str, object]:
    return {"bind_ip": address, "bind_port": port, "swift_dir": place, "user": getpass.getuser(), "log_level": "ERROR"}


def _server(place: Path, address: str, kind: str, number: int, port: int) -> Mapping[str, Section]:
    own = {"devices": place / f"{kind}-{number}", "mount_check": "false", "workers": 0}
    return {
        "DEFAULT": {**_common(place, address, port), **own},
        "pipeline:main": {"pipeline": f"{kind}-server"},
        f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
    }


def _proxy(place: Path, address: str, password: str) -> Mapping[str, Section]:
    filters: dict[str, Section] = {f"filter:{name}": {"use": f"egg:swift#{name}"} for name in _PIPELINE}
    filters["filter:cache"] = {"use": "egg:swift#memcache", "memcache_servers": f"{HOST}:{_MEMCACHED}"}
    filters["filter:tempauth"] = {"use": "egg:swift#tempauth", "user_bench_bench": f"{password} .admin"}
    root = base64.b64encode(secrets.token_bytes(32)).decode()
    filters["filter:keymaster"] = {"use": "egg:swift#keymaster", "encryption_root_secret": root}
    return {
        "DEFAULT": {**_common(place, address, _PROXY), "workers": 2},
        "pipeline:main": {"pipeline": " ".join([*_PIPELINE, "proxy-server"])},
        **filters,
        "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
    }
