"""What listing and finding cost in a vault of many images, without storing them: python -m bench.listing measure

A real broker, real programs and three real devices with one real photograph; beside them six devices in one process
that announce shares which there are not, and show the sealed mappings of these. So a vault of 100,000 images is there
in half a minute, and what clients ask about mappings costs what it costs. Measured are whole commands, their start
included, and when their first line comes:

    new machine      `--list` of a machine with the key file alone, which has to learn every mapping
    known machine    the same again
    one more         the same after one more image was stored by another machine
    new broker       the same after the broker was started anew
    find             restoring the photograph by 8 digits of its SHA-256

`python -m bench.listing find --images 1000000` measures the last alone, with as many rows in the client's index that
the broker knows nothing of. `python -m bench.listing survey` measures how long a broker with nothing else to do takes
to say of every image that it lacks shares, once their devices went.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple, NoReturn, Optional

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import msgspec
import typer
import zmq

from bench.metering import peak_memory, processor_seconds
from cluster.local import LocalCluster, program_command, require_success
from cluster.ports import find_base_port
from common.chunks import chunks
from common.discovery.addresses import BrokerAddress
from common.errors import TesseraError, UnreachableError
from common.facts import Facts
from common.link.joining import join
from common.link.sockets import make_dealer
from common.membership.identity import KeyPair
from common.membership.invite import decode_invite
from common.process.program import application, run, warn
from common.protocol.codec import pack, pack_header, unpack_header
from common.protocol.device_messages import Describe, Described
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Answer,
    Code,
    EncodingAt,
    Message,
    Register,
    Registered,
    Report,
    ShareAt,
)
from common.protocol.operations import Role
from common.vault.folder import VaultFolder
from common.vault.index import Learned, VaultIndex
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping as ImageMapping
from common.vault.mapping import own_object_id, seal_own

K, N = 4, 6
_SMALL = 10 << 10  # bytes of an image
UNDER_WAY = 16  # pages that a device announces before it has an answer, as workers do
_PAGE = 1000  # images in each, likewise
_DEADLINE = 300.0  # seconds

commands = application("Measure listing and finding in a vault of many images.")


class Made(msgspec.Struct, array_like=True):
    """An image that is not stored."""

    object_id: bytes
    encoding_id: bytes
    sealed: bytes


class Vault(msgspec.Struct, array_like=True):
    owner: bytes
    images: list[Made]


def make_images(key: VaultKey, count: int, thumbnail: int, first: int = 0) -> Iterator[Made]:
    """Mappings as a put makes them, sealed; `thumbnail`: bytes of each."""
    for mapping, encoding_id in make_mappings(count, thumbnail, first):
        sealed = seal_own(key, mapping, encoding_id)
        yield Made(sealed.object_id, encoding_id, sealed.mapping)


def make_mappings(count: int, thumbnail: int, first: int = 0) -> Iterator[tuple[ImageMapping, bytes]]:
    """The same, not sealed, each with its encoding id."""
    drawn = random.Random(first)
    for number in range(first, first + count):
        taken = f"20{number % 25:02}-{number % 12 + 1:02}-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:00"
        mapping = ImageMapping(
            data_key=drawn.randbytes(32),
            image_sha256=drawn.randbytes(32),
            image_size=_SMALL,
            segment_count=1,
            segment_size=4 << 20,
            k=K,
            n=N,
            recipe_digest=drawn.randbytes(32),
            name=f"IMG_{number:07}.JPG",
            media_type="image/jpeg",
            width=4000,
            height=3000,
            thumbnail=drawn.randbytes(thumbnail) if thumbnail else None,
            stored_at=1_600_000_000 + drawn.randrange(100_000_000),
            facts=Facts(taken_at=taken, camera="Maker Model 7"),
        )
        yield mapping, drawn.randbytes(16)


# --- devices that hold nothing


class Device:
    """Says that it holds one share of everything in a vault; answers DESCRIBE alone."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, broker: BrokerAddress, share: int
    ) -> None:
        self.socket = make_dealer(context, pair, broker.public_key)
        self.socket.connect(broker.endpoint(Role.WORKER))
        self._share = share
        self._registered = False
        self._next = 0.0
        self._vault = Vault(b"", [])
        self._epoch = secrets.token_bytes(16)
        self._pages: list[list[Made]] = []
        self._under_way = 0  # pages that the broker did not answer
        self._sealed: dict[bytes, bytes] = {}

    def hold(self, vault: Vault) -> None:
        """Announce what this vault has, unless that was announced before."""
        new = vault.images[len(self._vault.images) :]
        self._vault = vault
        self._sealed.update((each.encoding_id, each.sealed) for each in new)
        if self._registered:
            self._announce(new)

    def _announce(self, images: Sequence[Made]) -> None:
        self._pages += list(chunks(images, _PAGE)) or [[]]

    def tick(self, now: float) -> None:
        while self._pages and self._registered and self._under_way < UNDER_WAY:
            self._send_page()
        if now < self._next:
            return
        self._next = now + 1.0
        if self._registered:
            self._state(Operation.REPORT, Report(0, 0, len(self._vault.images)))
        else:
            self._state(Operation.REGISTER, Register(PROTOCOL_VERSION, 0, 0, 0, epoch=self._epoch))

    def _send_page(self) -> None:
        page = self._pages.pop(0)
        self._under_way += 1
        owner = self._vault.owner
        size = -(-(_SMALL + 16) // K // 32) * 32
        shares = [AnnouncedShare(m.encoding_id, self._share, m.object_id, owner, K, N, size) for m in page]
        told = len(self._vault.images) - sum(map(len, self._pages))
        self._state(Operation.ANNOUNCE, Announce(not self._pages, self._epoch, told), pack(shares))

    def _state(self, operation: Operation, header: Message, payload: bytes = b"") -> None:
        envelope = Envelope(Kind.REQUEST, operation, secrets.token_bytes(16))
        try:
            self.socket.send_multipart([envelope.encode(), pack_header(header), payload], zmq.NOBLOCK)
        except zmq.Again:
            self._registered = False  # the broker is away

    def read(self) -> None:
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            envelope = decode_envelope(frames[0])
            if envelope.kind is Kind.REQUEST:
                self._answer(envelope, frames[1])
            elif envelope.kind is Kind.REPLY:
                registered = unpack_header(frames[1], Registered)
                answer, known = registered.answer, registered.known
                self._under_way -= envelope.operation is Operation.ANNOUNCE and self._under_way > 0
                if answer.code is Code.NO_SESSION and self._registered:
                    self._registered, self._next = False, 0.0
                if envelope.operation is Operation.REGISTER and answer.granted:
                    self._registered, self._pages, self._under_way = True, [], 0
                    came_before = known is not None and known.epoch == self._epoch
                    self._announce(self._vault.images[known.sequence if known and came_before else 0 :])

    def _answer(self, envelope: Envelope, header: bytes) -> None:
        if envelope.operation is Operation.DESCRIBE:
            found = [self._sealed.get(name.encoding_id, b"") for name in unpack_header(header, Describe).shares]
            fits, left = [], envelope.credit
            for sealed in found:
                answer = GRANTED if sealed else Answer(Code.NOT_FOUND)
                if len(sealed) > left:
                    answer, sealed = Answer(Code.BUSY), b""
                left -= len(sealed)
                fits.append((answer, sealed))
            parts = [(answer, len(sealed), 0) for answer, sealed in fits]
            reply: Message = Described(GRANTED, parts)
            payload = b"".join(sealed for _, sealed in fits)
        else:
            reply, payload = Acknowledged(Answer(Code.FAULT, "this device only pretends")), b""
        self.socket.send_multipart([envelope.reply().encode(), pack_header(reply), payload], zmq.NOBLOCK)


@commands.command("devices", hidden=True)
def devices(folder: Path) -> None:
    """Pretend to be devices that hold what `folder/vault` says, until killed."""
    pairs = [KeyPair.from_secret(bytes.fromhex(line)) for line in (folder / "keys").read_text().split()]
    host, client_port, worker_port, public_key = (folder / "broker").read_text().split()
    broker = BrokerAddress(host, int(client_port), int(worker_port), bytes.fromhex(public_key))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pretended = [Device(context, pair, broker, share) for share, pair in enumerate(pairs)]
    poller = zmq.Poller()
    for device in pretended:
        poller.register(device.socket, zmq.POLLIN)
    read: Optional[int] = None
    while True:
        busy = bool(poller.poll(50))
        status = (folder / "vault").stat()
        if status.st_ino != read and not busy:
            read = status.st_ino
            vault = msgspec.msgpack.decode((folder / "vault").read_bytes(), type=Vault)
            for device in pretended:
                device.hold(vault)
        for device in pretended:
            device.read()
            device.tick(time.monotonic())


class Pretenders:
    """These devices in a process of their own."""

    def __init__(self, folder: Path, cluster: LocalCluster, owner: bytes) -> None:
        self._folder = folder
        self._vault = Vault(owner, [])
        folder.mkdir()
        pairs = []
        for number in range(N):
            invite, pair = decode_invite(cluster.invite("worker")), KeyPair.generate()
            join(invite, Role.WORKER, f"pretender-{number}", pair)
            pairs.append(pair)
        broker = invite.brokers[0]
        (folder / "keys").write_text("\n".join(pair.secret.hex() for pair in pairs))
        (folder / "broker").write_text(
            f"{broker.host} {broker.client_port} {broker.worker_port} {broker.public_key.hex()}"
        )

    def hold(self, images: Sequence[Made]) -> None:
        self._vault.images.extend(images)
        written = self._folder / "vault.new"
        written.write_bytes(msgspec.msgpack.encode(self._vault))
        written.rename(self._folder / "vault")

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.listing", "devices", os.fspath(self._folder)]
        self._process = subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent)

    def wait_known(self, cluster: LocalCluster) -> float:
        """Seconds until the broker knows all."""
        started = time.monotonic()
        while True:
            told = [each["shares"] for each in cluster.status()["devices"] if each["name"].startswith("pretender-")]
            if len(told) == N and min(told) >= len(self._vault.images):
                return time.monotonic() - started
            if time.monotonic() - started > _DEADLINE:
                raise UnreachableError(f"the broker knows {told} of {len(self._vault.images)} after {_DEADLINE:.0f} s")
            time.sleep(0.2)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


