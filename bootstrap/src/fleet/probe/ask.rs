//! Putting the questions: every surface at the same time, each question with its own limit.
//!
//! Layer: the edge; nothing is judged here.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use super::{ControlFailure, ControlPlane, ControlProblem, Exchange, Of, Options, ProbeError, Surface, Who};
use crate::fleet::http::{Asker, Auth, Got, NoAnswer};
use crate::fleet::inventory::credential::{Credentials, Secret};
use crate::fleet::inventory::{Also, Control, Identity, Inventory, Node, Wanted};
use crate::fleet::reach::Reach;

/// The most that is kept of a body.
const BODY_CAP: usize = 1024;

/// Answers, not judged yet.
pub(super) struct Asked {
    pub(super) at: Timestamp,
    pub(super) surfaces: Vec<Surface>,
    pub(super) control: Option<ControlPlane>,
    /// What further questions gave: their name, the node, and why they do not hold.
    pub(super) also: Vec<(String, String, Result<String, String>)>,
    pub(super) warnings: Vec<String>,
}

/// Puts all questions.
///
/// # Errors
/// When a credential that is named cannot be read.
pub(super) fn ask(inventory: &Inventory, options: &Options) -> Result<Asked, ProbeError> {
    let at = Timestamp::now();
    let limit = options.timeout.unwrap_or_else(|| inventory.patience());
    let mut warnings = Vec::new();
    // What would fail for every surface fails before any is asked.
    Asker::new(inventory.ca.as_deref(), limit)?;
    let mut orders = Vec::new();
    if let Some(ingress) = &inventory.ingress {
        let skipped = options.skip_public.then(|| "left out by --skip-public".to_owned());
        let identity = ingress.identity.as_ref().unwrap_or(&inventory.identity);
        // Clients have no credential either.
        let order = Order {
            name: "ingress".to_owned(),
            of: Of::Ingress,
            url: Some(&ingress.url),
            auth: Auth::None,
            identity,
            service: None,
            skipped,
        };
        orders.push(order);
    }
    for node in &inventory.nodes {
        let auth = auth(inventory, node, options)?;
        let skipped = match (&auth, &node.surface) {
            _ if options.skip_nodes.contains(&node.name) => Some("left out by --skip-node".to_owned()),
            (_, None) => Some("the inventory names no surface".to_owned()),
            (Err(why), Some(_)) => Some(why.clone()),
            (Ok(_), Some(_)) => None,
        };
        if let (Err(why), false) = (&auth, options.skip_nodes.contains(&node.name)) {
            warnings.push(format!("{} is not asked directly: {why}", node.name));
        }
        let (url, auth) = (node.surface.as_ref(), auth.unwrap_or_default());
        let behind = inventory.ingress.as_ref().and_then(|ingress| ingress.identity.as_ref());
        let service = node.service.as_ref().zip(behind);
        let (name, identity) = (node.name.clone(), &inventory.identity);
        orders.push(Order { name, of: Of::Node, url, auth, identity, service, skipped });
    }
    let control_auth = match &inventory.control {
        Some(_) if !options.skip_control => bearer(&inventory.credentials, options)?,
        _ => Auth::None,
    };
    let (surfaces, control, also) = thread::scope(|scope| {
        let surfaces: Vec<_> = orders.iter().map(|order| scope.spawn(move || order.ask(inventory, limit))).collect();
        let control = inventory.control.as_ref();
        let control = control.map(|control| {
            let auth = &control_auth;
            scope.spawn(move || ask_control(inventory, control, auth, options.skip_control, limit))
        });
        let also = scope.spawn(|| ask_also(inventory, options, limit));
        (surfaces.into_iter().map(joined).collect::<Vec<_>>(), control.map(joined), joined(also))
    });
    Ok(Asked { at, surfaces, control, also, warnings })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What goes with questions to a node; why none can be put, where a credential is named and not there.
fn auth(inventory: &Inventory, node: &Node, options: &Options) -> Result<Result<Auth, String>, ProbeError> {
    let known = inventory.credentials(node);
    let basic = options.basic.as_ref().or(known.basic.as_ref());
    let token = options.token.as_ref().or(known.read.as_ref());
    for (reference, kind) in [(basic, Auth::Basic as fn(Secret) -> Auth), (token, Auth::Bearer)] {
        if let Some(secret) = reference.map(|reference| reference.look_up()).transpose()?.flatten() {
            return Ok(Ok(kind(secret)));
        }
    }
    match basic.or(token) {
        None => Ok(Ok(Auth::None)),
        Some(reference) => Ok(Err(format!("its credential {reference} is not set"))),
    }
}

/// What goes with the question to the control plane; without a token it is asked all the same.
fn bearer(known: &Credentials, options: &Options) -> Result<Auth, ProbeError> {
    let token = options.token.as_ref().or(known.read.as_ref());
    let found = token.map(|reference| reference.look_up()).transpose()?.flatten();
    Ok(found.map_or(Auth::None, Auth::Bearer))
}

/// What is asked of one surface.
struct Order<'a> {
    name: String,
    of: Of,
    url: Option<&'a Url>,
    auth: Auth,
    identity: &'a Identity,
    /// Of a node: its service, and how that is asked who answers.
    service: Option<(&'a Url, &'a Identity)>,
    skipped: Option<String>,
}

