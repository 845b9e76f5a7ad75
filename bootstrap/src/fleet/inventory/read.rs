//! From the text of an inventory to its values, or to everything that is wrong with it at once.
//!
//! A file is walked key by key by the list in `schema`; what is missing, unknown or not what it should be is noted with its
//! line and section, and the walk goes on. Layer: pure.

mod section;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;
use toml::de::DeTable;
use url::Url;

use self::section::{Reader, Section};
use super::drill::Check;
use super::{
    Also, Control, Credentials, Drills, Expect, Fault, Identity, Ingress, Inventory, Mapping, Networks, Node,
    Preferred, Roles, Scope, Thresholds, Unit, UnitKind, Wanted, Work, schema,
};

/// One thing that is wrong with an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, counted from 1; of the table where a key is missing.
    pub line: Option<usize>,
    /// The table; empty for the top of the file.
    pub section: String,
    /// What was expected and found.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.section.is_empty() {
            write!(f, "[{}] ", self.section)?;
        }
        f.write_str(&self.what)
    }
}

/// Reads the text of an inventory.
///
/// # Errors
/// Every problem, in the order of the file.
pub fn parse(text: &str) -> Result<Inventory, Vec<Problem>> {
    let reader = Reader { text, problems: RefCell::default() };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map(|span| reader.line(span.start));
            let what = error.message().lines().collect::<Vec<_>>().join("; ");
            return Err(vec![Problem { line, section: String::new(), what }]);
        }
    };
    let top = Section::new(&reader, "", "", None, table.get_ref());
    let inventory = inventory(&top);
    let mut problems = reader.problems.into_inner();
    problems.sort_by_key(|problem| problem.line);
    match (problems.is_empty(), inventory) {
        (true, Some(inventory)) => Ok(inventory),
        _ => Err(problems),
    }
}

fn inventory(top: &Section<'_>) -> Option<Inventory> {
    let name = top.name("name");
    let nodes = top.sections("node", "node");
    if nodes.is_empty() {
        top.problem(None, "no [[node]]: a fleet has at least one");
    }
    check_nodes(&nodes);
    check_from(top);
    let networks = Networks { private_cidr: top.section("networks", "networks").and_then(|section| network(&section)) };
    // Also of a node that has something else wrong: who names it names a node.
    let names: Vec<String> = nodes.iter().filter_map(|node| node.given("name").map(str::to_owned)).collect();
    let nodes: Vec<Option<Node>> = nodes.iter().map(|section| node(section, &networks)).collect();
    let inventory = Inventory {
        name: String::new(),
        from: top.text("from"),
        manifest: top.name_if_given("manifest"),
        ca: top.text("ca").map(PathBuf::from),
        networks,
        credentials: credentials(top, "credentials"),
        expect: expect(top, &names),
        identity: top.section("identity", "identity").map(|section| identity(&section)).unwrap_or_default(),
        thresholds: thresholds(top),
        timeboxes: top.section("timeboxes", "timeboxes").map(|section| timeboxes(&section)).unwrap_or_default(),
        scope: Scope {
            stop: top.section("scope", "scope").and_then(|section| section.texts("stop")).unwrap_or_default(),
        },
        work: top.section("work", "work").and_then(|section| work(&section)),
        ingress: top.section("ingress", "ingress").and_then(|section| ingress(&section, &names)),
        control: top.section("control", "control").and_then(|section| control(&section)),
        drill: top.section("drill", "drill").map(|section| drills(&section, &names)).unwrap_or_default(),
        nodes: nodes.into_iter().collect::<Option<_>>()?,
    };
    Some(Inventory { name: name?, ..inventory })
}

fn network(section: &Section<'_>) -> Option<IpNet> {
    let network: IpNet = section.parsed("private_cidr", "a network such as 100.64.0.0/10")?;
    if network.trunc() != network {
        let what = format!("private_cidr has bits of a host: expected {}, found {network}", network.trunc());
        section.problem_at("private_cidr", what);
    }
    Some(network)
}

