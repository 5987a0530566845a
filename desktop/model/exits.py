"""What a program of ours said as it ended, as the error that ended it."""

from __future__ import annotations

from typing import Optional

from common.errors import TesseraError, kind_of


def error_of(program: str, exit_code: int, said: str) -> TesseraError:
    """An exit as the error that led to it: one line says what happened, the indented one below it what to do."""
    lines = [line for line in said.splitlines() if line.strip()]
    what, advice = _last_fault(program, lines)
    return kind_of(exit_code)(what or (lines[-1] if lines else "it said nothing"), advice=advice)


def fault_at_end(program: str, log: str) -> str:
    """What a log says at its very end of why the program ended; empty where it was not by itself."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("  ")]
    return _last_fault(program, lines[-1:])[0]


def _last_fault(program: str, lines: list[str]) -> tuple[str, Optional[str]]:
    begin = f"{program}: "
    last = max((number for number, line in enumerate(lines) if line.startswith(begin)), default=None)
    if last is None:
        return "", None
    below = lines[last + 1 : last + 2]
    return lines[last][len(begin) :], below[0].strip() if below and below[0].startswith("  ") else None
