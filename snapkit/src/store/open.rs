//! From an address to a store.
//!
//! | address | store |
//! |---|---|
//! | `PATH`, `file:///PATH` | directory, written durably |
//! | `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` | bucket |
//! | `http://…`, `https://…` | any web server, read only |
//! | `memory://NAME` | memory of this process, for tests |
//!
//! Layer: part of `store`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::http::WebStore;
use super::object::ObjectBackend;
use super::object_error::Kind;
use super::place::Place;
use super::settings::{Cloud, Settings};
use super::{OpenError, Pace, Store, runtime};

/// How to open a store. It may hold secrets and therefore is not `Debug`.
#[derive(Clone)]
pub struct OpenOptions {
    /// Explicit settings by name: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http`, …; the
    /// names of `object_store`'s configuration, with or without `aws_`, `google_`, `azure_`. And
    /// `use_instance_credentials=true`, without which no metadata address is ever asked.
    pub settings: Vec<(String, String)>,
    /// The environment; `AWS_*`, `GOOGLE_*` and `AZURE_*` are used. The store reads none by itself.
    pub environment: Vec<(String, String)>,
    /// Create a missing directory.
    pub create_directory: bool,
    /// Time limits and repetitions.
    pub pace: Pace,
    /// Room on local disk for whole objects of web servers that serve no ranges, in bytes.
    pub http_cache_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            environment: Vec::new(),
            create_directory: false,
            pace: Pace::default(),
            http_cache_bytes: 4 << 30,
        }
    }
}

/// Opens the store at `address`. A bucket or web server is not asked anything yet.
///
/// # Errors
/// [`OpenError`], before anything was written: not an address, no such directory, no explicit credentials.
pub fn open(address: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    let Some((scheme, _)) = address.split_once("://") else {
        return open_directory(Path::new(address), options);
    };
    let wrong = |why: &str| OpenError::Address { url: without_secrets(address), why: why.to_owned() };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must end with the path"));
    }
    runtime::start().map_err(|source| OpenError::Other { url: without_secrets(address), source: source.into() })?;
    match scheme {
        "file" => open_directory(&url.to_file_path().map_err(|()| wrong("it must be file:///PATH"))?, options),
        "memory" => Ok(Arc::new(open_memory(&url))),
        "http" | "https" => Ok(Arc::new(WebStore::open(url, options)?)),
        "s3" => Ok(Arc::new(open_cloud(&url, Cloud::S3, options)?)),
        "gs" => Ok(Arc::new(open_cloud(&url, Cloud::Gcs, options)?)),
        "az" => Ok(Arc::new(open_cloud(&url, Cloud::Azure, options)?)),
        _ => Err(wrong("give a directory, file://, s3://, gs://, az:// or https://")),
    }
}

/// The address under which a store is pinned, found without opening it: a directory need not be there.
pub fn known_address(address: &str) -> String {
    let path = match address.split_once("://") {
        None => PathBuf::from(address),
        Some(("file", path)) => {
            Url::parse(address).ok().and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| path.into())
        }
        Some(_) => return without_secrets(address),
    };
    let real = path.canonicalize().or_else(|_| std::path::absolute(&path));
    real.unwrap_or(path).display().to_string()
}

/// The address as it may appear in messages: without user, password and query.
pub(super) fn without_secrets(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else {
        return address.split(['?', '#']).next().unwrap_or_default().to_owned();
    };
    // Both fail only for addresses that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().trim_end_matches('/').to_owned()
}

fn open_directory(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    let shown = path.display().to_string();
    let failed = |source| OpenError::Other { url: shown.clone(), source };
    runtime::start().map_err(|error| failed(error.into()))?;
    if options.create_directory {
        create_directory(path).map_err(|error| failed(error.into()))?;
    }
    if !path.is_dir() {
        return Err(OpenError::NoDirectory { path: shown });
    }
    let absolute: PathBuf = path.canonicalize().map_err(|error| failed(error.into()))?;
    let place = Place::open(absolute.clone()).map_err(|error| failed(error.into()))?;
    let client = LocalFileSystem::new_with_prefix(&absolute).map_err(|error| failed(error.into()))?;
    Ok(Arc::new(ObjectBackend {
        client: Arc::new(client.with_fsync(true)),
        url: absolute.display().to_string(),
        prefix: String::new(),
        kind: Kind::Directory,
        pace: options.pace.clone(),
        directory: Some(place),
    }))
}

/// Creates `path` with its parents, and makes each new name durable.
fn create_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::File::open(parent)?.sync_all(),
    }
}

