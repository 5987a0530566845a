"""Where a machine keeps its state: `TESSERA_HOME`, or the platform's data folder.

    config.toml              what the user set, one table a program:  [producer]  k = 4
    broker/                  the broker's CURVE key and list of members
    client/                  this client's CURVE key and the brokers it knows
    vault/                   vault key file, mappings and index: all encrypted
    store/                   a worker's store, where --store names no other folder
    services/, logs/         what the desktop app has started at login, and its logs

A worker keeps its identity inside its store, so that a disk moved to another machine is still the same device.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import platformdirs

from common.errors import UsageError
from common.files import read_limited
from common.text import decoded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
