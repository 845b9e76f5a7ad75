"""What a state is, in two digests: docs/format/digests.md."""

import struct

from blake3 import blake3

import entry


NOTHING = blake3(b"").digest()


def _bytes(value):
    return struct.pack("<I", len(value)) + value


def content_row(each):
    """What two equal directories share."""
    row = _bytes(each.path) + struct.pack("<BI", each.type, each.mode)
    if each.type == entry.FILE:
        row += struct.pack("<Q", each.size) + (each.content or NOTHING)
    if each.type == entry.SYMLINK:
        row += _bytes(each.target)
    if each.device is not None:
        row += struct.pack("<II", *each.device)
    return row


def full_row(each, is_link):
    """Everything that comes back."""
    row = content_row(each) + struct.pack("<IIqI", each.uid, each.gid, *each.mtime)
    row += struct.pack("<I", len(each.xattrs)) + b"".join(_bytes(name) + _bytes(value) for name, value in each.xattrs)
    return row + (b"\1" + each.group if is_link else b"\0")


def of_tree(entries):
    """Content and full digest of the entries of a tree."""
    content, full, seen = blake3(), blake3(), set()
    for each in entries:
        content.update(content_row(each))
        full.update(full_row(each, each.group in seen))
        seen |= {each.group} - {None}
    return content.digest(), full.digest()


def of_state(trees):
    """Content and full digest of {name: digests of the tree}."""
    return tuple(
        blake3(b"".join(_bytes(name.encode()) + digests[which] for name, digests in sorted(trees.items()))).digest()
        for which in (0, 1))