fn work(section: &Section<'_>) -> Option<Work> {
    let (path, pointer) = (section.path("path"), section.pointer("pointer"));
    Some(Work { path: path?, pointer: pointer? })
}

fn thresholds(top: &Section<'_>) -> Thresholds {
    let default = Thresholds::default();
    let Some(section) = top.section("thresholds", "thresholds") else { return default };
    Thresholds {
        probe_seconds: section.number("probe_seconds", 1, 600).unwrap_or(default.probe_seconds),
        drain_seconds: section.number("drain_seconds", 0, 86400).unwrap_or(default.drain_seconds),
        max_failover_seconds: section.number("max_failover_seconds", 0, 86400),
        max_data_lag_events: section.number("max_data_lag_events", 0, u64::MAX),
    }
}

fn timeboxes(section: &Section<'_>) -> BTreeMap<String, u64> {
    let phases = schema::KEYS.iter().filter(|key| key.section == "timeboxes").map(|key| key.key);
    phases.filter_map(|phase| Some((phase.to_owned(), section.number(phase, 1, 86400)?))).collect()
}

fn expect(top: &Section<'_>, names: &[String]) -> Expect {
    let standard =
        |path: &str, body: &str| Wanted { path: path.to_owned(), body: Some(body.to_owned()), ..Wanted::default() };
    let (health, ready) = (standard("/healthz", "ok"), standard("/readyz", "ready"));
    let Some(section) = top.section("expect", "expect") else {
        return Expect { health, ready, ..Expect::default() };
    };
    let one = |key: &str, form: &'static str, standard: Wanted| match section.section(key, form) {
        None => standard,
        Some(section) => {
            let given = wanted(&section);
            let says = given.body.is_some() || given.pattern.is_some() || given.pointer.is_some();
            let body = if says { given.body.clone() } else { standard.body };
            Wanted { path: section.path("path").unwrap_or(standard.path), body, ..given }
        }
    };
    let default = Roles::default();
    let role = section.section("role", "expect.role").map(|section| Roles {
        path: section.path("path").unwrap_or(default.path.clone()),
        pointer: section.pointer("pointer"),
        leader: section.text("leader").unwrap_or(default.leader.clone()),
        follower: section.text("follower").unwrap_or(default.follower.clone()),
    });
    Expect {
        health: one("health", "expect.health", health),
        ready: one("ready", "expect.ready", ready),
        role: role.unwrap_or(default),
        also: section.sections("also", "expect.also").iter().filter_map(|section| also(section, names)).collect(),
    }
}

/// An expectation, but for its path.
fn wanted(section: &Section<'_>) -> Wanted {
    let pattern = section.text("pattern");
    if let Some(Err(error)) = pattern.as_deref().map(regex::Regex::new) {
        let said = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        section.problem_at("pattern", format!("pattern is no regular expression: {said}"));
    }
    let wanted = Wanted {
        path: String::new(),
        status: section.number("status", 100, 599).and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
        body: section.text("body"),
        pattern,
        pointer: section.pointer("pointer"),
        value: section.text("value"),
    };
    let ways = [wanted.body.is_some(), wanted.pattern.is_some(), wanted.pointer.is_some()];
    if ways.iter().filter(|given| **given).count() > 1 {
        section.problem(section.line, "body, pattern and pointer exclude each other");
    }
    if wanted.value.is_some() && wanted.pointer.is_none() {
        section.problem_at("value", "value stands beside pointer only");
    }
    wanted
}

