"""Bringing an image back in the app: what is here stays here from one attempt to the next."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotEnoughError, UnreachableError
from consumer.events import Attempt, Missing, Restored
from consumer.output import HeldImage, HeldOutput
from desktop.background import Background
from desktop.model.reassemble import Phase, ReassembleModel
from desktop.model.reassembling import Reassembly
from desktop.session import Session
from tests.support.desktop_models import deliver_until
from tests.support.sample_images import Unseeing, encode

IMAGE = encode(b"content")
SHA256 = IMAGE.trusted().mapping.image_sha256.hex()
CONTENT = b"content"


class Attempts:
    """In place of the cluster: what becomes of each attempt, and which image it was to go on with."""

    def __init__(self, model: ReassembleModel) -> None:
        self.model = model
        self.outcomes: list[Any] = []
        self.images: list[HeldImage] = []
        model._work = self._attempt  # type: ignore[method-assign]

    async def _attempt(self, wanted: str, reassembly: Reassembly, image: HeldImage) -> tuple[Restored, HeldOutput]:
        self.images.append(image)
        outcome = self.outcomes.pop(0)
        self.model.post(reassembly.take, Attempt(SHA256, 2, 4, ["attic", "desk"], []))
        output = image.open(IMAGE.trusted().mapping)
        if outcome == "for ever":
            output.file.write(CONTENT[:3])
            await asyncio.sleep(3600)
        if isinstance(outcome, Exception):
            self.model.post(reassembly.take, Missing(SHA256, "attic", "not connected"))
            raise outcome
        output.file.seek(0)
        output.file.write(CONTENT)
        output.checkpoint.wrote(0)
        output.keep()
        return Restored(SHA256, "content", len(CONTENT), None, 0.1), output


@pytest.fixture
def model(session: Session, background: Background) -> ReassembleModel:
    return ReassembleModel(session, background, Unseeing())


@pytest.fixture
def attempts(model: ReassembleModel, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    monkeypatch.setattr(model, "_decoded", lambda held: None)
    return Attempts(model)


def phase_of(model: ReassembleModel) -> Phase:
    """Asked anew each time: it changes."""
    return model.phase


def ended(model: ReassembleModel) -> bool:
    return not model.busy and (model.phase is not Phase.PROVEN or not model._decoding)


def test_a_retry_goes_on_with_what_the_attempts_before_it_left(attempts: Attempts, background: Background) -> None:
    model = attempts.model
    attempts.outcomes = [NotEnoughError("too few"), NotEnoughError("too few"), "here"]
    model.begin(SHA256)
    deliver_until(background, lambda: ended(model))
    assert model.phase is Phase.FAILED
    assert [device.name for device in model.reassembly.missing] == ["attic"]
    for phase in (Phase.FAILED, Phase.PROVEN):
        assert model.can_retry
        model.retry()
        assert not model.reassembly.missing, "it may be there now"
        deliver_until(background, lambda: ended(model))
        assert model.phase is phase
    assert len({id(image) for image in attempts.images}) == 1
    assert not model.can_retry, "nothing is missing"


def test_after_a_cancel_it_goes_on_once_the_attempt_has_let_go(attempts: Attempts, background: Background) -> None:
    model = attempts.model
    attempts.outcomes = ["for ever", "here"]
    model.begin(SHA256)
    deliver_until(background, lambda: bool(model.reassembly.devices))
    model.cancel()
    assert phase_of(model) is Phase.STOPPING
    assert not model.can_retry
    deliver_until(background, lambda: model.phase is Phase.STOPPED)
    model.retry()
    deliver_until(background, lambda: ended(model))
    assert phase_of(model) is Phase.PROVEN
    assert attempts.images[0] is attempts.images[1]


def test_another_image_begins_with_nothing_and_the_one_before_is_closed(
    attempts: Attempts, background: Background
) -> None:
    model = attempts.model
    attempts.outcomes = ["for ever", "here"]
    model.begin(SHA256)
    deliver_until(background, lambda: bool(model.reassembly.devices))
    before = attempts.images[0].open(IMAGE.trusted().mapping)
    model.begin(SHA256[:16])
    deliver_until(background, lambda: ended(model) and before.file.closed)
    assert model.phase is Phase.PROVEN
    assert attempts.images[0] is not attempts.images[1]


def test_an_image_that_is_proven_stays_so_where_a_retry_reaches_nobody(
    attempts: Attempts, background: Background, tmp_path: Path
) -> None:
    model = attempts.model
    attempts.outcomes = ["here", UnreachableError("no broker answers")]
    model.begin(SHA256)
    deliver_until(background, lambda: ended(model))
    model.reassembly.take(Missing(SHA256, "desk", "not connected"))
    model.retry()
    assert "The original" in model.label
    deliver_until(background, lambda: ended(model))
    assert (model.phase, str(model.error)) == (Phase.PROVEN, "no broker answers")
    assert model.reassembly.part == 1.0
    model.save(str(tmp_path / "back"))
    assert not model.can_retry, "it is being read"
    deliver_until(background, lambda: not model.saving)
    assert (tmp_path / "back").read_bytes() == CONTENT