/// One memory store per name and process, so that a test can open it twice.
fn open_memory(url: &Url) -> ObjectBackend {
    static NAMED: Mutex<Option<HashMap<String, Arc<InMemory>>>> = Mutex::new(None);
    let name = url.host_str().unwrap_or_default().to_owned();
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let client = Arc::clone(named.get_or_insert_default().entry(name).or_default());
    ObjectBackend {
        client,
        url: without_secrets(url.as_str()),
        prefix: prefix_of(url),
        kind: Kind::Memory,
        pace: Pace::default(),
        directory: None,
    }
}

/// The path of an address as what is put before every key.
fn prefix_of(url: &Url) -> String {
    match url.path().trim_matches('/') {
        "" => String::new(),
        path => format!("{path}/"),
    }
}

fn open_cloud(url: &Url, cloud: Cloud, options: &OpenOptions) -> Result<ObjectBackend, OpenError> {
    let shown = without_secrets(url.as_str());
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| OpenError::Address {
        url: shown.clone(),
        why: "the name of the bucket is missing".to_owned(),
    })?;
    let prefix = prefix_of(url);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if !prefix.bytes().all(plain) || !url.username().is_empty() || url.port().is_some() || prefix.contains("//") {
        let why = "give SCHEME://BUCKET/PREFIX with plain letters, and the server as the option endpoint";
        return Err(OpenError::Address { url: shown, why: why.to_owned() });
    }
    let mut values = Settings::new(cloud, &shown, &options.environment, &options.settings).checked()?;
    // The time limits are kept by `Pace`; a limit on whole requests would forbid big objects on slow lines.
    values.insert("timeout".to_owned(), "365 days".to_owned());
    values.insert("connect_timeout".to_owned(), format!("{} ms", options.pace.connect.as_millis().max(1)));
    let explicit: Vec<&str> = options.settings.iter().map(|(name, _)| name.as_str()).collect();
    let builder = Builder { shown: &shown, bucket, values: &values, explicit: &explicit };
    let (client, kind) = match cloud {
        Cloud::S3 => (builder.s3()?, Kind::S3),
        Cloud::Gcs => (builder.gcs()?, Kind::Gcs),
        Cloud::Azure => (builder.azure()?, Kind::Azure),
    };
    Ok(ObjectBackend { client, url: shown, prefix, kind, pace: options.pace.clone(), directory: None })
}

/// Feeds settings into the client builders of the three clouds.
struct Builder<'a> {
    shown: &'a str,
    bucket: &'a str,
    values: &'a BTreeMap<String, String>,
    explicit: &'a [&'a str],
}

impl Builder<'_> {
    /// The settings as keys of one cloud. An unknown name is an error when it was given explicitly; the environment
    /// has names for other programs.
    fn keys<K: FromStr>(&self, long_prefix: &str) -> Result<Vec<(K, &str)>, OpenError> {
        let mut keys = Vec::new();
        for (name, value) in self.values {
            match name.parse().or_else(|_| format!("{long_prefix}{name}").parse()) {
                Ok(key) => keys.push((key, value.as_str())),
                Err(_) if self.explicit.iter().any(|given| given.to_ascii_lowercase().ends_with(name.as_str())) => {
                    return Err(OpenError::Setting { name: name.clone(), url: self.shown.to_owned() });
                }
                Err(_) => {}
            }
        }
        Ok(keys)
    }

    fn failed(&self, error: object_store::Error) -> OpenError {
        OpenError::Other { url: self.shown.to_owned(), source: error.into() }
    }

    fn s3(&self) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(self.bucket).with_retry(no_retries());
        // One DELETE per object: bulk deletion needs a checksum that some servers do not know.
        builder = builder.with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
        for (key, value) in self.keys::<AmazonS3ConfigKey>("aws_")? {
            if !matches!(key, AmazonS3ConfigKey::Bucket) {
                builder = builder.with_config(key, value);
            }
        }
        builder.build().map(|client| Arc::new(client) as _).map_err(|error| self.failed(error))
    }

    fn gcs(&self) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(self.bucket).with_retry(no_retries());
        for (key, value) in self.keys::<GoogleConfigKey>("google_")? {
            if !matches!(key, GoogleConfigKey::Bucket) {
                builder = builder.with_config(key, value);
            }
        }
        builder.build().map(|client| Arc::new(client) as _).map_err(|error| self.failed(error))
    }

    fn azure(&self) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let mut builder = MicrosoftAzureBuilder::new().with_container_name(self.bucket).with_retry(no_retries());
        for (key, value) in self.keys::<AzureConfigKey>("azure_storage_")? {
            if !matches!(key, AzureConfigKey::ContainerName) {
                builder = builder.with_config(key, value);
            }
        }
        // An endpoint that is given as http:// is meant.
        if self.values.get("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://")) {
            builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::AllowHttp), "true");
        }
        builder.build().map(|client| Arc::new(client) as _).map_err(|error| self.failed(error))
    }
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}