fn also(section: &Section<'_>, names: &[String]) -> Option<Also> {
    let http = section.section("http", "expect.also.http").and_then(|inner| {
        let path = inner.path("path");
        if path.is_none() {
            inner.missing("path");
        }
        Some(Wanted { path: path?, ..wanted(&inner) })
    });
    let tcp = section.number("tcp", 1, 65535).and_then(|port| u16::try_from(port).ok());
    let also = Also {
        name: section.name("name")?,
        on: section.nodes("on", names).unwrap_or_default(),
        http,
        tcp,
        exec: section.argv("exec"),
    };
    let ways = ["http", "tcp", "exec"].into_iter().filter(|key| section.has(key)).count();
    if ways != 1 {
        section.problem(section.line, format!("expected one of http, tcp and exec, found {ways}"));
    }
    Some(also)
}

fn identity(section: &Section<'_>) -> Identity {
    let default = Identity::default();
    Identity {
        path: section.path("path").unwrap_or(default.path),
        node: section.pointers("node").unwrap_or(default.node),
        instance: section.pointers("instance").unwrap_or(default.instance),
        term: section.pointers("term").unwrap_or(default.term),
        header: section.text("header"),
    }
}

fn ingress(section: &Section<'_>, names: &[String]) -> Option<Ingress> {
    let url = section.url("url");
    if !section.has("url") {
        section.missing("url");
    }
    let ingress = |url| Ingress {
        url,
        addresses: section.parsed_list("addresses", "an address"),
        identity: section.section("identity", "ingress.identity").map(|section| identity(&section)),
        upstreams: section.nodes("upstreams", names).unwrap_or_else(|| names.to_vec()),
        reach: section.reach(),
        quote: section.flag("quote"),
        program: section.text("program").unwrap_or_else(|| "bootstrap".to_owned()),
        config: section.absolute("config"),
        validate: section.argv("validate"),
        reload: section.argv("reload"),
        max_fails: section.number("max_fails", 1, 1000),
        fail_timeout_seconds: section.number("fail_timeout_seconds", 1, 86400),
        check_seconds: section.number("check_seconds", 1, 3600),
    };
    // Without an address, too, the rest is looked at.
    let read = ingress(url.clone().unwrap_or_else(|| Url::parse("http://missing/").expect("a constant address")));
    url.map(|_| read)
}

fn control(section: &Section<'_>) -> Option<Control> {
    let default = Mapping::default();
    let map = section.section("map", "control.map").map(|section| Mapping {
        mode: section.pointers("mode").unwrap_or(default.mode.clone()),
        holder: section.pointers("holder").unwrap_or(default.holder.clone()),
        instance: section.pointers("instance").unwrap_or(default.instance.clone()),
        term: section.pointers("term").unwrap_or(default.term.clone()),
        expires: section.pointers("expires").unwrap_or(default.expires.clone()),
    });
    let path = section.path("path").unwrap_or_else(|| "/v1/state".to_owned());
    let holder_prefix = section.flag("holder_prefix").unwrap_or(true);
    if !section.has("url") {
        section.missing("url");
    }
    Some(Control { url: section.url("url")?, path, map: map.unwrap_or(default), holder_prefix })
}

fn drills(section: &Section<'_>, names: &[String]) -> Drills {
    let default = Drills::default();
    let blank = section.text("blank");
    if let Some(unknown) = blank.as_ref().filter(|blank| !names.contains(blank)) {
        let what = format!("blank names {unknown}, which is no node; there are {}", names.join(", "));
        section.problem_at("blank", what);
    }
    let checks = section.sections("check", "drill.check");
    let check = |section: &Section<'_>| {
        if !section.has("argv") {
            section.missing("argv");
        }
        let on = section.nodes("on", names).unwrap_or_default();
        Some(Check { name: section.name("name")?, argv: section.argv("argv")?, on })
    };
    Drills {
        write: section.path("write").or(default.write),
        read: section.path("read").or(default.read),
        conflicts: section.path("conflicts").or(default.conflicts),
        interval_ms: section.number("interval_ms", 10, 60_000).unwrap_or(default.interval_ms),
        timeout_ms: section.number("timeout_ms", 10, 60_000).unwrap_or(default.timeout_ms),
        soak_seconds: section.number("soak_seconds", 1, 3600).unwrap_or(default.soak_seconds),
        dead_man_seconds: section.number("dead_man_seconds", 10, 86_400).unwrap_or(default.dead_man_seconds),
        blank,
        snapshot: section.argv("snapshot"),
        checks: checks.iter().filter_map(check).collect(),
    }
}

