//! Questions of those who measure: each over a connection of its own, as a new client would ask, within a limit.
//!
//! No proxy is used and no redirection followed. Layer: the edge.

use std::io;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// The most that is read of an answer.
const ANSWER_CAP: usize = 64 * 1024;

/// Who asks.
#[derive(Debug)]
pub struct Asker {
    client: Client,
    runtime: Runtime,
}

/// An answer with its status.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// The body, where it is JSON.
    pub body: Option<Value>,
}

impl Asker {
    /// Asks within this limit for each answer.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new(limit: Duration, tls: bool) -> io::Result<Self> {
        // A provider that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().timeout(limit).no_proxy().redirect(Policy::none()).pool_max_idle_per_host(0);
        if !tls {
            // A machine without certificates can be asked, too.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(io::Error::other)?;
        Ok(Self { client, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// Asks, with a JSON body where there is one.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub fn ask(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Told, String> {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, url);
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let mut response = request.send().await.map_err(|error| why(&error))?;
            let status = response.status().as_u16();
            let mut bytes = Vec::new();
            while let Some(part) = response.chunk().await.map_err(|error| why(&error))? {
                bytes.extend_from_slice(&part);
                if bytes.len() > ANSWER_CAP {
                    return Err(format!("an answer of more than {ANSWER_CAP} bytes"));
                }
            }
            Ok(Told { status, body: serde_json::from_slice(&bytes).ok() })
        })
    }
}

impl Told {
    /// A text of the answer, at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<String> {
        self.body.as_ref()?.pointer(pointer)?.as_str().map(str::to_owned)
    }

    /// A number of the answer, at a JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.body.as_ref()?.pointer(pointer)?.as_u64()
    }
}

/// The chain of causes in one line, without the address, which the series has already.
fn why(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let texts: Vec<String> = causes.skip(1).map(ToString::to_string).collect();
    if texts.is_empty() { "no answer in time".to_owned() } else { texts.join(": ") }
}
