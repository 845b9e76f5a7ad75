//! Rules over what nodes and the chain signed. Layer: pure.

use manifests::document::lease::Kind;
use manifests::document::receipt::{Digests, Receipt};
use manifests::document::record::Body;
use manifests::freshness::{self, Facts};

use super::super::begun::APART;
use super::super::event::Claim;
use super::super::recompute::Run;
use super::super::run_dir;
use super::{Found, found};

pub(super) fn signatures(run: &Run<'_>) -> Option<Found> {
    let expected = "every signed document of the bundle to verify from the pinned root";
    let signed = |file: &str| ["chain/", "lease/", "restore/"].iter().any(|directory| file.starts_with(directory));
    if let Some(problem) = run.problems.iter().find(|problem| signed(&problem.file)) {
        return Some(found(false, &problem.why, expected, &problem.file));
    }
    run.documents.root.as_ref()?;
    let documents = &run.documents;
    let observed = format!(
        "{} records, {} lease entries, {} receipts and {} manifest do",
        documents.records.len(),
        documents.lease.len(),
        documents.receipts.len(),
        usize::from(documents.manifest.is_some()),
    );
    Some(found(true, observed, expected, "chain lease restore"))
}

/// FM1: when the run began, the manifest held and the chain had not moved on too far.
pub(super) fn manifest_fresh(run: &Run<'_>) -> Option<Found> {
    let expected = "a manifest that is fresh when the run begins";
    let source = "chain/manifest.json";
    let (manifest, pins) = run.documents.manifest.as_ref()?;
    let root = run.documents.root.as_ref()?;
    // Whoever led says when that was, else only whoever ran it.
    let (now, claim) = match run.begun {
        Some(begun) => (begun.time, Claim::Proven),
        None => (run.events[0].wall, Claim::Asserted),
    };
    let before = |record: &&manifests::document::record::Record| record.header.time <= now;
    let named = manifest.manifest.head.seq;
    let seen = run.documents.records.iter().filter(before).map(|record| record.header.seq);
    let begun = run.begun.map(|begun| begun.place.seq.saturating_sub(1));
    let head_seq = seen.chain(begun).max().unwrap_or(named);
    let Some(captured) = run.documents.captured_by(now) else {
        return Some(found(false, format!("no snapshot was captured by {now}"), expected, source).at_most(claim));
    };
    let facts = Facts { now, root_expires: root.document().expires, head_seq, captured };
    let judged = freshness::judge(&manifest.manifest, &pins.pins, &facts);
    let age = judged.age.as_secs();
    let observed = format!(
        "version {} expires at {}, {} slots behind, the newest snapshot is {age} s old",
        manifest.manifest.version, judged.expires, judged.lag
    );
    let holds = judged.check(run_dir::CHAIN).is_ok();
    Some(found(holds, observed, expected, source).at_most(claim))
}

/// The last claim of the lease that was made in the run.
fn claim<'r>(run: &'r Run<'_>) -> Option<&'r manifests::document::lease::Entry> {
    let began = run.events[0].wall;
    let entries = run.documents.lease.iter().map(|entry| &entry.entry);
    let mut claims = entries.rev().filter(|entry| entry.kind == Kind::Claim && entry.time >= began);
    // The record with which the run began was there before: somebody had seen it, or both are dated so.
    let entries = run.documents.lease.iter().map(|entry| &entry.entry);
    let seen = |seq: u64| entries.clone().filter(|entry| entry.head.seq >= seq).map(|entry| entry.seq).min();
    claims.find(|claim| {
        run.begun.is_none_or(|begun| {
            claim.time >= begun.time || seen(begun.place.seq).is_some_and(|first| first <= claim.seq)
        })
    })
}

