"""Who a party is: its permanent CURVE key pair (RFC 7748 through libzmq, ZMTP 3.1 CURVE / RFC 26), and the brokers that
it knows; and the files that keep them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import msgspec
import zmq
from zmq.utils import z85

from common.discovery.addresses import BrokerAddress, parse_host
from common.errors import IntegrityError, RefusedError, UsageError
from common.files import read_limited, write_private
from common.home import home
from common.process.libraries import require_libzmq, require_openssl
from common.protocol.identifiers import CURVE_KEY_SIZE, LIST_MARK_SIZE, device_id

log = logging.getLogger(__name__)

_MAX_KEY_FILE = 4096
_MAX_BROKERS_FILE = 1 << 20


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, 32 raw bytes each; TesseraError as of `require_libzmq`."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        require_libzmq()
        require_openssl()
        public, secret = zmq.curve_keypair()
        return cls(z85.decode(public), z85.decode(secret))

    @classmethod
    def from_secret(cls, secret: bytes) -> KeyPair:
        require_libzmq()
        require_openssl()
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
    content = read_limited(path, _MAX_KEY_FILE)
    try:
        fields = json.loads(content)
        if fields["tessera"] != "curve-key" or fields["version"] != 1:
            raise ValueError
        secret = z85.decode(fields["secret"].encode("ascii"))
        if len(secret) != CURVE_KEY_SIZE:
            raise ValueError
        return KeyPair.from_secret(secret)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        # struct.error: z85 text whose groups of five exceed 32 bits
        raise IntegrityError(f"{path} is not a Tessera key file") from None


class _KnownBroker(msgspec.Struct):
    host: str
    client_port: int
    worker_port: int
    public_key: str


def save_brokers(path: Path, brokers: list[BrokerAddress]) -> None:
    """Keep the brokers that a worker or a client connects to."""
    known = [_KnownBroker(b.host, b.client_port, b.worker_port, b.public_key.hex()) for b in brokers]
    write_private(path, json.dumps(msgspec.to_builtins(known), indent=1).encode())


def load_brokers(path: Path) -> list[BrokerAddress]:
    """The brokers in the file; UsageError where it is not what `save_brokers` wrote."""
    try:
        known = msgspec.json.decode(read_limited(path, _MAX_BROKERS_FILE), type=list[_KnownBroker])
        if not known:
            raise ValueError("it names none")
        return [
            BrokerAddress(parse_host(b.host), b.client_port, b.worker_port, _public_key(b.public_key)) for b in known
        ]
    except (msgspec.MsgspecError, ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"{path} is not a list of brokers: {error}") from None


def marks_beside(brokers_file: Path) -> Path:
    """Where the marks of brokers are that a file names."""
    return brokers_file.with_name("list-marks.json")


class ListMarks:
    """What brokers gave this machine last for their lists of members, by their public keys.

    A broker that is shown its mark again knows by it that an old copy of its list was put back. Without them, as where
    they cannot be kept, nothing is lost but that.
    """

    def __init__(self, path: Optional[Path]) -> None:
        """`path`: the file that keeps them; None where only this object does."""
        self._path = path
        self._marks: dict[str, str] = {}
        if path is None:
            return
        with contextlib.suppress(OSError, IntegrityError, msgspec.MsgspecError, RecursionError):
            self._marks = msgspec.json.decode(read_limited(path, _MAX_BROKERS_FILE), type=dict[str, str])

    def of(self, broker: bytes) -> Optional[bytes]:
        """The mark of a broker; None where it gave none."""
        try:
            mark = bytes.fromhex(self._marks.get(broker.hex(), ""))
        except ValueError:
            return None
        return mark if len(mark) == LIST_MARK_SIZE else None

    def keep(self, broker: bytes, mark: Optional[bytes]) -> None:
        """Take up what a broker says now."""
        if mark is None or mark == self.of(broker):
            return
        self._marks[broker.hex()] = mark.hex()
        if self._path is None:
            return
        try:
            write_private(self._path, json.dumps(self._marks, indent=1).encode())
        except OSError as error:
            log.warning("%s could not be written: %s", self._path, error.strerror)


def _public_key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != CURVE_KEY_SIZE:
        raise ValueError(f"a public key has {CURVE_KEY_SIZE} bytes, this one {len(key)}")
    return key


@dataclass(frozen=True)
class ClientIdentity:
    """This machine as a client: its permanent key and the brokers that admitted it."""

    key_pair: KeyPair
    brokers: list[BrokerAddress]
    brokers_file: Optional[Path] = None  # where they are kept

    def list_marks(self) -> ListMarks:
        """What the brokers gave for their lists of members; kept beside them."""
        return ListMarks(None if self.brokers_file is None else marks_beside(self.brokers_file))

    def keep(self, brokers: list[BrokerAddress]) -> None:
        """Keep these brokers for the next run, in this order."""
        if self.brokers_file is None:
            return
        try:
            save_brokers(self.brokers_file, brokers)
        except OSError as error:
            log.warning("%s could not be written: %s", self.brokers_file, error.strerror)


def client_identity() -> ClientIdentity:
    """This machine's client identity; RefusedError, with how to join, where it never joined a cluster."""
    folder = home() / "client"
    try:
        brokers_file = folder / "brokers.json"
        return ClientIdentity(load_key_pair(folder / "client.key"), load_brokers(brokers_file), brokers_file)
    except FileNotFoundError:
        raise RefusedError(
            f"this machine was not admitted to a cluster yet (no client key in {folder})",
            advice="run `python broker/broker.py invite client` at the broker, "
            "then here: python admin/admin.py join INVITE",
        ) from None
