//! What a unit is told by a drop-in: its role, and that nobody else may start it.
//!
//! It lies under `/run`, so a reboot takes it away together with what it was for. While the file `allowed` is missing, the
//! manager refuses every start of the unit: by hand, by a timer, by another unit. Layer: the edge.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::Manager;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DropIn {
    directory: PathBuf,
}

impl DropIn {
    pub(super) fn new(directory: PathBuf) -> DropIn {
        DropIn { directory }
    }

    /// Writes it. `sweep` has the unit's own way of killing replaced, where that would leave processes behind.
    pub(super) fn write(
        &self,
        environment: &[(String, String)],
        user: Option<&str>,
        manager: Manager,
        sweep: bool,
    ) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
        self.forbid()?;
        let variables: String = environment.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
        // Secrets are among them.
        self.file("environment", 0o600, &variables)?;
        let text = self.text(user, sweep, own_unit(manager).as_deref())?;
        self.file("50-snapkit.conf", 0o644, &text)
    }

    fn text(&self, user: Option<&str>, sweep: bool, agent: Option<&str>) -> io::Result<String> {
        let path = |name: &str| -> io::Result<String> {
            let path = self.directory.join(name);
            let text = path.to_str().ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))?;
            Ok(text.replace('%', "%%"))
        };
        let mut text = String::from("# Written by bootstrap; gone after a reboot.\n[Unit]\n");
        text += &format!("AssertPathExists={}\nStartLimitIntervalSec=0\n", path("allowed")?);
        if let Some(agent) = agent {
            // If the agent's unit is killed as a whole, its guard with it, the manager ends this one.
            text += &format!("BindsTo={agent}\nAfter={agent}\n");
        }
        text += &format!("[Service]\nRestart=no\nEnvironmentFile={}\n", path("environment")?);
        if sweep {
            text += "KillMode=control-group\n";
        }
        if let Some(user) = user {
            text += &format!("User={}\n", user.replace('%', "%%"));
        }
        Ok(text)
    }

    /// Lets the unit be started.
    pub(super) fn allow(&self) -> io::Result<()> {
        self.file("allowed", 0o600, "")
    }

    /// Lets it be started by nobody.
    pub(super) fn forbid(&self) -> io::Result<()> {
        match fs::remove_file(self.directory.join("allowed")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str, mode: u32, text: &str) -> io::Result<()> {
        let temporary = self.directory.join(format!(".{name}.new"));
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(temporary, self.directory.join(name))
    }
}

/// A value as `EnvironmentFile=` reads it.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for one in value.chars() {
        if matches!(one, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(one);
    }
    text.push('"');
    text
}

/// The unit that this process is in, if its manager is the one that runs the service.
fn own_unit(manager: Manager) -> Option<String> {
    let groups = fs::read_to_string(Path::new("/proc/self/cgroup")).ok()?;
    let of_manager = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let group = groups
        .lines()
        .filter(of_manager)
        .find_map(|line| Some(line.splitn(3, ':').nth(2)?.to_owned()).filter(|group| group != "/"))?;
    unit_of(&group, manager)
}

/// The innermost unit of a control group, of the machine's manager or of a user's.
fn unit_of(group: &str, manager: Manager) -> Option<String> {
    let is_unit = |part: &&str| part.ends_with(".service");
    let (machine, user) = match group.split_once(".service/") {
        Some((_, below)) if group.contains("/user@") => (None, below.split('/').rfind(is_unit)),
        _ => (group.split('/').find(is_unit), None),
    };
    match manager {
        Manager::System => machine,
        Manager::User => user,
    }
    .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_through_a_file_of_variables() {
        assert_eq!(quoted(r#"a "b" $c \ `d`"#), r#""a \"b\" \$c \\ \`d\`""#);
    }

    #[test]
    fn the_unit_of_the_agent_is_found_for_its_own_manager_only() {
        let system = "/system.slice/snapkit-agent@db.service";
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service";
        assert_eq!(unit_of(system, Manager::System).as_deref(), Some("snapkit-agent@db.service"));
        assert_eq!(unit_of(system, Manager::User), None);
        assert_eq!(unit_of(user, Manager::User).as_deref(), Some("agent.service"));
        assert_eq!(unit_of(user, Manager::System), None);
        assert_eq!(unit_of("/user.slice/user-0.slice/session-1.scope", Manager::System), None);
    }

    #[test]
    fn nobody_else_starts_it_and_nothing_starts_it_again() {
        let text = DropIn::new("/run/x.service.d".into()).text(Some("app"), true, Some("agent.service")).unwrap();
        for line in [
            "AssertPathExists=/run/x.service.d/allowed",
            "BindsTo=agent.service",
            "Restart=no",
            "KillMode=control-group",
            "User=app",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
