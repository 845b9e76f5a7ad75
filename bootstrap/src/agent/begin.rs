//! Beginning: everything an agent needs to know before its first turn.
//!
//! The pins are followed from the one string. When the chain cannot be read, those that the last agent verified are used, so
//! that a service which it left behind is proven dead all the same; nothing leads before the chain is read again.
//! Layer: joins configuration, trust and driver.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manifests::digest::Digest;
use manifests::document::pins::{Lease, Pins};
use manifests::document::record::Nonce;
use manifests::keys::{SecretKey, Signer};
use serde::{Deserialize, Serialize};
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Setting, Source};
use snapkit::node::NodeError;
use snapkit::trust::TrustDir;

use super::follow::Follower;
use super::machine::{Hook, Leadership, Setup, Trouble};
use super::persist::{AgentDir, PersistError};
use crate::config::{AgentConfig, ConfigError, SurfaceConfig};
use crate::driver::{self, Driver, DriverError, ServiceRole};
use crate::lease::log::{Trusted, open_store};
use crate::lease::runner::{self, Runner};
use crate::lease::timing::Timing;
use crate::surfaces::{self, Limits, SurfaceError, Tcp, TlsFiles};

/// Everything an agent begins with.
pub struct Begun {
    /// The operator's file.
    pub agent: AgentConfig,
    /// The agent's own directory, locked.
    pub directory: AgentDir,
    /// The node that follows.
    pub follower: Follower,
    /// What may run.
    pub pins: Pins,
    /// Their digest.
    pub pins_digest: Digest,
    /// What the machine is told.
    pub setup: Setup,
    /// The driver of the service, if the pins name one.
    pub driver: Option<Box<dyn Driver>>,
    /// The lease, if this node takes part in one.
    pub lease: Option<Runner>,
    /// What is served, and where.
    pub surfaces: surfaces::Config,
    /// Why this node takes no part in the lease of its pins.
    pub unfit: Option<String>,
}

/// Why an agent could not begin. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The operator's file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node directory.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The agent's own files.
    #[error(transparent)]
    Persist(#[from] PersistError),
    /// The chain cannot be read, and no earlier agent kept pins here.
    #[error("{}", .0.why)]
    Chain(Trouble),
    /// The driver cannot be used here.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The surfaces cannot be served.
    #[error(transparent)]
    Surface(#[from] SurfaceError),
    /// The key of this node cannot be used.
    #[error("cannot use the key of this node")]
    Key(#[source] snapkit::trust::TrustError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl BeginError {
    /// What to do about it.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Config(ConfigError::Missing(_)) => {
                Some("make the node with `bootstrap --from 'URL#root=sha256:DIGEST' NODE-DIR`".to_owned())
            }
            Self::Config(_) => Some("docs/agent.md describes the file".to_owned()),
            Self::Persist(PersistError::Busy(node)) => {
                Some(format!("`bootstrap status {}` shows what it does", node.display()))
            }
            Self::Persist(PersistError::Damaged { .. }) => {
                Some("make sure that nothing of its service runs, then move the file away".to_owned())
            }
            Self::Chain(trouble) => trouble.next.clone(),
            _ => None,
        }
    }
}

/// The pins that the last agent verified.
#[derive(Serialize, Deserialize)]
struct KeptPins {
    digest: Digest,
    chain: Digest,
    store: String,
    pins: Pins,
}

/// Reads, follows and checks everything; nothing of the node is changed but the agent's own files.
///
/// # Errors
/// [`BeginError`]
pub fn begin(node: &Path, mut config: Config, cancel: &Cancel) -> Result<Begun, BeginError> {
    let node = snapkit::node::NodeDir::open(node)?.path().to_owned();
    let agent = AgentConfig::read(&node)?;
    let directory = AgentDir::open(&node)?;
    if let Some(home) = &agent.home {
        config.home = Setting::new(home.clone(), Source::Flag("home in bootstrap.toml"));
    }
    let from = agent.origin()?;
    let trust = TrustDir::new(&config.home.value, &config.cache.value);
    let key = trust.node_key(&from.pin.root);
    let key = key.exists().then(|| trust.read_node_key(&from.pin.root)).transpose().map_err(BeginError::Key)?;
    let manifest = agent.manifest.clone();
    let (name, cancel_) = (agent.node.clone().unwrap_or_default(), cancel.clone());
    let mut follower = Follower { node: node.clone(), name, from, manifest, config, cancel: cancel_ };
    let known = pins(&follower, &directory)?;
    let (name, unfit) = identity(&agent, &known.pins, key.as_ref());
    follower.name.clone_from(&name);
    let driver = match &known.pins.service {
        None => None,
        Some(service) => {
            let setup = driver::Setup::new(service, &known.pins.images, directory.path());
            let manager = agent.service.manager.unwrap_or(setup.manager);
            Some(driver::open(&driver::Setup { engine: &agent.service.engine, manager, ..setup })?)
        }
    };
    let instance = instance()?;
    let setup = setup(&agent, &known.pins, name, &instance);
    let surfaces = surfaces_of(&agent, &node, &directory, &setup);
    let (lease, unfit) = match (unfit, &known.pins.lease, key) {
        (None, Some(lease), Some(key)) => match take_part(&follower, &known, lease, &agent, instance, key) {
            Ok(runner) => (Some(runner), None),
            // Tried again by the next agent: a service manager restarts this one, or a person does.
            Err(why) => (None, Some(why)),
        },
        (unfit, _, _) => (None, unfit),
    };
    let (pins, pins_digest) = (known.pins, known.digest);
    Ok(Begun { agent, directory, follower, pins, pins_digest, setup, driver, lease, surfaces, unfit })
}

