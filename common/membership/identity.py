"""A party's permanent CURVE key pair (RFC 7748 through libzmq, ZMTP 3.1 CURVE / RFC 26) and the file that keeps it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from common.errors import IntegrityError
from common.files import read_limited, write_private
from common.process.libraries import require_libzmq
from common.protocol.identifiers import device_id

KEY_SIZE = 32
_MAX_FILE = 4096


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, 32 raw bytes each; TesseraError where this machine's libzmq will not do."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        require_libzmq()
        public, secret = zmq.curve_keypair()
        return cls(z85.decode(public), z85.decode(secret))

    @classmethod
    def from_secret(cls, secret: bytes) -> KeyPair:
        require_libzmq()
        return cls(z85.decode(zmq.curve_public(z85.encode(secret))), secret)

    @property
    def device_id(self) -> bytes:
        return device_id(self.public)


def save_key_pair(path: Path, pair: KeyPair) -> None:
    """Keep a key pair in a file of mode 0600; an existing file is not replaced (FileExistsError)."""
    content = {"tessera": "curve-key", "version": 1, "secret": z85.encode(pair.secret).decode("ascii")}
    write_private(path, json.dumps(content).encode(), replace=False)


def load_key_pair(path: Path) -> KeyPair:
    """Read a key file; FileNotFoundError where there is none, IntegrityError where it is no key file."""
    content = read_limited(path, _MAX_FILE)
    try:
        fields = json.loads(content)
        if fields["tessera"] != "curve-key" or fields["version"] != 1:
            raise ValueError
        secret = z85.decode(fields["secret"].encode("ascii"))
        if len(secret) != KEY_SIZE:
            raise ValueError
        return KeyPair.from_secret(secret)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        # struct.error: z85 text whose groups of five exceed 32 bits
        raise IntegrityError(f"{path} is not a Tessera key file") from None
