//! Is every object there that records refer to?

use std::collections::{BTreeSet, HashMap, HashSet};

use manifests::document::record::SegmentRef;
use manifests::document::snapshot as document;
use manifests::refusal::Class;

use super::{Finding, Report, VerifyError, finding};
use crate::entry::{PackSet, decode_refs};
use crate::fetch::{FetchError, Fetcher};
use crate::id::{ContentHash, PackId, SegmentId};
use crate::located::{Located, pack_from_document};
use crate::pack::PackInfo;
use crate::store::{Ability, Store, StoreError};
use crate::tree::TreeError;

/// Everything that snapshots refer to.
#[derive(Default)]
pub struct Inventory {
    /// All packs that any snapshot needs.
    pub packs: HashSet<PackInfo>,
    /// Each different list of packs, by its hash, with the names of the snapshots that have it.
    lists: HashMap<ContentHash, (document::Packs, BTreeSet<String>)>,
    broken: Vec<Finding>,
}

impl Inventory {
    /// Adds what a snapshot refers to. Unchanged snapshots share their list, which is read once.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub fn add(&mut self, fetcher: &Fetcher<'_>, name: &str, snapshot: &document::Snapshot) -> Result<(), VerifyError> {
        let packs = &snapshot.public.packs;
        let reference = ContentHash::of(format!("{packs:?}").as_bytes());
        if let Some((_, names)) = self.lists.get_mut(&reference) {
            names.insert(name.to_owned());
            return Ok(());
        }
        self.lists.insert(reference, (packs.clone(), BTreeSet::from([name.to_owned()])));
        match pack_list(fetcher, packs) {
            Ok(packs) => self.packs.extend(packs),
            Err(error) => {
                let mut broken = finding(error, &format!("the list of packs of {name}"))?;
                broken.snapshots.insert(name.to_owned());
                self.broken.push(broken);
            }
        }
        Ok(())
    }

    /// Names, in each finding about a pack, the snapshots that need it.
    pub fn name_affected(&self, fetcher: &Fetcher<'_>, report: &mut Report) {
        if report.findings.iter().all(|finding| finding.pack.is_none()) {
            return;
        }
        for (packs, names) in self.lists.values() {
            // Lists that cannot be read are findings themselves.
            let needed: HashSet<PackId> = pack_list(fetcher, packs).into_iter().flatten().map(|pack| pack.id).collect();
            for finding in &mut report.findings {
                if finding.pack.is_some_and(|pack| needed.contains(&pack)) {
                    finding.snapshots.extend(names.iter().cloned());
                }
            }
        }
    }
}

/// All packs that a snapshot needs.
///
/// # Errors
/// [`FetchError`] when its list cannot be read.
pub fn pack_list(fetcher: &Fetcher<'_>, packs: &document::Packs) -> Result<Vec<PackInfo>, FetchError> {
    let malformed = || {
        let what = "a reference of its record is out of range".to_owned();
        FetchError::Tree(TreeError::Codec(crate::entry::CodecError::Malformed(what)))
    };
    let mut all = packs.last.iter().map(pack_from_document).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    for list in &packs.list {
        let bytes = fetcher.located(&Located::from_document(list).ok_or_else(malformed)?)?;
        let mut set = PackSet::default();
        decode_refs(&bytes, &mut set).map_err(TreeError::from)?;
        all.extend((0..set.len() as u32).map(|i| set.get(i)));
    }
    Ok(all)
}

/// Compares what is needed with what the store has.
///
/// # Errors
/// When the store cannot be asked.
pub fn take_inventory(
    store: &dyn Store,
    inventory: &Inventory,
    segments: &[SegmentRef],
    report: &mut Report,
) -> Result<(), VerifyError> {
    inventory.broken.iter().for_each(|broken| report.add(broken.clone()));
    let present = present(store)?;
    report.packs = inventory.packs.len() as u64;
    report.pack_bytes = inventory.packs.iter().map(|pack| pack.pack_bytes).sum();
    report.segments = segments.len() as u64;
    if let Some(present) = &present {
        let id_of = |key: &str| key.rsplit('/').next().and_then(|name| name.parse::<PackId>().ok());
        let ids: HashSet<PackId> = inventory.packs.iter().map(|pack| pack.id).collect();
        let unneeded =
            present.keys().filter(|key| key.starts_with("packs/") && !id_of(key).is_some_and(|id| ids.contains(&id)));
        report.unneeded_packs = unneeded.count() as u64;
    }
    let length = |key: &str| -> Result<Option<u64>, VerifyError> {
        match &present {
            Some(present) => Ok(present.get(key).copied()),
            None => match store.size(key) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(StoreError::Missing { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    };
    for pack in &inventory.packs {
        if let Some((class, what)) = wrong(length(&pack.id.key())?, pack.pack_bytes) {
            let snapshots = BTreeSet::new();
            report.add(Finding { object: pack.id.key(), what, class, pack: Some(pack.id), snapshots });
        }
    }
    for segment in segments {
        let key = SegmentId(segment.id.0).key();
        if let Some((class, what)) = wrong(length(&key)?, segment.bytes) {
            let what = format!("{what}; no snapshot needs it, the next snapshot replaces it");
            report.add(Finding { object: key, what, class, pack: None, snapshots: BTreeSet::new() });
        }
    }
    Ok(())
}

fn wrong(found: Option<u64>, expected: u64) -> Option<(Class, String)> {
    match found {
        None => Some((Class::Missing, "it is missing".to_owned())),
        Some(found) if found != expected => Some((Class::Size, format!("it has {found} bytes, expected {expected}"))),
        Some(_) => None,
    }
}

/// Keys and lengths of packs and segments; `None` where the store cannot list.
fn present(store: &dyn Store) -> Result<Option<HashMap<String, u64>>, VerifyError> {
    if store.abilities().can_list == Ability::No {
        return Ok(None);
    }
    let mut present = HashMap::new();
    for prefix in ["packs/", "segments/"] {
        match store.list(prefix, None, &mut |key, bytes| {
            present.insert(key.to_owned(), bytes);
        }) {
            Ok(()) => {}
            Err(StoreError::Unsupported { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(present))
}
