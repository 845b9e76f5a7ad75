"""The Merkle tree over the slots, RFC 6962: docs/format/record.md ("Log"), docs/format/store.md ("Tiles")."""

import hashlib
import re

NOTHING = hashlib.sha256(b"").digest()
TILE = 256


def leaf(data):
    """Hash of a slot; `data` is the digest of its record, or `NOTHING` if it is void."""
    return hashlib.sha256(b"\0" + data).digest()


def node(left, right):
    """Hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes):
    """RFC 6962, 2.1, from leaf hashes."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else NOTHING
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root_of(hashes[:split]), root_of(hashes[split:]))


class Log:
    """The state of the log: its size and the roots of its perfect subtrees, the largest first."""

    def __init__(self):
        self.size = 0
        self.frontier = []

    def push(self, data):
        """Adds a slot."""
        top, size = leaf(data), self.size
        while size & 1:
            top, size = node(self.frontier.pop(), top), size >> 1
        self.frontier.append(top)
        self.size += 1

    def root(self):
        """Folds the frontier from the right."""
        if not self.frontier:
            return NOTHING
        top = self.frontier[-1]
        for left in reversed(self.frontier[:-1]):
            top = node(left, top)
        return top

    def as_record(self):
        """As records write it."""
        return {"size": self.size, "root": self.root().hex(), "frontier": [each.hex() for each in self.frontier]}


def follows(stated):
    """Whether the root of a log follows from its frontier, which has one hash for each one bit of the size."""
    state = Log()
    state.size, state.frontier = stated["size"], [bytes.fromhex(each) for each in stated["frontier"]]
    return len(state.frontier) == state.size.bit_count() and state.root().hex() == stated["root"]


def check_tiles(store, leaves):
    """How many tiles in a store hold the hashes that follow from the slots, and how many do not.

    They are hints, and a fork makes old ones wrong.
    """
    levels = [leaves]
    while len(levels[-1]) >= TILE:
        below = levels[-1]
        levels.append([root_of(below[at:at + TILE]) for at in range(0, len(below) - TILE + 1, TILE)])
    right = wrong = 0
    for key in store.keys("tile"):
        found = re.fullmatch(r"tile/(\d+)/((?:x\d{3}/)*\d{3})(?:\.p/(\d+))?", key)
        if not found:
            continue
        level, width = int(found[1]), int(found[3] or TILE)
        first = int(found[2].replace("x", "").replace("/", "")) * TILE
        hashes = levels[level][first:first + width] if level < len(levels) else []
        holds = len(hashes) == width and store.read(key, 32 * TILE + 1) == b"".join(hashes)
        right, wrong = right + holds, wrong + (not holds)
    return right, wrong
