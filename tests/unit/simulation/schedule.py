"""A schedule of chance for a world, and what must hold: nothing that was stored is lost while at most n - k shares are.

The schedule is drawn from the seed as it goes: puts, devices that leave, return or die, damage, messages that are lost,
brokers that are started anew, deletions, retirements. It never takes more from an image than it may lose. Then comes
quiet, and time.
"""

from __future__ import annotations

import contextlib
import random
from typing import Callable, Optional

from common.protocol.messages import Retire
from tests.support.sample_shares import OWNER
from tests.unit.simulation.device import Decline, Device, Key, Stored
from tests.unit.simulation.follower import Follower
from tests.unit.simulation.images import Encoding, Image, encode, make_image
from tests.unit.simulation.world import World

PATIENCE = 200.0  # seconds of quiet until all must be well


class Failed(AssertionError):
    """What must hold does not."""


class Schedule:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - the same in every run
        self.k, self.n = self.rng.choice([(2, 3), (2, 4), (3, 5), (4, 6)])
        self.world = World(self.rng, self.n + self.rng.randint(1, 3), self.rng.choice([1, 1, 2]))
        self.world.on_commit = self._committed
        self.world.on_discard = self._discarding
        self.images: list[Image] = []
        self.history: list[str] = []
        self._encodings: dict[bytes, tuple[Image, Encoding]] = {}
        self._broken: list[str] = []
        self._followers = [Follower(OWNER) for _ in self.world.brokers]

    # --- running it

    def run(self, events: int = 30) -> None:
        """Raise Failed, with the history, where anything does not hold."""
        steps: list[tuple[int, Callable[[], None]]] = [
            (6, self.put),
            (2, self.put_again),
            (6, self.leave),
            (6, self.come_back),
            (3, self.die),
            (5, self.damage),
            (2, self.lie),
            (2, self.fill),
            (3, self.lose_messages),
            (3, self.restart_broker),
            (2, self.cut),
            (3, self.delete),
            (2, self.undelete),
            (2, self.retire),
            (1, self.add),
            (1, self.rebalance),
        ]
        self.world.run(3.0)
        for _ in range(4):
            self.put()
        for _ in range(events):
            step = self.rng.choices([one for _, one in steps], [weight for weight, _ in steps])[0]
            step()
            self.world.run(self.rng.choice([0.05, 0.3, 1.0, 3.0, 6.0]))
            self._check_broken()
            self._check_followers()
        self._settle()

    def _settle(self) -> None:
        self._note("quiet")
        world = self.world
        world.loss, world.cut = 0.0, set()
        for device in self._living():
            device.up, device.full, device.lies = True, False, False
        for device in world.devices.values():
            if device.dead and world.listed(device):
                self._note(f"{device.name}, which is dead, is to retire")
                world.brokers[0].retiring.retire(Retire(device.device_id))
        start = world.now
        while world.now < start + PATIENCE:
            for device in self._living():
                device.scrub()
            world.run(5.0)
            self._check_broken()
            if not self._not_well():
                world.run(2.0)
                if not self._not_well():
                    return
        self._fail("after all this time: " + "; ".join(self._not_well()))

    def _check_broken(self) -> None:
        for device in self.world.devices.values():
            if not device.dead and not self.world.listed(device):
                self._taken_off(device)
        if self._broken:
            self._fail("; ".join(self._broken))

    def _check_followers(self) -> None:
        """Whoever asked a broker for all that changed knows what it lists, however often that was started anew."""
        for number, (follower, broker) in enumerate(zip(self._followers, self.world.brokers)):
            follower.catch_up(broker)
            deleted = {image.object_id for image in self.images if image.generation}
            wrong = [each for each in follower.wrong_of(broker) if each not in deleted]
            if wrong:
                self._fail(f"broker {number} did not tell that {', '.join(each.hex()[:8] for each in wrong)} changed")

    def _fail(self, what: str) -> None:
        raise Failed(f"seed {self.seed}, {self.k} of {self.n}: {what}\n" + "\n".join(self.history))

    def _note(self, what: str) -> None:
        self.history.append(f"{self.world.now - 1000:8.2f}  {what}")

    # --- steps

    def put(self) -> None:
        image = make_image(self.rng, self.k, self.n)
        if self._put(image):
            self.images.append(image)

    def put_again(self) -> None:
        stored = [image for image in self.images if not image.deleted and len(image.encodings) < 3]
        if stored and self.rng.random() < 0.7:
            self._put(self.rng.choice(stored))

    def _put(self, image: Image) -> bool:
        free = [d for d in self._living() if d.up and not d.full and self.world.listed(d) and not self._retiring(d)]
        degraded = self.rng.random() < 0.2
        count = self.n - 1 if degraded and self.n - 1 > self.k else self.n
        if len(free) < count:
            return False
        encoding = encode(image, self.rng)
        self._encodings[encoding.encoding_id] = (image, encoding)
        self._note(f"put {encoding.encoding_id.hex()[:8]} of {image.object_id.hex()[:8]} on {count}")
        for share, device in enumerate(self.rng.sample(free, count)):
            device.store((encoding.encoding_id, share), Stored(OWNER, encoding.packed, encoding.share(share)))
        return True

    def leave(self) -> None:
        device = self._one_that_is_up()
        if device is not None:
            self._note(f"{device.name} leaves")
            self.world.leave(device)

    def come_back(self) -> None:
        away = [device for device in self._living() if not device.up]
        if away:
            device = self.rng.choice(away)
            self._note(f"{device.name} comes back")
            device.up = True

    def die(self) -> None:
        device = self.rng.choice(self._living())
        staying = [d for d in self._living() if not self._retiring(d) and d is not device]
        if len(staying) < self.n or any(self._would_hurt(device, key) for key in [*device.shares, *device.trash]):
            return
        if self._last_to_know(device):
            return
        self._note(f"{device.name} dies")
        self.world.leave(device)
        device.dead = True

    def damage(self) -> None:
        device = self.rng.choice(self._living())
        busy = {r.task.claim.encoding_id for broker in self.world.brokers for r in broker.steward.repairs}
        keys = [key for key in device.shares if key[0] not in busy and not self._would_hurt(device, key)]
        keys = [key for key in keys if device.shares[key].is_good(key[1])]
        if keys:
            key = self.rng.choice(keys)
            self._note(f"share {key[1]} of {key[0].hex()[:8]} on {device.name} is damaged")
            device.damage(key)
            if self.rng.random() < 0.5:
                device.scrub([key])

    def lie(self) -> None:
        device = self.rng.choice(self._living())
        device.lies = not device.lies and not any(other.lies for other in self._living())
        self._note(f"{device.name} sends {'wrong' if device.lies else 'right'} blocks")

    def fill(self) -> None:
        device = self.rng.choice(self._living())
        device.full = not device.full
        self._note(f"{device.name} is {'full' if device.full else 'not full any more'}")

    def lose_messages(self) -> None:
        self.world.loss = self.rng.choice([0.0, 0.0, 0.1, 0.3])
        self._note(f"{self.world.loss:.0%} of messages are lost")

    def restart_broker(self) -> None:
        number = self.rng.randrange(len(self.world.brokers))
        self._note(f"broker {number} is started anew")
        self.world.restart_broker(number)

    def cut(self) -> None:
        number = self.rng.randrange(len(self.world.brokers))
        if self.world.cut:
            self._note("all connections stand again")
            self.world.cut = set()
        for device in self.rng.sample(self._living(), 2):
            self._note(f"{device.name} and broker {number} are cut off")
            self.world.disconnect(number, device)

    def delete(self) -> None:
        image = self.rng.choice(self.images)
        up = [device for device in self._living() if device.up]
        enough = all(
            len([d for d in up if any(key[0] == e.encoding_id for key in d.shares)]) > self.n - self.k
            for e in image.encodings
        )
        if image.deleted or not enough:
            return
        self._note(f"{image.object_id.hex()[:8]} is deleted")
        image.generation += 1
        for encoding in image.encodings:
            header = encoding.tombstone(image.generation)
            for device in up:
                self._ask_by_hand(lambda d=device, h=header: d.delete(h, OWNER))  # type: ignore[misc]

    def undelete(self) -> None:
        deleted = [image for image in self.images if image.deleted]
        if not deleted:
            return
        image = self.rng.choice(deleted)
        up = [device for device in self._living() if device.up]
        if not all(len(self._intact(e, up, trash=True)) >= self.k for e in image.encodings):
            return
        self._note(f"{image.object_id.hex()[:8]} is taken back")
        image.generation += 1
        for encoding in image.encodings:
            header = encoding.tombstone(image.generation)
            for device in up:
                self._ask_by_hand(lambda d=device, h=header: d.undelete(h, OWNER))  # type: ignore[misc]

    def _ask_by_hand(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(Decline):
            action()

    def retire(self) -> None:
        device = self.rng.choice(self._living())
        staying = [d for d in self._living() if not self._retiring(d) and d is not device]
        if len(staying) >= self.n and not self._retiring(device):
            self._note(f"{device.name} is to retire")
            self.world.brokers[0].retiring.retire(Retire(device.device_id))
        elif self._retiring(device):
            self._note(f"{device.name} stays after all")
            self.world.brokers[0].retiring.retire(Retire(device.device_id, True))

    def add(self) -> None:
        self._note(f"{self.world.add_device().name} is added")

    def rebalance(self) -> None:
        self._note("rebalance")
        self.world.brokers[0].steward.balance.begin()

    # --- what is true

    def _living(self) -> list[Device]:
        return [device for device in self.world.devices.values() if not device.dead]

    def _one_that_is_up(self) -> Optional[Device]:
        up = [device for device in self._living() if device.up]
        return self.rng.choice(up) if up else None

    def _retiring(self, device: Device) -> bool:
        return any(m.retiring and m.public_key == device.public_key.hex() for m in self.world.members.members.all())

    def _intact(self, encoding: Encoding, devices: list[Device], *, trash: bool = False) -> dict[int, list[bytes]]:
        """share → blocks, of shares that are as they were made; a device counts for one."""
        found: dict[int, list[bytes]] = {}
        for device in devices:
            held = {**device.trash, **device.shares} if trash else device.shares
            for (encoding_id, share), stored in held.items():
                if (
                    encoding_id == encoding.encoding_id
                    and share not in found
                    and self._is_true(stored, share, encoding)
                ):
                    found[share] = stored.blocks
                    break
        return found

    def _is_true(self, stored: Stored, share: int, encoding: Encoding) -> bool:
        return stored.packed == encoding.packed and stored.blocks == encoding.share(share)

    def _would_hurt(self, device: Device, key: Key) -> bool:
        """Whether an image would have less than it needs if this share were not there."""
        _, encoding = self._encodings[key[0]]
        others = [other for other in self._living() if other is not device]
        return len(self._intact(encoding, others, trash=True)) < self.k

    def _last_to_know(self, device: Device) -> bool:
        """Whether only this one knows of a deletion that another, which has shares, has not heard of."""
        for encoding_id, stone in device.tombstones.items():
            others = [other for other in self._living() if other is not device]
            told = [o for o in others if o.tombstones.get(encoding_id) == stone]
            unaware = [
                o for o in others if any(key[0] == encoding_id for key in [*o.shares, *o.trash]) and o not in told
            ]
            if unaware and not told:
                return True
        return False

    def _committed(self, device: Device, key: Key) -> None:
        _, encoding = self._encodings[key[0]]
        if not self._is_true(device.shares[key], key[1], encoding):
            self._broken.append(f"a bad share {key[1]} of {key[0].hex()[:8]} was stored on {device.name}")

    def _discarding(self, device: Device, key: Key) -> None:
        image, encoding = self._encodings[key[0]]
        stored = device.shares[key]
        self._note(f"share {key[1]} of {key[0].hex()[:8]} on {device.name} is discarded")
        if not self._is_true(stored, key[1], encoding) or image.deleted:
            return
        others = [other for other in self._living() if other is not device and key in other.shares]
        if not any(self._is_true(other.shares[key], key[1], encoding) for other in others):
            self._broken.append(
                f"share {key[1]} of {key[0].hex()[:8]} was given up on {device.name}, the only good one"
            )

    def _taken_off(self, device: Device) -> None:
        """It was retired: unplugged now."""
        self._note(f"{device.name} is retired")
        self.world.leave(device)
        device.dead = True
        for image in self.images:
            if not image.deleted and not any(len(self._intact(e, self._living())) >= self.k for e in image.encodings):
                self._broken.append(f"{image.object_id.hex()[:8]} went with {device.name}, which was retired")

    def _not_well(self) -> list[str]:
        """What is not yet as it must be."""
        return [*self._not_whole(), *self._undead(), *self._two_on_one(), *self._not_retired()]

    def _not_whole(self) -> list[str]:
        wrong = []
        for image in self.images:
            name = image.object_id.hex()[:8]
            if image.deleted:
                continue
            for encoding in image.encodings:
                intact = self._intact(encoding, [d for d in self._living() if self.world.listed(d)])
                if len(intact) < self.n:
                    wrong.append(f"{name} has {len(intact)} intact shares")
                elif not encoding.restores_from(dict(self.rng.sample(sorted(intact.items()), self.k))):
                    wrong.append(f"{name} does not restore")
                if len(self._holders(encoding)) > self.n:
                    wrong.append(f"{name} has {len(self._holders(encoding))} shares")
        return wrong

    def _holders(self, encoding: Encoding) -> list[tuple[Device, int]]:
        return [(d, key[1]) for d in self._living() for key in d.shares if key[0] == encoding.encoding_id]

    def _undead(self) -> list[str]:
        wrong = []
        for image in [image for image in self.images if image.deleted]:
            name = image.object_id.hex()[:8]
            if any(self._holders(encoding) for encoding in image.encodings):
                wrong.append(f"{name} was deleted, and has shares")
            for broker in self.world.brokers:
                if broker.queries.catalog.locate(OWNER, image.object_id, lambda _: True):
                    wrong.append(f"{name} was deleted, and is shown")
        return wrong

    def _two_on_one(self) -> list[str]:
        seen, wrong = set(), []
        for device in self._living():
            for encoding_id, _ in device.shares:
                if (device.name, encoding_id) in seen:
                    wrong.append(f"{device.name} has two shares of {encoding_id.hex()[:8]}")
                seen.add((device.name, encoding_id))
        return wrong

    def _not_retired(self) -> list[str]:
        wrong = [f"{d.name} is not retired yet" for d in self.world.devices.values() if self._retiring(d)]
        return wrong + ["a rebalance goes on" for b in self.world.brokers if b.steward.balance.under_way]
