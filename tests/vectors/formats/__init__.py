"""What every parser must refuse, with the failure that each refusal must be, and some that it must pass.

One row for each: `kind` says what is read (key file, mapping, segment, recipe, share file, tombstone, envelope, header,
invite, short invite, recovery codes, list of members, CURVE key, list of brokers, contact card, mapping sealed to a
card, former vault key, tree, snapshot), `bytes_hex` what, `inputs` with what. `expect` is "ok", or the error's class,
the exit code of a program that meets it, and words that its message must have.

`generate.py` writes them, from builders that share no code with the product; tests/unit/test_refusals.py reads them. A
row may be added, none changed while its format's version stands. A new kind of thing is a module of its own
beside these, entered in `generate.py`, and a reader in the test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "vectors.json"


def read_vectors() -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="ascii"))
    return vectors
