//! Joining: two sorted streams of entries become the rows that differ.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::fields::differing;
use super::policy::{Class, Verdict};
use super::side::{Sides, Source, Stream, hash, is_known};
use super::spool::{Row, Writer};
use super::{DiffError, Options, Scope, Summary, TreePair};
use crate::cancel::Cancel;
use crate::entry::{Entry, Kind, compare_paths, join as join_paths};
use crate::parallel;
use crate::progress::Progress;

/// Paths that are looked at together.
const BATCH: usize = 64;

/// The entries of one path; at least one of them.
struct Joined {
    a: Option<Entry>,
    b: Option<Entry>,
}

/// Two streams, each with the entry that comes next.
struct Join<'s, 'a> {
    a: &'s mut Stream<'a>,
    b: &'s mut Stream<'a>,
    next_a: Option<Entry>,
    next_b: Option<Entry>,
    options: &'s Options,
    /// Whether parts that both trees share may be counted without being read.
    may_pass_over: bool,
    /// Entries in such parts.
    passed_over: u64,
    has_ended: bool,
}

impl Join<'_, '_> {
    fn next(&mut self) -> Result<Option<Joined>, DiffError> {
        if self.next_a.is_none() && self.next_b.is_none() && self.may_pass_over {
            self.pass_over()?;
        }
        // An entry that comes before all that is ahead on the other side needs nothing read there.
        if self.next_a.is_none() && !is_before_all(self.next_b.as_ref(), self.a) {
            self.next_a = self.a.next(self.options)?;
        }
        if self.next_b.is_none() && !is_before_all(self.next_a.as_ref(), self.b) {
            self.next_b = self.b.next(self.options)?;
        }
        let order = match (&self.next_a, &self.next_b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => compare_paths(&a.path, &b.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
        };
        Ok(Some(Joined {
            a: if order.is_le() { self.next_a.take() } else { None },
            b: if order.is_ge() { self.next_b.take() } else { None },
        }))
    }

    /// Leaves out what comes next as long as both trees share it. Where they do not, leaves come next.
    fn pass_over(&mut self) -> Result<(), DiffError> {
        while let (Some(a), Some(b)) = (self.a.ahead(), self.b.ahead()) {
            let (level_a, level_b) = (a.level.unwrap_or(u32::MAX), b.level.unwrap_or(u32::MAX));
            if a.chunk == b.chunk && a.entries == b.entries {
                self.passed_over += self.a.pass_over();
                self.b.pass_over();
            } else if level_a == 0 && level_b == 0 {
                break;
            } else {
                if level_a >= level_b {
                    self.a.open_index()?;
                }
                if level_b >= level_a {
                    self.b.open_index()?;
                }
            }
        }
        Ok(())
    }

    /// The next paths; the last batch may hold an error.
    fn batch(&mut self) -> Option<Vec<Result<Joined, DiffError>>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH && !self.has_ended {
            match self.next() {
                Ok(Some(joined)) => batch.push(Ok(joined)),
                Ok(None) => self.has_ended = true,
                Err(error) => {
                    batch.push(Err(error));
                    self.has_ended = true;
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// Whether an entry comes before everything that is still to be read of a tree.
fn is_before_all(entry: Option<&Entry>, other: &Stream<'_>) -> bool {
    let (Some(entry), Some(ahead)) = (entry, other.ahead()) else { return false };
    compare_paths(&entry.path, ahead.first).is_lt()
}

/// Compares one pair of trees: counts what is identical, spools what is not.
pub(super) fn join<'a>(
    pair: &TreePair<'a>,
    tree: u32,
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
    spool: &mut Writer,
    summary: &mut Summary,
) -> Result<Sides<'a>, DiffError> {
    let (mut a, mut b) = (Stream::open(&pair.a)?, Stream::open(&pair.b)?);
    let is_whole = options.excludes.is_none() && options.policy.is_empty() && options.devices;
    if let Some(entries) = equal_by_digest(pair, options.scope).filter(|_| is_whole) {
        summary.must_match.identical += entries;
        return Ok(Sides { a: a.into_contents(), b: b.into_contents() });
    }
    let roots = (a.root(), b.root());
    let prefix = options.policy.sees_tree_names.then_some(pair.name.as_bytes());
    let mut joined = Join {
        a: &mut a,
        b: &mut b,
        next_a: None,
        next_b: None,
        options,
        may_pass_over: is_whole,
        passed_over: 0,
        has_ended: false,
    };
    let look = |joined: Result<Joined, DiffError>| joined.and_then(|joined| looked_at(joined, prefix, &roots, options));
    parallel::map_in_order(
        parallel::cores().min(8),
        std::iter::from_fn(|| joined.batch()),
        || (),
        |(), batch| batch.into_iter().map(look).collect::<Vec<_>>(),
        |batch| {
            cancel.check()?;
            progress.add_items(batch.len() as u64);
            batch.into_iter().try_for_each(|row| put(row?, tree, options.scope, spool, summary))
        },
    )?;
    summary.must_match.identical += joined.passed_over;
    Ok(Sides { a: a.into_contents(), b: b.into_contents() })
}

/// The number of entries of two trees that are the same by their digests, so that nothing need be read.
fn equal_by_digest(pair: &TreePair<'_>, scope: Scope) -> Option<u64> {
    let (Source::Snapshot { tree: a, .. }, Source::Snapshot { tree: b, .. }) = (&pair.a, &pair.b) else { return None };
    let is_same = match scope {
        Scope::Full => a.full_digest == b.full_digest,
        Scope::Content => a.content_digest == b.content_digest,
    };
    (is_same && a.entries == b.entries).then_some(a.entries)
}

/// A path with its class; files whose lengths agree have their hashes.
type LookedAt = (Class, Joined);

fn looked_at(
    mut joined: Joined,
    prefix: Option<&[u8]>,
    (root_a, root_b): &(Option<Arc<OwnedFd>>, Option<Arc<OwnedFd>>),
    options: &Options,
) -> Result<LookedAt, DiffError> {
    let class = match joined.a.as_ref().or(joined.b.as_ref()) {
        Some(entry) => {
            let is_directory = matches!(entry.kind, Kind::Directory);
            match prefix {
                Some(tree) => options.policy.class_of(&join_paths(tree, &entry.path), is_directory),
                None => options.policy.class_of(&entry.path, is_directory),
            }
        }
        None => Class::MustMatch,
    };
    let may_be_equal = match (&joined.a, &joined.b) {
        (Some(a), Some(b)) => a.kind.code() == b.kind.code() && a.size() == b.size(),
        _ => false,
    };
    if class != Class::Ignore && may_be_equal {
        for (entry, root) in [(&mut joined.a, root_a), (&mut joined.b, root_b)] {
            if let (Some(known), Some(root)) = (entry.as_mut(), root)
                && !is_known(known)
                && !hash(root, known)?
            {
                *entry = None;
            }
        }
    }
    Ok((class, joined))
}

fn put(
    (class, joined): LookedAt,
    tree: u32,
    scope: Scope,
    spool: &mut Writer,
    summary: &mut Summary,
) -> Result<(), DiffError> {
    let Joined { a, b } = joined;
    if class == Class::Ignore {
        summary.count(class, Verdict::Identical);
        return Ok(());
    }
    if let (Some(a), Some(b)) = (&a, &b)
        && differing(a, b, scope).is_empty()
    {
        summary.count(class, Verdict::Identical);
        return Ok(());
    }
    if a.is_none() && b.is_none() {
        return Ok(());
    }
    spool.push(&Row { tree, class, a, b })
}
