//! Inventories as `.env` files: one line `NAME=VALUE` per fact, as shell scripts keep them.
//!
//! `NODES` names the nodes; without it every `X_DIRECT_HOST` is one. The facts of a node begin with its name in capitals. What
//! such a file says becomes the text of an inventory, which is then read like any other, so both have the same rules. Names:
//! `docs/fleet.md`. Layer: pure.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Inventory;
use super::read::{Problem, parse as parse_toml};

/// Names that are not about a node.
const FLEET: &[&str] = &[
    "APP_NAME",
    "NODES",
    "PUBLIC_HOST",
    "PUBLIC_IPV4",
    "PUBLIC_IPV6",
    "PRIVATE_CIDR",
    "PORT",
    "CONTROL_API_BASE",
    "BOOTSTRAP_FROM",
    "MANIFEST",
    "READ_TOKEN_FILE",
    "ADMIN_TOKEN_FILE",
    "BASIC_AUTH_FILE",
];
/// What is said of a node, behind its name.
const NODE: &[&str] = &["_DIRECT_HOST", "_PRIVATE_IP", "_ROLE", "_DIRECTORY", "_SSH"];
/// The port of the service, where none is given.
const PORT: &str = "4317";
/// The name of the variable by which direct probes get their credential, unless a file is named.
const BASIC_VARIABLE: &str = "BASIC_AUTH";

/// Reads an `.env` file as an inventory.
///
/// # Errors
/// Every problem, with its line where one is to blame.
pub(super) fn parse(text: &str) -> Result<Inventory, Vec<Problem>> {
    let (facts, mut problems) = facts(text);
    let nodes = nodes(&facts);
    let prefixes: Vec<String> = nodes.iter().map(|node| prefix(node)).collect();
    let mut note = |line: Option<usize>, what: String| problems.push(Problem { line, section: String::new(), what });
    for (name, (line, _)) in &facts {
        let of_node =
            prefixes.iter().any(|prefix| name.strip_prefix(prefix.as_str()).is_some_and(|rest| NODE.contains(&rest)));
        if !of_node && !FLEET.contains(&name.as_str()) {
            note(
                Some(*line),
                format!("there is no name {name}; there are {}, and NODE{}", FLEET.join(", "), NODE.join(", NODE")),
            );
        }
    }
    for name in ["APP_NAME", "PUBLIC_HOST"].into_iter().filter(|name| !facts.contains_key(*name)) {
        note(None, format!("{name} is missing"));
    }
    if nodes.is_empty() {
        note(None, "no node: NODES or NODE_DIRECT_HOST is missing".to_owned());
    }
    for (node, prefix) in nodes.iter().zip(&prefixes) {
        for name in [format!("{prefix}_DIRECT_HOST"), format!("{prefix}_PRIVATE_IP")] {
            if !facts.contains_key(&name) {
                note(None, format!("{name} is missing, of node {node}"));
            }
        }
    }
    let (table, wrong) = table(&facts, &nodes);
    problems.extend(wrong);
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = toml::to_string(&table).expect("a table has text keys");
    // Lines of the text that was made here would mislead.
    parse_toml(&text)
        .map_err(|problems| problems.into_iter().map(|problem| Problem { line: None, ..problem }).collect())
}

type Facts = BTreeMap<String, (usize, String)>;

fn facts(text: &str) -> (Facts, Vec<Problem>) {
    let (mut facts, mut problems) = (Facts::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let (number, line) = (number + 1, line.trim());
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut note = |what: &str| {
            problems.push(Problem { line: Some(number), section: String::new(), what: what.to_owned() });
        };
        let Some((name, value)) = line.split_once('=') else {
            note("expected NAME=VALUE");
            continue;
        };
        let name_fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (name_fits, unquoted(value)) {
            (false, _) => note("expected a name of letters, digits and underscores before the equals sign"),
            (_, None) => note("the value has a quote without an end, or asks a shell for something"),
            // A name without a value is one that is missing.
            (_, Some(value)) if value.is_empty() => {}
            (_, Some(value)) => {
                if facts.insert(name.to_owned(), (number, value)).is_some() {
                    note("this name was given before");
                }
            }
        }
    }
    (facts, problems)
}

