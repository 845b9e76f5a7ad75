//! A compose file in which the agent itself is a container, and snapshots are a service that a timer of the host runs.
//!
//! All directories have the same paths inside as outside, because links and pins name them.

use serde_json::{Value, json};

use super::{Installation, InstalledFile};

pub(super) fn file(node: &Installation) -> InstalledFile {
    let path = |path: &std::path::Path| path.display().to_string();
    let mut volumes: Vec<String> = vec![path(&node.node), path(&node.home), path(&node.cache)];
    // A tree at a fixed path lies outside of the node.
    volumes.extend(node.trees.iter().map(|(_, tree)| path(tree)).filter(|tree| !tree.starts_with(&path(&node.node))));
    volumes.extend(node.config.iter().map(|config| path(config)));
    volumes.dedup();
    let volumes: Vec<Value> =
        volumes.iter().map(|path| json!({"type": "bind", "source": text(path), "target": text(path)})).collect();
    let environment = |more: &[(&str, String)]| -> Value {
        let all = node.environment().into_iter().chain(more.iter().cloned());
        Value::Object(all.map(|(name, value)| (name.to_owned(), text(&value).into())).collect())
    };
    let agent: Vec<String> = vec![path(&node.bootstrap), "agent".into(), path(&node.node)];
    let check = ["CMD".to_owned(), path(&node.bootstrap), "status".into(), path(&node.node)];
    let image = node.image.as_deref().unwrap_or_default();
    let list = |words: &[String]| words.iter().map(|word| Value::from(text(word))).collect::<Vec<_>>();
    let mut services = json!({
        "agent": {
            "image": text(image),
            "entrypoint": list(&agent),
            "environment": environment(&[]),
            "network_mode": "host",
            "restart": "unless-stopped",
            "stop_grace_period": format!("{}s", node.grace_seconds * 2 + 60),
            "volumes": volumes,
            "healthcheck": {"test": list(&check), "interval": "30s", "timeout": "20s", "retries": 3},
        }
    });
    if let Some(store) = &node.store {
        let mut words = vec![path(&node.snapkit)];
        words.extend(node.snapshot_arguments(store));
        services["snapshot"] = json!({
            "image": text(image),
            "profiles": ["snapshot"],
            "entrypoint": list(&words),
            "environment": environment(&[("SNAPKIT_AGENT", path(&node.socket()))]),
            "network_mode": "host",
            "volumes": volumes,
        });
    }
    if let Some(user) = &node.user {
        for service in services.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            service["user"] = text(user).into();
        }
    }
    // No `name`: older engines refuse a file that has one.
    let document = json!({"services": services});
    let body = serde_json::to_string_pretty(&document).unwrap_or_default();
    let name = node.name.replace('.', "_");
    let head = format!(
        "# By `bootstrap install`. Every JSON document is a YAML document. Snapshots, from a timer of the host:\n\
                # docker compose --project-name snapkit-{name} --profile snapshot run --rm snapshot\n"
    );
    InstalledFile { name: "compose.yaml".to_owned(), text: format!("{head}{body}\n") }
}

/// Compose puts variables into texts at dollar signs.
fn text(text: &str) -> String {
    text.replace('$', "$$")
}
