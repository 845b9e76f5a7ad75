//! The steps of a bring-up, in their order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use manifests::document::pins::PinnedTree;
use manifests::refusal::{Class, Refusal};
use snapkit::cancel::Cancel;
use snapkit::chain::Chain;
use snapkit::config::Config;
use snapkit::fetch::Fetcher;
use snapkit::image::engine::Engine;
use snapkit::manifest::{Expiry, Followed, ManifestError, Place};
use snapkit::node::{self, NodeDir, RecordOf, Wanted};
use snapkit::progress::Progress;
use snapkit::receipt::{self, Facts};
use snapkit::restore::{Options, Plan, Proof, Restored, Selection};
use snapkit::store::{self, OpenOptions, Store};
use snapkit::verify::{self, Inventory};

use super::agent::{self, Ask};
use super::images::{Pinned, Places};
use super::plan::{self, Leads, Target};
use super::prerequisites::{self, Prerequisite};
use super::report::{Agent, BroughtUp, FollowedManifest, Generation, Image, Phase, Running, Snapshot};
use super::{AgentStart, BringUpError, Order, Surroundings, files};
use crate::config::AgentConfig;
use crate::driver::Manager;
use crate::origin::Origin;

/// Packs that are asked for one by one, where the store cannot list them.
const ASKED_PACKS: u64 = 2000;

/// Everything that is known before anything is done.
pub struct BringUp<'a> {
    /// What was ordered.
    pub order: &'a Order,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// The chain.
    pub chain: &'a Chain<'a>,
    /// The manifest, followed.
    pub followed: &'a Followed,
    /// What is restored.
    pub target: Target,
    /// The machine.
    pub surroundings: &'a Surroundings<'a>,
    /// The directory of keys and trust.
    pub home: PathBuf,
    /// The store by itself, for who writes to it.
    pub writable: Option<Arc<dyn Store>>,
    /// How another store is opened.
    pub options: OpenOptions,
}

impl BringUp<'_> {
    /// The value of `PATH`.
    pub fn path(&self) -> Option<OsString> {
        (self.surroundings.variable)("PATH")
    }

    /// The command of the container engine.
    pub fn engine_command(&self) -> Option<String> {
        super::machine::engine(self.order.engine.as_deref(), self.path().as_ref())
    }

    /// The systemd that the agent will ask: what an operator wrote for it, else that of the user.
    pub fn manager(&self) -> Manager {
        let written = AgentConfig::read(&self.order.node).ok().and_then(|config| config.service.manager);
        written.unwrap_or_else(Manager::of_this_user)
    }

    /// How each tree of the pins is reached.
    pub fn leads(&self) -> Vec<(&PinnedTree, Leads)> {
        let trees = self.target.snapshot().private.trees.len();
        plan::leads(&self.followed.pins.pins, trees, &self.order.node, self.order.paths)
    }

    /// Whether the node has a generation of the snapshot already.
    pub fn has_generation(&self) -> bool {
        let id = self.target.record.digest.to_string();
        let state = NodeDir::open(&self.order.node).and_then(|node| node.state());
        let is_it = |generation: &node::Generation| generation.record.as_ref().is_some_and(|record| record.id == id);
        state.is_ok_and(|state| state.generations.values().any(is_it))
    }

    /// Whether every pack of the snapshot is in the store.
    fn presence(&self) -> Prerequisite {
        let packs = &self.target.snapshot().public.packs;
        let what = format!("all {} packs of {} in the store", packs.count, self.target.name);
        if self.origin.store.url().starts_with("http") && packs.count > ASKED_PACKS {
            let found = "not looked at: the store cannot list them";
            return Prerequisite::lacking("state", what, found, "`snapkit verify` asks for each").advised();
        }
        let fetcher = Fetcher::new(&*self.origin.store);
        let (mut inventory, mut report) = (Inventory::default(), verify::Report::default());
        let looked = inventory
            .add(&fetcher, &self.target.name, self.target.snapshot())
            .and_then(|()| verify::take_inventory(&*self.origin.store, &inventory, &[], &mut report));
        let next = "run `snapkit verify`; look for what is missing in a copy of the store";
        match (looked, report.findings.first()) {
            (Ok(()), None) => Prerequisite::met("state", what),
            (Ok(()), Some(first)) => {
                let found = format!("{} are missing or damaged, first {}", report.findings.len(), first.object);
                Prerequisite::lacking("state", what, found, next)
            }
            (Err(error), _) => Prerequisite::lacking("state", what, error.to_string(), "ask again"),
        }
    }
}

