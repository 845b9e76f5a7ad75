"""From a verified snapshot to a directory, and from a directory to its digests: docs/format/tree.md, docs/capture.md.

Everything is read and checked before anything is written; contents are checked while they are. The parents of an entry are
directories that this program made a moment ago, in a directory of its own that nobody else may enter.
"""

import os
import stat

from blake3 import blake3

import digests
import entry
import tree
from refusal import demand

TAKEN = (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def restore(snapshot, target):
    """Makes `target`, a directory that is not there; several trees go below it by name. Returns what could not be had."""
    work = target + ".unfinished"
    os.mkdir(work, 0o700)
    left = []
    trees = [(os.path.join(work, "state") if len(snapshot.trees) == 1 else os.path.join(work, "state", name), entries)
             for name, entries in snapshot.trees.items()]
    if len(trees) > 1:
        os.mkdir(os.path.join(work, "state"))
    for top, entries in trees:
        left += _tree(snapshot.packs.chunk, os.fsencode(top), entries)
    if not left:
        for (top, entries), stated in zip(trees, snapshot.private["trees"]):
            found = digests.of_tree(scan(os.fsencode(top)))
            for name, value in zip(("content_digest", "full_digest"), found):
                demand(value.hex() == stated[name], "E_HASH", f"what was restored has another {name} than {stated['name']}")
    os.rename(os.path.join(work, "state"), target)
    os.rmdir(work)
    return left


def _tree(fetch, top, entries):
    first, left = {}, []
    for each in entries:
        path = os.path.join(top, each.path) if each.path else top
        if each.group in first:
            os.link(first[each.group], path, follow_symlinks=False)
            continue
        if each.type == entry.DIRECTORY:
            os.mkdir(path, 0o700)
        elif each.type == entry.SYMLINK:
            os.symlink(each.target, path)
        elif each.type == entry.FILE:
            _file(fetch, path, each)
        else:
            kinds = {entry.FIFO: stat.S_IFIFO, entry.CHARACTER: stat.S_IFCHR, entry.BLOCK: stat.S_IFBLK}
            os.mknod(path, kinds[each.type] | 0o600, os.makedev(*each.device) if each.device else 0)
        if each.group is not None:
            first[each.group] = path
        if each.type != entry.DIRECTORY:
            left += _metadata(path, each)
    # A directory may be closed to its owner, and making a file in it changes its time.
    for each in reversed(entries):
        if each.type == entry.DIRECTORY:
            left += _metadata(os.path.join(top, each.path) if each.path else top, each)
    return left


def _file(fetch, path, each):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for at, data in tree.pieces(fetch, each):
            file.seek(at)
            file.write(data)
        file.truncate(each.size)


def _metadata(path, each):
    """Owner first, for a change of it takes privileges away; the time last."""
    left = []
    try:
        os.chown(path, each.uid, each.gid, follow_symlinks=False)
    except PermissionError:
        left.append(f"owner of {os.fsdecode(each.path)}")
    for name, value in each.xattrs:
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError:
            left.append(f"{os.fsdecode(name)} of {os.fsdecode(each.path)}")
    if each.type != entry.SYMLINK:
        os.chmod(path, each.mode)
    time = each.mtime[0] * 10**9 + each.mtime[1]
    os.utime(path, ns=(time, time), follow_symlinks=False)
    return left


def scan(top):
    """The entries of a directory as a snapshot would take them, devices included."""
    found, first = [], {}
    def visit(path, relative):
        status = os.lstat(path)
        kinds = {stat.S_IFREG: entry.FILE, stat.S_IFDIR: entry.DIRECTORY, stat.S_IFLNK: entry.SYMLINK,
                 stat.S_IFIFO: entry.FIFO, stat.S_IFCHR: entry.CHARACTER, stat.S_IFBLK: entry.BLOCK}
        kind = kinds.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        each = entry.Entry(relative, kind, status.st_uid, status.st_gid, divmod(status.st_mtime_ns, 10**9))
        if kind == entry.SYMLINK:
            each.target = os.readlink(path)
        else:
            each.mode = stat.S_IMODE(status.st_mode)
        if kind == entry.FILE:
            each.size = status.st_size
            hasher = blake3()
            with open(path, "rb") as file:
                while data := file.read(1 << 20):
                    hasher.update(data)
            each.content = hasher.digest()
        if kind in (entry.CHARACTER, entry.BLOCK):
            each.device = os.major(status.st_rdev), os.minor(status.st_rdev)
        names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
        each.xattrs = [(name, os.getxattr(path, name, follow_symlinks=False))
                       for name in names if name.startswith(b"user.") or name in TAKEN]
        if kind != entry.DIRECTORY and status.st_nlink > 1:
            each.group = first.setdefault((status.st_dev, status.st_ino), blake3(relative).digest()[:16])
        found.append(each)
        if kind == entry.DIRECTORY:
            for name in sorted(os.listdir(path)):
                visit(os.path.join(path, name), os.path.join(relative, name) if relative else name)
    visit(top, b"")
    return found
