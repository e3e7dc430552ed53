"""A TensorFlow checkpoint read without TensorFlow: the "tensor bundle", an index and the tensors' bytes.

A SavedModel's ``variables.index`` is a sorted table (LevelDB's table format: blocks of prefix-compressed keys, an
index block that says where the blocks are, a footer that says where the index block is). Each key is a tensor's
name, each value a protocol buffer ``BundleEntryProto``: type, shape, place and CRC in the data file. So the float32
weights of a published model are there for whoever reads the format, and numpy is enough.

Function: ``read_bundle``. Formats: LevelDB doc/table_format.md; TensorFlow core/util/tensor_bundle,
core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xDB4775248B80FB57  # LevelDB's, at the very end of every table
FOOTER = 48  # bytes
FLOAT = 1  # DT_FLOAT in TensorFlow's types.proto
MASK = 0xA282EAD8  # stored CRCs are rotated and offset by this (LevelDB util/crc32c.h)

Fields = dict[int, list[int | bytes]]


def read_bundle(prefix: str | Path) -> dict[str, NDArray[np.float32]]:
    """The float32 tensors of ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``, by name.

    Tensors of other types (counters, the object graph) are left out. Each tensor's CRC-32C is checked. Raises
    ValueError naming the file for what is no bundle of one shard, is compressed, or is damaged.
    """
    index_file, data_file = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    for file in (index_file, data_file):
        if not file.is_file():
            raise ValueError(f"{file}: no such file (wanted is a checkpoint's prefix, as variables/variables)")
    index, data = index_file.read_bytes(), data_file.read_bytes()
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError(f"{index_file}: is no checkpoint index (cut short, or another file?)")
    out: dict[str, NDArray[np.float32]] = {}
    try:
        for name, entry in _entries(index):
            if _one(entry, 1) != FLOAT:
                continue
            at, size = _one(entry, 4), _one(entry, 5)
            shape = [_one(_fields(side), 1) for side in _texts(_fields(_text(entry, 2)), 2)]
            raw = data[at : at + size]
            if len(raw) < size or size != 4 * int(np.prod(shape, dtype=np.int64)):
                raise ValueError(f"{name} wants {shape} float32 in {size} bytes, {len(raw)} are there")
            stored = entry.get(6, [b""])[0]
            if isinstance(stored, bytes) and stored and _masked(crc32c(raw)) != struct.unpack("<I", stored)[0]:
                raise ValueError(f"{name}'s bytes do not match their CRC")
            out[name] = np.frombuffer(raw, "<f4").reshape(shape)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{data_file}: not readable as a checkpoint: {error} (an unfinished download?)") from error
    return out


def _entries(index: bytes) -> Iterator[tuple[str, Fields]]:
    """Each tensor's name and its BundleEntryProto."""
    footer, at = index[-FOOTER:], 0
    for _ in range(2):  # the handle of the meta-index block, which is empty
        _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    for _, handle in _block(index, offset, size):
        begin, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        for key, value in _block(index, begin, length):
            if key:  # the empty key holds the header: shards, byte order
                yield key.decode(), _fields(value)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block: each key shares a prefix with the one before."""
    if table[offset + size] != 0:
        raise ValueError("its index is compressed")
    block = table[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # behind the entries: restart points and their number
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in seven bits a byte, lowest first, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _fields(message: bytes) -> Fields:
    """A protocol buffer's fields by number, unread: numbers, or bytes."""
    at, out = 0, Fields()
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(message, at)
        else:
            if tag & 7 == 2:
                length, at = _varint(message, at)
            else:
                length = {1: 8, 5: 4}.get(tag & 7, 0)
                if not length:
                    raise ValueError(f"wire type {tag & 7} in an entry")
            value = message[at : at + length]
            at += length
        out.setdefault(tag >> 3, []).append(value)
    return out


def _one(fields: Fields, number: int) -> int:
    value = fields.get(number, [0])[0]  # 0 is what a protocol buffer leaves out
    if not isinstance(value, int):
        raise ValueError(f"field {number} of an entry is no number")
    return value


def _texts(fields: Fields, number: int) -> list[bytes]:
    return [v for v in fields.get(number, []) if isinstance(v, bytes)]


def _text(fields: Fields, number: int) -> bytes:
    return next(iter(_texts(fields, number)), b"")


# ---------------------------------------------------------------- CRC-32C

_LANES = 4096


def _table() -> NDArray[np.uint32]:
    out = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        out = (out >> np.uint32(1)) ^ np.where(out & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0))
    return out


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4), in numpy: 15 MB in under a second.

    A CRC is linear over GF(2): 4,096 equal pieces are taken side by side from a zero start, then joined, each
    shifted by the length of what follows it.
    """
    size = len(data) // _LANES
    state = 0xFFFFFFFF
    done = 0
    if size:
        lanes = np.frombuffer(data, np.uint8, _LANES * size).reshape(_LANES, size).T
        crc = np.zeros(_LANES, np.uint32)
        for column in np.ascontiguousarray(lanes):
            crc = _TABLE[(crc ^ column) & np.uint32(255)] ^ (crc >> np.uint32(8))
        shift = _shifted_by(size)
        for piece in crc.tolist():
            state = _times(shift, state) ^ piece
        done = _LANES * size
    table = _TABLE.tolist()
    for byte in data[done:]:
        state = table[(state ^ byte) & 255] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def _times(matrix: list[int], vector: int) -> int:
    """A 32 x 32 matrix over GF(2), by columns, times a vector."""
    out = 0
    for column in matrix:
        if vector & 1:
            out ^= column
        vector >>= 1
    return out


def _shifted_by(count: int) -> list[int]:
    """What ``count`` zero bytes do to a CRC's state, as a matrix: one zero byte's matrix to that power."""
    step = [int(_TABLE[(1 << bit) & 255]) ^ ((1 << bit) >> 8) for bit in range(32)]
    out = [1 << bit for bit in range(32)]
    while count:
        if count & 1:
            out = [_times(step, column) for column in out]
        step = [_times(step, column) for column in step]
        count >>= 1
    return out


def _masked(crc: int) -> int:
    """As LevelDB stores CRCs."""
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF
