"""Proof 9: a folder comes back exactly as it was, and as it was before.

Promised: what was stored with a snapshot is restored with every name, type, mode, time, link and attribute, with n - k
devices gone; `rsync` and a walk of the tests' own find no difference. Where not all is restored, the exit code says so.
Of a folder that changed little little is sent, an unchanged one costs seconds, and a snapshot next to nothing. Where
the target takes other names, every file is there all the same, and each name that is another is said.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from hypothesis import HealthCheck, Phase, given, seed, settings

from common.errors import NoRoomError, NotEnoughError
from tests.soak.ground import SoakCluster, new_cluster, new_user
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.generated_trees import Folder, described, folders, make
from tests.support.programs import Ended, files_below, sha256_of

FOUR_OF_SIX = ("-k", "4", "-n", "6")
PARITY = 6 / 4  # bytes that devices store for a byte of an image
PATIENCE = 3600.0  # seconds
A_RUN = 50  # trees
DAYS = 30
SENT = 1.2  # bytes for a byte that changed
UNCHANGED = 3.0  # seconds of a processor for 10,000 files
RATE = 0.95  # of what it is without snapshots
SMALL = 1000  # files


class Folders:
    """Somebody who stores folders with snapshots, on a cluster of six devices."""

    def __init__(self, cluster: SoakCluster, name: str) -> None:
        self.cluster = cluster
        self.user = new_user(cluster, name, snapshots=True)
        self.user.patience = PATIENCE

    def put(self, folder: Path, *options: str) -> Ended:
        ended = self.user.run("producer", *FOUR_OF_SIX, *options, str(folder))
        assert ended.exit_code == 0, ended
        return ended

    def restore(self, wanted: str = "latest", *options: str) -> Path:
        """All of a snapshot, in a folder that was not there."""
        out = self.user.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        ended = self.user.run("consumer", "--snapshot", wanted, *options, "--output", str(out))
        assert ended.exit_code == 0, ended
        return out

    def require_same(self, folder: Path, *options: str) -> int:
        """The newest snapshot gives the folder back as it is now; how many files are in it."""
        out = self.restore("latest", *options) / folder.name
        rsync = ["rsync", "-rlptHX", "--checksum", "--delete", "-n", "-i", f"{folder}/", f"{out}/"]
        differences = subprocess.run(rsync, capture_output=True, check=True).stdout
        assert not differences, differences[:4000]
        assert described(out) == described(folder)
        count = files_in(folder)
        assert files_in(out) == count
        shutil.rmtree(out.parent)
        return count

    def stored_bytes(self) -> int:
        """What is on all devices' disks of shares."""
        kept = [self.cluster.directory / name / part for name in self.cluster.devices for part in ("packs", "shares")]
        return sum(path.stat().st_size for part in kept for path in files_below(part))


@contextmanager
def six_devices(terms: Terms) -> Iterator[Folders]:
    with new_cluster(terms.folder, 6) as cluster:
        yield Folders(cluster, "user")


def with_rsync(prove: Callable[[Terms], Figures]) -> Callable[[Terms], Figures]:
    """A proof that is skipped, and says so, where there is no rsync."""

    def skipping(terms: Terms) -> Figures:
        return {"skipped": "there is no rsync here"} if shutil.which("rsync") is None else prove(terms)

    return skipping


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(os.fsencode(folder)))


def generated(number: int, drawn: int) -> list[Folder]:
    """So many folders as the unit tests' strategy makes them up, by a seed."""
    found: list[Folder] = []

    @seed(drawn)
    @settings(
        max_examples=number, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=[*HealthCheck]
    )
    @given(folders())
    def collect(folder: Folder) -> None:
        found.append(folder)

    collect()
    return found[:number]


