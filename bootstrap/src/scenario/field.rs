//! What an orchestrator sees and does of a fleet: one trait, so that moving the lead is tested without one.
//!
//! [`Ground`] is the real one: agents through their handles, surfaces through the probe. Layer: the edge.

use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::agent::view::RequestKind;
use crate::client::Asked;
use crate::command::Finished;
use crate::fleet::http::{Asker, Auth};
use crate::fleet::inventory::Inventory;
use crate::fleet::node::Handle;
use crate::fleet::probe::{self, Options, ProbeReport};
use crate::fleet::reach::Reach;
use crate::fleet::updown::{self, Proof};
use crate::surfaces::state::State;

/// Who answers where a node's service should, without its agent being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// The inventory does not say where the service answers.
    NotKnown,
    /// Nothing accepts a connection there: why.
    Closed(String),
    /// Something does.
    Open,
}

/// What an orchestrator sees and does of a fleet.
pub trait Field {
    /// The inventory.
    fn inventory(&self) -> &Inventory;

    /// What a node's agent says of itself.
    ///
    /// # Errors
    /// Why there is no answer.
    fn state(&self, node: &str) -> Result<State, String>;

    /// Asks a node's agent to do something.
    ///
    /// # Errors
    /// Why there is no answer; then it may be done or not.
    fn request(&self, node: &str, kind: RequestKind, reason: &str) -> Result<Asked, String>;

    /// Runs a program on a node, or where the orchestrator is.
    ///
    /// # Errors
    /// Why nothing was run.
    fn run(&self, node: Option<&str>, argv: &[String], limit: Duration) -> Result<Finished, String>;

    /// Runs `bootstrap` on the machine of the ingress.
    ///
    /// # Errors
    /// Why nothing was run.
    fn at_ingress(&self, args: &[String], stdin: &[u8], limit: Duration) -> Result<Finished, String>;

    /// Runs a program on the machine of the ingress.
    ///
    /// # Errors
    /// Why nothing was run.
    fn run_at_ingress(&self, argv: &[String], limit: Duration) -> Result<Finished, String>;

    /// Asks every surface, but those of `skip`.
    ///
    /// # Errors
    /// Why nothing was asked.
    fn probe(&self, expect: Option<&str>, skip: &[&str]) -> Result<ProbeReport, String>;

    /// Which node answers at the ingress.
    ///
    /// # Errors
    /// Why that is not known.
    fn ingress(&self) -> Result<String, String>;

    /// Whether anything answers where a node's service should.
    fn port(&self, node: &str) -> Port;

    /// Work that a node's service has begun and not ended; `None` where it is not asked.
    ///
    /// # Errors
    /// Why that is not known.
    fn work(&self, node: &str) -> Result<Option<u64>, String>;

    /// Starts the agent of a node, or brings the node up, and proves that it is there.
    ///
    /// # Errors
    /// What does not hold.
    fn up(&self, node: &str, limit: Duration) -> Result<String, String>;

    /// Ends the agent of a node that does not lead, and proves that nothing of it answers.
    ///
    /// # Errors
    /// What does not hold.
    fn down(&self, node: &str, limit: Duration) -> Result<String, String>;

    /// Waits a little before something is looked at again.
    fn pause(&self);
}

/// A real fleet.
pub struct Ground {
    inventory: Inventory,
}

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(200);

impl Ground {
    /// A fleet by its inventory.
    pub fn new(inventory: Inventory) -> Self {
        Self { inventory }
    }

    fn handle(&self, node: &str) -> Result<Handle, String> {
        let node = self.inventory.expect_node(node).map_err(|error| error.to_string())?;
        Ok(Handle::new(&self.inventory, node))
    }

    fn ingress_reach(&self) -> Result<(Reach, String), String> {
        let ingress = self.inventory.ingress.as_ref().ok_or("the inventory names no ingress")?;
        let reach = Reach::of_ingress(ingress).map_err(|error| error.to_string())?;
        Ok((reach, ingress.program.clone()))
    }
}

impl Field for Ground {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn state(&self, node: &str) -> Result<State, String> {
        self.handle(node)?.state(self.inventory.patience()).map_err(|error| chain(&error))
    }

    fn request(&self, node: &str, kind: RequestKind, reason: &str) -> Result<Asked, String> {
        self.handle(node)?.request(kind, reason).map_err(|error| chain(&error))
    }