/// Brings a node up as ordered, or with `dry_run` says whether it could be.
///
/// Where a required prerequisite is lacking, the report says so and nothing was touched.
///
/// # Errors
/// [`BringUpError`]; what had been done stays, and the same order goes on from there.
#[expect(clippy::too_many_arguments, reason = "each is another thing that the caller has and this must not look for")]
pub fn bring_up(
    order: &Order,
    dry_run: bool,
    origin: &Origin,
    config: &Config,
    surroundings: &Surroundings<'_>,
    ask: &dyn Ask,
    cancel: &Cancel,
    progress: &Progress,
    tell: &mut dyn FnMut(&str),
) -> Result<BroughtUp, BringUpError> {
    let (began, started) = (Timestamp::now(), Instant::now());
    let mut clock = Clock::default();
    files::check_origin(&order.node, &origin.from)?;
    let chain = origin.chain(began)?;
    let followed = origin.follow(&chain, Expiry::RefuseStale)?;
    let target = plan::target(order, &chain, &followed)?;
    let writable = match Place::of(&origin.from.url).store() {
        Some(url) => store::open(&url, &config.open_options()).ok(),
        None => None,
    };
    let home = config.home.value.clone();
    let options = config.open_options();
    let up =
        BringUp { order, origin, chain: &chain, followed: &followed, target, surroundings, home, writable, options };
    clock.end("follow");
    let running = if dry_run { ask.look() } else { agent::running(ask, &order.node, order.patience, cancel, tell)? };
    let cache = origin.trust.cache_of(&origin.pin.root);
    let engine = up.engine_command().map(|program| Engine::new(&program, cancel));
    let scratch = cache.join("scratch");
    let places = Places { engine, chain: &chain, scratch, logins: surroundings.logins, cancel };
    let pinned = places.look(&followed.pins.pins);
    let mut prerequisites = prerequisites::check(&up, &pinned, running.is_some());
    prerequisites.push(up.presence());
    clock.end("prerequisites");
    let mut report = BroughtUp {
        node: order.node.display().to_string(),
        role: order.role.as_str(),
        dry_run,
        ready: !prerequisites.iter().any(Prerequisite::stops),
        stage: "looked",
        manifest: FollowedManifest::of(&followed, &origin.address),
        snapshot: Snapshot::of(&up.target, &followed, began),
        prerequisites,
        images: pinned.iter().map(image).collect(),
        files: files::Written::default(),
        generation: None,
        agent: None,
        running: Vec::new(),
        phases: Vec::new(),
        seconds: 0.0,
    };
    if !dry_run && report.ready {
        let agent_runs = running.is_some();
        if !agent_runs {
            prepare(&up, &places, &pinned, &cache, began, &mut report, &mut clock, cancel, progress)?;
        }
        if let Some(service) = &followed.pins.pins.service {
            run_agent(&up, service.images.is_empty(), agent_runs, &places, ask, &mut report, &mut clock, cancel, tell)?;
        } else if agent_runs || followed.pins.pins.lease.is_some() {
            run_agent(&up, true, agent_runs, &places, ask, &mut report, &mut clock, cancel, tell)?;
        }
    }
    report.phases = clock.phases;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn image(pinned: &Pinned) -> Image {
    Image {
        name: pinned.pin.name.clone(),
        config: pinned.pin.config.to_string(),
        place: pinned.place.as_ref().ok().map(super::images::Place::describe),
        engine_name: None,
    }
}

/// Images, the files of the node, and the generation.
#[expect(clippy::too_many_arguments, reason = "a part of `bring_up`, with what it has")]
fn prepare(
    up: &BringUp<'_>,
    places: &Places<'_>,
    pinned: &[Pinned],
    cache: &Path,
    began: Timestamp,
    report: &mut BroughtUp,
    clock: &mut Clock,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(), BringUpError> {
    for (pinned, image) in pinned.iter().zip(&mut report.images) {
        image.engine_name = Some(places.bring(pinned, progress)?);
    }
    clock.end("images");
    let node = NodeDir::create(&up.order.node)?;
    report.files = files::write(up, &node)?;
    clock.end("files");
    report.generation = Some(restore(up, &node, cache, began, cancel, progress)?);
    report.stage = "restored";
    clock.end("restore");
    Ok(())
}

fn restore(
    up: &BringUp<'_>,
    node: &NodeDir,
    cache: &Path,
    began: Timestamp,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Generation, BringUpError> {
    let root = up.origin.pin.root;
    // Without a key there is no receipt; a key that cannot be used is not passed over.
    let key = up.origin.trust.node_key(&root).exists().then(|| up.origin.trust.read_node_key(&root)).transpose();
    let key = key.map_err(ManifestError::from)?.map(Arc::new);
    let fetcher = Fetcher::new(&*up.origin.store);
    let options = Options {
        owners: up.order.owners,
        devices: false,
        proof: Proof::Written,
        fetchers: if up.origin.store.url().starts_with('/') { 2 } else { 8 },
        seeds: Vec::new(),
    };
    let head = up.chain.accepted().unwrap_or_else(|| unreachable!("following a manifest accepts the head"));
    let write = |file: &Path, plan: &Plan, targets: &[(&str, PathBuf)], restored: &Restored| {
        let (started, finished) = (began, Timestamp::now());
        let facts = Facts {
            root,
            record: &up.target.record,
            head: &head,
            plan,
            selection: &Selection::default(),
            targets,
            extra: 0,
            proof: options.proof,
            break_glass: None,
            restored,
            started,
            finished,
        };
        key.as_ref().map_or(Ok(()), |key| receipt::write(file, Arc::clone(key), &facts))
    };
    let record = &up.target.record;
    let wanted = Wanted {
        fetcher: &fetcher,
        record: RecordOf { snapshot: up.target.name.clone(), seq: record.header.seq, id: record.digest.to_string() },
        snapshot: up.target.snapshot(),
        options: &options,
        chosen: &|trees| plan::chosen(up.order, &up.target, up.chain, trees),
        scratch: &cache.join("scratch"),
        again: false,
        write_receipt: &write,
    };
    let outcome = node::restore_into(node, &wanted, cancel, progress)?;
    let receipt = node.receipt(&outcome.generation);
    Ok(Generation::of(&outcome, receipt.exists().then(|| receipt.display().to_string())))
}

/// Starts the agent if nobody else does, waits for it, and looks at what it runs.
#[expect(clippy::too_many_arguments, reason = "a part of `bring_up`, with what it has")]
fn run_agent(
    up: &BringUp<'_>,
    without_images: bool,
    runs: bool,
    places: &Places<'_>,
    ask: &dyn Ask,
    report: &mut BroughtUp,
    clock: &mut Clock,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BringUpError> {
    if !runs && up.order.agent != AgentStart::Detached {
        return Ok(());
    }
    let mut child = if runs { None } else { Some(agent::start(&up.order.node, up.surroundings)?) };
    let log = agent::log_of(&up.order.node);
    let (role, patience) = (up.order.role, up.order.patience);
    let seen = agent::wait(ask, &mut child, &log, role, patience, cancel, tell)?;
    clock.end("agent");
    if seen.service.is_some() && !without_images {
        report.running = running(up, places)?;
        clock.end("running");
    }
    report.agent = Some(Agent { started: child.is_some(), seen });
    report.stage = "running";
    Ok(())
}

/// The containers that run the pinned images, each looked at by itself.
fn running(up: &BringUp<'_>, places: &Places<'_>) -> Result<Vec<Running>, BringUpError> {
    let Some(engine) = &places.engine else { return Ok(Vec::new()) };
    let pins = &up.followed.pins.pins;
    let named = pins.service.iter().flat_map(|service| &service.images);
    let mut all = Vec::new();
    for pin in named.filter_map(|name| pins.images.iter().find(|image| image.name == *name)) {
        let failed = |source| BringUpError::Image { image: pin.name.clone(), source };
        let before = all.len();
        for container in engine.running().map_err(failed)? {
            let id = format!("sha256:{}", container.image);
            // Whatever it was called when it was created: what it was created from is what runs.
            let is_it = container.image == pin.config
                || engine
                    .identify(&id, Some(pin), &places.scratch)
                    .is_ok_and(|identity| identity.must_be(pin, &container.name).is_ok());
            if is_it {
                all.push(Running { what: format!("container {}", container.name), image: pin.name.clone() });
            }
        }
        if all.len() == before {
            let expected = format!("a running container of the image {}, config sha256:{}", pin.name, pin.config);
            return Err(Refusal::new(Class::ImageRunning, "the service", expected, "none").into());
        }
    }
    Ok(all)
}

/// How long each part took.
struct Clock {
    last: Instant,
    phases: Vec<Phase>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Instant::now(), phases: Vec::new() }
    }
}

impl Clock {
    fn end(&mut self, name: &'static str) {
        let took = self.last.elapsed().as_millis();
        self.phases.push(Phase { name, milliseconds: u64::try_from(took).unwrap_or(u64::MAX) });
        self.last = Instant::now();
    }
}
