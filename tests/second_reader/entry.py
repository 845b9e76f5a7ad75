"""Leaves, indexes and entries, decoded and each judged for itself: docs/format/tree.md."""

import io
from dataclasses import dataclass, field, replace

import cbor2

from refusal import Refused, demand

MOST_CHUNK, MOST_ENTRY, MOST_PATH, MOST_LISTED, MOST_LEVEL = 1 << 20, 128 << 10, 65535, 1024, 4
FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCK = range(6)
U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1


def sequence(data):
    """The items of a deterministic CBOR sequence, each with its length."""
    demand(len(data) <= MOST_CHUNK, "E_KIND", f"a chunk of {len(data)} bytes")
    stream, items, at = io.BytesIO(data), [], 0
    decoder = cbor2.CBORDecoder(stream, allow_indefinite=False, allow_duplicate_keys=False, max_depth=16)
    while at < len(data):
        try:
            item = decoder.decode()
            again = cbor2.dumps(item, canonical=True)
        except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise Refused("E_KIND", f"no CBOR: {error}") from error
        # One check for shortest integers, definite lengths and the order of keys: it is what encoding it again gives.
        demand(data.startswith(again, at), "E_KIND", "CBOR that is not deterministic")
        items.append((item, len(again)))
        at += len(again)
    demand(items, "E_KIND", "an empty chunk")
    return items


def number(value, most, what):
    demand(type(value) is int and 0 <= value <= most, "E_KIND", f"{what} is no such number: {value!r}")
    return value


def byte_string(value, what, least=0, most=None):
    demand(isinstance(value, bytes) and len(value) >= least, "E_KIND", f"{what} is no such byte string")
    demand(most is None or len(value) <= most, "E_KIND", f"{what} is too long")
    return value


def listing(value, what, length=None, least=0):
    demand(isinstance(value, (list, tuple)) and len(value) >= least, "E_KIND", f"{what} is no such list")
    demand(length is None or len(value) == length, "E_KIND", f"{what} has {len(value)} parts")
    return value


def _keys(value, known, what):
    demand(isinstance(value, dict), "E_KIND", f"{what} is no map")
    for key in value:
        demand(type(key) is int and key >= 0, "E_KIND", f"{what} has the key {key!r}")
        demand(key in known or key >= 64, "E_NEWER", f"{what} has the unknown key {key}")
    return value


class Header:
    """What every leaf, index and list begins with."""

    def __init__(self, value):
        _keys(value, {0, 1, 2, 3}, "a header")
        demand(0 in value, "E_KIND", "a header without packs")
        self.packs = []
        for pack in listing(value[0], "packs"):
            name, pack_bytes, table_bytes = listing(pack, "a pack", 3)
            byte_string(name, "the name of a pack", 32, 32)
            self.packs.append({"pack": name.hex(), "pack_bytes": number(pack_bytes, U32, "pack_bytes"),
                               "table_bytes": number(table_bytes, U32, "table_bytes")})
        for key in (1, 2):
            for owner in listing(value.get(key, []), "owner names"):
                identity, name = listing(owner, "an owner name", 2)
                number(identity, U32, "an owner")
                byte_string(name, "an owner name")
        self.level = number(value.get(3, 0), U32, "a level")

    def ref(self, value, content=None):
        """A reference with the pack it points to; `content` stands for a name that is not written."""
        chunk, length, pack, frame, offset = listing(value, "a reference", 5)
        if chunk is None:
            demand(content is not None, "E_KIND", "a reference without a name")
            chunk = content
        byte_string(chunk, "the name of a chunk", 32, 32)
        demand(number(pack, U32, "a pack") < len(self.packs), "E_KIND", "a pack that the header does not list")
        return {"chunk": chunk.hex(), "bytes": number(length, U32, "a length") or _zero(), **self.packs[pack],
                "frame": number(frame, U16, "a frame"), "offset": number(offset, U32, "an offset")}


def _zero():
    raise Refused("E_KIND", "a chunk of 0 bytes")


@dataclass
class Entry:
    """One path."""

    path: bytes
    type: int
    uid: int
    gid: int
    mtime: tuple
    mode: int = 0
    size: int = 0
    content: bytes = None
    refs: list = field(default_factory=list)
    lists: list = field(default_factory=list)
    holes: list = field(default_factory=list)
    target: bytes = None
    device: tuple = None
    xattrs: list = field(default_factory=list)
    group: bytes = None
    torn: bool = False

    def without_path(self):
        """What all members of a group of links share: all that the full digest covers, but for the path."""
        return replace(self, path=b"", refs=[], lists=[], holes=[], torn=False)


