//! Is every byte what was signed? Reads trees, then packs, each once, on all cores.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;
use manifests::document::record::SegmentRef;
use manifests::document::snapshot as document;
use manifests::refusal::Class;

use super::presence::Inventory;
use super::{Depth, Finding, Report, VerifyError, finding};
use crate::cancel::Cancel;
use crate::digest::TreeDigester;
use crate::entry::{ChunkList, ChunkRef, Kind, OwnerNames, PackSet, decode_refs};
use crate::fetch::{FetchError, Fetcher, piece};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::located::Located;
use crate::pack::{FrameDecoder, PackInfo, open_whole};
use crate::parallel;
use crate::progress::Progress;
use crate::segment::{Segment, SegmentError};
use crate::sorter::Sorter;
use crate::tree::{ChunkSource, TreeError, TreeReader};

/// A chunk to check, as it is sorted: pack, frame, offset, length, name.
type Row = [u8; 46];

fn row(r: &ChunkRef) -> Row {
    let mut row = [0; 46];
    row[..4].copy_from_slice(&r.pack.to_be_bytes());
    row[4..6].copy_from_slice(&r.frame.to_be_bytes());
    row[6..10].copy_from_slice(&r.offset.to_be_bytes());
    row[10..14].copy_from_slice(&r.bytes.to_be_bytes());
    row[14..].copy_from_slice(&r.chunk.0);
    row
}

fn chunk_of(row: &Row) -> ChunkRef {
    let four = |at: usize| u32::from_be_bytes(row[at..at + 4].try_into().expect("four bytes"));
    ChunkRef {
        chunk: ChunkId(row[14..].try_into().expect("32 bytes")),
        bytes: four(10),
        pack: four(0),
        frame: u16::from_be_bytes([row[4], row[5]]),
        offset: four(6),
    }
}

