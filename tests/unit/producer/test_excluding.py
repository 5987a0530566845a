"""What is excluded by patterns is not stored: as git ignores, below each argument."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from common.errors import NotFoundError, UsageError
from producer.events import LeftOut
from producer.excluding import Excluded, as_pattern, read_patterns
from producer.sources import Choice, FolderFound, Found, LinkFound, Source, find_all, find_sources

FILES = (
    *("a.jpg", "a.tmp", "keep.tmp", "#a.jpg#", "build/x", "sub/build/x", "sub/a.tmp", "sub/deep/keep.tmp", "sub/b.jpg"),
    *("docs/a.txt", "docs/keep/a.txt", "sub/docs/a.txt", "space name/a", "trailing ", "[x].jpg", "x.jpg", "été/a.jpg"),
)
PATTERNS = [
    ["*.tmp"],
    ["*.tmp", "!keep.tmp"],
    ["build/"],
    ["/build"],
    ["/sub/*", "!/sub/deep/"],
    ["docs/*", "!docs/keep"],
    ["docs", "!docs/keep/"],
    ["**/docs/a.txt"],
    ["sub/**/keep.tmp"],
    ["sub/**"],
    ["*", "!*/", "!*.jpg"],
    ["*", "!*.jpg"],
    ["deep", "!/sub/"],
    ["*.tmp", "!/sub/", "!deep/*"],
    ["**/", "!docs/"],
    ["/", "!/", "*.jpg"],
    ["# a remark", "", "  ", "\\#a*"],
    ["trailing\\ "],
    ["trailing   "],
    ["[ab].jpg", "\\[x\\].jpg"],
    ["?.jpg"],
    ["été/"],
    ["space name"],
]


def make(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"x")


def stored(arguments: list[str], patterns: list[str]) -> set[str]:
    """The paths of files that are to be stored, the same with and without a snapshot."""
    excluded = Excluded(patterns)
    with_snapshot = wanted(find_all(arguments, "", Choice(excluded=excluded)))
    assert wanted(find_sources(arguments, "", Choice(excluded=excluded))) == with_snapshot
    return with_snapshot


def wanted(found: Iterable[Found]) -> set[str]:
    return {each.shown.replace(os.sep, "/") for each in found if isinstance(each, Source) and each.outcome is None}


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
@pytest.mark.skipif(sys.platform == "win32", reason="its file systems take other names")
def test_patterns_exclude_what_git_ignores(here: Path) -> None:
    make(*(f"in/{path}" for path in FILES))
    subprocess.run(["git", "init", "-q", "in"], check=True)  # noqa: S607
    shutil.move("in/.git", "git")  # which git's listing passes over, and a put does not
    git = ["git", "--git-dir=git", "--work-tree=in", "-c", "core.quotePath=false"]
    for patterns in PATTERNS:
        Path("patterns").write_text("\n".join(patterns), encoding="utf-8")
        listing = subprocess.run(
            [*git, "ls-files", "-z", "--others", "--exclude-from=patterns"], check=True, capture_output=True, cwd=here
        ).stdout
        ours = {path.removeprefix("in/") for path in stored(["in"], read_patterns(Path("patterns")))}
        assert ours == set(filter(None, listing.decode().split("\0"))), patterns


def test_a_pattern_without_a_slash_excludes_an_argument_too(here: Path) -> None:
    make("build/build/x", "build/y", "a.tmp", "b.jpg")
    assert stored(["build", "a.tmp", "b.jpg"], ["build", "*.tmp"]) == {"b.jpg"}
    assert stored(["build", "a.tmp"], ["/build", "/a.tmp"]) == {"build/y", "a.tmp"}


def test_what_is_excluded_is_told_without_being_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("in/a.jpg", "in/cache/b.jpg")
    scandir = os.scandir

    def refusing(path: str) -> object:
        assert not path.endswith("cache")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list(find_all(["in"], "", Choice(excluded=Excluded(["cache"]))))
    left_out = [each for each in found if isinstance(each, Source) and each.left_out is not None]
    assert [(each.shown, each.left_out) for each in left_out] == [(os.path.join("in", "cache"), LeftOut.EXCLUDED)]
    assert [each.shown for each in found if isinstance(each, FolderFound)] == ["in"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_a_link_to_a_folder_is_no_folder_to_a_pattern(here: Path) -> None:
    make("in/a.jpg")
    (here / "in" / "link").symlink_to(here, target_is_directory=True)

    def links(*patterns: str) -> list[str]:
        found = find_all(["in"], "", Choice(excluded=Excluded(patterns)))
        return [os.fsdecode(each.entry.name) for each in found if isinstance(each, LinkFound)]

    assert links("link/") == ["link"]
    assert links("link") == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_of_any_bytes_are_excluded_by_a_file_of_such_bytes(here: Path) -> None:
    os.mkdir("in")
    for name in (b"a\xff", b"b\xff", b"c\nd"):
        Path(os.fsdecode(b"in/" + name)).write_bytes(b"x")
    Path("patterns").write_bytes(b"\xef\xbb\xbfa\xff\r\nc?d\n")
    assert stored(["in"], read_patterns(Path("patterns"))) == {os.fsdecode(b"in/b\xff")}


def test_a_number_sign_begins_a_remark_in_a_file_only(here: Path) -> None:
    make("in/#a#", "in/b")
    Path("patterns").write_text("#a#\n")
    assert stored(["in"], read_patterns(Path("patterns"))) == {"in/#a#", "in/b"}
    assert stored(["in"], [as_pattern("#a#")]) == {"in/b"}


@pytest.mark.parametrize("pattern", ["!", "a\\", "[z-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="excluded"):
        Excluded(["*.tmp", pattern])


def test_a_file_of_patterns_that_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file: patterns"):
        read_patterns(Path("patterns"))