# --- measuring


class Listed(msgspec.Struct):
    """A command's times in seconds; `lines`: how many it printed."""

    first: float
    whole: float
    lines: int
    processor: float


def listed(environment: Mapping[str, str], *arguments: str) -> Listed:
    """Run the consumer, reading its lines as they come."""
    started = time.monotonic()
    before = os.times()
    process = subprocess.Popen(
        program_command("consumer", *arguments),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    first, lines = 0.0, 0
    for _ in process.stdout:
        first = first or time.monotonic() - started
        lines += 1
    said = process.stderr.read().decode()
    code = process.wait()
    whole = time.monotonic() - started
    after = os.times()
    if code:
        raise TesseraError(f"consumer.py ended with {code}: {said}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Listed(first, whole, lines, used)


class Scene(NamedTuple):
    cluster: LocalCluster
    pretenders: Pretenders
    key: VaultKey
    photo: str  # the SHA-256 of what is stored


@contextmanager
def many_images(place: Path, count: int, thumbnail: int) -> Iterator[Scene]:
    """A cluster with so many images that are not stored, and one that is."""
    with LocalCluster(place / "cluster", workers=3, base_port=find_base_port(1)) as cluster:
        photo = place / "photo.jpg"
        photo.write_bytes(random.Random(7).randbytes(300_000))
        stored = cluster.run("producer", "--json", str(photo))
        require_success("producer", stored)
        sha256 = json.loads(stored.stdout.splitlines()[0])["sha256"]
        home = Path(cluster.environment["TESSERA_HOME"])
        key = VaultFolder(home).unlock(cluster.environment["TESSERA_PASSPHRASE"])
        pretenders = Pretenders(place / "pretenders", cluster, key.owner_id())
        warn(f"making {count:,} mappings")
        pretenders.hold(list(make_images(key, count, thumbnail)))
        pretenders.start()
        try:
            warn(f"the broker knows all after {pretenders.wait_known(cluster):.1f} s")
            yield Scene(cluster, pretenders, key, sha256)
        finally:
            pretenders.stop()


def new_machine(cluster: LocalCluster, name: str) -> dict[str, str]:
    """Another client with the key file of the vault alone."""
    environment = cluster.add_client(name, None)
    (Path(environment["TESSERA_HOME"]) / "vault").mkdir()
    shutil.copy(
        Path(cluster.environment["TESSERA_HOME"]) / "vault" / "vault.key", Path(environment["TESSERA_HOME"]) / "vault"
    )
    return {**environment, "TESSERA_PASSPHRASE": cluster.environment["TESSERA_PASSPHRASE"]}


@commands.command("measure")
def measure(
    images: int = typer.Option(100_000, help="How many images."),
    thumbnail: int = typer.Option(0, help="Bytes of each one's thumbnail."),
    runs: int = typer.Option(3, help="How often a known machine lists."),
    keep: Optional[Path] = typer.Option(None, help="Keep the cluster running there until Enter is pressed."),
) -> None:
    """Print a table in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    with tempfile.TemporaryDirectory(prefix="tessera-listing-") as scratch:
        place = keep or Path(scratch)
        place.mkdir(exist_ok=True)
        with many_images(place, images, thumbnail) as (cluster, pretenders, key, sha256):
            environment = new_machine(cluster, "another")
            print("| | first line s | whole s | lines | processor s |\n|---|---|---|---|---|")
            _show("new machine", listed(environment, "--list"))
            for _ in range(runs):
                _show("known machine", listed(environment, "--list"))
            _show("known machine, JSON", listed(environment, "--list", "--json"))
            pretenders.hold(list(make_images(key, 1, thumbnail, images)))
            pretenders.wait_known(cluster)
            _show("one more", listed(environment, "--list"))
            for number in range(runs):
                _show("find", listed(environment, "--hash", sha256[:8], "--output", str(place / f"got {number}")))
            if keep is not None:
                print(
                    " ".join(f"{name}={value}" for name, value in environment.items() if name.startswith("TESSERA_")),
                    flush=True,
                )
                input()
            cluster.kill_broker()
            cluster.start_broker()
            warn(f"the new broker knows all after {pretenders.wait_known(cluster):.1f} s")
            _show("new broker", listed(environment, "--list"))
            pid = cluster.broker_pid()
            assert pid is not None
            warn(f"broker: {peak_memory(pid) / 2**20:.0f} MiB, {processor_seconds(pid):.1f} s of processor")


@commands.command("find")
def find(
    images: int = typer.Option(1_000_000, help="How many rows the index has."),
    runs: int = typer.Option(5, help="How often the photograph is found."),
) -> None:
    """Find one image among as many as the client knows of."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="tessera-listing-") as scratch:
        place = Path(scratch)
        with many_images(place, 10, 0) as (cluster, _, key, sha256):
            environment = new_machine(cluster, "another")
            listed(environment, "--list")
            index = VaultIndex(Path(environment["TESSERA_HOME"]) / "vault", key)
            started = time.monotonic()
            for some in chunks(make_mappings(images, 0, 100), 1000):
                fill(index, key, some)
            index.close()
            size = sum(path.stat().st_size for path in index.path.parent.iterdir())
            warn(f"{images:,} rows made in {time.monotonic() - started:.0f} s: {size / 2**20:,.0f} MiB")
            print("| | first line s | whole s | lines | processor s |\n|---|---|---|---|---|")
            for number in range(runs):
                _show("find", listed(environment, "--hash", sha256[:8], "--output", str(place / f"got {number}")))


@commands.command("survey")
def survey(images: int = typer.Option(100_000, help="How many images.")) -> None:
    """Print how many encodings a second are assessed of which none is whole."""
    with (
        tempfile.TemporaryDirectory(prefix="tessera-listing-") as scratch,
        many_images(Path(scratch), images, 0) as (cluster, pretenders, _, _),
    ):
        _wait_for_whole(cluster, lambda whole: whole >= images)
        pretenders.stop()
        left = _wait_for_whole(cluster, lambda whole: whole < images)
        started = time.monotonic()
        rest = _wait_for_whole(cluster, lambda whole: whole < min(100, images))
        seconds = time.monotonic() - started
        print(f"{(left - rest) / seconds:,.0f} encodings a second, {left - rest:,} in {seconds:.1f} s")


def _wait_for_whole(cluster: LocalCluster, fits: Callable[[int], bool]) -> int:
    """How many images are whole, as soon as that fits."""
    end = time.monotonic() + _DEADLINE
    while not fits(whole := int(cluster.status()["objects"]["whole"])):
        if time.monotonic() > end:
            raise TesseraError(f"{whole:,} images are whole after {_DEADLINE:.0f} s")
    return whole


def fill(index: VaultIndex, key: VaultKey, images: Sequence[tuple[ImageMapping, bytes]]) -> None:
    """Have a client's index know images that nobody holds, as `make_mappings` makes them."""
    shares = [ShareAt(share, bytes([share]) * 16, True, True) for share in range(N)]
    encodings = [EncodingAt(own_object_id(key, mapping), name, K, N, _SMALL, shares) for mapping, name in images]
    index.apply({each.object_id: [each] for each in encodings})
    index.learn([Learned(e.object_id, e.encoding_id, b"", m) for e, (m, _) in zip(encodings, images)])


def _show(what: str, cost: Listed) -> None:
    print(f"| {what} | {cost.first:.2f} | {cost.whole:.2f} | {cost.lines:,} | {cost.processor:.2f} |", flush=True)


def main() -> NoReturn:
    run(commands, "bench.listing")


if __name__ == "__main__":
    main()
