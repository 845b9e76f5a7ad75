"""A whole tree, read from its top index chunk and checked before anything uses it: docs/format/tree.md."""

from blake3 import blake3

import entry
from refusal import demand


def order(path):
    """Paths compare component by component, as bytes."""
    return path.split(b"/") if path else []


def read(fetch, index, stated):
    """The entries of a tree; `fetch` gives the bytes of a reference, `stated` is how many the record counts."""
    found = []
    count = _index(fetch, fetch(index), None, None, found)
    demand(count == stated, "E_SIZE", f"{count} entries where the record counts {stated}")
    _check_order(found)
    _check_groups(found)
    for each in found:
        each.refs += _listed(fetch, each)
        demand(sum(ref["bytes"] for ref in each.refs) + sum(length for _, length in each.holes) == each.size,
               "E_SIZE", f"chunks and holes of {each.path!r} do not make up its size")
    return found


def _index(fetch, data, level, first, found):
    """Appends the entries below an index chunk; returns their number."""
    items = entry.sequence(data)
    header = entry.Header(items[0][0])
    demand(1 <= header.level <= entry.MOST_LEVEL, "E_KIND", f"an index of level {header.level}")
    demand(level is None or header.level == level, "E_KIND", f"an index of level {header.level} in the place of {level}")
    demand(len(items) > 1, "E_KIND", "an index without children")
    total, last = 0, None
    for number, (child, _) in enumerate(items[1:]):
        path, ref, stated = entry.listing(child, "a child", 3)
        entry.byte_string(path, "the first path of a child")
        demand(number or first is None or path == first, "E_PATH", "an index that does not begin with its first path")
        demand(last is None or order(last) < order(path), "E_KIND", "children out of order")
        last = path
        below = fetch(header.ref(ref))
        if header.level == 1:
            count = _leaf(below, path, found)
        else:
            count = _index(fetch, below, header.level - 1, path, found)
        demand(count == entry.number(stated, entry.U64, "a number of entries"), "E_SIZE", "a child with another number of entries")
        total += count
    return total


def _leaf(data, first, found):
    items = entry.sequence(data)
    header = entry.Header(items[0][0])
    demand(header.level == 0, "E_KIND", "an index in the place of a leaf")
    entries = [entry.entry(value, length, header) for value, length in items[1:]]
    demand(entries and entries[0].path == first, "E_PATH", "a leaf that does not begin with its first path")
    found += entries
    return len(entries)


def _check_order(entries):
    top = entries[0]
    demand(top.path == b"" and top.type == entry.DIRECTORY, "E_PATH", "the first entry is not the directory itself")
    types = {}
    for before, each in zip([None] + entries, entries):
        if before is not None:
            demand(order(before.path) < order(each.path), "E_PATH", f"{each.path!r} is not in order")
            parent = each.path.rpartition(b"/")[0]
            demand(parent in types, "E_PATH", f"{each.path!r} has no parent")
            demand(types[parent] == entry.DIRECTORY, "E_LINK", f"the parent of {each.path!r} is no directory")
        types[each.path] = each.type


def _check_groups(entries):
    first = {}
    for each in entries:
        if each.group is None:
            continue
        if blake3(each.path).digest()[:16] == each.group:
            first[each.group] = each
        demand(each.group in first, "E_LINK", f"{each.path!r} is a link to nothing before it")
        demand(each.without_path() == first[each.group].without_path(), "E_LINK", f"{each.path!r} differs from what it is a link to")


def _listed(fetch, each):
    """The chunks of a file that are listed in chunks of their own."""
    refs = []
    for ref in each.lists:
        items = entry.sequence(fetch(ref))
        header = entry.Header(items[0][0])
        demand(header.level == 0, "E_KIND", "an index in the place of a list")
        refs += [header.ref(value) for value, _ in items[1:]]
    return refs


def packs(fetch, lists):
    """Lists of packs: pack name -> length."""
    found = {}
    for ref in lists:
        items = entry.sequence(fetch(ref))
        demand(len(items) == 1, "E_KIND", "more than a header in a list of packs")
        for pack in entry.Header(items[0][0]).packs:
            found[pack["pack"]] = pack["pack_bytes"]
    return found


def pieces(fetch, each):
    """The content of a file as (offset, bytes), without its holes. Refuses what does not hash to `content`."""
    whole, at, holes = blake3(), 0, list(each.holes)
    def skip():
        nonlocal at
        while holes and holes[0][0] == at:
            length = holes.pop(0)[1]
            for start in range(0, length, 1 << 20):
                whole.update(bytes(min(1 << 20, length - start)))
            at += length
    for ref in each.refs:
        skip()
        data, start = fetch(ref), 0
        while start < len(data):
            skip()
            end = len(data) if not holes else min(len(data), start + holes[0][0] - at)
            yield at, data[start:end]
            whole.update(data[start:end])
            at, start = at + end - start, end
    skip()
    demand(at == each.size and (each.content is None or whole.digest() == each.content),
           "E_HASH", f"the content of {each.path!r} does not hash to its name")
