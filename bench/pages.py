"""What the app knows of a vault of many images, without a window: python -m bench.pages

A client's index has that many rows, of images that nobody holds. Another process reads what the gallery does: the order
of all, the first time and again; pages of tiles; all that have some digits in their name, date or SHA-256. Memory is
the most that that process had more than before.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from bench.listing import fill, make_mappings
from bench.metering import peak_memory
from common.chunks import chunks
from common.process.program import application, run, warn
from common.vault.dates import Numbers
from common.vault.index import VaultIndex
from common.vault.keys import VaultKey
from desktop.model.entries import Search
from desktop.model.images import Rows, read_order
from desktop.model.shown import PAGE

commands = application("Measure what the app's gallery knows of many images.")
_PAGES = 200
_DIGITS = "7654"


@commands.command()
def pages(images: int = typer.Option(1_000_000, min=1000, help="How many rows the index has.")) -> None:
    """Print a table in Markdown."""
    key = VaultKey.generate()
    with tempfile.TemporaryDirectory(prefix="tessera-pages-") as scratch:
        index = VaultIndex(Path(scratch), key)
        for some in chunks(make_mappings(images, 0), 1000):
            fill(index, key, some)
        index.close()
        warn(f"{images:,} rows made")
        child = multiprocessing.get_context("spawn").Process(target=_measure, args=(Path(scratch), key.reveal()))
        child.start()
        child.join()
    raise SystemExit(child.exitcode)


def _measure(folder: Path, key: bytes) -> None:
    index = VaultIndex(folder, VaultKey(key))
    before = peak_memory(os.getpid())
    print("| | s | of the processor |\n|---|---|---|")
    with _timed("put in order, the first time"):
        order = read_order(index)
    with _timed("the same again"):
        order = read_order(index)
    rows, alive = Rows(index, frozenset([bytes(16)])), len(order.numbers)
    drawn = random.Random(1)
    with _timed(f"{_PAGES} pages of {PAGE}, in any order"):
        for _ in range(_PAGES):
            start = drawn.randrange(alive)
            rows.read(order.numbers[start : start + PAGE].tolist())
    with _timed(f"all with {_DIGITS} in their name, date or SHA-256"):
        found = asyncio.run(_search(rows, order.numbers))
    print(f"\n{alive:,} images, {found:,} found; {(peak_memory(os.getpid()) - before) / 2**20:.0f} MiB", flush=True)


async def _search(rows: Rows, numbers: Numbers) -> int:
    return sum([len(some) async for some in rows.search(Search(_DIGITS), numbers, time.time())])


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began, processor = time.monotonic(), time.process_time()
    yield
    print(f"| {what} | {time.monotonic() - began:.2f} | {time.process_time() - processor:.2f} |", flush=True)


def main() -> NoReturn:
    run(commands, "bench.pages")


if __name__ == "__main__":
    main()
