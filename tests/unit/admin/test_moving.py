"""What is said of a device that is being retired and stays on the list."""

from __future__ import annotations

import pytest

from admin.moving import _stuck
from admin.status import Status
from common.protocol.messages import GRANTED, Device, Health


def device(name: str, *, alive: bool = True, left: int = 0) -> Device:
    return Device(name.encode().ljust(16), name, alive, 0, 0, 5, retiring=name == "nas", left=left)


@pytest.mark.parametrize(
    ("left", "said", "advised"),
    [
        (2, "2 shares of nas have no other place among the 1 other devices", "add a device"),
        (0, "all 5 shares of nas are elsewhere, and it stays on the list", "connect attic"),
    ],
)
def test_it_says_why_and_what_helps(left: int, said: str, advised: str) -> None:
    nas = device("nas", left=left)
    devices = [nas, device("desk"), device("attic", alive=False)]
    error = _stuck(Status(devices, "broker", Health(GRANTED), []), nas, 5)
    assert said in str(error)
    assert advised in error.advice