impl Order<'_> {
    fn ask(&self, inventory: &Inventory, limit: Duration) -> Surface {
        let expect = &inventory.expect;
        let mut surface = Surface {
            name: self.name.clone(),
            of: self.of,
            url: self.url.map(Url::to_string),
            skipped: self.skipped.clone(),
            health: Exchange { path: expect.health.path.clone(), ..Exchange::default() },
            ready: Exchange { path: expect.ready.path.clone(), ..Exchange::default() },
            role: Exchange { path: expect.role.path.clone(), ..Exchange::default() },
            is: None,
            who: Who::default(),
            service: None,
            ips: Vec::new(),
            certificates: Vec::new(),
        };
        let (None, Some(url)) = (&surface.skipped, self.url) else { return surface };
        let asker = match Asker::new(inventory.ca.as_deref(), limit) {
            Ok(asker) => asker,
            Err(error) => {
                for exchange in [&mut surface.health, &mut surface.ready, &mut surface.role] {
                    exchange.error = Some(error.to_string());
                }
                return surface;
            }
        };
        let ask = |path: &str| asker.get(&below(url, path), &self.auth);
        let mut answers = Vec::new();
        for exchange in [&mut surface.health, &mut surface.ready, &mut surface.role] {
            let got = ask(&exchange.path);
            exchange.take(&got, &self.auth);
            answers.extend(got);
        }
        let identity = ask(&self.identity.path);
        surface.who = who(self.identity, &identity, &answers);
        answers.extend(identity);
        if let Some((url, identity)) = &self.service {
            // As a client of the ingress asks, so without a credential.
            surface.service = Some(who(identity, &asker.get(&below(url, &identity.path), &Auth::None), &[]));
        }
        for got in &answers {
            if let Some(ip) = got.ip.filter(|ip| !surface.ips.contains(ip)) {
                surface.ips.push(ip);
            }
            if let Some(certificate) = got.certificate.filter(|one| !surface.certificates.contains(one)) {
                surface.certificates.push(certificate);
            }
        }
        surface
    }
}

/// An address with a path below it.
pub(in crate::fleet) fn below(url: &Url, path: &str) -> Url {
    url.join(path.trim_start_matches('/')).unwrap_or_else(|_| url.clone())
}

impl Exchange {
    fn take(&mut self, got: &Result<Got, NoAnswer>, auth: &Auth) {
        let clean = |text: &str| match auth {
            Auth::None => text.to_owned(),
            Auth::Bearer(secret) | Auth::Basic(secret) => secret.redact(text),
        };
        match got {
            Err(error) => self.error = Some(clean(&error.to_string())),
            Ok(got) => {
                self.status = Some(got.status);
                self.body = Some(clean(&got.body[..got.body.floor_char_boundary(BODY_CAP)]));
                self.url = Some(got.url.to_string());
                self.redirects = got.redirects;
            }
        }
    }
}

