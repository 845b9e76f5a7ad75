//! Registries: a reference in, documents and layers out.
//!
//! `oci-client` speaks for us where tokens and layers are concerned. Manifests are fetched here, because it reads them
//! into memory whole, however long a hostile registry makes them. Layer: operations.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use manifests::digest::Digest;
use manifests::refusal::{Class, Refusal};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::time::timeout;

use super::document::{Blob, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, sha256};
use super::identity::Platform;
use super::resolve::{First, Place, Resolved, Source, resolve};
use super::{CONFIG_CAP, ImageError, MANIFEST_CAP};
use crate::store::runtime;

/// How long a registry may take for one document, or for the next piece of a layer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The least rate of a whole layer after that.
const BYTES_PER_SECOND: u64 = 16 << 10;

/// How a registry is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Without TLS.
    pub plain_http: bool,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// One repository of a registry.
pub struct Registry {
    reference: Reference,
    client: Client,
    http: reqwest::Client,
    auth: RegistryAuth,
    scheme: &'static str,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Registry {
    /// Prepares a client for the registry of `reference`; nothing is asked yet.
    ///
    /// # Errors
    /// [`ImageError::Reference`], and what the system gives.
    pub fn open(reference: &str, access: &Access) -> Result<Self, ImageError> {
        let parsed: Reference = reference
            .parse()
            .map_err(|error| ImageError::Reference { reference: reference.to_owned(), source: Box::new(error) })?;
        let failed = |source: Cause| ImageError::Registry { what: reference.to_owned(), source };
        runtime::start().map_err(|error| failed(error.into()))?;
        let config = ClientConfig {
            protocol: if access.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(PATIENCE),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| failed(error.into()))?;
        let http = reqwest::Client::builder().connect_timeout(PATIENCE).https_only(!access.plain_http).build();
        let http = http.map_err(|error| failed(error.into()))?;
        let auth = match &access.login {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let scheme = if access.plain_http { "http" } else { "https" };
        Ok(Self { reference: parsed, client, http, auth, scheme })
    }

    /// The image that the reference names now.
    ///
    /// # Errors
    /// [`ImageError::NotFound`]; whatever the documents are refused with.
    pub fn image(&self, platform: Option<&Platform>) -> Result<Resolved, ImageError> {
        let name = self.reference.digest().or(self.reference.tag()).unwrap_or("latest");
        let first = self.document(name, MANIFEST_CAP)?;
        if let Some(asked) = self.reference.digest() {
            let object = format!("the answer of {}", self.place());
            let (asked, found) = (sha256(asked, &object)?, Digest::sha256(&first.bytes));
            if asked != found {
                let expected = format!("bytes that hash to sha256:{asked}");
                return Err(Refusal::new(Class::Hash, object, expected, format!("sha256:{found}")).into());
            }
        }
        resolve(self, &first, platform)
    }

    fn failed(&self, what: &str) -> impl Fn(Cause) -> ImageError {
        let what = format!("{what} of {}", self.place());
        move |source| ImageError::Registry { what: what.clone(), source }
    }

    /// Fetches a manifest by tag or digest.
    fn document(&self, name: &str, cap: u64) -> Result<First, ImageError> {
        let failed = self.failed(name);
        self.within(&failed, PATIENCE, async {
            let registry = self.reference.resolve_registry();
            let url = format!("{}://{registry}/v2/{}/manifests/{name}", self.scheme, self.reference.repository());
            let token = self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await;
            let token = token.map_err(|error| failed(error.into()))?;
            let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
            let request = self.http.get(url).header(ACCEPT, accept);
            let request = match (&token, &self.auth) {
                (Some(token), _) => request.bearer_auth(token),
                (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
                (None, _) => request,
            };
            let mut response = request.send().await.map_err(|error| failed(error.into()))?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => {
                    return Err(ImageError::NotFound { image: name.to_owned(), place: self.place() });
                }
                other => return Err(failed(format!("it answered {other}").into())),
            }
            let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let media_type = media_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_owned());
            let mut bytes = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|error| failed(error.into()))? {
                self.fits(bytes.len() + piece.len(), cap, name)?;
                bytes.extend_from_slice(&piece);
            }
            Ok(First { bytes, media_type })
        })
    }

    /// Passes what has this digest to `take`, piece by piece and at most `cap` bytes.
    fn blob(
        &self,
        digest: &Digest,
        bytes: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let name = format!("sha256:{digest}");
        let failed = self.failed(&name);
        let deadline = PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND);
        self.within(&failed, deadline, async {
            self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
            let stream = self.client.pull_blob_stream(&self.reference, name.as_str()).await;
            let mut stream = stream.map_err(|error| failed(error.into()))?;
            let mut received = 0;
            while let Some(piece) = stream.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    // With all bytes here, it is their hash, and whoever asked says that better.
                    Err(_) if received as u64 == bytes => break,
                    Err(error) => return Err(failed(error.into())),
                };
                received += piece.len();
                self.fits(received, bytes, &name)?;
                take(&piece)?;
            }
            Ok(())
        })
    }

    fn fits(&self, bytes: usize, cap: u64, name: &str) -> Result<(), Refusal> {
        if bytes as u64 <= cap {
            return Ok(());
        }
        let object = format!("{name} of {}", self.place());
        Err(Refusal::new(Class::TooBig, object, format!("at most {cap} bytes"), "more"))
    }

    fn within<T>(
        &self,
        failed: &dyn Fn(Cause) -> ImageError,
        deadline: Duration,
        work: impl Future<Output = Result<T, ImageError>>,
    ) -> Result<T, ImageError> {
        let started = Instant::now();
        let done = runtime::block_on(async { timeout(deadline, work).await });
        done.unwrap_or_else(|_| {
            Err(failed(format!("it took longer than the {} s it may take", started.elapsed().as_secs()).into()))
        })
    }

    fn spooled(&self, digest: &Digest, bytes: u64) -> Result<File, ImageError> {
        let no_file = || ImageError::file("a temporary file");
        let mut file = tempfile::tempfile().map_err(no_file())?;
        self.blob(digest, bytes, &mut |piece| file.write_all(piece).map_err(no_file()))?;
        file.rewind().map_err(no_file())?;
        Ok(file)
    }
}

