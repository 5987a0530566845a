"""What the broker's catalog costs with many images: python -m bench.catalog --images 1000000

Fills a catalog as a broker does, devices announcing page after page in turns, without sockets: what is measured is the
broker's own part. Then its steward looks at all of it, and what clients ask is timed. `--folder` says where the cache
lies; what is there is found again by a second catalog, as after a restart. All times are the processor's, which other
work on the machine changes little.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NoReturn, Optional

import numpy as np
import typer

from broker.catalog import Catalog
from broker.catalog_file import CatalogFile
from broker.steward.assessment import Presence, State
from broker.steward.survey import Survey
from common.process.program import application, run
from common.protocol.codec import pack, unpack
from common.protocol.messages import MAX_ANNOUNCED, AnnouncedShare

commands = application("Measure what the broker's catalog costs.")
_OWNER = b"o" * 16
_MIB = 1 << 20
_LOOKS = 2000  # encodings of one tick, as `steward` has it
_ASKED = 200  # times that each question is asked


@commands.command()
def catalog(
    images: int = typer.Option(100_000, help="Images, each one encoding."),
    devices: int = typer.Option(6, help="Devices, of which each has a share of every image."),
    folder: Optional[Path] = typer.Option(None, help="Where the cache lies."),
) -> None:
    """Print memory, rates and times."""
    with tempfile.TemporaryDirectory(prefix="tessera-catalog-", dir=folder) as place:
        file = CatalogFile(Path(place) / "catalog.sqlite")
        ids = _ids(images)
        before = _peak()
        filled = Catalog(storage=file.open())
        seconds = _fill(filled, ids, devices)
        print(f"filled: {images * devices / seconds:,.0f} shares/s, {images * devices:,} in {seconds:.1f} s")
        _look(filled, images, devices)
        _ask(filled, ids)
        filled.commit()
        file.close()
        size = sum(each.stat().st_size for each in Path(place).iterdir())
        print(f"on disk: {size / images:,.0f} bytes an image")
        del filled
        began = time.process_time()
        again = Catalog(storage=file.open())
        print(f"restarted with its cache: {time.process_time() - began:.2f} s")
        _look(again, images, devices)
        print(f"peak memory: {_peak() / _MIB:,.0f} MiB, {before / _MIB:,.0f} before it was filled")


def _ids(images: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Encoding and object ids of chance, a row of 48 bytes an image, in the order in which devices announce."""
    return np.random.default_rng(1).integers(0, 256, (images, 48), np.uint8)


def _pages(ids: np.ndarray[tuple[int, int], np.dtype[np.uint8]], devices: int) -> Iterator[tuple[bytes, bytes]]:
    """Device ids and packed ANNOUNCEs."""
    for first in range(0, len(ids), MAX_ANNOUNCED):
        rows = [row.tobytes() for row in ids[first : first + MAX_ANNOUNCED]]
        for index in range(devices):
            shares = [AnnouncedShare(row[:16], index, row[16:], _OWNER, 4, devices, 2600) for row in rows]
            yield _device(index), pack(shares)


def _device(index: int) -> bytes:
    return bytes([index + 1]) * 16


def _fill(filled: Catalog, ids: np.ndarray[tuple[int, int], np.dtype[np.uint8]], devices: int) -> float:
    seconds = 0.0
    longest = 0.0
    for number, (device, page) in enumerate(_pages(ids, devices)):
        began = time.process_time()
        filled.announce(device, unpack(page, list[AnnouncedShare]))
        if number % 16 == 15:  # some four a second of the broker's ticks
            filled.commit()
        took = time.process_time() - began
        seconds, longest = seconds + took, max(longest, took)
    print(f"longest ANNOUNCE: {1000 * longest:,.0f} ms")
    return seconds


def _look(filled: Catalog, images: int, devices: int) -> None:
    survey = Survey(filled, 900.0, 900.0)
    began = time.process_time()
    survey.notice({_device(index): Presence.HERE for index in range(devices)})
    longest = _look_until_current(survey)
    seconds = time.process_time() - began
    whole = survey.count(State.WHOLE)
    print(f"surveyed: {images / seconds:,.0f} encodings/s, {whole:,} whole, {longest:.0f} ms at most")
    began = time.process_time()
    survey.notice({_device(index): Presence.HERE if index else Presence.AWAY for index in range(devices)})
    longest = _look_until_current(survey)
    seconds = time.process_time() - began
    print(
        f"a device went: {images / seconds:,.0f} encodings/s, {survey.count(State.WAITING):,} waiting, {longest:.0f} ms"
    )


def _look_until_current(survey: Survey) -> float:
    """As tick after tick does; the milliseconds of the longest."""
    longest = 0.0
    while not survey.current:
        began = time.process_time()
        survey.look(0.0, _LOOKS)
        longest = max(longest, time.process_time() - began)
    return 1000 * longest


def _ask(filled: Catalog, ids: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    rng = np.random.default_rng(2)

    def ones() -> bytes:
        return bytes(ids[int(rng.integers(len(ids)))])

    _time("one lookup (LOCATE)", lambda: filled.locate(_OWNER, ones()[16:], lambda _: True))
    _time("one encoding of the steward's", lambda: filled.known(ones()[:16]))
    _time("a page of LIST, 1000 objects", lambda: filled.page(_OWNER, ones()[16:], 1000, lambda _: True), 20)


def _time(what: str, asked: Callable[[], object], times: int = _ASKED) -> None:
    began = time.process_time()
    for _ in range(times):
        asked()
    print(f"{what}: {1e6 * (time.process_time() - began) / times:,.0f} us")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> NoReturn:
    run(commands, "catalog")


if __name__ == "__main__":
    main()
