"""Files inside a Qt resource file (``.rcc``), formats 1 to 3.

Layout (big-endian; Qt's rcc writes it): ``qres``, then version and the offsets of three tables: a tree of nodes,
the data, the names. A node is the offset of its name, flags, and for a folder the count and number of its first
child, for a file its country, language and the offset of its data (length, bytes). From format 2 on a node ends in
the time of its last change, which makes 22 bytes of 14. Flag 1: zlib behind four bytes of length; 2: a folder; 4:
zstd.

Functions: ``files`` (path -> bytes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container

PACKED, FOLDER, ZSTD = 1, 2, 4
DEEPEST = 64  # folders within folders; more is a loop in a broken file


def files(raw: bytes, wanted: Container[str] | None = None) -> dict[str, bytes]:
    """The files in a resource file (those ``wanted``), by path. Raises ValueError where it is none."""
    if raw[:4] != b"qres":
        raise ValueError("is no Qt resource file (it does not begin with qres)")
    try:
        return _walked(raw, wanted)
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"is a broken Qt resource file: {error}") from error


def _walked(raw: bytes, wanted: Container[str] | None) -> dict[str, bytes]:
    version, tree, data, names = struct.unpack_from(">4I", raw, 4)
    if not 1 <= version <= 3:
        raise ValueError(f"is a Qt resource file of format {version}; known are 1 to 3")
    size = 14 if version < 2 else 22
    out: dict[str, bytes] = {}
    waiting = [(0, "", 0)]
    while waiting:
        number, folder, depth = waiting.pop()
        at = tree + number * size
        name, flags = struct.unpack_from(">IH", raw, at)
        path = "/".join(p for p in (folder, _name(raw, names + name) if number else "") if p)
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", raw, at + 6)
            if depth > DEEPEST or count * size > len(raw):
                raise ValueError("is a broken Qt resource file: its tree has no end")
            waiting += [(n, path, depth + 1) for n in range(first, first + count)]
        elif wanted is None or path in wanted:
            out[path] = _content(raw, data + struct.unpack_from(">I", raw, at + 10)[0], flags, path)
    return out


def _name(raw: bytes, at: int) -> str:
    length = struct.unpack_from(">H", raw, at)[0]
    return raw[at + 6 : at + 6 + 2 * length].decode("utf-16-be")  # behind two bytes of length, four of hash


def _content(raw: bytes, at: int, flags: int, path: str) -> bytes:
    length = struct.unpack_from(">I", raw, at)[0]
    held = raw[at + 4 : at + 4 + length]
    if flags & ZSTD:
        raise ValueError(f"{path} is packed with zstd, which is not read here")
    return zlib.decompress(held[4:]) if flags & PACKED else held
