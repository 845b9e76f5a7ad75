//! The files that an operator would write for the demo's world. Layer: pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use toml::Value;

/// What the desk's configuration says.
pub(super) struct Desk<'d> {
    pub(super) string: &'d str,
    pub(super) program: &'d str,
    pub(super) queue: &'d str,
    pub(super) at: &'d BTreeMap<&'static str, SocketAddr>,
    pub(super) ttl_seconds: u64,
    pub(super) max_head_lag: u64,
    pub(super) members: &'d BTreeMap<&'static str, String>,
    pub(super) needs: &'d str,
}

/// What an agent's file says.
pub(super) struct Agent<'a> {
    pub(super) string: &'a str,
    pub(super) node: &'a str,
    pub(super) listen: SocketAddr,
    pub(super) ingress: SocketAddr,
    pub(super) more: &'a str,
    /// Takes the last snapshot of a leader that stops.
    pub(super) save: &'a [String],
}

/// A node in the inventory.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) agent: SocketAddr,
    pub(super) service: SocketAddr,
    pub(super) directory: String,
    pub(super) reach: Vec<String>,
}

fn text(value: &str) -> String {
    Value::String(value.to_owned()).to_string()
}

fn list(words: &[String]) -> String {
    Value::Array(words.iter().map(|word| Value::String(word.clone())).collect()).to_string()
}

/// `snapkit.toml` of a node.
pub(super) fn machine(string: &str, node: &Path) -> String {
    let socket = node.join(crate::client::SOCKET).display().to_string();
    format!("store = {}\nagent = {}\n", text(string), text(&socket))
}

/// `snapkit.toml` of the desk, where pins and manifests are made.
pub(super) fn desk(desk: &Desk<'_>) -> String {
    let mut argv: Vec<String> =
        [desk.program, "drill", "demo-service", "--queue", desk.queue].map(str::to_owned).into();
    argv.extend(desk.at.iter().flat_map(|(node, at)| ["--at".to_owned(), format!("{node}={at}")]));
    let ask: Vec<String> = argv.iter().cloned().chain(["--ask".to_owned(), "/ready".to_owned()]).collect();
    let members = desk.members.iter().map(|(node, key)| format!("{{ node = {}, key = {} }}", text(node), text(key)));
    let mut config = format!("store = {}\n\n[manifest]\nname = \"app\"\n\n", text(desk.string));
    let _ = write!(
        config,
        "[pins]\nmax_head_age = \"26h\"\nmax_head_lag = {}\n\
         [pins.service]\ndriver = \"process\"\nargv = {}\nleader_args = [\"--lead\"]\nfollower_args = [\"--follow\"]\n\
         exclusive = [\"queue\"]\nready = {{ kind = \"exec\", argv = {}, timeout_seconds = 5 }}\n\n\
         [[pins.trees]]\nname = \"state\"\npath = \"/srv/state\"\nmust_match = [\"app.conf\"]\nmay_advance = [\"lines\"]\n\n\
         [pins.lease]\nmode = \"auto\"\nback_end = \"store\"\ngroup = \"demo\"\nttl_seconds = {}\nmembers = [{}]\n{}",
        desk.max_head_lag,
        list(&argv),
        list(&ask),
        desk.ttl_seconds,
        members.collect::<Vec<_>>().join(", "),
        desk.needs,
    );
    config
}

/// `bootstrap.toml` of a node.
pub(super) fn agent(agent: &Agent<'_>) -> String {
    let url = format!("http://{}/who", agent.ingress);
    format!(
        "from = {}\nmanifest = \"app\"\nnode = {}\npoll_seconds = 1\nmax_lag = 2\n{}\n\
         [surface]\nlisten = {}\n\n[service]\ngrace_seconds = 3\n\n\
         [ingress]\nurl = {}\nfield = \"node\"\nevery_seconds = 2\n\n\
         [hooks]\nsave = {{ argv = {}, timeout_seconds = 60 }}\n",
        text(agent.string),
        text(agent.node),
        agent.more,
        text(&agent.listen.to_string()),
        text(&url),
        list(agent.save),
    )
}

/// The inventory.
pub(super) fn inventory(
    string: &str,
    program: &str,
    ingress: SocketAddr,
    dead_man_seconds: u64,
    nodes: &[Node],
) -> String {
    let mut file = format!("name = \"demo\"\nfrom = {}\nmanifest = \"app\"\n\n", text(string));
    let _ = write!(
        file,
        "[thresholds]\nmax_failover_seconds = 30\nmax_data_lag_events = 500\n\n[scope]\nstop = [\"service\"]\n\n\
         [ingress]\nurl = {}\n\n[ingress.identity]\npath = \"/who\"\nnode = [\"/node\"]\ninstance = [\"/instance\"]\nterm = [\"/term\"]\n",
        text(&format!("http://{ingress}/")),
    );
    let snapkit = crate::drill::act::snapkit_beside(program);
    let snapshot = [snapkit.as_str(), "snapshot", "state={directory}/current", "--json"].map(str::to_owned);
    let _ = write!(
        file,
        "\n[drill]\nwrite = \"/add\"\nread = \"/who\"\nconflicts = \"/conflicts\"\nblank = \"c\"\nsoak_seconds = 3\n\
         dead_man_seconds = {dead_man_seconds}\nsnapshot = {}\n",
        list(&snapshot),
    );
    for (number, node) in nodes.iter().enumerate() {
        let preferred = if number == 0 { "leader" } else { "follower" };
        let _ = write!(
            file,
            "\n[[node]]\nname = {}\npreferred = \"{preferred}\"\nsurface = {}\nservice = {}\ndirectory = {}\nprogram = {}\n\
             reach = {}\ndriver = \"process\"\nbring_up = [\"--leave-paths\"]\n",
            text(&node.name),
            text(&format!("http://{}/", node.agent)),
            text(&format!("http://{}/", node.service)),
            text(&node.directory),
            text(program),
            list(&node.reach),
        );
    }
    file
}
