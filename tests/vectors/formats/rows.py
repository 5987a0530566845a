"""What rows are made of."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

# As docs/operations.md promises them; common/errors.py is not asked.
EXIT_CODES = {
    "TesseraError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "IntegrityError": 4,
    "UnknownVersionError": 4,
    "ProtocolError": 4,
    "NotEnoughError": 5,
    "RefusedError": 6,
}


def good(kind: str, name: str, data: bytes, **inputs: Any) -> Row:
    """A row that must pass."""
    return {"kind": kind, "name": name, "bytes_hex": data.hex(), "inputs": _shown(inputs), "expect": "ok"}


def bad(kind: str, name: str, data: bytes, error: str, words: str, **inputs: Any) -> Row:
    """A row that must fail: with an error of just this class, whose message has these words."""
    expected = {"error": error, "exit_code": EXIT_CODES[error], "words": words}
    return {**good(kind, name, data, **inputs), "expect": expected}


def _shown(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in inputs.items()}
