"""Vectors of the vault's formats, version 1, frozen: what opens today opens with every later program.

One scenario each; `expect` is "ok", or the class of the error with which it must fail. `generate.py` wrote
them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def read_vectors(kind: str) -> list[dict[str, Any]]:
    """The vectors of one kind: keys, key_file, segments or mapping. Names ending in _hex hold bytes."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="ascii"))
    return [{name: _value(name, value) for name, value in vector.items()} for vector in vectors]


def _value(name: str, value: Any) -> Any:
    return bytes.fromhex(value) if name.endswith("_hex") else value
