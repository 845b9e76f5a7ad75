//! A file for `/etc/cron.d`: the agent at every start of the machine, and snapshots.
//!
//! cron does not start an agent again that ended; where systemd is there, it is the better starter.

use super::{Every, Installation, InstalledFile};

pub(super) fn file(node: &Installation) -> InstalledFile {
    let user = node.user.as_deref().unwrap_or("root");
    let mut text = format!(
        "# The node {directory}, by `bootstrap install`. Secrets and credentials: {secrets}.\n\
         SHELL=/bin/sh\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
        directory = node.node.display().to_string().replace(['\n', '\r'], " "),
        secrets = node.secrets_file(),
    );
    // Variables stand in the command: what cron makes of quotes in its own assignments differs from one to the other.
    let environment = |more: &[(&str, String)]| {
        let all = node.environment().into_iter().chain(more.iter().cloned());
        all.map(|(name, value)| format!("{name}={} ", quoted(&value))).collect::<String>()
    };
    let secrets = quoted(&node.secrets_file());
    let source = format!("set -a; [ ! -r {secrets} ] || . {secrets}; ");
    let agent = format!(
        "{source}exec env {}{} agent {}",
        environment(&[]),
        quoted(&node.bootstrap.display().to_string()),
        quoted(&node.node.display().to_string())
    );
    text.push_str(&format!("@reboot {user} {}\n", escaped(&agent)));
    if let Some(store) = &node.store {
        let when = match node.every {
            Every::Minutes(minutes) => format!("*/{minutes} * * * *"),
            Every::Hour => "17 * * * *".to_owned(),
            Every::Day => "17 3 * * *".to_owned(),
        };
        let arguments: Vec<String> = node.snapshot_arguments(store).iter().map(|argument| quoted(argument)).collect();
        let command = format!(
            "{source}env {}{} --quiet {} || [ $? -eq 7 ]",
            environment(&[("SNAPKIT_AGENT", node.socket().display().to_string())]),
            quoted(&node.snapkit.display().to_string()),
            arguments.join(" ")
        );
        text.push_str(&format!("{when} {user} {}\n", escaped(&command)));
    }
    InstalledFile { name: format!("snapkit-{}", node.name.replace('.', "_")), text }
}

/// A word of a shell command.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// cron ends a command at a percent sign.
fn escaped(command: &str) -> String {
    command.replace('%', "\\%")
}
