"""What administration tells, as its command line prints it."""

from __future__ import annotations

import pytest

from admin.events import DeviceFailed
from admin.printer import AdminPrinter


def test_a_device_that_failed_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with AdminPrinter("deleting") as printer:
        printer(DeviceFailed("attic", "no answer\x1b from it"))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "attic: no answer\N{REPLACEMENT CHARACTER} from it\n")
