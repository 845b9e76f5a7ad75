//! Every key of the inventory: the one list by which a file is checked and that `bootstrap inventory schema` prints.
//!
//! Layer: values only.

use serde::Serialize;

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The table it stands in; empty for the top of the file.
    pub section: &'static str,
    /// Its name.
    pub key: &'static str,
    /// What its value is.
    pub form: &'static str,
    /// What holds without it: `required`, a value, or what follows.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn key(
    section: &'static str,
    key: &'static str,
    form: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section, key, form, default, meaning }
}

const fn timebox(phase: &'static str) -> Key {
    key("timeboxes", phase, "number", "as its steps", "how many seconds this phase of a run may take")
}

/// What stands behind `required`.
pub const REQUIRED: &str = "required";

/// All keys, in the order of the documented file.
pub const KEYS: &[Key] = &[
    key("", "name", "name", REQUIRED, "the name of the fleet"),
    key("", "from", "text", "none", "where nodes come from: URL#root=sha256:DIGEST, or file:PATH of a file with it"),
    key("", "manifest", "name", "as bootstrap has it", "the name of the manifest"),
    key("", "ca", "path", "those of the system", "certificates of further authorities, in PEM"),
    key("networks", "private_cidr", "network", "any", "where every private address must lie, such as 100.64.0.0/10"),
    key(
        "credentials",
        "read",
        "reference",
        "none",
        "bearer token for reading: { file = \"PATH\" } or { env = \"NAME\" }",
    ),
    key("credentials", "basic", "reference", "none", "USER:PASSWORD for reading, as HTTP basic authentication"),
    key("credentials", "admin", "reference", "none", "bearer token for requests that change something"),
    key("expect.health", "path", "path", "/healthz", "what is asked"),
    key("expect.health", "status", "number", "200", "the status it must answer with"),
    key("expect.health", "body", "text", "ok", "the whole body, without white space around it"),
    key("expect.health", "pattern", "regex", "none", "finds something in the body; replaces body"),
    key("expect.health", "pointer", "pointer", "none", "leads to a value in the JSON body; replaces body"),
    key("expect.health", "value", "text", "anything", "what stands at pointer"),
    key("expect.ready", "path", "path", "/readyz", "what is asked"),
    key("expect.ready", "status", "number", "200", "the status it must answer with"),
    key("expect.ready", "body", "text", "ready", "the whole body, without white space around it"),
    key("expect.ready", "pattern", "regex", "none", "finds something in the body; replaces body"),
    key("expect.ready", "pointer", "pointer", "none", "leads to a value in the JSON body; replaces body"),
    key("expect.ready", "value", "text", "anything", "what stands at pointer"),
    key("expect.role", "path", "path", "/rolez", "what is asked"),
    key(
        "expect.role",
        "pointer",
        "pointer",
        "none",
        "leads to the role in a JSON body; without it the body is the role",
    ),
    key("expect.role", "leader", "text", "leader", "the word of a leader"),
    key("expect.role", "follower", "text", "standby", "the word of a follower"),
    key("expect.also", "name", "name", REQUIRED, "the name of a further question in reports"),
    key("expect.also", "on", "list of nodes", "all", "to which nodes it is put"),
    key(
        "expect.also",
        "http",
        "table",
        "one of three",
        "a path of their service and its answer, as expect.health has it",
    ),
    key("expect.also", "tcp", "number", "one of three", "a port of theirs that must accept a connection"),
    key("expect.also", "exec", "argv", "one of three", "a command that is run there and must end with 0"),
    key("expect.also.http", "path", "path", REQUIRED, "what is asked"),
    key("expect.also.http", "status", "number", "200", "the status it must answer with"),
    key("expect.also.http", "body", "text", "any", "the whole body, without white space around it"),
    key("expect.also.http", "pattern", "regex", "none", "finds something in the body"),
    key("expect.also.http", "pointer", "pointer", "none", "leads to a value in the JSON body"),
    key("expect.also.http", "value", "text", "anything", "what stands at pointer"),
    key("identity", "path", "path", "/v1/state", "what is asked for who answers"),
    key(
        "identity",
        "node",
        "pointers",
        "/node",
        "where the name of the node stands; the first that leads to something",
    ),
    key("identity", "instance", "pointers", "/instance", "where the run of it stands"),
    key("identity", "term", "pointers", "/term", "where the term stands"),
    key("identity", "header", "text", "none", "a header that has the name of the node, where the fields say nothing"),
    key("thresholds", "probe_seconds", "number", "5", "how long one question may take"),
    key("thresholds", "drain_seconds", "number", "60", "how long work may take to drain"),
    key("thresholds", "max_failover_seconds", "number", "none", "how long clients may be without an answer"),
    key("thresholds", "max_data_lag_events", "number", "none", "how many events may be lost"),
    timebox("precheck"),
    timebox("backup-sync-check"),
    timebox("demote-primary"),
    timebox("promote-standby"),
    timebox("verify"),
    timebox("always"),
    key("work", "path", "path", REQUIRED, "a path of every service that says how much work it has not ended"),
    key("work", "pointer", "pointer", REQUIRED, "leads to that number in its JSON answer"),
    key("scope", "stop", "list of units", "none", "what a scenario may stop beside the one service that leads"),
    key("ingress", "url", "address", REQUIRED, "what clients ask for"),
    key("ingress", "addresses", "list of addresses", "any", "what its host name must resolve to"),
    key("ingress", "upstreams", "list of nodes", "all, as listed", "the nodes behind it, in its order"),
    key("ingress", "reach", "argv", "none", "what is put before a command so that it runs there; [] is here"),
    key("ingress", "quote", "bool", "true for ssh", "whether words behind reach pass through a shell"),
    key("ingress", "program", "text", "bootstrap", "the bootstrap command there"),
    key("ingress", "config", "path", "none", "its deployed configuration, there"),
    key("ingress", "validate", "argv", "none", "checks that configuration"),
    key("ingress", "reload", "argv", "none", "brings it into force"),
    key("ingress", "max_fails", "number", "none", "failed requests after which it leaves a node out"),
    key("ingress", "fail_timeout_seconds", "number", "none", "within how long they count"),
    key("ingress", "check_seconds", "number", "none", "how often it looks by itself"),
    key("ingress.identity", "path", "path", "/v1/state", "as [identity], where what answers behind it differs"),
    key("ingress.identity", "node", "pointers", "/node", "as [identity]"),
    key("ingress.identity", "instance", "pointers", "/instance", "as [identity]"),
    key("ingress.identity", "term", "pointers", "/term", "as [identity]"),
    key("ingress.identity", "header", "text", "none", "as [identity]"),
    key("control", "url", "address", REQUIRED, "what says who leads"),
    key("control", "path", "path", "/v1/state", "what is asked there"),
    key("control", "holder_prefix", "bool", "true", "whether `NODE-anything` as a holder is the node NODE"),
    key("control.map", "mode", "pointers", "/mode, /state/mode, /lease/mode", "what it is doing"),
    key(
        "control.map",
        "holder",
        "pointers",
        "/holder/node, /holder_id, /lease/holder_id, /holder, /leader",
        "who holds the lease",
    ),
    key("control.map", "instance", "pointers", "/holder/instance, /lease/instance", "which run of it"),
    key("control.map", "term", "pointers", "/term, /lease/term", "the term"),
    key(
        "control.map",
        "expires",
        "pointers",
        "/lease_expires_at, /lease/lease_expires_at, /lease/expires_at, /expires_at",
        "when the lease ends",
    ),
    key("drill", "write", "path", "none", "path below the ingress that takes a POSTed event, for the sentinel"),
    key("drill", "read", "path", "none", "path below the ingress that tells the last event, node and term"),
    key("drill", "conflicts", "path", "none", "path of a service that counts refused consumers: {\"conflicts\": N}"),
    key("drill", "interval_ms", "number", "100", "time between two questions of a prober"),
    key("drill", "timeout_ms", "number", "1000", "how long a prober waits for an answer"),
    key("drill", "soak_seconds", "number", "30", "how long a follower is watched before the leader is lost"),
    key("drill", "dead_man_seconds", "number", "3600", "after how long a drill without its orchestrator is taken back"),
    key("drill", "blank", "node", "none", "the node that is restored cold, and removed again"),
    key(
        "drill",
        "snapshot",
        "argv",
        "none",
        "takes a snapshot on the leader; {directory} stands for its node directory",
    ),
    key("drill.check", "name", "name", REQUIRED, "a further condition before a drill"),
    key("drill.check", "argv", "argv", REQUIRED, "a command that must end with 0"),
    key("drill.check", "on", "list of nodes", "here", "where it is run"),
    key("node", "name", "name", REQUIRED, "its name, as its agent has it"),
    key("node", "preferred", "leader or follower", "follower", "what it is to be when nothing is wrong"),
    key("node", "surface", "address", "none", "where its agent answers"),
    key("node", "service", "address", "none", "where its service answers by itself"),
    key("node", "directory", "path", "/srv/node", "the node directory there"),
    key("node", "program", "text", "bootstrap", "the bootstrap command there"),
    key("node", "private", "address", "none", "its address in the private network"),
    key("node", "host", "text", "its name", "the name of the machine"),
    key("node", "reach", "argv", "none", "what is put before a command so that it runs there; [] is here"),
    key("node", "quote", "bool", "true for ssh", "whether words behind reach pass through a shell"),
    key("node", "driver", "process, systemd, compose or hooks", "none", "how its service is run"),
    key("node", "bring_up", "list of words", "none", "further arguments of `bootstrap --from` there"),
    key("node", "start", "argv", "bring-up", "what starts its agent"),
    key("node", "stop", "argv", "SIGTERM", "what ends its agent"),
    key("node", "install", "list of words", "none", "further arguments of `bootstrap install` there, for node repair"),
    key("node.credentials", "read", "reference", "[credentials]", "its own token for reading"),
    key("node.credentials", "basic", "reference", "[credentials]", "its own USER:PASSWORD"),
    key("node.credentials", "admin", "reference", "[credentials]", "its own token for requests"),
    key("node.unit", "name", "name", REQUIRED, "a service beside the agent, for `bootstrap health`"),
    key("node.unit", "kind", "systemd, compose or http", REQUIRED, "how it is asked"),
    key("node.unit", "unit", "text", "its name", "of systemd the unit, of compose the service"),
    key("node.unit", "file", "path", "required for compose", "the compose file, there"),
    key("node.unit", "url", "address", "required for http", "what must answer with 200"),
    key("node.faults", "NAME", "table", "none", "how to do it harm in a drill; NAME is partition, store-block, …"),
    key("node.faults.NAME", "inject", "argv", REQUIRED, "does it"),
    key("node.faults.NAME", "heal", "argv", REQUIRED, "undoes it"),
];

/// The keys of a table.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.section == section).map(|key| key.key)
}

/// The tables in a table.
pub(super) fn sections(section: &str) -> Vec<&'static str> {
    let inner = |key: &Key| match section {
        "" => key.section.split('.').next().filter(|first| !first.is_empty()),
        _ => key.section.strip_prefix(section)?.strip_prefix('.')?.split('.').next(),
    };
    let mut all: Vec<&str> = KEYS.iter().filter_map(inner).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_the_list_once() {
        let mut all: Vec<_> = KEYS.iter().map(|key| (key.section, key.key)).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(sections("node"), ["credentials", "unit", "faults"]);
        assert!(sections("").contains(&"control"));
    }
}
