"""What devices, broker, logs, the network and the list of processes must never show, and the user's own disk only
under the vault key.

The cluster is one of its own, with recorders between the broker and all others: whatever passes, passes there.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from cluster.local import LocalCluster
from cluster.ports import HOST
from common.membership.identity import load_brokers, load_key_pair, save_brokers
from common.vault.folder import VaultFolder
from common.vault.index import VaultIndex
from tests import ROOT
from tests.cluster.conftest import home_of, running_cluster
from tests.support.ports import broker_ports, own_base_port
from tests.support.programs import PATIENCE, User, files_below, random_bytes, sha256_of, wait_until
from tests.support.searching import (
    Needles,
    Recorder,
    all_pids,
    files,
    occurrences,
    processes,
    recorder,
    slices,
    spellings,
)

PASSPHRASE = "nine words that nobody else would ever think of"
NAME = "uncle-wanja-at-the-lake-1978.jpg"
PHOTOGRAPH = ROOT / "samples" / "rocket.jpg"
LONG = 9_000_000  # bytes
RECORDED = "127.0.0.2"  # where the recorders listen, at the ports that the broker has at 127.0.0.1
pytestmark = pytest.mark.real_starts  # what the system shows of a fork is what its parent was started with
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@dataclass(frozen=True)
class Story:
    """What happened: a user stored a photograph and a long image, listed and restored them, and deleted one."""

    cluster: LocalCluster
    user: User
    needles: Needles  # what nobody but the user may find
    curve_keys: dict[Path, Needles]  # a party's key file → the secret key in it
    wire: list[Recorder]
    arguments: dict[str, bytes]  # of all processes, while the photograph was stored

    @property
    def everything(self) -> Needles:
        return {**self.needles, **{w: n for needles in self.curve_keys.values() for w, n in needles.items()}}


def lead_through(brokers_file: Path) -> None:
    """Have a party reach its broker by the recorders from now on."""
    known = [msgspec.structs.replace(each, host=RECORDED) for each in load_brokers(brokers_file)]
    save_brokers(brokers_file, known)


@pytest.fixture(scope="module", params=["lane", "curve"])
def story(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("secrecy")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(folder / "cluster", 3, wire=request.param))
        wire = [stack.enter_context(recorder(port, port, RECORDED)) for port in broker_ports(cluster)]
        assert len(wire) == (3 if request.param == "lane" else 2)
        user = User(cluster.add_client("secretive", PASSPHRASE), folder / "user")
        lead_through(user.home / "client" / "brokers.json")
        for index, name in enumerate(cluster.devices, 1):
            cluster.stop_device(index)
            lead_through(cluster.directory / name / "brokers.json")
            cluster.start_device(index)
        cluster.wait_registered(3)
        key_files = [cluster.directory / name / "device.key" for name in cluster.devices]
        key_files += [home_of(cluster) / "broker" / "broker.key", user.home / "client" / "client.key"]
        curve_keys = {
            path: spellings(f"the CURVE key of {path.parent.name}", load_key_pair(path).secret) for path in key_files
        }
        needles, arguments = tell(user)
        yield Story(cluster, user, needles, curve_keys, wire, arguments)


def tell(user: User) -> tuple[Needles, dict[str, bytes]]:
    """Let it happen; what nobody may find, and the arguments of all processes meanwhile."""
    needles = {"the passphrase": PASSPHRASE.encode(), "the name": NAME.encode()}
    arguments: dict[str, bytes] = {}
    for place, content in (("short", PHOTOGRAPH.read_bytes() + random_bytes(64)), ("long", random_bytes(LONG))):
        path = user.folder / place / NAME
        path.parent.mkdir()
        path.write_bytes(content)
        with user.started("producer", str(path)) as process:
            wait_until(lambda: _look(process, arguments), "the end of the producer", PATIENCE)
        assert process.returncode == 0
        needles |= spellings(f"the {place} image's hash", bytes.fromhex(sha256_of(content)))
        needles |= slices(f"the {place} image", content)
    needles |= secrets_of_the_vault(user)
    images = user.listed()
    assert len(images) == 2
    for image in images:
        assert user.run("consumer", "--hash", image["sha256"], "--output", "-").exit_code == 0
    return needles, arguments


def _look(process: subprocess.Popen[bytes], arguments: dict[str, bytes]) -> bool:
    """Add what the list of processes shows now; whether the process has ended."""
    arguments.update((what, shown) for what, shown in processes(all_pids(), "cmdline").items() if shown)
    return process.poll() is not None


def secrets_of_the_vault(user: User) -> Needles:
    """The vault's keys, and what the mappings hold."""
    key = VaultFolder(user.home).unlock(PASSPHRASE)
    found = spellings("the vault key", key.reveal())
    for name in ("id", "mapping", "delete", "sign", "index", "journal"):
        found |= spellings(f"the {name} subkey", key._subkey(name.encode()))
    thumbnails = 0
    index = VaultIndex(user.home / "vault", key)
    for object_id, encoding_id in index.kept_mappings():
        mapping = index.mapping(object_id, encoding_id)
        assert mapping is not None
        found |= spellings(f"the data key of {encoding_id.hex()}", mapping.data_key)
        if mapping.thumbnail is not None:
            found |= slices("the thumbnail", mapping.thumbnail)
            thumbnails += 1
    assert thumbnails == 1
    return found


