"""The viewer: whatever an image does to the process that looks at it costs its thumbnail and nothing else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.process.progress import Printer
from common.vault.mapping import MAX_THUMBNAIL
from tests import ROOT
from tests.support.bombs import BOMBS
from viewer.limits import MAX_MEMORY
from viewer.messages import MAX_ANSWER, MAX_READ, Read, Ready, Seen, ViewerError, decode_message
from viewer.picture import Picture
from viewer.process import COMMAND, Viewer

SAMPLE = ROOT / "samples" / "rocket.jpg"
JPEG = SAMPLE.read_bytes()
BY_SIGNATURE = Picture("image/jpeg")
ONLY_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPEAKING = """
import os, signal, struct, sys, time
def say(content):
    os.write(1, struct.pack(">I", len(content)) + content)
say({ready!r})
"""
READY = msgspec.msgpack.encode(Ready())


def saying(*answers: bytes, then: str = "sys.stdin.buffer.read()") -> list[str]:
    """A viewer that says so much at once, and then does something."""
    lines = "\n".join(f"say({answer!r})" for answer in answers)
    return [sys.executable, "-c", SPEAKING.format(ready=READY) + lines + "\n" + then]


def answer(**fields: object) -> bytes:
    return msgspec.msgpack.encode(Seen(**fields))  # type: ignore[arg-type]  # as somebody would who breaks the rules


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    made = Viewer()
    yield made
    made.close()


def seen_by(command: list[str], timeout: float = 60.0, content: bytes = JPEG) -> Picture:
    viewer = Viewer(command, timeout)
    try:
        return viewer.look_at(content)
    finally:
        viewer.close()


# --- hostile images


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_its_thumbnail_and_nothing_else(name: str, viewer: Viewer) -> None:
    make, media_type = BOMBS[name]
    picture = viewer.look_at(make())
    assert (picture.media_type, picture.thumbnail) == (media_type, None)
    assert viewer.look_at(SAMPLE).thumbnail is not None, "the next image is looked at"


@ONLY_LINUX
def test_a_bomb_that_no_header_tells_of_meets_the_memory_limit(viewer: Viewer) -> None:
    viewer.look_at(SAMPLE)
    before = _peak(viewer)
    viewer.look_at(BOMBS["icon with a PNG"][0]())
    assert before < MAX_MEMORY // 2
    assert MAX_MEMORY // 2 < _peak(viewer) <= MAX_MEMORY


def _peak(viewer: Viewer) -> int:
    """The largest address space that the viewer's process had, in bytes."""
    status = Path(f"/proc/{_pid(viewer)}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) * 1024


def _pid(viewer: Viewer) -> int:
    assert viewer.pid is not None
    return viewer.pid


# --- a viewer that was taken over, or hangs, or dies


def test_a_decoder_that_hangs_is_ended_by_the_deadline() -> None:
    began = time.monotonic()
    assert seen_by(saying(then="time.sleep(3600)"), timeout=0.5) == BY_SIGNATURE
    assert time.monotonic() - began < 30


def test_a_viewer_that_takes_nothing_it_asked_for_is_ended_by_the_deadline() -> None:
    asking = msgspec.msgpack.encode(Read(0, MAX_READ))
    command = saying(asking, then="time.sleep(3600)")
    assert seen_by(command, timeout=0.5, content=JPEG + bytes(MAX_READ)) == BY_SIGNATURE


def test_a_viewer_that_asks_for_ever_is_ended_by_the_deadline() -> None:
    asking = msgspec.msgpack.encode(Read(0, 1))
    command = saying(then=f"while True: say({asking!r}); os.read(0, 4096)")
    assert seen_by(command, timeout=0.5) == BY_SIGNATURE


@ONLY_POSIX
def test_a_viewer_that_crashes_costs_a_thumbnail_and_the_next_image_gets_another(tmp_path: Path) -> None:
    """The first of these dies by SIGSEGV when it is asked; all others are what they should be."""
    been = tmp_path / "been"
    crash = "os.read(0, 100); os.kill(os.getpid(), signal.SIGSEGV)"
    first = f"open({str(been)!r}, 'w').close()\n" + SPEAKING.format(ready=READY) + crash
    code = f"import os, runpy\nif not os.path.exists({str(been)!r}): exec({first!r})"
    code += "\nrunpy.run_module('viewer', run_name='__main__')"
    viewer = Viewer([sys.executable, "-c", code])
    try:
        assert viewer.look_at(JPEG) == BY_SIGNATURE
        assert viewer.look_at(JPEG).thumbnail is not None
    finally:
        viewer.close()


THUMBNAIL = b"RIFF\x10\0\0\0WEBPVP8 "
GOOD = {"media_type": "image/jpeg", "width": 640, "height": 427, "thumbnail": THUMBNAIL}


def test_an_answer_that_keeps_the_rules_is_believed() -> None:
    assert seen_by(saying(answer(**GOOD))) == Picture("image/jpeg", 640, 427, THUMBNAIL)


@pytest.mark.parametrize(
    "change",
    [{"media_type": "JPEG"}, {"media_type": "text/html"}, {"media_type": None}, {"width": 0}, {"height": 2**31}],
)
def test_an_answer_that_is_none_is_not_believed(change: dict[str, object]) -> None:
    assert seen_by(saying(answer(**{**GOOD, **change}))) == BY_SIGNATURE


@pytest.mark.parametrize("thumbnail", [b"", b"<svg>", THUMBNAIL + bytes(MAX_THUMBNAIL)])
def test_a_thumbnail_that_is_too_long_or_no_webp_is_left_out(thumbnail: bytes) -> None:
    picture = seen_by(saying(answer(**{**GOOD, "thumbnail": thumbnail})))
    assert picture == Picture("image/jpeg", 640, 427)


@pytest.mark.parametrize(
    "said",
    [b"", b"\xc1", b"\x91" * 1000, READY, bytes(MAX_ANSWER + 1), msgspec.msgpack.encode(["seen", 1, 2, 3, 4])],
)
def test_whatever_else_a_viewer_says_ends_it(said: bytes) -> None:
    assert seen_by(saying(said)) == BY_SIGNATURE


def test_a_frame_that_claims_gibibytes_is_not_waited_for() -> None:
    assert seen_by(saying(then="os.write(1, b'\\x7f\\xff\\xff\\xff'); sys.stdin.buffer.read()")) == BY_SIGNATURE


@given(st.binary(max_size=200))
def test_what_a_viewer_says_is_one_of_its_messages_or_refused(frame: bytes) -> None:
    with contextlib.suppress(ViewerError):
        assert isinstance(decode_message(frame), (Ready, Read, Seen))


def test_a_viewer_that_does_not_start_is_told_of_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    viewer = Viewer([str(tmp_path / "there is no such program")], emit=Printer("storing"))
    assert [viewer.look_at(JPEG) for _ in range(5)] == [BY_SIGNATURE] * 5
    viewer.close()
    assert capsys.readouterr().err.count("images are stored without thumbnails") == 1


def test_a_viewer_that_ends_at_once_is_not_started_for_ever(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    viewer = Viewer([sys.executable, "-c", f"open({str(starts)!r}, 'a').write('1')"])
    assert [viewer.look_at(JPEG) for _ in range(5)] == [BY_SIGNATURE] * 5
    viewer.close()
    assert starts.read_text() == "11"


def test_closed_it_starts_nothing_more() -> None:
    viewer = Viewer()
    viewer.close()
    assert viewer.look_at(JPEG) == BY_SIGNATURE
    assert viewer.pid is None


# --- what the process has, and has not


@ONLY_POSIX
@pytest.mark.parametrize(
    "attempt",
    [
        f"bytearray({MAX_MEMORY})",
        "os.open('/etc/passwd', os.O_RDONLY)",
        "socket.socket()",
        "os.write(2, b'to a file')",
    ],
)
def test_what_looking_needs_not_is_denied(attempt: str, tmp_path: Path) -> None:
    """Done twice: before the limits, to see that it can be done, and behind them."""
    code = f"""
import os, signal, socket
from viewer.limits import confine
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{attempt}
os.closerange(3, 100)
confine()
try:
    {attempt}
except (OSError, MemoryError):
    os.write(1, b"denied")
"""
    with (tmp_path / "file").open("wb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=file, timeout=60, check=True)
    assert done.stdout == b"denied"


@ONLY_POSIX
def test_its_processor_time_ends_even_where_nobody_is_left_to_end_it() -> None:
    code = "from viewer.limits import allow_seconds\nallow_seconds(0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode < 0


@ONLY_LINUX
def test_it_has_no_secret_in_its_environment_and_no_handle_but_its_pipes(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "nobody else's business")
    monkeypatch.setenv("SOME_TOKEN", "nobody else's business")
    with SAMPLE.open("rb") as open_in_the_parent:
        os.set_inheritable(open_in_the_parent.fileno(), True)
        viewer.look_at(SAMPLE)
    process = Path(f"/proc/{_pid(viewer)}")
    environment = (process / "environ").read_bytes()
    assert b"TESSERA" not in environment
    assert b"nobody else's business" not in environment
    assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
    assert b"key" not in (process / "cmdline").read_bytes()


def test_it_ends_when_the_producer_is_gone() -> None:
    process = subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_what_stores_images_imports_no_decoder() -> None:
    """Nor does anything that it imports later: the import rules hold that; this holds what is loaded at once."""
    code = "import sys, producer.command, producer.run; print([m for m in sys.modules if m.partition('.')[0] == 'PIL'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=True)
    assert done.stdout.strip() == b"[]"


def test_one_process_looks_at_many_images(viewer: Viewer) -> None:
    viewer.look_at(SAMPLE)
    first = _pid(viewer)
    for _ in range(50):
        assert viewer.look_at(JPEG).thumbnail is not None
    assert _pid(viewer) == first


@pytest.mark.parametrize("content", [b"", b"plain text", bytes(4096), b"%PDF-1.7 and so on"])
def test_what_cannot_be_an_image_by_its_first_bytes_costs_no_question(content: bytes) -> None:
    viewer = Viewer((sys.executable, "-c", "raise SystemExit('asked')"))
    with mock.patch.object(viewer, "_ask", side_effect=AssertionError("asked")):
        assert viewer.look_at(content) == Picture()
    viewer.close()