/// Reads what `depth` asks for of everything in `inventory`; `snapshots` are those whose trees are read.
///
/// # Errors
/// [`VerifyError`]; what is wrong with the data is in the report.
#[allow(clippy::too_many_arguments, reason = "each is a different thing, and they come together only here")]
pub fn check_data(
    fetcher: &Fetcher<'_>,
    snapshots: impl Iterator<Item = (String, document::Snapshot)>,
    inventory: &Inventory,
    segments: &[SegmentRef],
    depth: Depth,
    scratch: &Path,
    report: &mut Report,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(), VerifyError> {
    std::fs::create_dir_all(scratch)?;
    let mut packs = PackSet::default();
    let mut sorter = Sorter::new(scratch);
    if depth == Depth::All {
        progress.start_phase("reading trees");
        let mut trees = Trees { fetcher, packs: &mut packs, sorter: &mut sorter, seen: HashSet::new(), report };
        for (name, snapshot) in snapshots {
            trees.snapshot(&name, &snapshot, cancel, progress)?;
        }
        check_segments(fetcher, segments, scratch, report)?;
    }
    let chosen: Vec<PackInfo> = inventory.packs.iter().copied().filter(|pack| is_chosen(&pack.id, depth)).collect();
    for pack in &chosen {
        packs.index(*pack);
    }
    progress.start_phase("reading packs");
    progress.expect_total(chosen.len() as u64, chosen.iter().map(|pack| pack.pack_bytes).sum());
    let chosen: HashSet<PackId> = chosen.into_iter().map(|pack| pack.id).collect();
    let mut rows = sorter.sorted()?.peekable();
    let mut next_pack = 0;
    let jobs = std::iter::from_fn(|| {
        while (next_pack as usize) < packs.len() {
            let index = next_pack;
            next_pack += 1;
            let mut chunks = Vec::new();
            while let Some(row) = rows.next_if(|row| row.as_ref().map_or(true, |row| chunk_of(row).pack == index)) {
                match row {
                    Ok(row) => chunks.push(chunk_of(&row)),
                    Err(error) => return Some(Err(error)),
                }
            }
            if chosen.contains(&packs.get(index).id) {
                return Some(Ok((packs.get(index), chunks)));
            }
        }
        None
    });
    parallel::map_in_order(
        parallel::cores(),
        jobs,
        || (FrameDecoder::default(), Vec::new()),
        |(decoder, raw), job| {
            let (pack, chunks) = job?;
            if cancel.is_requested() {
                return Err(VerifyError::Cancelled);
            }
            let found = loop {
                match check_pack(fetcher, &pack, &chunks, decoder, raw) {
                    Err(FetchError::Pack(error)) if fetcher.is_copy_to_blame(&pack.id.key(), &error) => {}
                    found => break found,
                }
            };
            progress.add_items(1);
            progress.add_bytes(pack.pack_bytes);
            Ok((pack, found))
        },
        |checked| {
            let (pack, found) = checked?;
            report.read_bytes += pack.pack_bytes;
            if let Err(error) = found {
                report.add(finding(error, &pack.id.key())?);
            }
            Ok(())
        },
    )
}

/// Whether a pack belongs to what is read; a sample is another one each day.
fn is_chosen(pack: &PackId, depth: Depth) -> bool {
    match depth {
        Depth::Presence => false,
        Depth::All => true,
        Depth::Sample(share) => {
            let day = Timestamp::now().as_second() / 86_400;
            let mut hasher = blake3::Hasher::new();
            hasher.update(&pack.0).update(&day.to_le_bytes());
            let draw = u32::from_le_bytes(hasher.finalize().as_bytes()[..4].try_into().expect("four bytes"));
            f64::from(draw) < share * f64::from(u32::MAX)
        }
    }
}

/// Reads a whole pack: table, every frame, and every chunk that is known to lie in it, ascending by place.
fn check_pack(
    fetcher: &Fetcher<'_>,
    pack: &PackInfo,
    chunks: &[ChunkRef],
    decoder: &mut FrameDecoder,
    raw: &mut Vec<u8>,
) -> Result<(), FetchError> {
    let bytes = fetcher.store().get(&pack.id.key(), pack.pack_bytes)?;
    let table = open_whole(pack, &bytes)?;
    let mut rest = chunks;
    for (i, row) in table.rows.iter().enumerate() {
        let frame = i as u32;
        let stored = &bytes[row.offset as usize..row.range().end as usize];
        decoder.decode(&pack.id, frame, row, stored, raw)?;
        while let Some((r, later)) = rest.split_first().filter(|(r, _)| u32::from(r.frame) == frame) {
            rest = later;
            let (chunk, pack) = (r.chunk, pack.id);
            let found = piece(raw, r.offset, r.bytes).ok_or(FetchError::NoSuchPlace { chunk, pack, frame })?;
            if ChunkId::of(found) != chunk {
                return Err(FetchError::ChunkMismatch { chunk, pack, frame });
            }
        }
    }
    match rest.first() {
        None => Ok(()),
        Some(r) => Err(FetchError::NoSuchPlace { chunk: r.chunk, pack: pack.id, frame: r.frame.into() }),
    }
}

/// Reads trees, and gathers the chunks they refer to.
struct Trees<'a, 'store> {
    fetcher: &'a Fetcher<'store>,
    packs: &'a mut PackSet,
    sorter: &'a mut Sorter<46>,
    /// Trees that were read already, by their top index chunk.
    seen: HashSet<ChunkId>,
    report: &'a mut Report,
}

impl Trees<'_, '_> {
    fn snapshot(
        &mut self,
        name: &str,
        snapshot: &document::Snapshot,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(), VerifyError> {
        for tree in &snapshot.private.trees {
            if !self.seen.insert(ChunkId(tree.index.chunk.0)) {
                continue;
            }
            let object = format!("the tree {} of {name}", tree.name);
            let mut wrong = match self.tree(tree, cancel, progress) {
                Ok(None) => continue,
                Ok(Some(what)) => Finding { object, what, class: Class::Hash, pack: None, snapshots: BTreeSet::new() },
                Err(TreeProblem::Fetch(error)) => finding(error, &object)?,
                Err(TreeProblem::Stop(error)) => return Err(error),
            };
            wrong.snapshots.insert(name.to_owned());
            self.report.add(wrong);
        }
        Ok(())
    }

    /// Reads one tree; what is wrong with its digests, if anything.
    fn tree(
        &mut self,
        tree: &document::Tree,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<String>, TreeProblem> {
        let Some(index) = Located::from_document(&tree.index) else {
            return Ok(Some("its reference is out of range".to_owned()));
        };
        let mut fetcher = self.fetcher;
        let index = index.within(self.packs);
        let mut reader = TreeReader::new(index, tree.entries);
        let mut digester = TreeDigester::default();
        let mut names = OwnerNames::default();
        loop {
            for chunk in reader.pending() {
                self.sorter.push(row(chunk)).map_err(VerifyError::from)?;
            }
            let mut lists = Vec::new();
            let mut pushed = Ok(());
            let sorter = &mut *self.sorter;
            let mut entries = 0;
            let more = reader.next_leaf(&mut fetcher, self.packs, &mut names, |entry| {
                entries += 1;
                digester.push(&entry);
                if let Kind::File { chunks: ChunkList::Inline(list) | ChunkList::Stored(list), .. } = &entry.kind
                    && pushed.is_ok()
                {
                    pushed = list.iter().try_for_each(|r| sorter.push(row(r)));
                }
                if let Kind::File { chunks: ChunkList::Stored(list), .. } = entry.kind {
                    lists.extend(list);
                }
            })?;
            pushed.map_err(VerifyError::from)?;
            for list in lists {
                let bytes = fetcher.chunk(&list, self.packs)?;
                let refs = decode_refs(&bytes, self.packs).map_err(|e| FetchError::Tree(TreeError::from(e)))?;
                refs.iter().try_for_each(|r| self.sorter.push(row(r))).map_err(VerifyError::from)?;
            }
            self.report.entries += entries;
            progress.add_items(entries);
            if cancel.is_requested() {
                return Err(TreeProblem::Stop(VerifyError::Cancelled));
            }
            if !more {
                break;
            }
        }
        let found = digester.finish();
        let is_right = found.content.0 == tree.content_digest.0 && found.full.0 == tree.full_digest.0;
        Ok((!is_right).then(|| {
            let (expected, found) = (tree.full_digest, found.full);
            format!("its entries come to the full digest {found}, its record states {expected}")
        }))
    }
}

enum TreeProblem {
    Fetch(FetchError),
    Stop(VerifyError),
}

impl From<FetchError> for TreeProblem {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<VerifyError> for TreeProblem {
    fn from(error: VerifyError) -> Self {
        Self::Stop(error)
    }
}

/// Reads the segments: each must hash to its name, and be one.
fn check_segments(
    fetcher: &Fetcher<'_>,
    segments: &[SegmentRef],
    scratch: &Path,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let mut wrong: HashMap<String, (String, Class)> = HashMap::new();
    for segment in segments {
        let id = SegmentId(segment.id.0);
        match fetcher.store().get(&id.key(), segment.bytes) {
            Ok(bytes) => {
                report.read_bytes += bytes.len() as u64;
                if SegmentId::of(&bytes) != id {
                    wrong.insert(id.key(), ("it does not hash to its name".to_owned(), Class::Hash));
                    continue;
                }
                let mut file = tempfile::tempfile_in(scratch)?;
                std::io::Write::write_all(&mut file, &bytes)?;
                let checked = Segment::open(file).and_then(|segment| segment.check_rows());
                if let Err(error) = checked {
                    let class = if matches!(error, SegmentError::Newer(_)) { Class::Newer } else { Class::Kind };
                    wrong.insert(id.key(), (error.to_string(), class));
                }
            }
            // Named already by the inventory, with its length.
            Err(error) if error.is_missing() => {}
            Err(crate::store::StoreError::Short { .. } | crate::store::StoreError::TooBig { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (object, (what, class)) in wrong {
        let what = match class {
            Class::Newer => what,
            _ => format!("{what}; no snapshot needs it, the next snapshot replaces it"),
        };
        report.add(Finding { object, what, class, pack: None, snapshots: BTreeSet::new() });
    }
    Ok(())
}
