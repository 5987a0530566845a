"""What a put and a get must at least cost: each primitive alone, on one core, in processor nanoseconds per byte."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import zmq
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.report import GET, ONE_PHOTO, PUT, TESSERA, Run, grouped
from bench.workloads import MIB
from cluster.ports import HOST, find_base_port
from common.erasure import ErasureCode
from common.membership.identity import KeyPair

K, N = 4, 6
_ROUNDS = 5
_HOP_MESSAGES = 128  # of 1 MiB


@dataclass(frozen=True)
class Roofline:
    """Nanoseconds of processor time per byte that each primitive is given."""

    sha256: float
    blake3: float
    seal: float
    encode: float  # per byte of the image
    decode: float
    copy: float
    hop: float  # sender, ROUTER and receiver together
    hop_curve: float
    write: float  # to a file, with its fsync

    @property
    def put(self) -> float:
        """Per image byte: hash, seal, encode, and for n / k of it: digest at both ends, one hop, one write."""
        return self.sha256 + self.seal + self.encode + N / K * (2 * self.blake3 + self.hop_curve + self.write)

    @property
    def get(self) -> float:
        """Per image byte: one hop, digest at both ends, open, hash, write; the devices' reading is a copy."""
        return self.hop_curve + 2 * self.blake3 + self.copy + self.seal + self.sha256 + self.copy

    def table(self, runs: Sequence[Run]) -> str:
        """Markdown: the primitives, and how the largest workload's puts and gets compare with their sum."""
        lines = ["| primitive | ns per byte | GB/s on one core |", "|---|---|---|"]
        lines += [f"| {name} | {value:.2f} | {1 / value:.1f} |" for name, value in self.as_json().items()]
        lines += ["", "| | at least ns/B | measured ns/B | × |", "|---|---|---|---|"]
        for (workload, what, _), group in grouped([run for run in runs if run.contender == TESSERA]).items():
            least = {PUT: self.put, GET: self.get}.get(what)
            if least is None or workload == ONE_PHOTO:
                continue
            costs = [r.measured.command.processor + sum(r.measured.behind.values()) for r in group]
            paid = statistics.median(costs) / group[0].size * 1e9
            lines.append(f"| {workload}, {what} | {least:.1f} | {paid:.1f} | {paid / least:.2f} |")
        return "\n".join(lines)

    def as_json(self) -> dict[str, float]:
        return {
            "SHA-256": self.sha256,
            "BLAKE3-256": self.blake3,
            "AES-256-GCM, into a buffer": self.seal,
            f"erasure code {K} of {N}, encode": self.encode,
            f"erasure code {K} of {N}, worst decode": self.decode,
            "copy": self.copy,
            "one ROUTER hop, 1 MiB messages": self.hop,
            "one ROUTER hop, 1 MiB messages, CURVE": self.hop_curve,
            "write to a file, fsync": self.write,
        }


def measure_roofline(place: Path) -> Roofline:
    """`place`: a folder where the stores are."""
    segment = np.random.default_rng(1).integers(0, 256, K * MIB, np.uint8)
    out = np.empty(K * MIB + 16, np.uint8)
    cipher, nonce = AESGCM(bytes(32)), bytes(12)
    code = ErasureCode(K, N)
    blocks = [segment[i * MIB : (i + 1) * MIB] for i in range(K)]
    parity = [np.empty(MIB, np.uint8) for _ in range(N - K)]
    code.encode(blocks, parity)
    present = {index: block for index, block in enumerate([*blocks, *parity]) if index >= N - K}
    rebuilt = {index: np.empty(MIB, np.uint8) for index in range(N - K)}
    size = segment.nbytes
    return Roofline(
        sha256=_cost(lambda: hashlib.sha256(segment.data).digest(), size),
        blake3=_cost(lambda: blake3(segment.data).digest(), size),
        seal=_cost(lambda: cipher.encrypt_into(nonce, segment.data, None, out.data), size),
        encode=_cost(lambda: code.encode(blocks, parity), size),
        decode=_cost(lambda: code.rebuild(present, rebuilt), size),
        copy=_cost(lambda: np.copyto(out[:size], segment), size),
        hop=_hop(secured=False),
        hop_curve=_hop(secured=True),
        write=_cost(lambda: _write(place / "written", segment), size),
    )


def _cost(action: Callable[[], object], size: int) -> float:
    """Processor nanoseconds per byte, the median of some rounds; the first does not count."""
    costs = []
    for _ in range(_ROUNDS + 1):
        before = time.process_time()
        repeats = 8
        for _ in range(repeats):
            action()
        costs.append((time.process_time() - before) / repeats / size * 1e9)
    return statistics.median(costs[1:])


def _write(path: Path, content: Any) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hop(*, secured: bool) -> float:
    """DEALER → ROUTER → DEALER over loopback, in one process, all its threads counted."""
    server, clients = KeyPair.generate(), [KeyPair.generate(), KeyPair.generate()]
    port, block = find_base_port(1), bytes(MIB)
    with zmq.Context(io_threads=2) as context:
        router = context.socket(zmq.ROUTER)
        ends = [context.socket(zmq.DEALER) for _ in clients]
        if secured:
            router.curve_server, router.curve_secretkey = 1, zmq.utils.z85.encode(server.secret)
        router.bind(f"tcp://{HOST}:{port}")
        for end, pair in zip(ends, clients):
            if secured:
                end.curve_serverkey = zmq.utils.z85.encode(server.public)
                end.curve_publickey, end.curve_secretkey = map(zmq.utils.z85.encode, (pair.public, pair.secret))
            end.connect(f"tcp://{HOST}:{port}")
        ends[1].send(b"here")
        there = router.recv_multipart()[0]
        costs = []
        for _ in range(_ROUNDS):
            before = time.process_time()
            for _ in range(_HOP_MESSAGES):
                ends[0].send(block, copy=False)
                frames = router.recv_multipart(copy=False)
                router.send_multipart([there, frames[1]], copy=False)
                ends[1].recv(copy=False)
            costs.append((time.process_time() - before) / _HOP_MESSAGES / MIB * 1e9)
        for socket in (router, *ends):
            socket.close(linger=0)
    return statistics.median(costs)
