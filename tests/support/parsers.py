"""Every parser of what others may have written, with valid inputs of it and the errors that it may raise.

Formats that end in a checksum, or are sealed, refuse each mutant at once. So most of these are here twice: with
what is outside changed, and with what is inside changed and checksum or seal made anew, as somebody would who has the
key or needs none. A new parser is one line in `parsers`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import msgspec
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from admin.approval_files import (
    EmptyingRequest,
    decode_approval,
    decode_request,
    encode_approval,
    encode_request,
)
from broker.members import Member, MembersFile
from broker.rights import Standing
from common.coding.recipe import decode_recipe
from common.discovery.addresses import BrokerAddress
from common.discovery.announcement import Announcement, read_announcement
from common.errors import IntegrityError, ProtocolError, RefusedError, UsageError
from common.facts import Facts
from common.membership.identity import KeyPair, load_brokers, load_key_pair, save_key_pair
from common.membership.invite import Invite, decode_invite
from common.membership.short_invite import ShortInvite, decode_short_invite
from common.protocol import device_messages, messages
from common.protocol.codec import pack, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.messages import DeletionName, Message, Tombstone
from common.protocol.operations import Role
from common.vault import granting, key_file, mapping
from common.vault.contact_card import ContactCard, card_of, decode_card, pack_cards, unpack_cards
from common.vault.former_key import open_former_key, seal_former_key
from common.vault.journal import Ending, Journals, Moved, Segment, new_beginning
from common.vault.keys import expand
from common.vault.stamp import Stamp
from tests.support.mutation import mutant, valid_message
from tests.support.passphrases import LEAST_COST
from tests.support.sample_images import KEY, OTHER_KEY, encode
from tests.support.sample_shares import OWNER, held_by, sample
from viewer.messages import Seen, ViewerError, decode_message
from worker import pack_format, share_file
from worker.amendments import Replaced, encode_amendment, read_amendment
from worker.approver_lists import KeptApprovers, decode_approvers, encode_approvers
from worker.disk import Disk, Entry
from worker.format_version import UnknownVersionError
from worker.index import Index
from worker.layout import Layout
from worker.refusals import Refusal
from worker.scrub import ScrubCursor, load_cursor
from worker.staging import recover
from worker.store import ShareStore
from worker.tombstones import KeptTombstone, decode_tombstone, encode_tombstone

MAX_MEMORY = 2 << 20  # bytes that one parse may allocate beside a hundredfold of its input
_PASSPHRASE = "correct horse battery staple"
_IMAGE = encode(bytes(range(200)) * 2)
_ID = _IMAGE.encoding_id
_TOMBSTONE = KeptTombstone(Tombstone(_ID, bytes(32), bytes(32), 1, 2**20, bytes(64)), 2**40, 2**41)
_NONCE = bytes(12)


@dataclass(frozen=True)
class Parser:
    """A parser: `parse` takes bytes, and raises nothing but `errors`.

    `finish` makes an input of a mutant: a checksum, a seal; None where the input is not worth parsing.
    """

    name: str
    valid: Callable[[random.Random], bytes]
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = ()
    finish: Callable[[bytes], Optional[bytes]] = lambda content: content

    def meet(self, drawn: random.Random) -> int:
        """Parse one mutant; returns the bytes that it allocated at most. Fails where anything else is raised."""
        content = self.finish(mutant(self.valid(drawn), drawn))
        if content is None:
            return 0
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            self.parse(content)
        except self.errors:
            pass
        except BaseException as error:
            raise AssertionError(f"{self.name} raises {type(error).__name__} for {content[:500]!r}") from error
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak < MAX_MEMORY + 100 * len(content), f"{self.name} allocates {peak} bytes for {content[:500]!r}"
        return peak

    def check_valid(self) -> None:
        """What is valid is read: a parser that refuses everything would prove nothing."""
        content = self.finish(self.valid(random.Random(1)))  # noqa: S311
        assert content is not None
        self.parse(content)


def _always(content: bytes) -> Callable[[random.Random], bytes]:
    return lambda _: content


def parsers(folder: Path) -> list[Parser]:
    """All of them; `folder` is for those that read a file."""
    return [
        Parser("envelope", _always(_ENVELOPE), decode_envelope, (ProtocolError,)),
        *_headers(),
        Parser("viewer's answer", _always(_SEEN), decode_message, (ViewerError,)),
        Parser("recipe", _always(_IMAGE.commitment.recipe), decode_recipe, (IntegrityError,)),
        Parser("mapping", _always(_IMAGE.commitment.mapping), _open_mapping, (IntegrityError, RefusedError)),
        Parser("mapping, inside", _always(_mapping_inside()), _open_mapping, (IntegrityError,), _seal_mapping),
        Parser("mapping for a card", _always(_left_mapping()), _open_left, (IntegrityError, RefusedError)),
        Parser("mapping for a card, inside", _always(_mapping_inside()), _open_left, (IntegrityError,), _seal_left),
        Parser("contact card", _always(_card().encode().encode()), _decode_card, (UsageError,)),
        Parser("contact card, inside", _always(_card().content()), _decode_card, (UsageError,), _with_card_checksum),
        Parser("contact cards", _always(pack_cards([_card()] * 3)), unpack_cards, (IntegrityError,)),
        Parser("former key", _always(seal_former_key(KEY, OTHER_KEY)), _open_former, (IntegrityError,)),
        Parser("key file", _always(_key_file()), _open_key_file, (IntegrityError, RefusedError), _affordable),
        Parser("invite", _always(_invite().encode().encode()), _decode_invite, (UsageError,)),
        Parser("invite, inside", _always(_invite_inside()), _decode_invite, (UsageError,), _with_checksum),
        Parser("short invite", _always(_SHORT.encode().encode()), _decode_short, (UsageError,)),
        Parser("short invite, inside", _always(_short_inside()), _decode_short, (UsageError,), _with_short_checksum),
        Parser("announcement", _always(_announced()), _read_announcement, (ProtocolError,)),
        Parser("share file's header", _always(_HEADER), share_file.decode_header, (IntegrityError,)),
        Parser("share file's record", _always(_RECORD), share_file.decode_record_prefix),
        Parser("share file's end", _always(_ENDING), _decode_share, (IntegrityError,)),
        Parser("share file's trailer", _always(_TRAILER), _decode_share, (IntegrityError,), _with_footer),
        Parser("staged share", _always(_HEADER + _RECORD * 2), _Recovery(folder), (UnknownVersionError,)),
        Parser("tombstone", _always(encode_tombstone(_TOMBSTONE)), decode_tombstone, (IntegrityError,)),
        Parser("tombstone, inside", _always(_tombstone_inside()), decode_tombstone, (IntegrityError,), _with_digest),
        Parser("approvers", _always(_APPROVERS), decode_approvers, (IntegrityError,)),
        Parser("approvers, inside", _always(_APPROVERS[:-34]), decode_approvers, (IntegrityError,), _with_digest),
        Parser("request to empty", _always(_REQUEST), decode_request, (IntegrityError,)),
        Parser("request to empty, inside", _always(_REQUEST[:-32]), decode_request, (IntegrityError,), _with_blake3),
        Parser("approval, inside", _always(_APPROVAL[:-32]), decode_approval, (IntegrityError,), _with_blake3),
        Parser("amendment", _always(_AMENDMENT), read_amendment, (IntegrityError,)),
        Parser("amendment, inside", _always(_AMENDMENT[:-34]), read_amendment, (IntegrityError,), _with_digest),
        Parser("pack's frame, inside", _always(_FRAME), _decode_frame, (), _with_check),
        *_of_files(folder),
    ]


# --- messages


_ENVELOPE = Envelope(Kind.REQUEST, Operation.OPEN, bytes(16), bytes(range(16)), 1 << 20, bytes(16)).encode()
_SEEN = msgspec.msgpack.encode(Seen("image/jpeg", 640, 480, b"RIFF", Facts("2019-07-14T18:03:22", "Canon", 6, 1, 2)))


def _message_types() -> Iterator[type[Message]]:
    for module in (messages, device_messages):
        for shape in vars(module).values():
            if isinstance(shape, type) and issubclass(shape, Message) and shape.__module__ == module.__name__:
                yield shape


def _headers() -> Iterator[Parser]:
    for shape in _message_types():
        yield Parser(
            f"header {shape.__name__}",
            lambda drawn, shape=shape: valid_message(shape, drawn),  # type: ignore[misc]
            lambda data, shape=shape: unpack_header(data, shape),  # type: ignore[misc]
            (ProtocolError,),
        )


# --- the vault's


def _open_mapping(sealed: bytes) -> object:
    return mapping.open_mapping(KEY, sealed, _IMAGE.commitment.object_id, _ID)


def _mapping_inside() -> bytes:
    return mapping.pack_mapping(_IMAGE.trusted().mapping)


def _seal_mapping(plaintext: bytes) -> bytes:
    """Sealed by who has the vault key, whatever it holds; as long as a mapping may be."""
    size = max(1024, 1 << (len(plaintext) - 1).bit_length() if plaintext else 0)
    salt = bytes(range(32))
    subkey = KEY.mapping_subkey()
    one_time_key, commitment = (expand(subkey, mapping.LABEL + what + salt) for what in (b"/key", b"/commitment"))
    associated = mapping.MAGIC + mapping.VERSION.to_bytes(2, "big") + _IMAGE.commitment.object_id + _ID
    sealed = AESGCM(one_time_key).encrypt(_NONCE, plaintext.ljust(size, b"\0"), associated)
    return mapping.MAGIC + mapping.VERSION.to_bytes(2, "big") + salt + commitment + sealed


def _card() -> ContactCard:
    return card_of(KEY, "Ann")


def _with_card_checksum(content: bytes) -> bytes:
    checksum = hashlib.sha256(b"tessera/v1/contact-card" + content).digest()[:4]
    return b"tessera-contact:" + base64.b32encode(content + checksum).rstrip(b"=").lower()


def _decode_card(content: bytes) -> object:
    return decode_card(content.decode("utf-8", "surrogateescape"))


def _left_object() -> bytes:
    return _card().object_id(_IMAGE.trusted().mapping.image_sha256)


def _left_mapping() -> bytes:
    return granting.seal_to_card(_card(), _IMAGE.trusted().mapping, _ID)


def _open_left(sealed: bytes) -> object:
    return granting.open_any(KEY, sealed, _left_object(), _ID)


def _seal_left(plaintext: bytes) -> bytes:
    """Sealed by whoever has the card, whatever it holds; as long as a mapping may be."""
    size = max(1024, 1 << (len(plaintext) - 1).bit_length() if plaintext else 0)
    information = granting.LABEL + _left_object() + _ID
    sealed = granting._suite().encrypt(plaintext.ljust(size, b"\0"), _card().recipient(), information)
    return granting.MAGIC + granting.VERSION.to_bytes(2, "big") + sealed


def _open_former(content: bytes) -> object:
    return open_former_key(KEY, content)


def _key_file() -> bytes:
    return key_file._create_at_cost(KEY, _PASSPHRASE, LEAST_COST)


def _open_key_file(content: bytes) -> object:
    return key_file.open_key_file(content, _PASSPHRASE)


def _affordable(content: bytes) -> Optional[bytes]:
    """Not those that ask for more of Argon2id than a test has, within its bounds."""
    passes, memory, lanes = (int.from_bytes(content[26 + 4 * i : 30 + 4 * i], "big") for i in range(3))
    within = 19 * 1024 <= memory <= 1024 * 1024 and 1 <= passes <= 10 and 1 <= lanes <= 8
    return None if within and memory * passes > 64 * 1024 else content


# --- invites


def _invite() -> Invite:
    pair = KeyPair.from_secret(bytes(range(32)))
    return Invite(Role.WORKER, [BrokerAddress("broker.lan", 5570, 5571, pair.public)], pair)


def _invite_inside() -> bytes:
    text = _invite().encode().split("-")[2].upper()
    return base64.b32decode(text + "=" * (-len(text) % 8))[:-4]


def _with_checksum(content: bytes) -> bytes:
    checksum = hashlib.sha256(b"tessera/v1/invite" + b"worker" + content).digest()[:4]
    return b"tessera-worker-" + base64.b32encode(content + checksum).rstrip(b"=").lower()


def _decode_invite(content: bytes) -> object:
    return decode_invite(content.decode("utf-8", "surrogateescape"))


_SHORT = ShortInvite(Role.WORKER, bytes(range(16)), bytes(range(10)))


def _short_inside() -> bytes:
    return base64.b32decode(_SHORT.encode().replace("-", ""))[:-3]


def _with_short_checksum(content: bytes) -> bytes:
    return base64.b32encode(content + hashlib.sha256(b"tessera/v1/short-invite" + content).digest()[:3])


def _decode_short(content: bytes) -> object:
    return decode_short_invite(content.decode("utf-8", "surrogateescape"))


# --- announcements


def _announced() -> bytes:
    """One as lines: the instance, each property, and the address."""
    said = Announcement(5570, 5571, bytes(range(32)))
    return "\n".join([said.instance, *(f"{n}={v}" for n, v in said.properties().items()), "192.0.2.7"]).encode()


def _read_announcement(content: bytes) -> object:
    instance, *said, address = content.split(b"\n") if content.count(b"\n") else (b"", b"")
    properties: dict[bytes, Optional[bytes]] = {line.partition(b"=")[0]: line.partition(b"=")[2] for line in said}
    return read_announcement(instance.decode("latin-1"), properties, [address.decode("latin-1")])


# --- the worker's


_BLOCK = bytes(64)
_HEADER = pack(share_file.share_header(_ID, 3, 2, 4, 64))
_RECORD = share_file.record_prefix(0, blake3(_BLOCK).digest(), len(_BLOCK)) + _BLOCK


def _trailer() -> share_file.ShareTrailer:
    offsets = [len(_HEADER) + 41 + 105 * segment for segment in range(_IMAGE.recipe.segment_count)]
    return share_file.ShareTrailer(_IMAGE.signed, offsets)


_TRAILER = pack(_trailer())
_ENDING = share_file.encode_ending(_HEADER, _trailer(), 100_000)


def _with_footer(body: bytes) -> bytes:
    digest = blake3(_HEADER + body).digest()
    return body + b"\xc4\x30" + (100_000).to_bytes(8, "big") + digest + b"TSHREND1"


def _decode_share(ending: bytes) -> object:
    return share_file.decode_share(_HEADER, ending)


def _tombstone_inside() -> bytes:
    return encode_tombstone(_TOMBSTONE)[:-34]


def _with_digest(body: bytes) -> bytes:
    return body + b"\xc4\x20" + blake3(body).digest()


_AMENDMENT = encode_amendment(_IMAGE.signed, bytes(32), [Replaced(1, bytes(16), bytes(32), 1, 2)])


def _with_blake3(body: bytes) -> bytes:
    return body + blake3(body).digest()


_NAMED = KEY.approver_list(1, [bytes(32), bytes(range(32))], 2)
_REQUEST = encode_request(EmptyingRequest(_NAMED, [DeletionName(_ID, 1)] * 3, 3, 3600, 2**31))
_APPROVAL = encode_approval(KEY.approval(_NAMED, [bytes(32)]))
_APPROVERS = encode_approvers(KeptApprovers(None, KEY.approver_list(1, [bytes(32), bytes(range(32))], 2), 2**31, 2**32))
_SALT = bytes(8)
_FRAME = pack_format.encode_frame(pack_format.make_frame(pack_format.Kind.SHARE, (_ID, 3), 1, 0, _BLOCK), _SALT)[:-8]


def _with_check(head: bytes) -> bytes:
    return head + blake3(_SALT + head).digest(length=8)


def _decode_frame(content: bytes) -> object:
    return pack_format.decode_frame(content, _SALT)


class _Recovery:
    """Takes up a share that was being stored when its worker ended."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{_ID.hex()}.03.{bytes(16).hex()}"
        self._disk = Disk()

    def __call__(self, content: bytes) -> None:
        self._path.write_bytes(content)
        staged = recover(self._disk, Entry(self._path, len(content), 0.0), 0.0)
        if staged is not None:
            staged.leave()


