//! Ingress: where traffic goes is asked from outside, again and again, and corrected while it is wrong.
//!
//! A hook at the moment of a takeover can be lost; a question that is put every few seconds cannot. Only the leader corrects,
//! with the hook `reconcile`. Documented in `docs/agent.md`, "Ingress". Layer: the edge.

use std::time::Duration;

use jiff::Timestamp;

use super::view::IngressView;
use crate::config::IngressConfig;

/// How long ingress may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The most that is read of an answer, in bytes.
const ANSWER_CAP: usize = 64 * 1024;

/// Asks which node answers there, and whether that is the holder.
pub fn ask(ingress: &IngressConfig, holder: Option<&str>) -> IngressView {
    let answers = get(&ingress.url).and_then(|text| named(&text, ingress.field.as_deref()));
    let agrees = answers.is_some() && answers.as_deref() == holder;
    IngressView { answers, agrees, checked: Timestamp::now() }
}

fn get(url: &str) -> Option<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        // A new connection each time: a kept one would show where traffic went, not where it goes.
        let client = || reqwest::Client::builder().timeout(LIMIT).no_proxy();
        // A machine without certificates can ask what needs none.
        let client = client().build().or_else(|_| client().tls_certs_only([]).build()).ok()?;
        let mut response = client.get(url).send().await.ok()?.error_for_status().ok()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_CAP {
                return None;
            }
        }
        String::from_utf8(bytes).ok()
    })
}

/// The node that an answer names: a field of JSON, by a path with dots, or the whole text.
fn named(text: &str, field: Option<&str>) -> Option<String> {
    let Some(field) = field else {
        return Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    };
    let answer: serde_json::Value = serde_json::from_str(text).ok()?;
    let value = field.split('.').try_fold(&answer, |value, part| value.get(part))?;
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn an_answer_names_a_node() {
        assert_eq!(named("node-a\n", None).as_deref(), Some("node-a"));
        assert_eq!(named("{\"node\":\"b\"}", Some("node")).as_deref(), Some("b"));
        assert_eq!(named("{\"holder\":{\"node\":\"c\"}}", Some("holder.node")).as_deref(), Some("c"));
        assert_eq!(named("{\"node\":1}", Some("node")), None);
        assert_eq!(named("", None), None);
    }

    #[test]
    fn dashboard_green_traffic_at_dead_node() {
        // A proxy that still leads to the old leader answers well, and names it.
        let stale = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", stale.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut client, _) = stale.accept().unwrap();
            let _ = client.read(&mut [0; 4096]).unwrap();
            client
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"node\":\"a\"}")
                .unwrap();
        });
        let ingress = IngressConfig { url, field: Some("node".into()), every_seconds: 1 };
        let view = ask(&ingress, Some("b"));
        server.join().unwrap();
        assert_eq!((view.answers.as_deref(), view.agrees), (Some("a"), false));
        // Nobody listens any more.
        let view = ask(&ingress, Some("b"));
        assert_eq!((view.answers, view.agrees), (None, false));
    }
}
