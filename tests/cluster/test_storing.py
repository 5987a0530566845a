"""Storing as a user does it: what is printed, what is recognised, what is sent, what is refused to be lost."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.local import CHECKOUT, LocalCluster
from tests.support.devices import held_shares
from tests.support.programs import User, files_below, random_bytes, sha256_of
from tests.support.sample_headers import HEADERS

SAMPLES = sorted(path for path in (CHECKOUT / "samples").iterdir() if path.is_file())
SHA256SUM = shutil.which("sha256sum")
PHOTOGRAPHS = {"astronaut.png": (512, 512), "chelsea.png": (451, 300), "rocket.jpg": (640, 427)}
JSON_FIELDS = {"sha256", "path", "bytes", "k", "n", "devices", "already_stored", "degraded", "seconds"}


def sample(name: str) -> Path:
    return CHECKOUT / "samples" / name


def test_all_samples_come_out_as_they_went_in(user: User) -> None:
    stored = user.store(str(CHECKOUT / "samples"))
    assert {Path(image["path"]) for image in stored} == set(SAMPLES)
    hashes = [image["sha256"] for image in stored]
    assert user.restore(*hashes, output=user.folder / "out").exit_code == 0
    for path in SAMPLES:
        assert (user.folder / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.skipif(SHA256SUM is None, reason="needs sha256sum")
def test_sha256sum_accepts_what_is_printed(user: User) -> None:
    for name in ("plain.bin", "back\\slash", "line\nend", " two  spaces"):
        (user.folder / name).write_bytes(random_bytes(100))
    ended = user.run("producer", *(str(path) for path in files_below(user.folder)))
    assert ended.exit_code == 0, ended
    assert len(ended.lines) == 4
    check = subprocess.run([str(SHA256SUM), "-c", "--strict"], input=ended.stdout, capture_output=True, check=False)
    assert check.returncode == 0, (check, ended.stdout)
    assert check.stdout.count(b": OK") == 4


def test_json_says_all_that_is_to_be_said(cluster: LocalCluster, user: User) -> None:
    path = str(sample("chelsea.png"))
    (stored,) = user.store(path)
    assert set(stored) >= JSON_FIELDS
    assert stored["sha256"] == sha256_of(Path(path).read_bytes())
    assert (stored["path"], stored["bytes"]) == (path, Path(path).stat().st_size)
    assert (stored["k"], stored["n"]) == (4, 6)
    assert sorted(stored["devices"]) == cluster.devices
    assert stored["already_stored"] is False
    assert stored["degraded"] is False
    assert stored["seconds"] > 0


def test_the_list_has_hash_name_size_and_pixels(user: User) -> None:
    user.store(*(str(sample(name)) for name in PHOTOGRAPHS))
    listed = {image["name"]: image for image in user.listed()}
    assert set(listed) == set(PHOTOGRAPHS)
    for name, (width, height) in PHOTOGRAPHS.items():
        content = sample(name).read_bytes()
        image = listed[name]
        assert (image["sha256"], image["bytes"]) == (sha256_of(content), len(content))
        assert (image["width"], image["height"]) == (width, height)


def test_the_list_for_people_has_a_line_for_each_image(user: User) -> None:
    user.store(str(sample("rocket.jpg")))
    (line,) = user.run("consumer", "--list").lines
    for part in (sha256_of(sample("rocket.jpg").read_bytes()), "rocket.jpg", "112525", "640", "427"):
        assert part in line


@pytest.mark.parametrize("size", [3000, 6_000_000], ids=["one segment", "two segments"])
def test_the_same_image_again_is_recognised_and_sent_nowhere(cluster: LocalCluster, user: User, size: int) -> None:
    path = user.folder / "first.bin"
    path.write_bytes(random_bytes(size))
    (first,) = user.store(str(path))
    before = held_shares(cluster)
    (again,) = user.store(str(path))
    assert again["already_stored"] is True
    assert [again[key] for key in ("sha256", "bytes", "k", "n", "devices", "degraded")] == [
        first[key] for key in ("sha256", "bytes", "k", "n", "devices", "degraded")
    ]
    (user.folder / "other name.bin").write_bytes(path.read_bytes())
    (renamed,) = user.store(str(user.folder / "other name.bin"))
    assert (renamed["already_stored"], renamed["sha256"]) == (True, first["sha256"])
    (streamed,) = user.run("producer", "-", "--json", stdin=path.read_bytes()).objects
    assert (streamed["already_stored"], streamed["sha256"]) == (True, first["sha256"])
    assert held_shares(cluster) == before


def test_twins_in_one_run_are_stored_once(cluster: LocalCluster, user: User) -> None:
    content = random_bytes(5000)
    for name in ("a.bin", "b.bin", "c.bin"):
        (user.folder / name).write_bytes(content)
    before = held_shares(cluster)
    stored = user.store(str(user.folder))
    assert sorted(Path(image["path"]).name for image in stored) == ["a.bin", "b.bin", "c.bin"]
    assert sorted(image["already_stored"] for image in stored) == [False, True, True]
    assert len(held_shares(cluster) - before) == 6


def test_a_changed_file_is_stored_anew(owner: User) -> None:
    path = owner.folder / "changing.bin"
    path.write_bytes(random_bytes(500))
    (first,) = owner.store(str(path))
    path.write_bytes(random_bytes(500))
    (second,) = owner.store(str(path))
    assert second["already_stored"] is False
    assert second["sha256"] != first["sha256"]


def test_folders_are_walked(user: User) -> None:
    contents = {}
    for place in ("photos/2023/a.bin", "photos/2024/deep/er/b.bin", "photos/c.bin"):
        path = user.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(700))
        contents[str(path)] = sha256_of(path.read_bytes())
    (user.folder / "photos" / "empty").mkdir()
    stored = user.store(str(user.folder / "photos"))
    assert {image["path"]: image["sha256"] for image in stored} == contents


@pytest.mark.parametrize("size", [5000, 5_000_000])
def test_stdin_is_stored_under_the_name_given(user: User, size: int) -> None:
    content = random_bytes(size)
    ended = user.run("producer", "-", "--name", "from a pipe.raw", "--json", stdin=content)
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert (stored["sha256"], stored["bytes"]) == (sha256_of(content), size)
    assert [image["name"] for image in user.listed()] == ["from a pipe.raw"]
    assert user.run("consumer", "--hash", stored["sha256"]).exit_code == 0
    assert (user.folder / "from a pipe.raw").read_bytes() == content


@pytest.mark.parametrize(("k", "n"), [(2, 3), (3, 5)])
def test_k_and_n_override_the_choice(cluster: LocalCluster, owner: User, k: int, n: int) -> None:
    before = held_shares(cluster)
    content = random_bytes(20_000)
    stored = owner.store_bytes(content, "-k", str(k), "-n", str(n))
    assert (stored["k"], stored["n"], len(set(stored["devices"]))) == (k, n, n)
    assert len(held_shares(cluster) - before) == n
    assert owner.restore(stored["sha256"], output=owner.folder / "out").exit_code == 0
    assert (owner.folder / "out").read_bytes() == content


@pytest.mark.parametrize("options", [("-k", "5", "-n", "4"), ("-k", "1", "-n", "3"), ("-k", "0", "-n", "3")])
def test_an_impossible_k_and_n_is_a_usage_error(user: User, options: tuple[str, ...]) -> None:
    ended = user.run("producer", *options, str(sample("rocket.jpg")))
    assert ended.exit_code == 2, ended
    assert user.listed() == []


def test_more_shares_than_devices_are_refused(owner: User) -> None:
    ended = owner.run("producer", "-k", "4", "-n", "7", str(sample("rocket.jpg")))
    assert ended.exit_code == 5, ended
    assert "7" in ended.stderr
    assert "6" in ended.stderr


@pytest.mark.parametrize("size", [900, 9_000_000], ids=["one segment", "three segments"])
def test_a_file_that_is_no_image_is_stored_too_and_said_so(user: User, size: int) -> None:
    path = user.folder / "thesis.txt"
    path.write_bytes(b"w" * size)
    ended = user.run("producer", "thesis.txt", "--json")
    assert ended.exit_code == 0, ended
    assert "thesis.txt: no image" in ended.stderr
    assert "stored all the same" in ended.stderr
    assert user.restore(ended.objects[0]["sha256"], output=user.folder / "out").exit_code == 0
    assert (user.folder / "out").read_bytes() == path.read_bytes()


def test_images_only_skips_what_is_no_image_and_leaves_nothing_of_it(cluster: LocalCluster, user: User) -> None:
    shutil.copy(sample("chelsea.png"), user.folder / "cat.png")
    (user.folder / "cat.png.xmp").write_bytes(random_bytes(800))
    (user.folder / "notes.txt").write_bytes(random_bytes(900))
    (user.folder / "long.txt").write_bytes(random_bytes(9_000_000))
    before = held_shares(cluster)
    ended = user.run("producer", "--images-only", "--json", str(user.folder))
    assert ended.exit_code == 0, ended
    assert sorted(Path(image["path"]).name for image in ended.stored) == ["cat.png", "cat.png.xmp"]
    skipped = {Path(each["path"]).name: each["reason"] for each in ended.objects if each["state"] == "skipped"}
    assert skipped == dict.fromkeys(("notes.txt", "long.txt"), "no image that Tessera knows")
    for name in skipped:
        assert f"{name}: no image that Tessera knows; skipped" in ended.stderr
    assert "2 stored, 2 skipped (no image that Tessera knows: 2), 0 failed" in ended.stderr
    reasons = {"no image that Tessera knows": 2}
    assert ended.objects[-1] == {"state": "counted", "stored": 2, "skipped": reasons, "failed": 0}
    assert len(held_shares(cluster) - before) == 12
    assert sorted(image["name"] for image in user.listed()) == ["cat.png", "cat.png.xmp"]


def test_where_images_only_are_wanted_an_argument_that_has_none_is_no_success(user: User) -> None:
    (user.folder / "papers").mkdir()
    (user.folder / "papers" / "notes.txt").write_bytes(random_bytes(900))
    shutil.copy(sample("chelsea.png"), user.folder / "cat.png")
    ended = user.run("producer", "--images-only", "papers", "cat.png")
    assert ended.exit_code == 10, ended
    assert [line.split()[1] for line in ended.lines] == ["cat.png"]
    assert "papers: nothing of it was stored" in ended.stderr


def test_an_image_is_not_called_no_image(owner: User) -> None:
    ended = owner.run("producer", *(str(path) for path in SAMPLES if path.suffix in (".png", ".jpg", ".gif")))
    assert ended.exit_code == 0, ended
    assert "no image" not in ended.stderr


def test_three_hundred_small_files_come_out_as_they_went_in(user: User) -> None:
    contents = {}
    for index in range(300):
        path = user.folder / "many" / f"{index:03}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random_bytes(100 + 37 * index))
        contents[path.name] = path.read_bytes()
    assert len(user.store(str(user.folder / "many"))) == 300
    assert user.run("consumer", "--all", "--output", str(user.folder / "out")).exit_code == 0
    assert {path.name: path.read_bytes() for path in files_below(user.folder / "out")} == contents


def test_what_an_image_tells_of_itself_is_listed_and_selects_what_comes_back(user: User) -> None:
    name = "IMG_1.MOV"
    (user.folder / name).write_bytes(HEADERS["MOV"][0])
    (user.folder / "IMG_1.CR3").write_bytes(HEADERS["CR3"][0])
    shutil.copy(sample("chelsea.png"), user.folder / "cat.png")
    user.store(name, "IMG_1.CR3", "cat.png")
    listed = {image["name"]: image for image in user.listed()}
    assert [listed["IMG_1.CR3"][fact] for fact in ("taken_at", "camera", "orientation", "latitude", "longitude")] == [
        *("2019-07-14T18:03:22+02:00", "Canon EOS R5", 6, -33.856667, 151.215)
    ]
    assert listed["cat.png"]["taken_at"] is None
    ended = user.run("consumer", "--list", "--taken", "2019-07")
    assert sorted(line.split()[-1] for line in ended.lines) == ["IMG_1.CR3", name]
    assert all("2019-07-14 18:03" in line for line in ended.lines)
    assert "2 of 3 images are so; do not tell when they were taken: 1" in ended.stderr
    taken = ("--taken", "..2019", "--name", "*.CR3", "--output", str(user.folder / "out"))
    assert user.run("consumer", "--all", *taken).exit_code == 0
    again = user.run("consumer", "--all", "--taken", "2020", "--output", str(user.folder / "none"))
    assert again.exit_code == 3
    assert "not restored, since they do not tell when they were taken: 1" in again.stderr
    assert [path.name for path in (user.folder / "out").iterdir()] == ["IMG_1.CR3"]
    assert user.run("consumer", "--all", "--name", "*.gif", "--output", str(user.folder / "out")).exit_code == 3
    assert user.run("consumer", "--hash", listed[name]["sha256"], "--name", "*").exit_code == 2
