#!/usr/bin/env python3
"""The second reader: verifies a snapkit store and restores from it, without a line of snapkit.

Written from docs/format/ alone. It believes nothing but the pin that it is given.

    reader.py verify  STORE --root SHA256 [--now TIME] [--data]
    reader.py ls      STORE --root SHA256 [--now TIME] [--snapshot SEQ]
    reader.py restore STORE --root SHA256 [--now TIME] [--snapshot SEQ] TARGET
    reader.py receipt STORE --root SHA256 [--now TIME] FILE
    reader.py manifest STORE --root SHA256 [--now TIME] FILE
    reader.py fork-proof FILE --root SHA256
    reader.py cases   TESTDATA
"""

import argparse
import os
import sys
import time

import cases
import digests
import entry
import fork_proof
import log
import manifest
import receipt
import root
import segment
import strict_json
from chain import Chain
from refusal import Refused, demand
from restore import restore
from snapshot import Snapshot
from store import DirectoryStore


def open_chain(arguments):
    """Pin, roots, every record: all that is signed."""
    store = DirectoryStore(arguments.store)
    trusted = root.newest(store, arguments.root, moment(arguments))
    return store, Chain(trusted, arguments.root).read(store)


def moment(arguments):
    """Now, or the time that stands for it."""
    return strict_json.time(arguments.now, "now") if arguments.now else (int(time.time()), 0)


def pick(chain, seq):
    """A snapshot or image by number, or the latest snapshot."""
    if seq is None:
        return chain.latest()
    found = [record for record in chain.records() if record.seq == seq and record.kind in ("snapshot", "image")]
    demand(found, "E_MISSING", "there is no such snapshot")
    return found[0]


def verify(arguments):
    """All that is signed, the tiles, every tree; with --data every byte."""
    store, chain = open_chain(arguments)
    right, wrong = log.check_tiles(store, [log.leaf(data) for data in chain.leaves()])
    places = {}
    for stated in chain.head.segments:
        data = store.read(f"segments/{stated['id']}", stated["bytes"] + 1)
        demand(len(data) == stated["bytes"], "E_SIZE", f"segment {stated['id']} has another length")
        places.update(segment.read(data, stated["id"]))
    total = 0
    states = [record for record in chain.records() if record.kind in ("snapshot", "image")]
    for record in states:
        snapshot = Snapshot(store, record)
        for each in snapshot.entries():
            for ref in each.refs + each.lists:
                demand(ref["chunk"] in places, "E_MISSING", f"no segment knows chunk {ref['chunk']}")
        total += snapshot.read_all() if arguments.data else 0
    print(f"slots={chain.log.size} records={len(chain.records())} states={len(states)} "
          f"tiles={right} wrong_tiles={wrong} chunks={len(places)} bytes={total} log={chain.log.root().hex()}")


def listing(snapshot):
    """A line for every entry, as testdata/stores/*/expected has them."""
    kinds = ["file", "directory", "symlink", "fifo", "character device", "block device"]
    for name, entries in snapshot.trees.items():
        for each in entries:
            parts = [name.encode()] if len(snapshot.trees) > 1 else []
            path = b"/".join(parts + ([each.path] if each.path else []))
            line = [kinds[each.type], f"{each.mode:04o}", f"{each.uid}:{each.gid}",
                    f"{each.mtime[0]}+{each.mtime[1]:09}", quoted(path)]
            if each.type == entry.FILE:
                line += [f"bytes={each.size}", f"content={(each.content or digests.NOTHING).hex()}"]
            if each.target is not None:
                line.append(f"target={quoted(each.target)}")
            if each.device:
                line.append(f"rdev={each.device[0]}:{each.device[1]}")
            line += [f"hole={offset}+{length}" for offset, length in each.holes]
            line += [f"{attribute.decode()}={value.hex()}" for attribute, value in each.xattrs]
            if each.group:
                line.append(f"group={each.group.hex()}")
            yield " ".join(line)


def quoted(path):
    """UTF-8; other bytes, `%` and what would end a line or a word stand as %XX."""
    text = path.decode("utf-8", "surrogateescape")
    odd = lambda each: each == "%" or each < "!" or each == "\x7f" or "\ud800" <= each <= "\udfff"
    return "".join(f"%{each.encode('utf-8', 'surrogateescape')[0]:02X}" if odd(each) else each for each in text)


def list_entries(arguments):
    """What a snapshot holds."""
    store, chain = open_chain(arguments)
    print("\n".join(listing(Snapshot(store, pick(chain, arguments.snapshot)))))


def run_restore(arguments):
    """A snapshot as a directory."""
    store, chain = open_chain(arguments)
    snapshot = Snapshot(store, pick(chain, arguments.snapshot))
    for what in restore(snapshot, arguments.target):
        print(f"left out: {what}", file=sys.stderr)


def check_receipt(arguments):
    """A receipt under the root of its store, and the record it names."""
    _, chain = open_chain(arguments)
    with open(arguments.file, "rb") as file:
        found = receipt.verify(file.read(receipt.LIMIT + 1), chain.root, arguments.root, chain.id)
    record = pick(chain, found["record"]["seq"])
    demand(record.digest == found["record"]["digest"], "E_INCONSISTENT", "the receipt names another record")
    print(f"restored #{record.seq} exact={str(found['exact']).lower()} proof={found['proof']}")


def check_manifest(arguments):
    """A manifest under the root of its store, and the chain it speaks of."""
    _, chain = open_chain(arguments)
    with open(arguments.file, "rb") as file:
        data = file.read(manifest.LIMIT + 1)
    now = moment(arguments)
    found, pinned = manifest.verify(data, chain.root, arguments.root, chain.id, now)
    manifest.check(found, pinned, chain, now)
    print(f"fresh name={found['name']} version={found['version']} head={found['head']['seq']} snapshot={found['snapshot']['seq']}")


def check_fork_proof(arguments):
    """A proof needs the digest of the first root alone."""
    with open(arguments.file, "rb") as file:
        one, other = fork_proof.verify(file.read(fork_proof.MOST + 1), arguments.root)
    print(f"proved #{one.seq} {one.digest} and #{other.seq} {other.digest}")


def run_cases(arguments):
    """Everything in testdata/."""
    failed = cases.run(arguments.testdata)
    print("\n".join(failed))
    return 1 if failed else 0


def main():
    """Exit code 0, or 3 with the class of the refusal at the end of a line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in [("verify", verify), ("ls", list_entries), ("restore", run_restore), ("receipt", check_receipt),
                      ("manifest", check_manifest)]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("store")
        command.add_argument("--root", required=True)
        command.add_argument("--now")
        if name in ("ls", "restore"):
            command.add_argument("--snapshot", type=int)
        if name == "verify":
            command.add_argument("--data", action="store_true")
        if name == "restore":
            command.add_argument("target")
        if name in ("receipt", "manifest"):
            command.add_argument("file")
    command = commands.add_parser("fork-proof")
    command.set_defaults(run=check_fork_proof)
    command.add_argument("file")
    command.add_argument("--root", required=True)
    command = commands.add_parser("cases")
    command.set_defaults(run=run_cases)
    command.add_argument("testdata")
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments) or 0
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
