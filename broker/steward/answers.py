"""What clients ask of the steward: how it stands, and to look after something now."""

from __future__ import annotations

from typing import Annotated, Optional

import msgspec

from broker.catalog import Catalog
from broker.claims import Place
from broker.steward.steward import Steward
from common.protocol.codec import pack, unpack
from common.protocol.messages import GRANTED, MAX_OBJECTS, Acknowledged, BadShare, Health, Job, Message, ObjectId

Answered = tuple[Message, Optional[bytes]]  # header, payload

_Objects = Annotated[list[ObjectId], msgspec.Meta(max_length=MAX_OBJECTS)]
_BadShares = Annotated[list[BadShare], msgspec.Meta(max_length=MAX_OBJECTS)]


def health(steward: Steward, owner: Optional[bytes]) -> tuple[Health, bytes]:
    """The state of all images, and what is being done; of this owner's only, or where it is None, of all."""
    survey = steward.survey
    images = survey.images()
    jobs = []
    for repair in steward.repairs:
        task = repair.task
        if owner not in (None, task.claim.owner):
            continue
        places = task.targets or task.reads
        shares, devices = [place.share for place in places], [place.device for place in places]
        jobs.append(
            Job(task.kind.value, task.claim.encoding_id, shares, devices, repair.segments, repair.segments_done)
        )
    header = Health(
        GRANTED,
        steward.settled,
        images.whole,
        images.lacking + images.waiting,
        images.waiting,
        images.unrecoverable,
        survey.bytes_left,
        steward.rate,
        steward.balance.under_way,
        steward.weak,
        images.in_danger,
        needless=images.needless,
        due=steward.due(owner),
    )
    return header, pack(jobs)


def repair(steward: Steward, catalog: Catalog, payload: memoryview, owner: bytes) -> Answered:
    """Repair an owner's encodings now; all of them where the list is empty."""
    objects = unpack(payload, _Objects)
    if objects:
        encodings = [encoding for object_id in objects for encoding in catalog.encodings_of(owner, object_id)]
    else:
        encodings = [encoding for encoding in steward.survey.not_whole() if owner in catalog.owners_of(encoding)]
    for encoding_id in encodings:
        steward.hurry(encoding_id)
    return Acknowledged(GRANTED), None


def report_bad(steward: Steward, catalog: Catalog, payload: memoryview, owner: bytes) -> Answered:
    """Look at shares that a client found bad; those of other owners are passed over."""
    for bad in unpack(payload, _BadShares):
        place = Place(bad.share, bad.device_id)
        if owner in catalog.owners_of(bad.encoding_id):
            steward.report_bad(bad.encoding_id, place, owner)
    return Acknowledged(GRANTED), None


def rebalance(steward: Steward) -> Answered:
    steward.balance.begin()
    return Acknowledged(GRANTED), None
