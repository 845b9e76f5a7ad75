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

use super::follow::{Follower, Standing};
use super::machine::{Hook, Leadership, Setup, Trouble};
use super::persist::{AgentDir, PersistError};
use crate::config::{AgentConfig, ConfigError, SurfaceConfig};
use crate::driver::procfs::boot_id;
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
    pub directory: Arc<AgentDir>,
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
    /// How the lease is joined, if the pins have one.
    pub joining: Option<Arc<Joining>>,
    /// The lease, if it could be joined.
    pub lease: Option<Runner>,
    /// What is served, and where.
    pub surfaces: surfaces::Config,
    /// Why the lease could not be joined yet.
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

/// Reads, follows and checks everything; nothing of the node is changed but the agent's own files. An agent that begins again
/// by other pins has its directory already.
///
/// # Errors
/// [`BeginError`]
pub fn begin(
    node: &Path,
    mut config: Config,
    cancel: &Cancel,
    held: Option<Arc<AgentDir>>,
) -> Result<Begun, BeginError> {
    let node = snapkit::node::NodeDir::open(node)?.path().to_owned();
    let agent = AgentConfig::read(&node)?;
    let directory = match held {
        Some(held) => held,
        None => Arc::new(AgentDir::open(&node)?),
    };
    if let Some(home) = &agent.home {
        config.home = Setting::new(home.clone(), Source::Flag("home in bootstrap.toml"));
    }
    let from = agent.origin()?;
    let trust = TrustDir::new(&config.home.value, &config.cache.value);
    let key = trust.node_key(&from.pin.root);
    let key = key.exists().then(|| trust.read_node_key(&from.pin.root)).transpose().map_err(BeginError::Key)?;
    let manifest = agent.manifest.clone();
    let (name, cancel_) = (agent.node.clone().unwrap_or_default(), cancel.clone());
    let mut follower =
        Follower { node: node.clone(), name, from, manifest, config, cancel: cancel_, begun: Default::default() };
    let known = pins(&follower, &directory)?;
    let (name, barred) = identity(&agent, &known.pins, key.as_ref());
    follower.name.clone_from(&name);
    let driver = driver_of(&known.pins, &agent, directory.path())?;
    let instance = instance()?;
    let setup = Setup { barred, ..setup(&agent, &known.pins, name, &instance) };
    let surfaces = surfaces_of(&agent, &node, &directory, &setup);
    let joining = match &known.pins.lease {
        None => None,
        Some(lease) => {
            let observes = setup.barred.is_some();
            // Somebody who only reads signs nothing; what holds a lease log wants a key all the same.
            let signer = match key.filter(|_| !observes) {
                Some(key) => key,
                None => SecretKey::from_seed(&random()?),
            };
            let (signer, lease, api) = (Arc::new(signer), lease.clone(), agent.surface.as_ref());
            let (chain, store) = (known.chain, lease.store.clone().unwrap_or_else(|| known.store.clone()));
            let (follower, api) = (follower.clone(), api.and_then(SurfaceConfig::address));
            Some(Arc::new(Joining { follower, lease, chain, store, instance, signer, observes, api }))
        }
    };
    let joined = joining.as_ref().map(|joining| {
        let standing = follower.standing().map_err(|trouble| trouble.why)?;
        joining.join(standing)
    });
    let (lease, unfit) = match joined {
        None => (None, None),
        Some(Ok(runner)) => (Some(runner), None),
        // Tried again as soon as the chain can be read.
        Some(Err(why)) => (None, Some(why)),
    };
    let (pins, pins_digest) = (known.pins, known.digest);
    Ok(Begun { agent, directory, follower, pins, pins_digest, setup, driver, joining, lease, surfaces, unfit })
}

/// The driver of the service that the pins name, as the operator's file has it.
///
/// # Errors
/// [`DriverError`]: it cannot be used here.
pub fn driver_of(pins: &Pins, agent: &AgentConfig, directory: &Path) -> Result<Option<Box<dyn Driver>>, DriverError> {
    let Some(service) = &pins.service else { return Ok(None) };
    let setup = driver::Setup::new(service, &pins.images, directory);
    let manager = agent.service.manager.unwrap_or(setup.manager);
    driver::open(&driver::Setup { engine: &agent.service.engine, manager, ..setup }).map(Some)
}

/// What joining the lease takes, beside the chain as it stands.
pub struct Joining {
    follower: Follower,
    lease: Lease,
    chain: Digest,
    store: String,
    instance: Nonce,
    signer: Arc<SecretKey>,
    observes: bool,
    api: Option<String>,
}

impl Joining {
    /// Starts the lease's own thread.
    ///
    /// # Errors
    /// Why it cannot be joined now, in words.
    pub fn join(&self, standing: Standing) -> Result<Runner, String> {
        let told = |error: &dyn std::error::Error| super::keeper::told(error);
        let timing = Timing::new(Duration::from_secs(self.lease.ttl_seconds));
        let store = open_store(&self.store, &self.follower.config.open_options(), &timing);
        let store = store.map_err(|error| told(&error))?;
        let public = self.signer.public();
        let is_writer = standing.root.signers("writer").allowed.contains(&public);
        let capability = self.follower.trust().cache_of(&self.follower.from.pin.root).join("lease-store.json");
        let signer = Arc::clone(&self.signer);
        Runner::start(runner::Config {
            store,
            chain: self.chain,
            trusted: Trusted { root: standing.root, members: self.lease.members.clone() },
            lease: self.lease.clone(),
            node: self.follower.name.clone(),
            instance: self.instance,
            signer,
            writer: is_writer.then(|| public.id()),
            api: self.api.clone(),
            head: standing.head,
            capability,
            observes: self.observes,
        })
        .map_err(|error| told(&error))
    }
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
    random().map(Nonce)
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], BeginError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(BeginError::Random)?;
    Ok(bytes)
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
        boot: boot_id().unwrap_or_default(),
        leadership,
        barred: None,
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