# --- that the search finds what is there


def test_the_search_finds_each_needle_where_it_was_planted(story: Story, tmp_path: Path) -> None:
    for what, needle in story.everything.items():
        planted = {"a place": bytes(1000) + needle + bytes(1000)}
        assert occurrences(planted, {what: needle}) == [f"{what} in a place"]
    (tmp_path / "log").write_bytes(b"\n".join(story.everything.values()))
    assert len(occurrences(files([tmp_path]), story.everything)) == len(story.everything)
    (tmp_path / NAME).touch()
    assert "the name in the files' names" in occurrences(files([tmp_path]), story.needles)


def test_the_recorder_records_each_needle_that_passes(story: Story) -> None:
    """Both ways, to somebody who sends back what comes."""
    content = b"".join(story.everything.values())
    with socket.create_server((HOST, 0)) as server, recorder(own_base_port(), server.getsockname()[1]) as there:
        threading.Thread(target=_send_back, args=(server, len(content)), daemon=True).start()
        with socket.create_connection((HOST, there.port), timeout=30) as client:
            client.sendall(content)
            back = b""
            while len(back) < len(content):
                back += client.recv(1 << 16)
        wait_until(lambda: len(there.recorded) == 2, "both ways recorded")
        found = occurrences(there.recorded, story.everything)
    assert len(found) == 2 * len(story.everything)


def _send_back(server: socket.socket, length: int) -> None:
    connection, _ = server.accept()
    with connection:
        while length:
            data = connection.recv(1 << 16)
            connection.sendall(data)
            length -= len(data)


@ONLY_LINUX
def test_the_search_finds_what_a_process_shows(story: Story) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", PASSPHRASE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env={"NAME": NAME}) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs
        shown = processes([process.pid], "cmdline", "environ")
        process.kill()
    assert sorted(occurrences(shown, story.needles)) == [
        f"the name in environ of {process.pid}",
        f"the passphrase in cmdline of {process.pid}",
    ]


# --- that it finds nothing


def test_devices_broker_and_logs_hold_no_name_hash_thumbnail_passphrase_key_or_slice(story: Story) -> None:
    cluster = story.cluster
    folders = [cluster.directory / name for name in ("logs", *cluster.devices)] + [home_of(cluster) / "broker"]
    assert all(files_below(folder) for folder in folders)
    assert occurrences(files(folders), story.needles) == []


def test_a_partys_curve_key_is_in_its_own_key_file_and_nowhere_else(story: Story) -> None:
    places = files([story.cluster.directory, story.user.home], without=story.curve_keys)
    for path, needles in story.curve_keys.items():
        others = {str(other): other.read_bytes() for other in story.curve_keys if other != path}
        assert occurrences({**places, **others}, needles) == []
        assert len(occurrences({"its own": path.read_bytes()}, needles)) == 1


def test_what_passes_over_the_network_shows_nothing_of_it(story: Story) -> None:
    carriers = story.wire[2:] or story.wire  # of messages: the lanes, where there are any
    for side in story.wire:
        recorded = side.recorded
        assert sum(map(len, recorded.values())) > (LONG if side in carriers else 0), "it passed here"
        assert occurrences(recorded, story.everything) == []


@ONLY_LINUX
def test_the_list_of_processes_shows_nothing_of_it(story: Story) -> None:
    """The arguments of all processes while an image was stored, without those of the file that the user named."""
    without = {what: needle for what, needle in story.everything.items() if what != "the name"}
    assert any(b"producer.py" in content for content in story.arguments.values())
    assert any(b"-m\0viewer" in content for content in story.arguments.values())
    assert occurrences(story.arguments, without) == []


@ONLY_LINUX
def test_arguments_and_environment_of_broker_and_workers_show_nothing_of_it(story: Story) -> None:
    cluster = story.cluster
    pids = [cluster.broker_pid(), *(cluster.device_pid(index) for index in (1, 2, 3))]
    shown = processes([pid for pid in pids if pid is not None], "cmdline", "environ")
    assert len(shown) == 8
    assert all(shown.values())
    assert occurrences(shown, story.everything) == []


def test_the_users_own_home_holds_them_under_the_vault_key_only(story: Story) -> None:
    assert occurrences(files([story.user.home]), story.needles) == []


def test_key_files_are_their_owners_alone(story: Story) -> None:
    keys = [*story.curve_keys, story.user.home / "vault" / "vault.key"]
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}
