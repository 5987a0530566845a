"""Where a machine keeps its state: `TESSERA_HOME`, or the platform's data folder.

    config.toml              what the user set, one table a program:  [producer]  k = 4
    broker/                  the broker's CURVE key and list of members
    client/                  this client's CURVE key and the brokers it knows
    vault/                   vault key file, mappings and index: all encrypted
    store/                   a worker's store, where --store names no other folder
    services/, logs/         what the desktop app has started at login, and what that said

A worker keeps its identity inside its store, so that a disk moved to another machine is still the same device.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import msgspec
import platformdirs

from common.errors import RefusedError, UsageError
from common.files import read_limited, write_private
from common.finding.addresses import BrokerAddress, parse_host
from common.membership.identity import KEY_SIZE, KeyPair, load_key_pair
from common.text import decoded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)

_MAX_CONFIG = 1 << 20
_PROGRAMS = ("broker", "worker", "producer", "consumer", "admin", "desktop", "cluster")  # that read a config.toml


def home() -> Path:
    """This user's Tessera folder; it need not exist yet."""
    chosen = os.environ.get("TESSERA_HOME")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("tessera", appauthor=False))


def configured(program: str) -> dict[str, Any]:
    """The table of `config.toml` for a program: defaults for its options, below flags and environment."""
    path = home() / "config.toml"
    try:
        tables = tomllib.loads(decoded(read_limited(path, _MAX_CONFIG)))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f'{path}: "{name}" must be a table, or stand in one: options go below [{program}]')
        if name not in (program, *_PROGRAMS):
            raise UsageError(f"{path}: there is no program for [{name}]; there are {', '.join(_PROGRAMS)}")
    table = tables.get(program, {})
    return {name.replace("-", "_"): value for name, value in table.items()}


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
    """Read them back; UsageError where the file is not what `save_brokers` wrote."""
    try:
        known = msgspec.json.decode(read_limited(path, _MAX_CONFIG), type=list[_KnownBroker])
        if not known:
            raise ValueError("it names none")
        return [
            BrokerAddress(parse_host(b.host), b.client_port, b.worker_port, _public_key(b.public_key)) for b in known
        ]
    except (msgspec.MsgspecError, ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"{path} is not a list of brokers: {error}") from None


def _public_key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_SIZE:
        raise ValueError(f"a public key has {KEY_SIZE} bytes, this one {len(key)}")
    return key


@dataclass(frozen=True)
class ClientIdentity:
    """How this machine speaks as a client: its permanent key and the brokers that admitted it."""

    key_pair: KeyPair
    brokers: list[BrokerAddress]
    brokers_file: Optional[Path] = None  # where they are kept

    def keep(self, brokers: list[BrokerAddress]) -> None:
        """Know these brokers the next time, in this order."""
        if self.brokers_file is None:
            return
        try:
            save_brokers(self.brokers_file, brokers)
        except OSError as error:
            log.warning("%s could not be written: %s", self.brokers_file, error.strerror)


def client_identity() -> ClientIdentity:
    """This machine's client identity; RefusedError, with the way in, where it never joined a cluster."""
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