class _Opening:
    """Opens a store of which a pack, or the index, is what it was given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open(_put_and_deleted)
        (self._pack,) = (folder / "packs").iterdir()
        self._index = folder / "index.sqlite"
        self.pack, self.index = self._pack.read_bytes(), self._index.read_bytes()

    def with_pack(self, content: bytes) -> None:
        self._begin_anew(content)
        self._index.unlink(missing_ok=True)
        self._open(_read)

    def with_index(self, content: bytes) -> None:
        """It is made anew where it is damaged: the store holds what the pack says."""
        self._begin_anew(self.pack)
        self._index.write_bytes(content)
        self._open(_read_all)

    def _begin_anew(self, pack: bytes) -> None:
        for path in (self._folder / "packs").iterdir():
            path.unlink()
        self._pack.write_bytes(pack)

    def _open(self, use: Callable[[ShareStore], None]) -> None:
        store = ShareStore(self._folder)
        try:
            use(store)
        finally:
            store.close()


def _put_and_deleted(store: ShareStore) -> None:
    """What makes a record of each kind."""
    kept, gone = sample("kept"), sample("gone")
    for encoding in (kept, gone):
        encoding.put(store, 0)
    store.amend(kept.encoding_id, kept.signed(revision=1), OWNER)
    store.delete(gone.deletion(trash_seconds=0), OWNER)


def _read_all(store: ShareStore) -> None:
    for _ in range(2):  # what is found to be damaged by a question is mended by the next
        with contextlib.suppress(Refusal):
            assert list(held_by(store)) == [sample("kept").key(0)]
            sample("kept").assert_readable(store, 0)
            return
    raise AssertionError("the index is not mended")


def _read(store: ShareStore) -> None:
    for page in store.pages():
        for share in page:
            with contextlib.suppress(Refusal):
                store.block((share.encoding_id, share.share), share.owner, 0)


# --- files


def _of_files(folder: Path) -> Iterator[Parser]:
    pair = KeyPair.from_secret(bytes(range(32)))
    path = folder / "file"

    def written(read: Callable[[], object], at: Path = path) -> Callable[[bytes], object]:
        def parse(content: bytes) -> object:
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content)
            return read()

        return parse

    broker = {"host": "broker.lan", "client_port": 5570, "worker_port": 5571, "public_key": pair.public.hex()}
    brokers = json.dumps([broker, broker]).encode()
    yield Parser("brokers.json", _always(brokers), written(lambda: load_brokers(path)), (UsageError, IntegrityError))
    member = msgspec.to_builtins(Member(pair.public.hex(), Standing.WORKER, "attic", 1))
    members = json.dumps({"members": [member], "version": 1}).encode()
    read_members = written(lambda: MembersFile(folder), folder / "members.json")
    yield Parser("members.json", _always(members), read_members, (IntegrityError,))
    save_key_pair(folder / "a.key", pair)
    key = (folder / "a.key").read_bytes()
    yield Parser("CURVE key file", _always(key), written(lambda: load_key_pair(path)), (IntegrityError,))
    opening = _Opening(folder / "store")
    yield Parser("pack", _always(opening.pack), opening.with_pack)
    yield Parser("index of shares", _always(opening.index), opening.with_index)
    yield Parser("scrub cursor", _always(pack(ScrubCursor(began=1))), _cursor_parser(folder))
    yield from _journals(folder, written)


def _cursor_parser(folder: Path) -> Callable[[bytes], object]:
    index = Index(Disk(), Layout(folder))
    index.open(in_memory=True)

    def parse(content: bytes) -> object:
        with index.transaction():
            index.remember("scrub", content)
        return load_cursor(index)

    return parse


def _journals(folder: Path, written: Any) -> Iterator[Parser]:
    """The journal of a put: a row of sealed chunks."""
    image, vault = folder / "image.png", folder / "vault"
    journals = Journals(vault, KEY)
    journal = journals.open(image)
    assert journal is not None
    place = next((vault / "journal").iterdir())
    origin = Stamp(bytes(image), 400, 1, 2, 3)
    beginning = new_beginning(origin, bytes(16), _ID, bytes(32), 2, 4, 1 << 20, [bytes(16), None, None, bytes(16)])
    rest: list[Any] = [Segment(0, bytes(32), bytes(128)), Moved(1, bytes(16)), Ending(bytes(32), bytes(1200))]
    journal.begin(beginning)
    for chunk in rest:
        journal.write(chunk)
    journal.close()
    content = place.read_bytes()

    def read() -> None:
        again = journals.open(image)
        assert again is not None
        again.close()

    def chunk_of(drawn: random.Random) -> bytes:
        return pack(drawn.choice([beginning, *rest]))

    def row_with(changed: bytes) -> bytes:
        """A good beginning, and then the chunk; or the chunk as the beginning."""
        first = pack(beginning) if not changed.startswith(b"\x9e\x00") else changed
        row = [(first, place.name.encode()), (changed, _ID)]
        return b"".join(_chunk(each, count, binding) for count, (each, binding) in enumerate(row))

    yield Parser("journal", _always(content), written(read, place))
    yield Parser("journal, inside", chunk_of, written(read, place), (), row_with)


def _chunk(plaintext: bytes, count: int, binding: bytes) -> bytes:
    salt = bytes(32)
    key = expand(KEY.journal_subkey(), b"tessera/v1/journal" + salt)
    sealed = salt + AESGCM(key).encrypt(_NONCE, plaintext, count.to_bytes(8, "big") + binding)
    return len(sealed).to_bytes(4, "big") + sealed