impl Source for Registry {
    fn place(&self) -> String {
        self.reference.whole()
    }

    fn manifest(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        Ok(self.document(&format!("sha256:{}", blob.digest), blob.bytes.min(MANIFEST_CAP))?.bytes)
    }

    fn config(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.blob(&blob.digest, blob.bytes.min(CONFIG_CAP), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn layer(&self, place: &Place) -> Result<Box<dyn Read + '_>, ImageError> {
        match place {
            Place::Blob { digest, bytes } => Ok(Box::new(self.spooled(digest, *bytes)?)),
            Place::Name(name) => Err(ImageError::NotFound { image: name.clone(), place: self.place() }),
        }
    }
}

/// A reference as a name that an image can be given: with a tag, and without a digest; nothing for a digest alone.
///
/// # Errors
/// [`ImageError::Reference`]
pub fn tag_of(reference: &str) -> Result<Option<String>, ImageError> {
    let parsed: Reference = reference
        .parse()
        .map_err(|error| ImageError::Reference { reference: reference.to_owned(), source: Box::new(error) })?;
    let name = reference.split('@').next().unwrap_or_default().to_owned();
    Ok(match (parsed.tag(), parsed.digest()) {
        (None, Some(_)) => None,
        // Without either, engines say `latest`; the parser has filled it in.
        (Some(tag), _) if name.ends_with(&format!(":{tag}")) => Some(name),
        (Some(tag), _) => Some(format!("{name}:{tag}")),
        (None, None) => Some(format!("{name}:latest")),
    })
}

/// Whether two names mean the same image to an engine: `app` is `docker.io/library/app:latest` to Docker, and
/// `localhost/app:latest` to Podman.
pub fn is_same_name(a: &str, b: &str) -> bool {
    let whole = |name: &str| {
        let parsed: Result<Reference, _> = name.strip_prefix("localhost/").unwrap_or(name).parse();
        parsed.map_or_else(|_| name.to_owned(), |parsed| parsed.whole())
    };
    a == b || whole(a) == whole(b)
}

/// A name with everything that engines add to it.
pub(super) fn whole_name(tag: &str) -> Result<String, ImageError> {
    let parsed: Result<Reference, _> = tag.parse();
    let parsed =
        parsed.map_err(|error| ImageError::Reference { reference: tag.to_owned(), source: Box::new(error) })?;
    Ok(parsed.whole())
}

/// The login that Docker's or Podman's configuration file holds for a registry, if it holds one in the open.
///
/// # Errors
/// [`ImageError::File`] if the file cannot be read or is no such file.
pub fn login_of(file: &Path, reference: &str) -> Result<Option<(String, String)>, ImageError> {
    use base64::Engine as _;
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(ImageError::file(file))?,
    };
    let Ok(parsed) = reference.parse::<Reference>() else {
        return Ok(None);
    };
    let settings: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::file(file)(error.into()))?;
    let registry = parsed.registry();
    let names = [registry.to_owned(), format!("https://{registry}"), format!("https://index.{registry}/v1/")];
    let auth = names.iter().find_map(|name| settings["auths"][name]["auth"].as_str());
    let decoded = auth.and_then(|auth| base64::engine::general_purpose::STANDARD.decode(auth).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_that_engines_take_for_the_same() {
        for (a, b) in [
            ("app", "docker.io/library/app:latest"),
            ("localhost/app:1", "app:1"),
            ("user/app:1", "docker.io/user/app:1"),
            ("127.0.0.1:5000/app:1", "127.0.0.1:5000/app:1"),
        ] {
            assert!(is_same_name(a, b), "{a} {b}");
        }
        for (a, b) in [("app:1", "app:2"), ("other.example/app", "app"), ("app@x", "app")] {
            assert!(!is_same_name(a, b), "{a} {b}");
        }
    }

    #[test]
    fn an_image_is_named_by_a_tag_and_never_by_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let tag = |text: &str| tag_of(text).unwrap();
        assert_eq!(tag("app").as_deref(), Some("app:latest"));
        assert_eq!(tag("127.0.0.1:5000/app").as_deref(), Some("127.0.0.1:5000/app:latest"));
        assert_eq!(tag(&format!("r.example/app:1@{digest}")).as_deref(), Some("r.example/app:1"));
        assert_eq!(tag(&format!("r.example/app@{digest}")), None);
        assert!(tag_of("no reference").is_err());
    }

    #[test]
    fn logins_are_found_in_the_files_of_engines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"auths":{"r.example":{"auth":"dXNlcjpwYTpzcw=="}}}"#).unwrap();
        let found = login_of(file.path(), "r.example/app:1").unwrap();
        assert_eq!(found, Some(("user".to_owned(), "pa:ss".to_owned())));
        assert_eq!(login_of(file.path(), "other.example/app:1").unwrap(), None);
        assert_eq!(login_of(Path::new("/nowhere"), "r.example/app").unwrap(), None);
    }
}
