//! Rights: what a node needs to lead, or to be able to.
//!
//! A leader signs claims with a key that the root lists for the role `node` and the pins as a member of the lease, signs the
//! fence and its records with a writer key of the root, and may write to the store. Each is looked for by itself and
//! named, with `snapkit key enroll` as the way to them. Documented in `docs/bring-up.md`, "To lead". Layer: reads keys; tries
//! rights in the store for a leader alone.

use manifests::document::lease::{Entry, Kind, LEASE_CAP};
use manifests::document::pins::Lease;
use manifests::keys::{PublicKey, Signer};
use manifests::lease::{self, Group, Slot};
use snapkit::store;
use snapkit::store::rights::{self, Role};

use super::prerequisites::Prerequisite;
use super::run::BringUp;
use crate::driver::ServiceRole;

/// What is there of what a leader needs. For a follower none of it is required, and without a lease it is not looked at.
pub fn check(up: &BringUp<'_>) -> Vec<Prerequisite> {
    let leads = up.order.role == ServiceRole::Leader;
    let Some(lease) = &up.followed.pins.pins.lease else {
        let next = "have pins signed with a lease: `mode = \"static\"` lets an operator decide";
        let what = "the pins say who may lead";
        return if leads { vec![Prerequisite::lacking("lead", what, "no lease", next)] } else { Vec::new() };
    };
    let mut list = vec![key(up, lease)];
    if let Ok(key) = up.origin.trust.read_node_key(&up.origin.pin.root) {
        list.extend(of_key(up, lease, &key.public()));
    }
    if leads {
        list.push(unclaimed(up, lease));
        list.push(write_access(up));
        return list;
    }
    list.into_iter().map(Prerequisite::advised).collect()
}

const ENROLL: &str =
    "run `snapkit key enroll` here; the owner of the chain then lists the key in the root, and in the pins as a member";

/// The key itself.
fn key(up: &BringUp<'_>, lease: &Lease) -> Prerequisite {
    let what = format!("a node key, to lead the group {}", lease.group);
    match up.origin.trust.read_node_key(&up.origin.pin.root) {
        Ok(key) => Prerequisite::found("lead", what, format!("key {}", key.public().id())),
        Err(error) => Prerequisite::lacking("lead", what, error.to_string(), ENROLL),
    }
}

/// What root and pins say of the key.
fn of_key(up: &BringUp<'_>, lease: &Lease, key: &PublicKey) -> [Prerequisite; 3] {
    let root = up.chain.root();
    let what = "the key is a member of the lease";
    let member = match lease.members.iter().find(|member| member.key == key.id()) {
        Some(member) => Prerequisite::found("lead", what, format!("as {}", member.node)),
        None => {
            let members: Vec<_> = lease.members.iter().map(|member| member.node.as_str()).collect();
            let next = "have pins signed with this key among [pins.lease] members";
            Prerequisite::lacking("lead", what, format!("the members are {}", members.join(", ")), next)
        }
    };
    let lists = |role: &str, holds: bool| {
        let what = format!("the root lists the key for the role {role}");
        let next = format!("the owner prepares, signs and publishes `snapkit root add-key KEY.pub --role {role}`");
        match holds {
            true => Prerequisite::met("lead", what),
            false => Prerequisite::lacking("lead", what, format!("root {} does not", root.version()), next),
        }
    };
    let is_node = root.signers("node").allowed.iter().any(|allowed| allowed.id() == key.id());
    let may_write = root.writer_may_sign(key, up.followed.newest.head.seq + 1);
    [member, lists("node", is_node), lists("writer", may_write)]
}

/// Whether somebody else holds the lease, as far as the log in the store says.
///
/// Where leadership expires, only time tells whether the holder lives: the agent waits and sees, so it is only told.
fn unclaimed(up: &BringUp<'_>, lease: &Lease) -> Prerequisite {
    let what = format!("nobody else leads the group {}", lease.group);
    let own = up.origin.trust.read_node_key(&up.origin.pin.root).ok().map(|key| key.public().id());
    match last_entry(up, lease) {
        Ok(None) => Prerequisite::found("lead", what, "nobody ever did"),
        Ok(Some(entry)) if entry.kind == Kind::Release => {
            Prerequisite::found("lead", what, format!("{} gave it back, term {}", entry.holder.node, entry.term))
        }
        Ok(Some(entry)) if Some(entry.holder.key) == own => {
            Prerequisite::found("lead", what, format!("this node itself did last, term {}", entry.term))
        }
        Ok(Some(entry)) => {
            let found = format!("{} does, in term {}", entry.holder.node, entry.term);
            let next = format!(
                "have it give the lease back: `bootstrap demote NODE-DIR` there. If {} is proven dead: bring this node up as \
                 a follower, then `bootstrap promote`",
                entry.holder.node
            );
            let lacking = Prerequisite::lacking("lead", what, found, next);
            if lease.mode == "auto" { lacking.advised() } else { lacking }
        }
        Err(why) => Prerequisite::lacking("lead", what, why, "see that the store of the lease can be read"),
    }
}

/// The last entry that a member signed; what stands after it in the log is void.
fn last_entry(up: &BringUp<'_>, pinned: &Lease) -> Result<Option<Entry>, String> {
    let opened = match &pinned.store {
        Some(address) => Some(store::open(address, &up.options).map_err(|error| error.to_string())?),
        None => up.writable.clone(),
    };
    let store = opened.as_ref().ok_or("no store that could be asked was named")?;
    let chain = up.chain.id();
    let group = Group { chain: &chain, name: &pinned.group, members: &pinned.members, root: up.chain.root() };
    let mut slots = Vec::new();
    let mut visit = |key: &str, _: u64| slots.extend(lease::slot_of(&pinned.group, key));
    store.list(&lease::prefix(&pinned.group), None, &mut visit).map_err(|error| error.to_string())?;
    slots.sort_unstable();
    for seq in slots.into_iter().rev() {
        let bytes = store.get(&group.key(seq), LEASE_CAP as u64).map_err(|error| error.to_string())?;
        if let Slot::Entry(read, _) = lease::read(&bytes, seq, &group).map_err(|refusal| refusal.to_string())? {
            return Ok(Some(read.entry));
        }
    }
    Ok(None)
}

/// What the credentials may do, tried.
fn write_access(up: &BringUp<'_>) -> Prerequisite {
    let what = format!("write access to {}", up.writable.as_ref().map_or("the store", |store| store.url()));
    let next = "give this node the credentials of a writer (docs/credentials.md), or name the store where it may write";
    let Some(store) = &up.writable else {
        return Prerequisite::lacking("lead", what, "no store that could be written was named", next);
    };
    let report = rights::rights(&**store, Role::Writer);
    let lacking: Vec<String> = report
        .checks
        .iter()
        .filter(|check| check.is_lacking())
        .map(|check| format!("cannot {:?} {}: {}", check.right, check.place, check.reason).to_lowercase())
        .collect();
    match lacking.first() {
        None => Prerequisite::met("lead", what),
        Some(first) => Prerequisite::lacking("lead", what, first.clone(), next),
    }
}