/// Starts the lease's own thread.
fn take_part(
    follower: &Follower,
    known: &KeptPins,
    lease: &Lease,
    agent: &AgentConfig,
    instance: Nonce,
    key: SecretKey,
) -> Result<Runner, String> {
    let told = |error: &dyn std::error::Error| super::keeper::told(error);
    let standing = follower.standing().map_err(|trouble| trouble.why)?;
    let address = lease.store.as_deref().unwrap_or(&known.store);
    let timing = Timing::new(Duration::from_secs(lease.ttl_seconds));
    let store = open_store(address, &follower.config.open_options(), &timing).map_err(|error| told(&error))?;
    let id = key.public().id();
    let is_writer = standing.root.signers("writer").allowed.contains(&key.public());
    let capability = follower.trust().cache_of(&follower.from.pin.root).join("lease-store.json");
    Runner::start(runner::Config {
        store,
        chain: known.chain,
        trusted: Trusted { root: standing.root, members: lease.members.clone() },
        lease: lease.clone(),
        node: follower.name.clone(),
        instance,
        signer: Arc::new(key),
        writer: is_writer.then_some(id),
        api: agent.surface.as_ref().and_then(SurfaceConfig::address),
        head: standing.head,
        capability,
    })
    .map_err(|error| told(&error))
}

/// The pins in force, or those that were when the chain could last be read.
fn pins(follower: &Follower, directory: &AgentDir) -> Result<KeptPins, BeginError> {
    let file = directory.path().join("pins.json");
    match follower.begin() {
        Ok(begun) => {
            let known = KeptPins { digest: begun.digest, chain: begun.chain, store: begun.store, pins: begun.pins };
            // Only a help for the next start; without it that one needs the chain.
            let _ = write(&file, &known);
            Ok(known)
        }
        Err(trouble) => {
            fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(BeginError::Chain(trouble))
        }
    }
}

fn write(file: &Path, known: &KeptPins) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new("/")))?;
    serde_json::to_writer(&mut temporary, known)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map(|_| ()).map_err(|error| error.error)
}

/// The name of this node, and why it takes no part in the lease of its pins.
fn identity(agent: &AgentConfig, pins: &Pins, key: Option<&SecretKey>) -> (String, Option<String>) {
    let own = key.map(|key| key.public().id());
    let member = pins.lease.iter().flat_map(|lease| &lease.members).find(|member| Some(&member.key) == own.as_ref());
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = agent.node.clone().or_else(|| member.map(|member| member.node.clone())).unwrap_or_else(host);
    let unfit = match (&pins.lease, member, own) {
        (None, _, _) => None,
        (Some(_), None, None) => Some("this machine has no node key; `snapkit key enroll` makes one".to_owned()),
        (Some(lease), None, Some(own)) => {
            Some(format!("its key {own} is not a member of the group {} in the pins", lease.group))
        }
        (Some(_), Some(member), _) if member.node != name => {
            Some(format!("bootstrap.toml calls it {name}, and the pins call the node with its key {}", member.node))
        }
        (Some(_), Some(_), _) => None,
    };
    (name, unfit)
}

/// Sixteen random bytes that name this run: equal names of hosts and processes are no identity.
fn instance() -> Result<Nonce, BeginError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(BeginError::Random)?;
    Ok(Nonce(bytes))
}

fn setup(agent: &AgentConfig, pins: &Pins, node: String, instance: &Nonce) -> Setup {
    let all = [Hook::Drain, Hook::Save, Hook::PrePromote, Hook::PostPromote, Hook::PostDemote, Hook::Reload];
    let leadership = match pins.lease.as_ref().map(|lease| lease.mode.as_str()) {
        None => Leadership::Nobody,
        Some("auto") => Leadership::Auto,
        Some(_) => Leadership::Static,
    };
    let service = pins.service.as_ref();
    Setup {
        node,
        instance: format!("{instance:?}"),
        leadership,
        leader_runs: service.is_some(),
        follower_runs: service.is_some_and(|service| driver::is_started(service, ServiceRole::Follower)),
        no_failover: agent.no_failover,
        max_lag: agent.max_lag,
        ttl: Duration::from_secs(pins.lease.as_ref().map_or(60, |lease| lease.ttl_seconds)),
        poll: agent.poll(),
        grace: Duration::from_secs(agent.service.grace_seconds),
        start: Duration::from_secs(agent.service.start_seconds),
        hooks: all.into_iter().filter(|hook| agent.hooks.contains_key(hook.as_str())).collect(),
    }
}

fn surfaces_of(agent: &AgentConfig, node: &Path, directory: &AgentDir, setup: &Setup) -> surfaces::Config {
    let tls = |certificate: &PathBuf, key: &PathBuf| TlsFiles { certificate: certificate.clone(), key: key.clone() };
    let tcp = agent.surface.as_ref().map(|surface| Tcp {
        listen: surface.listen,
        token: surface.token.clone(),
        tls: surface.certificate.as_ref().zip(surface.key.as_ref()).map(|(certificate, key)| tls(certificate, key)),
    });
    let limits = Limits {
        stalled_after: Duration::from_secs(10).min(setup.ttl * 2 / 3),
        stale_after: (setup.poll * 3).max(Duration::from_secs(30)),
        max_lag: agent.max_lag,
    };
    surfaces::Config { directory: node.to_owned(), socket: directory.socket(), tcp, limits }
}
