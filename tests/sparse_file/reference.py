"""A reader of sparse files in plain Python, from docs/formats.md alone."""

import math
import struct
import zlib

TYPES = {
    **{1: ("float64", 8), 2: ("float32", 4), 3: ("float16", 2), 4: ("bfloat16", 2)},
    **{5: ("int64", 8), 6: ("int32", 4), 7: ("int16", 2), 8: ("int8", 1), 9: ("uint64", 8)},
    **{10: ("uint32", 4), 11: ("uint16", 2), 12: ("uint8", 1), 13: ("bool", 1)},
    **{14: ("complex64", 8), 15: ("float8_e4m3fn", 1), 16: ("float8_e5m2", 1)},
    **{17: ("float8_e4m3fnuz", 1), 18: ("float8_e5m2fnuz", 1), 19: ("float8_e8m0fnu", 1)},
    20: ("float4_e2m1fn_x2", 1),
}


def read(path):
    """Name to type, sizes and bytes of every tensor in memory, of a file or of all its shards."""
    content = path.read_bytes()
    magic, version, kind, entries, length, total, decoded, shard, shards = struct.unpack_from(
        "<8sHHIQQQHH", content
    )
    assert (magic, version, total) == (b"\x89CHITA\r\n", 1, len(content))
    assert length % 8 == 0
    assert struct.unpack_from("<I", content, length - 4)[0] == zlib.crc32(content[: length - 4])
    if kind == 2:
        assert (shard, shards, length) == (0, entries, total)
        found = {}
        for number in range(1, entries + 1):
            row = struct.unpack_from("<QQII", content, 44 + 24 * (number - 1))
            file = path.parent / f"{path.name[:-6]}-{number:05d}-of-{entries:05d}.chita"
            own, head = read(file), file.read_bytes()
            size = struct.unpack_from("<Q", head, 16)[0]
            told = (len(head), sum(len(b) for _, _, b in own.values()), len(own))
            assert row == (*told, struct.unpack_from("<I", head, size - 4)[0])
            assert not own.keys() & found.keys()
            found |= own
        return found
    tensors, offset, place = {}, 44, length
    for _ in range(entries):
        (count,) = struct.unpack_from("<H", content, offset)
        name = content[offset + 2 : offset + 2 + count].decode()
        row = struct.unpack_from("<BBBBQQI", content, offset + 2 + count)
        offset += 2 + count + 24
        sizes = struct.unpack_from(f"<{row[3]}Q", content, offset)
        offset += 8 * row[3]
        data, place = data_at(content, place, row)
        tensors[name] = (TYPES[row[0]][0], sizes, decode(data, row, math.prod(sizes), tensors))
    assert place == total
    assert sum(len(b) for _, _, b in tensors.values()) == decoded
    return tensors


def data_at(content, place, row):
    """A tensor's data, and where the next ones begin."""
    if row[2] == 3:
        return b"", place
    stored = row[4] * TYPES[row[1]][1] + row[5]
    end = place + (stored + 7) // 8 * 8
    assert zlib.crc32(content[place:end]) == row[6]
    return content[place : place + stored], end


def decode(data, row, size, before):
    """The bytes of a tensor in memory."""
    kind, values, coding, _, count, places, _ = row
    if coding == 3:
        return list(before.values())[count][2]
    width = TYPES[values][1]
    numbers = [widen(data[i * width : (i + 1) * width], values, kind) for i in range(count)]
    tail = data[count * width :]
    assert len(tail) == places
    if coding == 0:
        return b"".join(numbers)
    if coding == 1:
        where = [i for i in range(8 * places) if tail[i // 8] >> (i % 8) & 1]
    else:
        where, here = [], 0
        for gap in tail:
            here += gap
            if gap < 255:
                where.append(here)
                here += 1
        assert 0 <= size - here < 255
    out = [bytes(TYPES[kind][1])] * size
    for place, number in zip(where, numbers, strict=True):
        out[place] = number
    return b"".join(out)


def widen(number, values, kind):
    """A stored value as a number of the tensor's type."""
    if values == kind:
        return number
    if values == 4:  # bfloat16 is the upper half of a float32
        (real,) = struct.unpack("<f", b"\0\0" + number)
    else:
        (real,) = struct.unpack("<e", number)
    return struct.pack("<f" if kind == 2 else "<d", real)
