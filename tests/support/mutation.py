"""Inputs for parsers, drawn by a seed: mutants of what is valid, msgpack that nobody would write, valid messages."""

from __future__ import annotations

import enum
import random
from typing import Any

import msgpack
from msgspec import inspect

_INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0x90,
    0x9F,
    0xA0,
    0xC0,
    0xC1,
    0xC4,
    0xC6,
    0xC9,
    0xCF,
    0xD9,
    0xDB,
    0xDC,
    0xDD,
    0xDF,
    0xFF,
)
_PIECES = (  # lengths and depths that a careless reader would believe
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x91" * 1500,
    b"\x81\xa1a" * 500,
    b"\x90" * 500,
    b"[" * 2000,
    b'{"a":' * 500,
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + bytes(7),
    b"\xcb\x7f\xf0" + bytes(6),
    b"1e999",
    b"\xff\xfe\xed\xa0\x80",
    b"\\ud800",
    bytes(64),
)


def mutant(valid: bytes, drawn: random.Random) -> bytes:
    """A valid input with up to four things changed; seldom something that has nothing to do with it."""
    if drawn.random() < 0.03:
        return drawn.choice((b"", drawn.randbytes(drawn.randrange(400)), drawn.choice(_PIECES) * drawn.randrange(1, 4)))
    content = bytearray(valid)
    for _ in range(drawn.randint(1, 4)):
        _change(content, drawn)
    return bytes(content)


def _change(content: bytearray, drawn: random.Random) -> None:
    at = drawn.randrange(len(content) + 1)
    length = min(drawn.choice((1, 1, 1, 2, 4, 8, 32, 400)), len(content) - at)
    kind = drawn.randrange(7)
    if kind == 0 and length:
        content[at] ^= 1 << drawn.randrange(8)
    elif kind == 1 and length:
        content[at] = drawn.choice(_INTERESTING)
    elif kind == 2:
        del content[at : at + length]
    elif kind == 3:
        content[at:at] = content[at : at + length]
    elif kind == 4:
        content[at:at] = drawn.choice(_PIECES)
    elif kind == 5:
        content[at : at + length] = drawn.randbytes(length)
    else:
        del content[at:]


def valid_message(shape: Any, drawn: random.Random) -> bytes:
    """msgpack that fits a message's type."""
    return bytes(msgpack.packb(_value(inspect.type_info(shape), drawn)))


def _value(info: inspect.Type, drawn: random.Random) -> Any:
    """A value of a type, as msgpack has it."""
    if isinstance(info, inspect.StructType):
        return [_value(field.type, drawn) for field in info.fields]
    if isinstance(info, inspect.IntType):
        low = info.ge if info.ge is not None else 0
        high = info.le if info.le is not None else (info.lt or 2**31) - 1
        return drawn.choice((low, high, drawn.randint(low, high)))
    if isinstance(info, (inspect.BytesType, inspect.StrType)):
        length = max(info.min_length or 0, min(info.max_length or 5, 40))
        return drawn.randbytes(length) if isinstance(info, inspect.BytesType) else "n" * length
    if isinstance(info, inspect.ListType):
        return [_value(info.item_type, drawn) for _ in range(max(info.min_length or 0, drawn.randrange(3)))]
    if isinstance(info, inspect.TupleType):
        return [_value(each, drawn) for each in info.item_types]
    if isinstance(info, inspect.UnionType):
        return _value(drawn.choice(info.types), drawn)
    if isinstance(info, inspect.EnumType):
        member: enum.Enum = drawn.choice(list(info.cls))
        return member.value
    if isinstance(info, inspect.BoolType):
        return drawn.random() < 0.5
    if isinstance(info, inspect.FloatType):
        return drawn.random()
    assert isinstance(info, inspect.NoneType), f"a message has a field of a type that is new here: {info}"
    return None
