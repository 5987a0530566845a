"""What holds for all tests."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

_OF_WHOLE_PROGRAMS = ("cluster", "desktop", "faults", "hostile")  # folders of tests that start many


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Have programs start as forks, but for tests that are about how they start, or what passphrases cost."""
    with ExitStack() as stack:
        if item.path.parent.name in _OF_WHOLE_PROGRAMS and not item.get_closest_marker("real_starts"):
            # Only here: unit tests import no more of the programs than they are about.
            from tests.support.forked_programs import quick_starts

            stack.enter_context(quick_starts())
        yield


def pytest_collection_finish() -> None:
    """Look for garbage more rarely, and never among what was collected as tests: that took a twelfth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_configure() -> None:
    """Hear Ctrl-C and SIGHUP, and have the programs under test hear them, also behind a shell's `&` or `nohup`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_IGN:
        signal.signal(hang_up, signal.SIG_DFL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