    fn run(&self, node: Option<&str>, argv: &[String], limit: Duration) -> Result<Finished, String> {
        let reach = match node {
            Some(node) => self.handle(node)?.reach(),
            None => Ok(Reach::local()),
        };
        reach.and_then(|reach| reach.run(argv, b"", limit)).map_err(|error| chain(&error))
    }

    fn at_ingress(&self, args: &[String], stdin: &[u8], limit: Duration) -> Result<Finished, String> {
        let (reach, program) = self.ingress_reach()?;
        let argv: Vec<String> = std::iter::once(program).chain(args.iter().cloned()).collect();
        reach.run(&argv, stdin, limit).map_err(|error| chain(&error))
    }

    fn run_at_ingress(&self, argv: &[String], limit: Duration) -> Result<Finished, String> {
        self.ingress_reach()?.0.run(argv, b"", limit).map_err(|error| chain(&error))
    }

    fn probe(&self, expect: Option<&str>, skip: &[&str]) -> Result<ProbeReport, String> {
        let skip_nodes: BTreeSet<String> = skip.iter().map(|&node| node.to_owned()).collect();
        let options = Options { expect_leader: expect.map(str::to_owned), skip_nodes, ..Options::default() };
        probe::probe(&self.inventory, &options).map_err(|error| chain(&error))
    }

    fn ingress(&self) -> Result<String, String> {
        let skip_nodes = self.inventory.names().map(str::to_owned).collect();
        let options = Options { skip_nodes, skip_control: true, ..Options::default() };
        let report = probe::probe(&self.inventory, &options).map_err(|error| chain(&error))?;
        match (report.ingress_target(), report.ingress()) {
            (Some(node), _) => Ok(node.to_owned()),
            (None, Some(surface)) => {
                Err(surface.who.problem.clone().unwrap_or_else(|| "it does not say who answers".into()))
            }
            (None, None) => Err("the inventory names no ingress".to_owned()),
        }
    }

    fn port(&self, node: &str) -> Port {
        let service = self.inventory.node(node).and_then(|node| node.service.as_ref());
        let address = service.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        let Some((host, port)) = address else { return Port::NotKnown };
        // A literal IPv6 address stands in brackets in a URL.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses = match (host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => return Port::Closed(format!("{host}:{port} is no address here: {error}")),
        };
        let mut why = format!("{host}:{port} is no address here");
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.inventory.patience()) {
                Ok(_) => return Port::Open,
                Err(error) => why = format!("{address} accepts no connection: {error}"),
            }
        }
        Port::Closed(why)
    }

    fn work(&self, node: &str) -> Result<Option<u64>, String> {
        let (Some(work), Some(node)) = (&self.inventory.work, self.inventory.node(node)) else { return Ok(None) };
        let Some(service) = &node.service else { return Ok(None) };
        let url = service.join(&work.path).map_err(|error| error.to_string())?;
        let asker =
            Asker::new(self.inventory.ca.as_deref(), self.inventory.patience()).map_err(|error| chain(&error))?;
        let got = asker.get(&url, &Auth::None).map_err(|error| format!("{url}: {error}"))?;
        let number = got.json().and_then(|body: Value| body.pointer(&work.pointer)?.as_u64());
        match number {
            Some(left) if got.status == 200 => Ok(Some(left)),
            _ => Err(format!("{url}: status {}, and no number at {}", got.status, work.pointer)),
        }
    }

    fn up(&self, node: &str, limit: Duration) -> Result<String, String> {
        let node = self.inventory.expect_node(node).map_err(|error| error.to_string())?;
        let plan = updown::plan_up(&self.inventory, node, limit).map_err(|error| chain(&error))?;
        plan.execute(&self.inventory, node).map_err(|error| chain(&error))?;
        proven(&updown::prove_up(&self.inventory, node, limit))
    }

    fn down(&self, node: &str, limit: Duration) -> Result<String, String> {
        let node = self.inventory.expect_node(node).map_err(|error| error.to_string())?;
        let plan = updown::plan_down(&self.inventory, node, false, limit).map_err(|error| chain(&error))?;
        plan.execute(&self.inventory, node).map_err(|error| chain(&error))?;
        proven(&updown::prove_down(&self.inventory, node))
    }

    fn pause(&self) {
        thread::sleep(PAUSE);
    }
}

fn proven(proofs: &[Proof]) -> Result<String, String> {
    let said = |proof: &Proof| format!("{}: {}", proof.what, proof.found);
    match proofs.iter().find(|proof| proof.holds == Some(false)) {
        Some(proof) => Err(said(proof)),
        None => Ok(proofs.iter().map(said).collect::<Vec<_>>().join("; ")),
    }
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
