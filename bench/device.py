"""Measures one device's store with many small shares: stored, read, started again, looked through, emptied.

    python -m bench.device [--shares 100000] [--bytes 2600] [--into FOLDER]

Shares come as small puts bring them, 32 in a message, each message durable before it is answered; one process, no
network. `--bytes` is the size of a share's block. Each start is a process of its own, so that its memory can be told.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.metering import peak_memory
from common.chunks import chunks
from common.coding.recipe import Recipe, digest
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack_header
from common.protocol.device_messages import Commitment, SignedCommitment, Store, Stored, WholeShare
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import encoding_id
from common.vault.keys import VaultKey
from worker.service import Request, Service
from worker.store import ShareStore

KEY = VaultKey(bytes(range(32)))
ROUND = 32  # shares
READS = 20_000
MIB = 1 << 20


def shares(count: int, size: int) -> Iterator[list[tuple[WholeShare, bytes, SignedCommitment]]]:
    """So many shares of chance, by rounds; the same each time."""
    drawn = random.Random(1)
    noise, others = drawn.randbytes(1 << 20), drawn.randbytes(6 * 32)
    for some in chunks(range(count), ROUND):
        made = []
        for number in some:
            nonce = number.to_bytes(16, "big")
            start = number * 4099 % (len(noise) - size)
            block = noise[start : start + size]
            digests = others[:32] + digest(block) + others[64:]
            recipe = Recipe(encoding_id(KEY.owner_key(), nonce), 4, 6, size, size, digests)
            made.append((recipe, block, Commitment(nonce * 2, KEY.owner_id(), recipe.encode(), noise[:300], nonce)))
        signed = KEY.signing_key().commit([commitment for _, _, commitment in made])
        yield [
            (WholeShare(recipe.encoding_id, 1, 4, 6, len(block), len(pack(said))), block, said)
            for (recipe, block, _), said in zip(made, signed)
        ]


def store_all(folder: Path, count: int, size: int) -> float:
    """Store them; the seconds that it took the device."""
    store = ShareStore(folder)
    service, numbers, took = Service(store), itertools.count(), 0.0
    for some in shares(count, size):
        header = pack_header(Store([share for share, _, _ in some]))
        payload = b"".join(piece for _, block, said in some for piece in (block, pack(said)))
        number = next(numbers).to_bytes(16, "big")
        envelope = Envelope(Kind.REQUEST, Operation.STORE, number, bytes(16), MAX_PAYLOAD, KEY.owner_id())
        started = time.perf_counter()
        service.handle(Request(1, envelope, memoryview(header), memoryview(payload)), 0.0)
        (answered,) = service.finish_round()
        store.changes()
        took += time.perf_counter() - started
        answers = unpack_header(answered.header, Stored).shares
        if not all(answer.granted for answer in answers):
            raise SystemExit(f"not stored: {answers[0].text}")
    store.close()
    return took


def start(folder: Path, count: int) -> None:
    """Open the store and say how long that took, what memory it needs, and how quickly shares are read."""
    started = time.perf_counter()
    store = ShareStore(folder)
    took = time.perf_counter() - started
    if store.count() != count:
        raise SystemExit(f"{store.count()} shares are there, and {count} should be")
    memory = peak_memory(os.getpid()) / MIB
    drawn = random.Random(2)
    owner_key, owner = KEY.owner_key(), KEY.owner_id()
    keys = [(encoding_id(owner_key, drawn.randrange(count).to_bytes(16, "big")), 1) for _ in range(READS)]
    started = time.perf_counter()
    for key in keys:
        store.share(key, owner)
        store.block(key, owner, 0)
    reads = READS / (time.perf_counter() - started)
    started = time.perf_counter()
    announced = sum(len(page) for page in store.pages())
    paging = time.perf_counter() - started
    print(f"  start {took:.2f} s, {memory:.0f} MiB after it; {reads:,.0f} reads/s in any order", end="; ")
    print(f"{announced:,} shares to be announced in {paging:.1f} s; {peak_memory(os.getpid()) / MIB:.0f} MiB at most")
    store.close()


def delete_half(folder: Path, count: int) -> None:
    """Delete every other share for good, and give their room back."""
    store = ShareStore(folder)
    before, started = _bytes_in(folder / "packs"), time.perf_counter()
    for number in range(0, count, 2):
        nonce = number.to_bytes(16, "big")
        word = KEY.tombstone(nonce * 2, encoding_id(KEY.owner_key(), nonce), 1, 0)
        store.delete(word, KEY.owner_id())
        store.changes()
    took = time.perf_counter() - started
    started, now = time.perf_counter(), 0.0
    while store.compaction.due_in(now) == 0.0:
        store.compaction.turn(now)
    compacting = time.perf_counter() - started
    after = _bytes_in(folder / "packs")
    print(
        f"half deleted: {count / 2 / took:,.0f} deletions/s; packs {before / MIB:.0f} → {after / MIB:.0f} MiB", end=""
    )
    print(f" in {compacting:.1f} s")
    store.close()


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _in_a_process(folder: Path, count: int) -> None:
    command = [sys.executable, "-m", "bench.device", "--shares", str(count), "--start", str(folder)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=2600)
    parser.add_argument("--into", type=Path, help="where the store is made (the system's temporary folder)")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.start is not None:
        start(said.start, said.shares)
        return
    with tempfile.TemporaryDirectory(dir=said.into) as place:
        folder = Path(place) / "store"
        took = store_all(folder, said.shares, said.bytes)
        files = [path for path in folder.rglob("*") if path.is_file()]
        print(f"{said.shares:,} shares: stored {said.shares / took:,.0f}/s; {len(files)} files", end="; ")
        index = sum(path.stat().st_size for path in folder.glob("index.sqlite*"))
        print(f"packs {_bytes_in(folder / 'packs') / MIB:,.0f} MiB, index {index / MIB:,.0f} MiB")
        print("as it was left:")
        _in_a_process(folder, said.shares)
        for path in folder.glob("index.sqlite*"):
            path.unlink()
        print("without its index:")
        _in_a_process(folder, said.shares)
        delete_half(folder, said.shares)


if __name__ == "__main__":
    main()
