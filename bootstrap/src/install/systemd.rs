//! Units for systemd: the agent, and snapshots by a timer.

use std::path::Path;

use super::{Every, Installation, InstalledFile};

/// Seconds beyond the grace of the service in which the agent hands over and proves it dead.
const HAND_OVER_SECONDS: u64 = 60;

pub(super) fn files(node: &Installation) -> Vec<InstalledFile> {
    let mut files = vec![InstalledFile { name: format!("snapkit-agent-{}.service", node.name), text: agent(node) }];
    if let Some(store) = &node.store {
        let name = format!("snapkit-snapshot-{}", node.name);
        files.push(InstalledFile { name: format!("{name}.service"), text: snapshot(node, store) });
        files.push(InstalledFile { name: format!("{name}.timer"), text: timer(node) });
    }
    files
}

fn agent(node: &Installation) -> String {
    let stop = node.grace_seconds * 2 + HAND_OVER_SECONDS;
    format!(
        "[Unit]\n\
         Description=snapkit agent of {directory}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         # It is started again for as long as it takes.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         ExecStart={program} agent {argument}\n\
         {common}\
         Restart=always\n\
         RestartSec=2\n\
         TimeoutStartSec=10min\n\
         WatchdogSec=1min\n\
         # The agent ends its service in order; systemd kills what is left of it.\n\
         KillMode=mixed\n\
         TimeoutStopSec={stop}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        directory = plain(&node.node),
        program = path(&node.bootstrap),
        argument = quoted(&node.node.display().to_string()),
        common = common(node),
    )
}

fn snapshot(node: &Installation, store: &str) -> String {
    let arguments: Vec<String> = node.snapshot_arguments(store).iter().map(|argument| quoted(argument)).collect();
    format!(
        "[Unit]\n\
         Description=snapkit snapshot of {directory}\n\
         Wants=network-online.target\n\
         After=network-online.target snapkit-agent-{name}.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program} {arguments}\n\
         {common}\
         Environment={socket}\n\
         # A node that does not lead takes no snapshot, and that is well.\n\
         SuccessExitStatus=7\n\
         Nice=10\n\
         IOSchedulingClass=idle\n\
         TimeoutStartSec=infinity\n",
        directory = plain(&node.node),
        name = node.name,
        program = path(&node.snapkit),
        arguments = arguments.join(" "),
        common = common(node),
        socket = quoted(&format!("SNAPKIT_AGENT={}", node.socket().display())),
    )
}

fn timer(node: &Installation) -> String {
    let calendar = match node.every {
        Every::Minutes(minutes) => format!("*:0/{minutes}"),
        Every::Hour => "hourly".to_owned(),
        Every::Day => "daily".to_owned(),
    };
    format!(
        "[Unit]\n\
         Description=snapkit snapshots of {directory}\n\
         \n\
         [Timer]\n\
         OnCalendar={calendar}\n\
         # Not all nodes of a fleet in the same second, and after a pause at once.\n\
         RandomizedDelaySec=30\n\
         Persistent=true\n\
         Unit=snapkit-snapshot-{name}.service\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        directory = plain(&node.node),
        name = node.name,
    )
}

/// User and environment.
fn common(node: &Installation) -> String {
    let mut lines: Vec<String> = node.user.iter().map(|user| format!("User={user}\n")).collect();
    let environment = node.environment();
    lines.extend(
        environment.iter().map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}")))),
    );
    lines.push(format!("# Credentials and secrets of this node.\nEnvironmentFile=-{}\n", node.secrets_file()));
    lines.concat()
}

/// The path of a program, which systemd does not expand as it does arguments.
fn path(path: &Path) -> String {
    quoted_with(&path.display().to_string(), false)
}

/// A word of a command line or an assignment, whatever is in it.
fn quoted(text: &str) -> String {
    quoted_with(text, true)
}

fn quoted_with(text: &str, dollars: bool) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted.push_str("%%"),
            '$' if dollars => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A path in a sentence.
fn plain(path: &Path) -> String {
    path.display().to_string().replace('%', "%%").replace(['\n', '\r'], " ")
}
