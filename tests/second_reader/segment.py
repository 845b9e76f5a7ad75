"""Segments: docs/format/segment.md."""

import struct

from blake3 import blake3

from refusal import demand

MAGIC = b"SNAPSEGM"
HEADER, PACK, ROW = 32, 48, 48


def read(data, name):
    """Chunk name -> (pack name, frame, offset, bytes), all checked."""
    demand(blake3(data).hexdigest() == name, "E_HASH", f"segment {name} does not hash to its name")
    demand(len(data) >= HEADER and data[:8] == MAGIC, "E_HASH", "a segment without its header")
    version, fan_bits, pack_count, zero, row_count = struct.unpack("<IIIIQ", data[8:HEADER])
    demand(version == 0, "E_NEWER", f"version {version} of segments")
    demand(fan_bits <= 24 and zero == 0 and row_count < 2**32, "E_HASH", "a header out of range")
    fan_at = HEADER + pack_count * PACK
    rows_at = fan_at + 4 * (2**fan_bits + 1)
    demand(len(data) == rows_at + row_count * ROW, "E_HASH", "lengths that do not add up")
    packs = [struct.unpack("<32sQII", data[at:at + PACK]) for at in range(HEADER, fan_at, PACK)]
    demand(all(zero == 0 for *_, zero in packs), "E_HASH", "a pack without its zeros")
    fan = struct.unpack(f"<{2**fan_bits + 1}I", data[fan_at:rows_at])
    found, last, buckets = {}, b"", [0] * (2**fan_bits)
    for at in range(rows_at, len(data), ROW):
        row = data[at:at + ROW]
        chunk, pack, offset, length, frame, check = struct.unpack("<32sIIIH2s", row)
        demand(blake3(row[:46]).digest()[:2] == check, "E_HASH", "a row that fails its check")
        demand(chunk > last, "E_HASH", "rows out of order")
        demand(pack < pack_count, "E_HASH", "a row in a pack that is not listed")
        last = chunk
        buckets[int.from_bytes(chunk, "big") >> (256 - fan_bits)] += 1
        found[chunk.hex()] = (packs[pack][0].hex(), frame, offset, length)
    below = 0
    for bucket, stated in enumerate(fan):
        demand(stated == below, "E_HASH", "a fan-out that does not count its rows")
        below += buckets[bucket] if bucket < len(buckets) else 0
    return found