@with_rsync
def generated_folders(terms: Terms) -> Figures:
    """Put and restore folders that are made up, many in each run; at last with too few devices to restore them."""
    made = files = 0
    with six_devices(terms) as person:
        trees = generated(terms.goal(1000), terms.seed)
        for start in range(0, len(trees), A_RUN):
            if made and not terms.time_left:
                break
            folder = person.user.folder / f"in-{start}"
            folder.mkdir()
            for number, tree in enumerate(trees[start : start + A_RUN]):
                make(tree, os.fsencode(folder / str(number)))
                made += 1
            person.put(folder, "--label", folder.name)
            files += person.require_same(folder, "--label", folder.name)
        person.cluster.kill_devices(1, 2, 3)
        out = person.user.folder / "too few"
        ended = person.user.run("consumer", "--snapshot", "latest", "--output", str(out))
        assert ended.exit_code == NotEnoughError.exit_code, ended
    return {"folders made up": made, "files in": files, "files out": files, "differences": 0}


# --- what people have


def make_zarr(folder: Path, terms: Terms, chunks: int) -> None:
    """A store of so many chunks in ten arrays; a third of them are the same, as where an array is empty."""
    for array in range(10):
        here = folder / f"{array}"
        here.mkdir(parents=True)
        (here / ".zarray").write_text(f'{{"zarr_format": 2, "chunks": [64, 64], "shape": [{64 * chunks}, 64]}}')
        for number in range(chunks // 10):
            size = terms.random.randint(100, 1000)
            content = bytes(512) if number % 3 == 0 else terms.random.randbytes(size)
            (here / f"{number // 40}.{number % 40}").write_bytes(content)


def make_study(folder: Path, terms: Terms, files: int) -> None:
    """A study of so many files in series of 100, none of which has an ending."""
    for number in range(files):
        here = folder / f"1.2.840.{number // 100}"
        here.mkdir(parents=True, exist_ok=True)
        (here / f"IM{number:06}").write_bytes(bytes(128) + b"DICM" + terms.random.randbytes(3000))


def make_pairs(folder: Path, terms: Terms, pairs: int) -> None:
    """So many pairs of equal names in different folders, every other with equal contents too."""
    for number in range(pairs):
        content = terms.random.randbytes(2000)
        for year, name in ((2018, f"IMG_{number:04}.JPG"), (2019, f"IMG_{number:04}.JPG")):
            here = folder / str(year)
            here.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(content if number % 2 else content + year.to_bytes(2, "big"))


@with_rsync
def archives(terms: Terms) -> Figures:
    """A Zarr store, a study and equal names in different folders, restored with two of six devices killed."""
    with six_devices(terms) as person:
        folder = person.user.folder / "archive"
        make_zarr(folder / "store.zarr", terms, terms.goal(20_000))
        make_study(folder / "study", terms, terms.goal(2000))
        make_pairs(folder / "pairs", terms, terms.goal(500))
        put = person.put(folder)
        person.cluster.kill_devices(*terms.random.sample(range(1, 7), 2))
        files = person.require_same(folder)
    return {"files in": files, "files out": files, "differences": 0, "put s": round(put.seconds, 1)}


# --- from day to day


def make_album(folder: Path, terms: Terms, files: int, small: int, large: int) -> list[Path]:
    """So many files, 100 in a folder, each of `small` to `large` bytes."""
    paths = [folder / f"{number // 100:03}" / f"IMG_{number:05}.JPG" for number in range(files)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(terms.random.randbytes(terms.random.randint(small, large)))
    return paths


@with_rsync
def versions(terms: Terms) -> Figures:
    """A folder of which one file in a hundred changes from day to day, and which then is left alone.

    What was sent is what the devices' disks grew by, without the parity: every byte of shares and bookkeeping.
    """
    with six_devices(terms) as person:
        folder = person.user.folder / "album"
        paths = make_album(folder, terms, terms.goal(10_000), 16 << 10, 240 << 10)
        person.put(folder)
        (first,) = person.user.run("consumer", "--snapshots", "--json").objects
        originals = {path: sha256_of(path.read_bytes()) for path in paths}
        before, changed, days = person.stored_bytes(), 0, 1
        while days < DAYS and (terms.time_left or days < 2):
            for path in terms.random.sample(paths, max(1, len(paths) // 100)):
                content = terms.random.randbytes(path.stat().st_size)
                path.write_bytes(content)
                changed += len(content)
            person.put(folder)
            days += 1
        sent = (person.stored_bytes() - before) / PARITY
        assert sent <= SENT * changed, f"{sent:.0f} bytes for {changed} that changed"
        again = [person.put(folder) for _ in range(3)]
        own = min(ended.processor_seconds for ended in again)
        assert own <= UNCHANGED * len(paths) / 10_000, f"{own:.2f} s of a processor"
        person.require_same(folder)
        out = person.restore(first["id"])
        for path, sha256 in originals.items():
            assert sha256_of((out / path.relative_to(folder.parent)).read_bytes()) == sha256
    return {
        "versions": days,
        "files": len(paths),
        "changed bytes": changed,
        "sent for each": round(sent / changed, 3),
        "unchanged s": round(min(ended.seconds for ended in again), 2),
        "unchanged s of a processor": round(own, 2),
    }


def rates(terms: Terms) -> Figures:
    """Puts and gets of small files, with a snapshot and without, in turn; files a second, medians.

    The ratios are of all rounds together: by the clock, and of the client's processor time.
    """
    ended: dict[tuple[str, bool], list[Ended]] = {(what, way): [] for what in ("put", "get") for way in (False, True)}
    rounds = 0
    with new_cluster(terms.folder, 6) as cluster:
        while rounds < terms.goal(20) and (terms.time_left or rounds < 3):
            turns = (rounds % 2 == 0, rounds % 2 == 1)
            for snapshot in turns:
                person = Folders(cluster, f"user-{rounds}-{snapshot}")  # with an empty vault
                folder = person.user.folder / "small"
                make_album(folder, terms, SMALL, 10 << 10, 10 << 10)
                put = person.put(folder, *(() if snapshot else ("--no-snapshot",)))
                ended["put", snapshot].append(put)
                if snapshot:  # the same files both ways
                    for by_snapshot in (*turns, *reversed(turns)):
                        ended["get", by_snapshot].append(get_again(person, put, snapshot=by_snapshot))
            rounds += 1
    figures: Figures = {"rounds": rounds}
    for what in ("put", "get"):
        without, with_it = ended[what, False], ended[what, True]
        figures[f"{what} files/s with"] = round(SMALL / statistics.median(each.seconds for each in with_it))
        figures[f"{what} files/s without"] = round(SMALL / statistics.median(each.seconds for each in without))
        figures[f"{what} ratio"] = round(sum(e.seconds for e in without) / sum(e.seconds for e in with_it), 3)
        own = sum(e.processor_seconds for e in without), sum(e.processor_seconds for e in with_it)
        figures[f"{what} processor ratio"] = round(own[0] / own[1], 3)
    assert min(float(figures["put ratio"]), float(figures["get ratio"])) >= RATE, figures
    return figures


def get_again(person: Folders, put: Ended, *, snapshot: bool) -> Ended:
    """Restore what was put, as a snapshot or by hashes."""
    if snapshot:
        wanted, hashes = ("--snapshot", "latest"), b""
    else:
        wanted, hashes = ("--hash", "-"), put.stdout
    out = person.user.folder / "out"
    ended = person.user.run("consumer", *wanted, "--output", str(out), stdin=hashes)
    assert ended.exit_code == 0, ended
    assert files_in(out) == SMALL
    shutil.rmtree(out)
    return ended


# --- other file systems


class FileSystem(NamedTuple):
    """One on a loop device: how it is made and mounted. Each puts upper and lower case on one path."""

    name: str
    make: Sequence[str]
    mount: Sequence[str]
    after: Sequence[str] = ()


ELSEWHERE = [
    FileSystem("vfat", ("mkfs.vfat",), ("mount", "-t", "vfat", "-o", "utf8")),
    FileSystem("exfat", ("mkfs.exfat",), ("mount", "-t", "exfat")),
    FileSystem("exfat by fuse", ("mkfs.exfat",), ("mount.exfat-fuse",)),
    FileSystem(
        "ext4 that folds case", ("mkfs.ext4", "-q", "-O", "casefold"), ("mount", "-t", "ext4"), ("chattr", "+F")
    ),
]


@contextmanager
def mounted(system: FileSystem, here: Path) -> Iterator[Optional[Path]]:
    """A folder on a new file system; None where this machine has none of that kind."""
    here.mkdir()
    image, point = here / "image", here / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    with ExitStack() as stack:
        device = _said("losetup", "-f", "--show", str(image))
        if device is not None:
            stack.callback(_said, "losetup", "-d", device)
        if device is None or _said(*system.make, device) is None or _said(*system.mount, device, str(point)) is None:
            yield None
            return
        stack.callback(_said, "umount", str(point))
        folder = point / "restored"
        folder.mkdir()
        yield folder if not system.after or _said(*system.after, str(folder)) is not None else None


def _said(*command: str) -> Optional[str]:
    """What a command printed; None where it failed, or there is none."""
    try:
        return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


HARD = [
    b"a/IMG_7.JPG",
    b"a/img_7.jpg",
    b"a/Img_7.Jpg",
    b"A/IMG_7.JPG",
    b"b/stra\xc3\x9fe",
    b"b/STRASSE",
    b"b/\xc3\xa9.png",
    b"b/\xc3\x89.PNG",
    b"b/e\xcc\x81.png",
    b"b/2019:07?.jpg",
    b"b/ends in a dot.",
    b"b/ends in a space ",
    b"b/back\\slash",
    b"b/new\nline",
    b"b/\xff\xfe.png",
    b"b/NUL",
    b"b/" + b"x" * 255,
    b"c.jpg",
    b"C.JPG",
]


def make_hard(folder: Path, terms: Terms) -> dict[bytes, bytes]:
    """Files whose names another file system refuses, or takes for one; path → content, no two of them equal."""
    contents = {}
    for path in HARD:
        contents[path] = terms.random.randbytes(terms.random.randint(1, 3000))
        at = os.path.join(os.fsencode(folder), path)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "wb") as file:
            file.write(contents[path])
    return contents


def contents_in(folder: Path) -> dict[bytes, bytes]:
    """Path → content."""
    top = os.fsencode(folder)
    found = {}
    for here, _, names in os.walk(top):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def other_file_systems(terms: Terms) -> Figures:
    """Restore names that clash or are refused on file systems that do so: every file is there, each other name said."""
    figures: Figures = {}
    with six_devices(terms) as person:
        folder = person.user.folder / "hard"
        wanted = make_hard(folder, terms)
        person.put(folder)
        for number, system in enumerate(ELSEWHERE):
            with mounted(system, terms.folder / f"elsewhere-{number}") as target:
                figures[system.name] = "none here" if target is None else restored_elsewhere(person, wanted, target)
    return figures


def restored_elsewhere(person: Folders, wanted: dict[bytes, bytes], target: Path) -> str:
    ended = person.user.run("consumer", "--snapshot", "latest", "--output", str(target))
    found = contents_in(target / "hard")
    assert Counter(found.values()) == Counter(wanted.values()), ended
    paths = {content: path for path, content in found.items()}
    mended = {each for path, content in wanted.items() for each in renamed(path, paths[content])}
    said = sum(": is restored as " in line for line in ended.stderr.splitlines())
    assert said == len(mended), (said, sorted(mended), ended)
    assert ended.exit_code == (NoRoomError.exit_code if said else 0), ended
    again = person.user.run("consumer", "--snapshot", "latest", "--output", str(target))
    assert contents_in(target / "hard") == found, again
    return f"{len(found)} files of {len(wanted)}, {said} names mended and said"


def renamed(path: bytes, other: bytes) -> Iterator[bytes]:
    """The file and the folders above it that have another name in the other path."""
    names, others = path.split(b"/"), other.split(b"/")
    assert len(names) == len(others), (path, other)
    for depth, (name, here) in enumerate(zip(names, others), 1):
        if name != here:
            yield b"/".join(names[:depth])


PARTS = [
    Part("generated folders", generated_folders, 4),
    Part("archives", archives, 2),
    Part("versions", versions, 4),
    Part("rates with snapshots", rates, 2),
    Part("other file systems", other_file_systems, 1),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 9: folders and snapshots."))