/// The first pointer that leads to something, and which it is. Numbers are given as text.
fn pointed<'p>(body: &Value, pointers: &'p [String]) -> Option<(String, &'p str)> {
    pointers.iter().find_map(|pointer| {
        let text = match body.pointer(pointer)? {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some((text, pointer.as_str()))
    })
}

fn who(identity: &Identity, got: &Result<Got, NoAnswer>, others: &[Got]) -> Who {
    let body = got.as_ref().ok().and_then(Got::json);
    let field = |pointers: &[String]| body.as_ref().and_then(|body| pointed(body, pointers).map(|(text, _)| text));
    let node = body.as_ref().and_then(|body| pointed(body, &identity.node));
    let header = || {
        let name = identity.header.as_deref()?;
        let value = got.iter().chain(others).find_map(|got| got.header(name))?;
        Some((value.to_owned(), format!("header {name}")))
    };
    let by_field = node.map(|(node, pointer)| (node, format!("{}#{pointer}", identity.path)));
    let (node, source) = by_field.or_else(header).unzip();
    let problem = match (&node, got) {
        (Some(_), _) => None,
        (None, Err(error)) => Some(error.to_string()),
        (None, Ok(got)) if got.status != 200 => Some(format!("{} answers with status {}", identity.path, got.status)),
        (None, Ok(_)) if body.is_none() => Some(format!("{} answers with no JSON", identity.path)),
        (None, Ok(_)) => Some(format!("{} has nothing at {}", identity.path, identity.node.join(", "))),
    };
    Who {
        node,
        instance: field(&identity.instance),
        term: field(&identity.term).and_then(|term| term.parse().ok()),
        source,
        problem,
    }
}

fn ask_control(inventory: &Inventory, control: &Control, auth: &Auth, skip: bool, limit: Duration) -> ControlPlane {
    let url = below(&control.url, &control.path);
    let mut plane = ControlPlane { url: url.to_string(), ..ControlPlane::default() };
    if skip {
        plane.skipped = Some("left out by --skip-control-api".to_owned());
        return plane;
    }
    let got = match Asker::new(inventory.ca.as_deref(), limit) {
        Ok(asker) => asker.get(&url, auth),
        Err(error) => Err(NoAnswer(error.to_string())),
    };
    let failed = |kind, what: String| Some(ControlProblem { kind, what });
    let body = match got {
        Err(error) => {
            plane.problem = failed(ControlFailure::Transport, error.to_string());
            return plane;
        }
        Ok(got) if got.status != 200 => {
            plane.problem = failed(ControlFailure::Status, format!("status {}, expected 200", got.status));
            return plane;
        }
        Ok(got) => match got.json() {
            Some(body) => body,
            None => {
                let what = if got.body.is_empty() { "an empty body" } else { "a body that is no JSON" };
                plane.problem = failed(ControlFailure::Unparsable, format!("{what}, expected a JSON object"));
                return plane;
            }
        },
    };
    let map = &control.map;
    let field = |pointers: &[String]| pointed(&body, pointers).map(|(text, _)| text);
    plane.mode = field(&map.mode);
    plane.holder = field(&map.holder);
    plane.instance = field(&map.instance);
    plane.term = field(&map.term).and_then(|term| term.parse().ok());
    plane.expires = field(&map.expires);
    if let Some(holder) = &plane.holder {
        (plane.node, plane.inferred) = holder_node(inventory, holder, control.holder_prefix);
    }
    if plane.mode.is_none() && plane.holder.is_none() && plane.term.is_none() && plane.expires.is_none() {
        let what = format!("a holder at one of {}, found none", map.holder.join(", "));
        plane.problem = failed(ControlFailure::Unmapped, format!("expected {what}"));
    }
    plane
}

/// Which node a holder is: by its name, else by the longest name that it begins with, before a dash.
fn holder_node(inventory: &Inventory, holder: &str, by_prefix: bool) -> (Option<String>, bool) {
    if inventory.node(holder).is_some() {
        return (Some(holder.to_owned()), false);
    }
    let begins = |name: &&str| by_prefix && holder.strip_prefix(*name).is_some_and(|rest| rest.starts_with('-'));
    let node = inventory.names().filter(begins).max_by_key(|name| name.len());
    (node.map(str::to_owned), node.is_some())
}

type AlsoAnswer = (String, String, Result<String, String>);

fn ask_also(inventory: &Inventory, options: &Options, limit: Duration) -> Vec<AlsoAnswer> {
    let is_asked = |also: &Also, node: &Node| {
        (also.on.is_empty() || also.on.contains(&node.name)) && !options.skip_nodes.contains(&node.name)
    };
    let one = |also: &Also, node: &Node| (also.name.clone(), node.name.clone(), ask_one(inventory, also, node, limit));
    (inventory.expect.also.iter())
        .flat_map(|also| {
            inventory.nodes.iter().filter(move |node| is_asked(also, node)).map(move |node| one(also, node))
        })
        .collect()
}

fn ask_one(inventory: &Inventory, also: &Also, node: &Node, limit: Duration) -> Result<String, String> {
    if let Some(wanted) = &also.http {
        let url = node.service.as_ref().ok_or("the inventory names no service")?;
        let asker = Asker::new(inventory.ca.as_deref(), limit).map_err(|error| error.to_string())?;
        let got = asker.get(&below(url, &wanted.path), &Auth::None).map_err(|error| error.to_string())?;
        return match super::judge::mismatch(wanted, got.status, &got.body) {
            None => Ok(format!("{} answers as expected", wanted.path)),
            Some(expected) => Err(format!("{}, expected {expected}", shown(wanted, &got))),
        };
    }
    if let Some(port) = also.tcp {
        let address = node.private.map(|address| address.to_string()).or_else(|| node.host.clone());
        let address = address.ok_or("the inventory names neither its private address nor its host")?;
        let found = (address.as_str(), port).to_socket_addrs().map_err(|error| format!("{address}: {error}"))?;
        let mut last = Err("no address".to_owned());
        for one in found {
            last = TcpStream::connect_timeout(&one, limit).map(drop).map_err(|error| error.to_string());
            if last.is_ok() {
                break;
            }
        }
        return last
            .map(|()| format!("{address}:{port} accepts connections"))
            .map_err(|why| format!("{address}:{port}: {why}"));
    }
    let argv = also.exec.as_deref().unwrap_or_default();
    let ended =
        Reach::of_node(node).and_then(|reach| reach.run(argv, b"", limit)).map_err(|error| error.to_string())?;
    let program = argv.first().map_or("", String::as_str);
    if ended.is_good() { Ok(format!("{program} ended with 0")) } else { Err(format!("{program}: {}", ended.why())) }
}

fn shown(wanted: &Wanted, got: &Got) -> String {
    let body = &got.body[..got.body.floor_char_boundary(80)];
    format!("{} answers {}({body})", wanted.path, got.status)
}

/// How many nodes are behind each address, for warnings.
pub(super) fn hosts(inventory: &Inventory) -> BTreeMap<String, Vec<&str>> {
    let mut hosts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in &inventory.nodes {
        let named = [&node.surface, &node.service].map(|url| url.as_ref().and_then(Url::host_str).map(str::to_owned));
        let own = [node.host.clone(), node.private.map(|address| address.to_string())];
        for host in named.into_iter().chain(own).flatten() {
            let nodes = hosts.entry(host).or_default();
            if !nodes.contains(&node.name.as_str()) {
                nodes.push(&node.name);
            }
        }
    }
    hosts
}
