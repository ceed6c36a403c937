"""A reader of sparse files in plain Python, from docs/formats.md and that of safetensors alone."""

import base64
import hashlib
import json
import math
import struct

WIDTHS = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex64": 8},
    **{"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2},
    **{"uint8": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1},
    **{"float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1},
}


def read(path):
    """Name to type, sizes and bytes of every tensor in memory."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    text = header.pop("__metadata__")["chita"]
    data = content[8 + length :]
    parts = {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}
    told = json.loads(text)
    assert told["version"] == 2
    bare = text[: text.rindex(',"sha256":')] + "}"
    hashed = [parts[name] for name in sorted(parts)] + [bare.encode()]
    digests = b"".join(hashlib.sha256(one).digest() for one in hashed)
    assert base64.b64encode(digests).decode().rstrip("=") == told["sha256"]
    tensors, begun = {}, dict.fromkeys(parts, 0)
    for name, row in told["tensors"].items():
        if isinstance(row, str):
            tensors[name] = tensors[row]
            continue
        coding, kind, sizes, count, places = row
        stored = told.get("narrow", kind) if kind in {"float32", "float64"} else kind
        width = WIDTHS[stored]
        part = f"values/{stored}"
        values = parts[part][begun[part] : begun[part] + count * width]
        begun[part] += count * width
        numbers = [values[i * width : (i + 1) * width] for i in range(count)]
        if stored != kind:
            numbers = [widen(number, stored, kind) for number in numbers]
        code = b""
        if coding != "dense":
            code = parts[coding][begun[coding] : begun[coding] + places]
            begun[coding] += places
        out = decode(coding, numbers, code, math.prod(sizes), WIDTHS[kind])
        tensors[name] = kind, tuple(sizes), out
    assert begun == {name: len(part) for name, part in parts.items()}
    return tensors


def decode(coding, numbers, code, size, width):
    """The bytes of a tensor in memory."""
    if coding == "dense":
        return b"".join(numbers)
    if coding == "bitmask":
        where = [i for i in range(8 * len(code)) if code[i // 8] >> (i % 8) & 1]
    else:
        where, here = [], 0
        for gap in code:
            here += gap
            if gap < 255:
                where.append(here)
                here += 1
        assert 0 <= size - here < 255
    out = [bytes(width)] * size
    for place, number in zip(where, numbers, strict=True):
        out[place] = number
    return b"".join(out)


def widen(number, stored, kind):
    """A narrow value as a number of the tensor's type."""
    if stored == "bfloat16":  # the upper half of a float32
        (real,) = struct.unpack("<f", b"\0\0" + number)
    else:
        (real,) = struct.unpack("<e", number)
    return struct.pack("<f" if kind == "float32" else "<d", real)