/// A value as a shell would have it, where that is plain: nothing is expanded.
fn unquoted(value: &str) -> Option<String> {
    let value = value.trim();
    let within = |quote: char| value.strip_prefix(quote).map(|rest| rest.strip_suffix(quote));
    match (within('\''), within('"')) {
        (Some(inner), _) => inner.filter(|inner| !inner.contains('\'')).map(str::to_owned),
        (_, Some(inner)) => inner.filter(|inner| !inner.contains(['"', '$', '`', '\\'])).map(str::to_owned),
        _ => {
            let value = value.split(" #").next().unwrap_or_default().trim_end();
            (!value.contains(['$', '`', '\'', '"', '\\'])).then(|| value.to_owned())
        }
    }
}

fn nodes(facts: &Facts) -> Vec<String> {
    match facts.get("NODES") {
        Some((_, list)) => list.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        None => {
            let mut found: Vec<_> = (facts.iter())
                .filter_map(|(name, (line, _))| Some((*line, name.strip_suffix("_DIRECT_HOST")?)))
                .collect();
            found.sort_unstable();
            found.into_iter().map(|(_, prefix)| prefix.to_ascii_lowercase().replace('_', "-")).collect()
        }
    }
}

/// What the names of a node's facts begin with.
fn prefix(node: &str) -> String {
    node.to_ascii_uppercase().replace(['-', '.'], "_")
}

fn table(facts: &Facts, nodes: &[String]) -> (Table, Vec<Problem>) {
    let mut problems = Vec::new();
    let fact = |name: &str| facts.get(name).map(|(_, value)| value.clone());
    let text = |value: String| Value::String(value);
    let reference =
        |kind: &str, value: String| Value::Table(Table::from_iter([(kind.to_owned(), Value::String(value))]));
    let mut top = Table::new();
    let put = |table: &mut Table, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.insert(key.to_owned(), value);
        }
    };
    put(&mut top, "name", fact("APP_NAME").map(text));
    put(&mut top, "from", fact("BOOTSTRAP_FROM").map(text));
    put(&mut top, "manifest", fact("MANIFEST").map(text));
    if let Some(network) = fact("PRIVATE_CIDR") {
        put(&mut top, "networks", Some(Value::Table(Table::from_iter([("private_cidr".to_owned(), text(network))]))));
    }
    let mut credentials = Table::new();
    put(&mut credentials, "read", fact("READ_TOKEN_FILE").map(|path| reference("file", path)));
    put(&mut credentials, "admin", fact("ADMIN_TOKEN_FILE").map(|path| reference("file", path)));
    let basic = fact("BASIC_AUTH_FILE").map(|path| reference("file", path));
    put(&mut credentials, "basic", Some(basic.unwrap_or_else(|| reference("env", BASIC_VARIABLE.to_owned()))));
    put(&mut top, "credentials", Some(Value::Table(credentials)));
    if let Some(host) = fact("PUBLIC_HOST") {
        let addresses: Vec<Value> =
            [fact("PUBLIC_IPV4"), fact("PUBLIC_IPV6")].into_iter().flatten().map(text).collect();
        let mut ingress = Table::from_iter([("url".to_owned(), text(format!("https://{host}/")))]);
        put(&mut ingress, "addresses", (!addresses.is_empty()).then_some(Value::Array(addresses)));
        put(&mut top, "ingress", Some(Value::Table(ingress)));
    }
    if let Some(base) = fact("CONTROL_API_BASE") {
        put(&mut top, "control", Some(Value::Table(Table::from_iter([("url".to_owned(), text(base))]))));
    }
    let port = fact("PORT").unwrap_or_else(|| PORT.to_owned());
    let one = |name: &String| {
        let prefix = prefix(name);
        let fact = |rest: &str| fact(&format!("{prefix}_{rest}"));
        let mut node = Table::from_iter([("name".to_owned(), text(name.clone()))]);
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                node.insert(key.to_owned(), value);
            }
        };
        let role = fact("ROLE").map(|role| match role.as_str() {
            "primary" | "leader" => "leader".to_owned(),
            "standby" | "follower" => "follower".to_owned(),
            other => {
                let line = facts.get(&format!("{prefix}_ROLE")).map(|(line, _)| *line);
                let what = format!("{prefix}_ROLE must be primary or standby, found {other:?}");
                problems.push(Problem { line, section: String::new(), what });
                "follower".to_owned()
            }
        });
        put("preferred", role.map(text));
        put("host", fact("DIRECT_HOST").map(text));
        put("surface", fact("DIRECT_HOST").map(|host| text(format!("https://{host}/"))));
        put("private", fact("PRIVATE_IP").map(text));
        put("service", fact("PRIVATE_IP").map(|address| text(format!("http://{}:{port}/", bracketed(&address)))));
        put("directory", fact("DIRECTORY").map(text));
        let ssh = |host| Value::Array(vec![text("ssh".to_owned()), text(host)]);
        put("reach", fact("SSH").map(ssh));
        Value::Table(node)
    };
    let nodes: Vec<Value> = nodes.iter().map(one).collect();
    top.insert("node".to_owned(), Value::Array(nodes));
    (top, problems)
}

