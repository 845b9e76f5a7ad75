//! HTTP questions: one request with a limit of time, of answer and of redirections, and all that is known of who answered.
//!
//! A credential goes only to the origin that it was meant for; redirections that lead elsewhere are followed without it.
//! No proxy is used, which would ask from another place. Layer: the edge.

use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use manifests::digest::Digest;
use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client, Method};
use serde_json::Value;
use url::Url;

use super::inventory::credential::Secret;

/// The most that is read of an answer.
const ANSWER_CAP: usize = 1 << 20;
/// How many redirections are followed.
const REDIRECTS: usize = 5;

/// What goes with a request.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer(Secret),
    /// `Authorization: Basic`, of `USER:PASSWORD`.
    Basic(Secret),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The status.
    pub status: u16,
    /// The body as text, without carriage returns and white space around it.
    pub body: String,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// What was asked in the end.
    pub url: Url,
    /// How many redirections led there.
    pub redirects: usize,
    /// Which address answered.
    pub ip: Option<IpAddr>,
    /// SHA-256 of the certificate of who answered.
    pub certificate: Option<Digest>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskerError {
    /// The certificates of further authorities cannot be used.
    #[error("cannot use {path} as certificates of authorities: {why}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The system gives no loop to wait in.
    #[error("cannot wait for answers here")]
    Runtime(#[source] std::io::Error),
}

/// Asks questions.
pub struct Asker {
    limit: Duration,
    runtime: tokio::runtime::Runtime,
    authorities: Vec<Certificate>,
}

impl Got {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

impl Asker {
    /// Asks with `limit` for each question. `ca` holds certificates of authorities beside those of the system.
    ///
    /// # Errors
    /// [`AskerError`]
    pub fn new(ca: Option<&Path>, limit: Duration) -> Result<Self, AskerError> {
        // A provider that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities = match ca {
            None => Vec::new(),
            Some(path) => {
                let wrong = |why: String| AskerError::Authorities { path: path.display().to_string(), why };
                let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
                let found = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(chain(error)))?;
                if found.is_empty() {
                    return Err(wrong("there is no certificate in it".to_owned()));
                }
                found
            }
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskerError::Runtime)?;
        Ok(Self { limit, runtime, authorities })
    }

    /// GET, following redirections.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn get(&self, url: &Url, auth: &Auth) -> Result<Got, NoAnswer> {
        self.within(self.ask(Method::GET, url, auth, None))
    }

    /// POST of JSON; redirections are not followed.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn post(&self, url: &Url, auth: &Auth, body: &Value) -> Result<Got, NoAnswer> {
        self.within(self.ask(Method::POST, url, auth, Some(body.to_string())))
    }

    /// Waits for the whole of it, redirections and all, for no longer than the limit.
    fn within(&self, asked: impl Future<Output = Result<Got, NoAnswer>>) -> Result<Got, NoAnswer> {
        let limit = self.limit;
        self.runtime.block_on(async {
            let late = |_| NoAnswer(format!("no answer within {} s", limit.as_secs_f64()));
            tokio::time::timeout(limit, asked).await.map_err(late)?
        })
    }

    async fn ask(&self, method: Method, url: &Url, auth: &Auth, body: Option<String>) -> Result<Got, NoAnswer> {
        let mut at = url.clone();
        for redirects in 0..=REDIRECTS {
            let mut request = self.client(&at)?.request(method.clone(), at.clone());
            if at.origin() == url.origin() {
                request = match auth {
                    Auth::None => request,
                    Auth::Bearer(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.reveal())),
                    Auth::Basic(pair) => {
                        let (user, password) = pair.reveal().split_once(':').unwrap_or((pair.reveal(), ""));
                        request.basic_auth(user, Some(password))
                    }
                };
            }
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.clone());
            }
            let response = request.send().await.map_err(no_answer)?;
            let next = response.headers().get(LOCATION).and_then(|to| at.join(to.to_str().ok()?).ok());
            match next.filter(|_| response.status().is_redirection() && method == Method::GET) {
                Some(next) if !["http", "https"].contains(&next.scheme()) => {
                    return Err(NoAnswer(format!("redirected to the scheme {}", next.scheme())));
                }
                Some(next) => at = next,
                None => return read(response, at, redirects).await,
            }
        }
        Err(NoAnswer(format!("more than {REDIRECTS} redirections, the last one to {at}")))
    }

    fn client(&self, url: &Url) -> Result<Client, NoAnswer> {
        let client =
            Client::builder().timeout(self.limit).no_proxy().tls_info(true).redirect(reqwest::redirect::Policy::none());
        let client = match url.scheme() {
            // A machine without certificates can ask, too.
            "http" => client.tls_certs_only([]),
            _ => client.tls_certs_merge(self.authorities.iter().cloned()),
        };
        client.build().map_err(no_answer)
    }
}

async fn read(mut response: reqwest::Response, url: Url, redirects: usize) -> Result<Got, NoAnswer> {
    let status = response.status().as_u16();
    let ip = response.remote_addr().map(|address| address.ip());
    let certificate = response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).map(Digest::sha256);
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(no_answer)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > ANSWER_CAP {
            return Err(NoAnswer(format!("its answer is longer than {ANSWER_CAP} bytes")));
        }
    }
    let body = String::from_utf8_lossy(&bytes).replace('\r', "").trim().to_owned();
    Ok(Got { status, body, headers, url, redirects, ip, certificate })
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    NoAnswer(chain(error))
}

/// An error with its causes in one line, without the address, which the caller names.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push(error.to_string());
        cause = error.source();
    }
    said.dedup();
    // The library's words for "a request failed" say nothing where a cause follows.
    let says =
        |sentence: &String| !["error sending request", "client error"].iter().any(|start| sentence.starts_with(start));
    match said.iter().position(says) {
        Some(first) => said[first..].join(": "),
        None => said.join(": "),
    }
}
