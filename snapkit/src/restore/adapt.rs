//! What cannot be had here: owners without root, attributes the file system lacks, devices nobody asked for.
//!
//! The plan is changed before anything is written, so that the proof stays an equality, and every change is listed.

use std::collections::HashMap;

use crate::entry::{Entry, Kind, OwnerNames, group_of, printable};

/// Who owns what is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The numbers in the snapshot.
    Ids,
    /// The names in the snapshot, with the numbers they have here; numbers where a name is not known.
    Names,
    /// Whoever restores.
    Me,
}

/// Paths listed by name for each kind of change; further ones are counted.
const LISTED: usize = 20;

/// One kind of change and the paths it was made to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapted {
    /// How many paths.
    pub count: u64,
    /// The first of them, printable.
    pub paths: Vec<String>,
}

impl Adapted {
    fn note(&mut self, path: &[u8]) {
        self.count += 1;
        if self.paths.len() < LISTED {
            self.paths.push(printable(path));
        }
    }
}

/// The changes made to a plan, by what they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Owned by whoever restores, instead of by the owner in the snapshot.
    pub owners: Adapted,
    /// Setuid or setgid dropped, because the owner is another.
    pub setid: Adapted,
    /// Attributes dropped.
    pub xattrs: Adapted,
    /// Fifos and devices left out.
    pub devices: Adapted,
}

/// Changes entries to what can be had.
pub(super) struct Adapter<'a> {
    owners: Owners,
    devices: bool,
    names: &'a OwnerNames,
    me: (u32, u32),
    is_root: bool,
    xattrs: bool,
    local_users: HashMap<u32, u32>,
    local_groups: HashMap<u32, u32>,
    groups: HashMap<[u8; 16], [u8; 16]>,
    pub(super) changes: Changes,
}

impl<'a> Adapter<'a> {
    /// `xattrs`: whether the target's file system has them.
    pub(super) fn new(owners: Owners, devices: bool, names: &'a OwnerNames, xattrs: bool) -> Self {
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            owners,
            devices,
            names,
            me,
            is_root: me.0 == 0,
            xattrs,
            local_users: HashMap::new(),
            local_groups: HashMap::new(),
            groups: HashMap::new(),
            changes: Changes::default(),
        }
    }

    /// The entry as it will be restored; `None` when it is left out.
    pub(super) fn adapt(&mut self, mut entry: Entry) -> Option<Entry> {
        if !self.devices && matches!(entry.kind, Kind::Fifo | Kind::CharDevice { .. } | Kind::BlockDevice { .. }) {
            self.changes.devices.note(&entry.path);
            return None;
        }
        let wanted = self.wanted_owner(&entry);
        let granted = if self.owners == Owners::Me || !self.is_root { self.me } else { wanted };
        if granted != (entry.uid, entry.gid) {
            if self.owners != Owners::Names || granted != wanted {
                self.changes.owners.note(&entry.path);
            }
            if granted != wanted && entry.mode & 0o6000 != 0 && matches!(entry.kind, Kind::File { .. }) {
                entry.mode &= !0o6000;
                self.changes.setid.note(&entry.path);
            }
            (entry.uid, entry.gid) = granted;
        }
        let keep = |name: &[u8]| self.xattrs && (self.is_root || !name.starts_with(b"security."));
        let before = entry.xattrs.len();
        entry.xattrs.retain(|(name, _)| keep(name));
        if entry.xattrs.len() < before {
            self.changes.xattrs.note(&entry.path);
        }
        // Of a group of which only a part is restored, the first that is restored is the first member.
        if let Some(group) = entry.group {
            entry.group = Some(*self.groups.entry(group).or_insert_with(|| group_of(&entry.path)));
        }
        Some(entry)
    }

    fn wanted_owner(&mut self, entry: &Entry) -> (u32, u32) {
        if self.owners != Owners::Names {
            return (entry.uid, entry.gid);
        }
        let names = self.names;
        let local = |name: Option<&Vec<u8>>| name.and_then(|name| String::from_utf8(name.clone()).ok());
        let uid = *self.local_users.entry(entry.uid).or_insert_with(|| {
            let user = local(names.users.get(&entry.uid)).and_then(|name| nix::unistd::User::from_name(&name).ok()?);
            user.map_or(entry.uid, |user| user.uid.as_raw())
        });
        let gid = *self.local_groups.entry(entry.gid).or_insert_with(|| {
            let group =
                local(names.groups.get(&entry.gid)).and_then(|name| nix::unistd::Group::from_name(&name).ok()?);
            group.map_or(entry.gid, |group| group.gid.as_raw())
        });
        (uid, gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: u32) -> Entry {
        let xattrs = vec![(b"security.capability".to_vec(), vec![1]), (b"user.a".to_vec(), vec![2])];
        Entry {
            path: b"a".to_vec(),
            kind: Kind::empty_file(),
            mode,
            uid: 77,
            gid: 78,
            mtime_s: 0,
            mtime_ns: 0,
            xattrs,
            group: None,
            torn: false,
        }
    }

    fn adapt_as(me: (u32, u32), owners: Owners, entry: Entry) -> (Entry, Changes) {
        let names = OwnerNames::default();
        let mut adapter = Adapter { me, is_root: me.0 == 0, ..Adapter::new(owners, false, &names, true) };
        let adapted = adapter.adapt(entry).unwrap();
        (adapted, adapter.changes)
    }

    #[test]
    fn root_keeps_owner_setuid_and_capabilities() {
        assert_eq!(adapt_as((0, 0), Owners::Ids, entry(0o4755)), (entry(0o4755), Changes::default()));
    }

    #[test]
    fn without_root_owner_setuid_and_capabilities_are_dropped_and_listed() {
        let (adapted, changes) = adapt_as((5, 6), Owners::Ids, entry(0o6755));
        assert_eq!((adapted.uid, adapted.gid, adapted.mode), (5, 6, 0o755));
        assert_eq!(adapted.xattrs, [(b"user.a".to_vec(), vec![2])]);
        assert_eq!((changes.owners.count, changes.setid.count, changes.xattrs.count), (1, 1, 1));
        assert_eq!(changes.setid.paths, ["a"]);
    }

    #[test]
    fn ones_own_files_keep_setuid_without_root() {
        let (adapted, changes) = adapt_as((77, 78), Owners::Ids, entry(0o4755));
        assert_eq!((adapted.mode, changes.setid.count), (0o4755, 0));
    }

    #[test]
    fn fifo_is_left_out_unless_asked_for() {
        let names = OwnerNames::default();
        let fifo = Entry { kind: Kind::Fifo, xattrs: vec![], ..entry(0o644) };
        assert_eq!(Adapter::new(Owners::Me, false, &names, true).adapt(fifo.clone()), None);
        assert!(Adapter::new(Owners::Me, true, &names, true).adapt(fifo).is_some());
    }
}