fn credentials(section: &Section<'_>, key: &'static str) -> Credentials {
    let form = if section.form.is_empty() { "credentials" } else { "node.credentials" };
    let Some(section) = section.section(key, form) else { return Credentials::default() };
    Credentials {
        read: section.reference("read"),
        basic: section.reference("basic"),
        admin: section.reference("admin"),
    }
}

fn node(section: &Section<'_>, networks: &Networks) -> Option<Node> {
    let name = section.name("name");
    let preferred = section.one_of("preferred", &[("leader", Preferred::Leader), ("follower", Preferred::Follower)]);
    let driver = ["process", "systemd", "compose", "hooks"].map(|driver| (driver, driver.to_owned()));
    let private: Option<IpAddr> = section.parsed("private", "an address");
    if let (Some(address), Some(network)) = (private, networks.private_cidr)
        && !network.contains(&address)
    {
        section.problem_at("private", format!("private must lie in {network}, found {address}"));
    }
    let faults = section.section("faults", "node.faults").map(|faults| faults.named("node.faults.NAME"));
    let node = Node {
        name: String::new(),
        preferred: preferred.unwrap_or(Preferred::Follower),
        surface: section.url("surface"),
        service: section.url("service"),
        directory: section.absolute("directory").unwrap_or_else(|| "/srv/node".into()),
        program: section.text("program").unwrap_or_else(|| "bootstrap".to_owned()),
        private,
        host: section.text("host"),
        reach: section.reach(),
        quote: section.flag("quote"),
        driver: section.one_of("driver", &driver),
        bring_up: section.texts("bring_up").unwrap_or_default(),
        start: section.argv("start"),
        stop: section.argv("stop"),
        install: section.texts("install"),
        credentials: credentials(section, "credentials"),
        units: section.sections("unit", "node.unit").iter().filter_map(unit).collect(),
        faults: faults.into_iter().flatten().filter_map(fault).collect::<BTreeMap<_, _>>(),
    };
    Some(Node { name: name?, ..node })
}

fn unit(section: &Section<'_>) -> Option<Unit> {
    let kinds = [("systemd", UnitKind::Systemd), ("compose", UnitKind::Compose), ("http", UnitKind::Http)];
    if !section.has("kind") {
        section.missing("kind");
    }
    let kind = section.one_of("kind", &kinds);
    let (unit, file, url) = (section.text("unit"), section.absolute("file"), section.exact_url("url"));
    match kind {
        Some(UnitKind::Compose) if !section.has("file") => section.missing("file"),
        Some(UnitKind::Http) if !section.has("url") => section.missing("url"),
        _ => {}
    }
    Some(Unit { name: section.name("name")?, kind: kind?, unit, file, url })
}