/// FM3: another node claimed the lease, in a newer term, and serves in it.
pub(super) fn lease_flips(run: &Run<'_>) -> Option<Found> {
    run.documents.lease.first()?;
    let expected = "a claim of a newer term by another node";
    // Where a leader was lost, another one may have claimed before anybody began to act.
    let lost = (run.plan.scenario == "emergency").then_some(run.plan.old_leader.as_ref()).flatten();
    let newest = || {
        let mut entries = run.documents.lease.iter().rev().map(|entry| &entry.entry);
        entries.find(|entry| entry.kind == Kind::Claim && lost.is_some_and(|lost| *lost != entry.holder.node))
    };
    let Some(claim) = claim(run).or_else(newest) else {
        let observed = format!("{} entries, no claim since the run began", run.documents.lease.len());
        return Some(found(false, observed, expected, run_dir::LEASE));
    };
    let earlier = run.documents.lease.iter().rev().map(|entry| &entry.entry).find(|entry| entry.seq < claim.seq);
    let Some(earlier) = earlier else {
        return Some(found(false, "no entry before the claim", expected, run_dir::LEASE));
    };
    let (before, after) = (&earlier.holder.node, &claim.holder.node);
    let observed = format!("{before} in term {}, then {after} in term {}", earlier.term, claim.term);
    let mut flips = before != after && earlier.term < claim.term;
    if let Some(target) = &run.plan.target {
        flips &= target == after;
    }
    Some(found(flips, observed, expected, format!("lease/{:020}.json", claim.seq)))
}

/// Whether a restore was made in the run: between its ends by the clocks of both, and after the record with which it began.
fn is_of_the_run(run: &Run<'_>, receipt: &Receipt) -> bool {
    let (begin, end) = (run.events[0].wall, run.events.last().map_or(run.events[0].wall, |event| event.wall));
    let in_time = begin.duration_since(receipt.started) <= APART && receipt.finished.duration_since(end) <= APART;
    in_time && receipt.started <= receipt.finished && run.begun.is_none_or(|begun| receipt.head.seq >= begun.place.seq)
}

/// All receipts, by the time the restores ended.
fn receipts<'r>(run: &'r Run<'_>) -> Vec<(&'r String, &'r Receipt)> {
    let mut receipts: Vec<(&String, &Receipt)> = run.documents.receipts.iter().collect();
    receipts.sort_by_key(|(_, receipt)| receipt.finished);
    receipts
}

fn place(node: &str) -> String {
    format!("restore/{node}.receipt.json")
}

/// What a receipt of this node is worth: proof where the node's own pinned key signed it, and not whoever sealed the bundle.
///
/// # Errors
/// Who signed it instead, where the pins know better.
fn witness(run: &Run<'_>, node: &str, receipt: &Receipt) -> Result<Claim, String> {
    let pins = run.documents.manifest.as_ref().and_then(|(_, pins)| pins.pins.lease.as_ref());
    let members = pins.map(|lease| lease.members.as_slice()).unwrap_or_default();
    let of_node = members.iter().find(|member| member.node == node);
    let of_key = members.iter().find(|member| member.key == receipt.node);
    match (of_node, of_key) {
        (_, Some(other)) if other.node != node => {
            Err(format!("the key of {} signed the receipt of {node}", other.node))
        }
        (Some(_), None) => Err(format!("a key that the pins do not know signed the receipt of {node}")),
        (Some(_), Some(_)) if run.sealer != Some(receipt.node) => Ok(Claim::Proven),
        _ => Ok(Claim::Asserted),
    }
}

