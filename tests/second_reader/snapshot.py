"""A snapshot: its trees, held against its record: docs/format/record.md ("snapshot"), tree.md, digests.md."""

import digests
import entry
import tree
from pack import Packs
from refusal import demand


class Snapshot:
    """Every entry of every tree of a snapshot record, verified; contents are verified as they are read."""

    def __init__(self, store, record):
        body = record.body["state"] if record.kind == "image" else record.body
        self.private, self.packs = body["private"], Packs(store)
        public, private = body["public"], self.private
        self.trees, found = {}, {}
        for stated in private["trees"]:
            entries = tree.read(self.packs.chunk, stated["index"], stated["entries"])
            files = [each for each in entries if each.type == entry.FILE]
            demand(len(files) == stated["files"], "E_SIZE", f"{stated['name']} has {len(files)} files, not {stated['files']}")
            total = sum(each.size for each in files)
            demand(total == stated["bytes"], "E_SIZE", f"{stated['name']} has {total} bytes, not {stated['bytes']}")
            found[stated["name"]] = check(stated, digests.of_tree(entries), stated["name"])
            self.trees[stated["name"]] = entries
        check(private, digests.of_state(found), "the state")
        self._check_packs(public["packs"])

    def _check_packs(self, stated):
        listed = tree.packs(self.packs.chunk, stated["list"])
        listed.update({each["id"]: each["bytes"] for each in stated["last"]})
        demand((len(listed), sum(listed.values())) == (stated["count"], stated["bytes"]), "E_SIZE", "packs that are not counted right")
        needed = {ref["pack"]: ref["pack_bytes"] for each in self.entries() for ref in each.refs + each.lists}
        needed.update(self.packs.used)
        for name, length in needed.items():
            demand(listed.get(name) == length, "E_SIZE", f"pack {name} is needed and not listed")

    def entries(self):
        """Of all trees."""
        for entries in self.trees.values():
            yield from entries

    def read_all(self):
        """Reads and verifies the content of every file; returns the number of bytes."""
        total = 0
        for each in self.entries():
            if each.type == entry.FILE:
                total += sum(len(data) for _, data in tree.pieces(self.packs.chunk, each))
        return total


def check(stated, found, what):
    """Holds two digests against those in a record."""
    for name, value in zip(("content_digest", "full_digest"), found):
        demand(value.hex() == stated[name], "E_HASH", f"the {name} of {what} is {value.hex()}, not {stated[name]}")
    return found