fn fault((name, section): (String, Section<'_>)) -> Option<(String, Fault)> {
    let both = ["inject", "heal"].map(|key| {
        if !section.has(key) {
            section.missing(key);
        }
        section.argv(key)
    });
    let [inject, heal] = both;
    Some((name, Fault { inject: inject?, heal: heal? }))
}

/// What no single node shows.
fn check_nodes(nodes: &[Section<'_>]) {
    for (number, node) in nodes.iter().enumerate() {
        let before = &nodes[..number];
        for key in ["name", "surface", "service"] {
            // With or without the slash at its end, an address is the same one.
            let value = |node: &Section<'_>| node.given(key).map(|value| value.trim_end_matches('/').to_owned());
            let Some(own) = value(node) else { continue };
            if let Some(other) = before.iter().find(|other| value(other).as_ref() == Some(&own)) {
                let line = other.line_of(key).unwrap_or_default();
                node.problem_at(key, format!("{key} is {own:?} in line {line} already; two nodes have the same {key}"));
            }
        }
        let leads = |node: &Section<'_>| node.given("preferred") == Some("leader");
        if let (true, Some(other)) = (leads(node), before.iter().find(|other| leads(other))) {
            let line = other.line_of("preferred").unwrap_or_default();
            let what =
                format!("{} in line {line} and this one are both preferred leaders; one node can lead", other.name);
            node.problem_at("preferred", what);
        }
    }
}

/// What nodes come from, if it stands here.
fn check_from(top: &Section<'_>) {
    if let Some(from) = top.given("from").filter(|from| !from.starts_with("file:"))
        && let Err(error) = from.parse::<snapkit::trust::Bootstrap>()
    {
        top.problem_at("from", format!("from: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"f\"\n[[node]]\nname = \"a\"\n";

    fn problems(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    /// The example of the page, and the one that stands beside it.
    fn examples() -> [String; 2] {
        let page = include_str!("../../../../docs/fleet.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let file = include_str!("../../../../docs/examples/fleet.example.toml");
        [rest.split_once("```").unwrap().0.to_owned(), file.to_owned()]
    }

    #[test]
    fn the_examples_are_accepted_and_the_documented_one_has_every_table() {
        let [page, file] = examples();
        let inventory = parse(&page).unwrap();
        parse(&file).unwrap();
        assert!(inventory.nodes.len() > 2 && inventory.ingress.is_some() && inventory.control.is_some());
        for key in schema::KEYS.iter().filter(|key| !key.section.contains("NAME")) {
            let table = key.section.rsplit('.').next().unwrap();
            let shown = ["]", " = ", "."].iter().any(|after| page.contains(&format!("{table}{after}")));
            assert!(key.section.is_empty() || shown, "[{}] is in no example", key.section);
        }
    }

    #[test]
    fn what_is_printed_reads_as_the_same_inventory() {
        for text in examples().iter().map(String::as_str).chain([LEAST]) {
            let inventory = parse(text).unwrap();
            let again = parse(&inventory.to_toml()).unwrap_or_else(|problems| panic!("{problems:#?}"));
            assert_eq!(again, inventory);
            assert_eq!(again.digest(), inventory.digest());
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let found = problems(
            "bogus = 1\n[ingress]\nmax_fails = 0\n[networks]\nprivate_cidr = \"100.64.0.0/10\"\n[[node]]\nname = \"a\"\n\
             private = \"100.999.0.1\"\n[[node]]\nprivate = \"192.168.0.1\"\ndirectory = \"relative\"\nhost = 1\n",
        );
        let starts = |start: &str| found.iter().any(|problem| problem.starts_with(start));
        for start in [
            "name is missing",
            "line 1: there is no key bogus; there are name, from,",
            "line 2: [ingress] url is missing",
            "line 3: [ingress] max_fails must be 1 to 1000, found 0",
            "line 8: [node a] private must be an address, found \"100.999.0.1\"",
            "line 9: [node 2] name is missing",
            "line 10: [node 2] private must lie in 100.64.0.0/10, found 192.168.0.1",
            "line 11: [node 2] directory must be an absolute path, found \"relative\"",
            "line 12: [node 2] host must be text that is not empty, found a value of the type integer",
        ] {
            assert!(starts(start), "{start}: {found:#?}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn a_network_is_meant_as_a_network_and_not_as_digits() {
        let of = |address: &str| {
            parse(&format!(
                "name = \"f\"\n[networks]\nprivate_cidr = \"100.64.0.0/10\"\n[[node]]\nname = \"a\"\nprivate = \"{address}\"\n"
            ))
        };
        assert!(of("100.64.0.1").is_ok() && of("100.127.255.255").is_ok());
        for (network, wrong) in [("100.64.0.1/10", true), ("100.64.0.0/10", false)] {
            let text = format!("name = \"f\"\n[networks]\nprivate_cidr = \"{network}\"\n[[node]]\nname = \"a\"\n");
            assert_eq!(parse(&text).is_err(), wrong, "{network}");
        }
        for wrong in ["100.63.255.255", "100.128.0.0", "100.999.1.1", "100.64.0.1/10", "fd00::1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_only_several_tables_show_is_said_with_the_rest_and_its_line() {
        let found = problems(
            "name = \"f\"\nfrom = \"https://a/\"\nbogus = 1\n[ingress]\nurl = \"https://x/\"\nupstreams = [\"a\", \"b\", \"a\"]\n\
             [drill]\nblank = \"z\"\n[[node]]\nname = \"a\"\npreferred = \"leader\"\nsurface = \"https://s/\"\n\
             [[node]]\nname = \"a\"\npreferred = \"leader\"\nsurface = \"https://s\"\ndirectory = \"relative\"\n",
        );
        let starts = |start: &str| found.iter().any(|problem| problem.starts_with(start));
        for start in [
            "line 2: from: ",
            "line 3: there is no key bogus",
            "line 6: [ingress] upstreams names b, which is no node; there are a",
            "line 6: [ingress] upstreams names a twice",
            "line 8: [drill] blank names z, which is no node",
            "line 14: [node a] name is \"a\" in line 10 already",
            "line 15: [node a] node a in line 11 and this one are both preferred leaders",
            "line 16: [node a] surface is \"https://s\" in line 12 already",
            "line 17: [node a] directory must be an absolute path",
        ] {
            assert!(starts(start), "{start}: {found:#?}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, names) in [
            ("surface = \"https://user:secret@a.example/\"", "holds a credential"),
            ("surface = \"file:///etc/passwd\"", "http or https"),
            ("reach = [\"\"]", "empty word"),
            ("start = []", "start must name a program"),
            ("directory = \"srv\"", "absolute"),
            ("credentials = { read = \"s3cret\" }", "{ file = \"PATH\" }"),
            ("credentials = { read = { value = \"s3cret\" } }", "{ file = \"PATH\" }"),
            ("unit = [{ name = \"u\", kind = \"http\" }]", "url is missing"),
            ("unit = [{ name = \"u\", kind = \"launchd\" }]", "kind must be systemd or compose or http"),
            ("faults = { partition = { inject = [\"x\"] } }", "heal is missing"),
            (
                "[ingress]\nurl = \"https://x/\"\nupstreams = [\"b\"]",
                "upstreams names b, which is no node; there are a",
            ),
            ("[control]\nurl = \"https://x/\"\nmap = { holder = \"leader\" }", "JSON pointers"),
            ("[expect.health]\npattern = \"(\"", "no regular expression"),
            ("[expect.health]\nbody = \"a\"\npattern = \"b\"", "exclude each other"),
            ("[[expect.also]]\nname = \"x\"", "one of http, tcp and exec, found 0"),
            ("[[node]]\nname = \"a\"", "two nodes have the same name"),
            ("preferred = \"leader\"\n[[node]]\nname = \"b\"\npreferred = \"leader\"", "both preferred leaders"),
            ("[thresholds]\nprobe_seconds = -1", "1 to 600"),
        ] {
            let found = problems(&format!("{LEAST}{text}\n"));
            assert!(found.iter().any(|problem| problem.contains(names)), "{text}: {found:#?}");
            assert!(
                !found.iter().any(|problem| problem.contains("s3cret") || problem.contains("secret@")),
                "{found:#?}"
            );
        }
        assert!(problems("name = \"f\"\n").iter().any(|problem| problem.contains("no [[node]]")));
        assert!(problems("name = \n")[0].starts_with("line 1"));
        assert!(problems(&format!("from = \"https://a/\"\n{LEAST}")).iter().any(|problem| problem.contains("from:")));
    }
}