pub(super) fn follower_from_manifest(run: &Run<'_>) -> Option<Found> {
    let (manifest, _) = run.documents.manifest.as_ref()?;
    let receipts = receipts(run);
    let named = &manifest.manifest.snapshot;
    let fault = run.fault().map(|(event, _)| event.wall);
    let expected =
        format!("a follower restored from {} or later before the leader was lost, and took over", named.name);
    let led = claim(run).map(|claim| claim.holder.node.as_str());
    let (node, receipt) =
        receipts.iter().find(|(node, _)| led.is_none_or(|led| led == node.as_str())).or_else(|| receipts.first())?;
    let claim = match witness(run, node, receipt) {
        Ok(claim) => claim,
        Err(why) => return Some(found(false, why, expected, place(node))),
    };
    let in_time = fault.is_none_or(|fault| receipt.finished <= fault);
    // A follower may have come up before; that rests on its own key alone.
    let in_run = claim == Claim::Proven || is_of_the_run(run, receipt);
    let from = receipt.record.digest == named.digest || receipt.record.seq >= named.seq;
    let took_over = led.is_none_or(|led| led == node.as_str());
    let observed = format!(
        "{node} restored {} of record {} by {}, exact: {}",
        receipt.record.name, receipt.record.seq, receipt.finished, receipt.exact
    );
    let observed = match led {
        Some(led) if !took_over => format!("{observed}; {led} took over"),
        _ => observed,
    };
    let holds = in_time && in_run && from && took_over && receipt.exact && receipt.break_glass.is_none();
    Some(found(holds, observed, expected, place(node)).at_most(claim))
}

/// A restore of the run that began after the fault.
pub(super) fn cold<'r>(run: &'r Run<'_>) -> Option<(&'r String, &'r Receipt)> {
    let after = run.fault().map_or(run.events[0].wall, |(event, _)| event.wall);
    let is_cold = |(_, receipt): &(&String, &Receipt)| receipt.started >= after && is_of_the_run(run, receipt);
    receipts(run).into_iter().rev().find(is_cold)
}

pub(super) fn cold_restore(run: &Run<'_>) -> Option<Found> {
    let expected = "a restore of everything, of bytes from the store alone, after the leader was lost";
    if run.documents.receipts.is_empty() {
        return None;
    }
    let Some((node, receipt)) = cold(run) else {
        return Some(found(false, "no receipt of one", expected, run_dir::RESTORE));
    };
    let claim = match witness(run, node, receipt) {
        Ok(claim) => claim,
        Err(why) => return Some(found(false, why, expected, place(node))),
    };
    let observed = format!(
        "{node}: {} files, {} bytes, {} of them from files that were there, exact: {}, read back: {}",
        receipt.restored.files, receipt.restored.bytes, receipt.transfer.reused_bytes, receipt.exact, receipt.proof
    );
    let holds = receipt.exact && receipt.transfer.reused_bytes == 0 && receipt.break_glass.is_none();
    Some(found(holds, observed, expected, place(node)).at_most(claim))
}

/// What was restored has the digests of the manifest's snapshot, or of a later one of the chain.
pub(super) fn restored_equals_manifest(run: &Run<'_>) -> Option<Found> {
    let (manifest, _) = run.documents.manifest.as_ref()?;
    let last = || receipts(run).into_iter().rev().find(|(_, receipt)| is_of_the_run(run, receipt));
    let (node, receipt) = cold(run).or_else(last)?;
    let named = &manifest.manifest.snapshot;
    let signed = if receipt.record.digest == named.digest {
        Some(Digests { content_digest: named.content_digest, full_digest: named.full_digest })
    } else {
        run.documents.snapshot(&receipt.record.digest).and_then(|record| match &record.body {
            Body::Snapshot(snapshot) => Some(Digests {
                content_digest: snapshot.private.content_digest,
                full_digest: snapshot.private.full_digest,
            }),
            _ => None,
        })
    };
    let expected = match &signed {
        Some(signed) => format!("content {} and metadata {}", signed.content_digest, signed.full_digest),
        None => "a snapshot that the manifest names, or a record of the bundle".to_owned(),
    };
    let state = receipt.state.found;
    let observed = format!("content {} and metadata {}", state.content_digest, state.full_digest);
    let holds = signed.is_some_and(|signed| state == signed) && receipt.record.seq >= named.seq;
    let found = found(holds, observed, expected, format!("{} chain", place(node)));
    match witness(run, node, receipt) {
        Ok(claim) => Some(found.at_most(claim)),
        Err(why) => Some(Found { holds: false, observed: why, ..found }),
    }
}