REGULAR_ONLY = {7, 8, 9, 10, 11, 16}


def entry(value, length, header):
    """An entry and every rule that shows in it alone."""
    _keys(value, set(range(17)), "an entry")
    demand(length <= MOST_ENTRY, "E_KIND", "an entry of more than 128 KiB")
    demand({0, 1, 3, 4, 5} <= set(value), "E_KIND", "an entry without path, type, owner or time")
    kind = number(value[1], U32, "a type")
    demand(kind <= BLOCK, "E_NEWER", f"an entry of type {kind}")
    path = _path(byte_string(value[0], "a path"))
    demand(type(value[5]) is int and -(2**63) <= value[5] < 2**63, "E_KIND", "no such time")
    made = Entry(path, kind, number(value[3], U32, "an owner"), number(value[4], U32, "a group"),
                 (value[5], number(value.get(6, 0), 999_999_999, "nanoseconds")))
    demand((2 in value) == (kind != SYMLINK), "E_KIND", "a mode where none is due, or none")
    made.mode = number(value.get(2, 0), 0o7777, "a mode")
    demand(kind == FILE or not REGULAR_ONLY & set(value), "E_KIND", "a field of files on something else")
    demand((12 in value) == (kind == SYMLINK), "E_KIND", "a target where none is due, or none")
    if kind == SYMLINK:
        made.target = byte_string(value[12], "a target", 1)
        demand(b"\0" not in made.target, "E_KIND", "a target with a NUL byte")
    demand((13 in value) == (kind in (CHARACTER, BLOCK)), "E_KIND", "device numbers where none are due, or none")
    if 13 in value:
        made.device = tuple(number(each, U32, "a device number") for each in listing(value[13], "device numbers", 2))
    for pair in listing(value.get(14, [(b"", b"")]), "attributes", least=1) if 14 in value else []:
        name, data = listing(pair, "an attribute", 2)
        demand(b"\0" not in byte_string(name, "the name of an attribute", 1), "E_KIND", "an attribute's name with a NUL byte")
        made.xattrs.append((name, byte_string(data, "an attribute")))
    names = [name for name, _ in made.xattrs]
    demand(names == sorted(set(names)), "E_KIND", "attributes not in order")
    if 15 in value:
        demand(kind != DIRECTORY, "E_KIND", "a directory in a group of links")
        made.group = byte_string(value[15], "a group", 16, 16)
    if 16 in value:
        demand(value[16] is True, "E_KIND", "`torn` is not true")
        made.torn = True
    if kind == FILE:
        _content(made, value, header)
    return made


def _content(made, value, header):
    made.size = number(value.get(7, 0), U64, "a size")
    if made.size == 0:
        demand(not {8, 9, 10, 11} & set(value), "E_KIND", "an empty file with content")
        return
    demand(8 in value, "E_KIND", "a file without a content hash")
    made.content = byte_string(value[8], "a content hash", 32, 32)
    demand(not (9 in value and 10 in value), "E_KIND", "both lists of chunks")
    refs = listing(value.get(9, []), "chunks")
    demand(len(refs) <= MOST_LISTED, "E_KIND", "too many chunks in an entry")
    made.refs = [header.ref(ref, made.content) for ref in refs]
    if 10 in value:
        made.lists = [header.ref(ref) for ref in listing(value[10], "lists of chunks", least=1)]
    end = -1
    holes = listing(value[11], "holes", least=1) if 11 in value else []
    demand(len(holes) <= MOST_LISTED, "E_KIND", "too many holes")
    for hole in holes:
        offset, length = (number(each, U64, "a hole") for each in listing(hole, "a hole", 2))
        demand(length > 0 and offset > end and offset + length <= made.size, "E_SIZE", "holes that are empty, touch or end behind the file")
        made.holes.append((offset, length))
        end = offset + length


def _path(path):
    demand(len(path) <= MOST_PATH, "E_PATH", "a path of more than 65,535 bytes")
    for component in path.split(b"/") if path else []:
        demand(1 <= len(component) <= 255 and component not in (b".", b"..") and b"\0" not in component,
               "E_PATH", f"the path {path[:80]!r}")
    return path