/// An address as it stands in a URL.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fleet::inventory::{Preferred, Reference};

    const PAIR: &str = "# two machines\nexport APP_NAME=orders\nPUBLIC_HOST=orders.example\nPUBLIC_IPV4=192.0.2.1\n\
        PUBLIC_IPV6='2001:db8::1'\nMINI_MAIN_DIRECT_HOST=\"main.example\"\nMINI_MAIN_PRIVATE_IP=100.64.0.1\n\
        MINI_MAIN_ROLE=primary\nMINI_BACK_DIRECT_HOST=back.example # the other one\nMINI_BACK_PRIVATE_IP=fd00::2\n\
        CONTROL_API_BASE=https://control.example\n";

    #[test]
    fn two_machines_in_shell_variables_are_a_fleet() {
        let inventory = parse(PAIR).unwrap();
        assert_eq!(inventory.names().collect::<Vec<_>>(), ["mini-main", "mini-back"]);
        let [main, back] = &inventory.nodes[..] else { panic!("{inventory:#?}") };
        assert_eq!((main.preferred, back.preferred), (Preferred::Leader, Preferred::Follower));
        assert_eq!(main.surface.as_ref().unwrap().as_str(), "https://main.example/");
        assert_eq!(main.service.as_ref().unwrap().as_str(), "http://100.64.0.1:4317/");
        assert_eq!(back.service.as_ref().unwrap().as_str(), "http://[fd00::2]:4317/");
        assert_eq!(main.directory, Path::new("/srv/node"));
        let ingress = inventory.ingress.unwrap();
        assert_eq!((ingress.url.as_str(), ingress.addresses.len()), ("https://orders.example/", 2));
        assert_eq!(ingress.upstreams, ["mini-main", "mini-back"]);
        assert_eq!(inventory.control.unwrap().url.as_str(), "https://control.example/");
        // Without it, direct probes are left out instead of being refused one by one.
        assert_eq!(inventory.credentials.basic, Some(Reference::Env("BASIC_AUTH".to_owned())));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = "APP_NAME=\nPORT=80\nMINI_MAIN_DIRECT_HOST=a.example\nMINI_MAIN_ROLE=chief\nREAD_TOKEN=s3cret\nno equals sign\n\
                    X=$(id)\nPORT=81\n";
        let found: Vec<String> = parse(text).unwrap_err().iter().map(ToString::to_string).collect();
        for part in [
            "APP_NAME is missing",
            "PUBLIC_HOST is missing",
            "MINI_MAIN_PRIVATE_IP is missing, of node mini-main",
            "line 4: MINI_MAIN_ROLE must be primary or standby, found \"chief\"",
            "line 5: there is no name READ_TOKEN; there are APP_NAME,",
            "line 6: expected NAME=VALUE",
            "line 7: the value has a quote without an end, or asks a shell for something",
            "line 8: this name was given before",
        ] {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:#?}");
        }
        assert!(!found.iter().any(|problem| problem.contains("s3cret")), "{found:#?}");
    }

    #[test]
    fn the_rules_of_the_other_form_hold_here_too() {
        let found = parse(&format!("{PAIR}PRIVATE_CIDR=100.64.0.0/10\n")).unwrap_err();
        assert!(found[0].what.contains("private must lie in 100.64.0.0/10, found fd00::2"), "{found:?}");
    }
}
