"""Packs, frames and chunks: docs/format/pack.md."""

import struct

import zstandard
from blake3 import blake3

from refusal import Refused, demand

MAGIC = b"SNAPPACK"
HEADER, ROW, FOOTER = 16, 72, 48
MOST_PACK = 1 << 30
MOST_RAW = 8 << 20


class Pack:
    """A pack whose table is verified; frames and chunks are verified as they are read."""

    def __init__(self, read_range, length, name, pack_bytes, table_bytes):
        self.read_range, self.pack_bytes, self.name = read_range, pack_bytes, name
        demand(pack_bytes <= MOST_PACK and table_bytes < pack_bytes, "E_SIZE", f"pack {name}: lengths out of range")
        demand(length <= pack_bytes, "E_SIZE", f"pack {name} has {length} bytes instead of {pack_bytes}")
        table = read_range(pack_bytes - table_bytes, table_bytes)
        demand(blake3(table).hexdigest() == name, "E_HASH", f"pack {name}: the table does not hash to the name")
        demand(table_bytes >= FOOTER, "E_HASH", "a table without a footer")
        frames, version, length, _, zero, magic = struct.unpack("<IIQ16s8s8s", table[-FOOTER:])
        rows = [struct.unpack("<IIBBHI24s32s", table[at:at + ROW]) for at in range(0, len(table) - FOOTER - ROW + 1, ROW)]
        # Without the magic the version means nothing.
        if magic == MAGIC:
            demand(version == 0, "E_NEWER", f"version {version} of packs")
            demand(all(codec <= 1 and cipher == 0 for _, _, codec, cipher, *_ in rows), "E_NEWER", "a newer codec or cipher")
        demand(magic == MAGIC and zero == bytes(8), "E_HASH", "a footer without its magic or zeros")
        demand(length == pack_bytes, "E_HASH", "a footer with another length")
        demand(1 <= frames <= 65535 and table_bytes == frames * ROW + FOOTER, "E_HASH", "a footer with another number of frames")
        at, self.frames = HEADER, []
        for stored, raw, codec, _, zero, _, nonce, digest in rows:
            demand(zero == 0 and nonce == bytes(24), "E_HASH", "a row without its zeros")
            demand(stored >= 1 and 1 <= raw <= MOST_RAW and (codec == 1 or stored == raw), "E_HASH", "a row with lengths out of range")
            self.frames.append((at, stored, raw, codec, digest))
            at += stored
        demand(at == pack_bytes - table_bytes, "E_HASH", "frames that do not fill the pack")

    def check_header(self):
        """For whoever reads the whole pack: the name does not cover the header."""
        demand(self.read_range(0, HEADER) == MAGIC + bytes(8), "E_HASH", f"pack {self.name}: the header")

    def frame(self, number):
        """The decoded bytes of a frame."""
        demand(number < len(self.frames), "E_SIZE", f"pack {self.name} has no frame {number}")
        at, stored, raw, codec, digest = self.frames[number]
        data = self.read_range(at, stored)
        demand(blake3(data).digest() == digest, "E_HASH", f"pack {self.name}: frame {number} does not hash to its row")
        return data if codec == 0 else _decode(data, raw)


def _decode(data, raw):
    try:
        parameters = zstandard.get_frame_parameters(data)
        demand(parameters.content_size == raw, "E_HASH", "a frame with another content size than its row")
        demand(parameters.window_size <= MOST_RAW and parameters.dict_id == 0, "E_HASH", "a frame with a large window or a dictionary")
        decoder = zstandard.ZstdDecompressor(max_window_size=MOST_RAW).decompressobj()
        decoded = decoder.decompress(data)
    except zstandard.ZstdError as error:
        raise Refused("E_HASH", f"no zstd frame: {error}") from error
    demand(decoder.eof and not decoder.unused_data, "E_HASH", "not exactly one zstd frame")
    demand(len(decoded) == raw, "E_HASH", "a frame that decodes to another length")
    return decoded


class Packs:
    """Chunks of a store by reference. Keeps the last frames, which hold the neighbours of a chunk."""

    KEPT = 16

    def __init__(self, store):
        self.store, self.packs, self.decoded, self.used = store, {}, {}, {}

    def chunk(self, ref):
        """The bytes of a chunk; `ref` has the fields of a Ref in record.md, with names in hex."""
        return chunk_in(self._frame(ref["pack"], ref["pack_bytes"], ref["table_bytes"], ref["frame"]), ref)

    def _frame(self, name, pack_bytes, table_bytes, number):
        reference = (name, pack_bytes, table_bytes)
        if reference not in self.packs:
            self.packs[reference] = self._open(*reference)
            self.used[name] = pack_bytes
        if (*reference, number) not in self.decoded:
            if len(self.decoded) >= self.KEPT:
                self.decoded.pop(next(iter(self.decoded)))
            self.decoded[(*reference, number)] = self.packs[reference].frame(number)
        return self.decoded[(*reference, number)]

    def _open(self, name, pack_bytes, table_bytes):
        key = f"packs/{name[:2]}/{name}"
        read_range = lambda start, length: self.store.read_range(key, start, length)
        return Pack(read_range, self.store.length(key), name, pack_bytes, table_bytes)


def chunk_in(frame, ref):
    """A chunk in its decoded frame."""
    demand(ref["offset"] + ref["bytes"] <= len(frame), "E_SIZE", f"chunk {ref['chunk']} ends behind its frame")
    data = frame[ref["offset"]:ref["offset"] + ref["bytes"]]
    demand(blake3(data).hexdigest() == ref["chunk"], "E_HASH", f"chunk {ref['chunk']} does not hash to its name")
    return data
