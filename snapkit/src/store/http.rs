//! A store behind any web server: read only, without listing, with or without ranges.
//!
//! A server that answers a range request with the whole object (such as `python3 -m http.server`) costs one transfer
//! per object: it goes into a bounded cache on local disk, and parts are served from there.
//! Redirects are followed, but never from https to http and never to a link-local address, where clouds keep
//! credentials. Layer: part of `store`.

use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use url::{Host, Url};

use super::http_cache::{CachedObject, ObjectCache};
use super::object_error::{Action, Kind, Translate};
use super::open::without_secrets;
use super::pace::Meter;
use super::runtime::block_on;
use super::{Abilities, Ability, Created, OpenError, OpenOptions, Pace, Store, StoreError, check_key};

const REDIRECTS_MAX: usize = 5;
/// No buffer is allocated larger than this on a server's word alone.
const TRUSTED_ALLOCATION_BYTES: u64 = 16 << 20;

/// See the module.
pub(super) struct WebStore {
    client: Client,
    /// Ends with `/`; may hold a user and password.
    base: Url,
    url: String,
    pace: Pace,
    cache: ObjectCache,
    ranges: AtomicU8,
}

/// What is known of ranges, as stored in [`WebStore::ranges`].
const RANGES: [Ability; 3] = [Ability::Unknown, Ability::Yes, Ability::No];

impl WebStore {
    /// Prepares a client for the server at `base`; nothing is asked yet.
    pub(super) fn open(mut base: Url, options: &OpenOptions) -> Result<Self, OpenError> {
        let url = without_secrets(base.as_str());
        if base.host().is_none_or(|host| is_link_local(&host)) {
            let why = "a link-local address serves credentials, not objects".to_owned();
            return Err(OpenError::Address { url, why });
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let client = Client::builder()
            .connect_timeout(options.pace.connect)
            .https_only(base.scheme() == "https")
            .redirect(redirect::Policy::custom(|attempt| {
                if attempt.previous().len() > REDIRECTS_MAX {
                    attempt.error("too many redirects")
                } else if attempt.url().host().is_none_or(|host| is_link_local(&host)) {
                    attempt.error("redirected to a link-local address")
                } else {
                    attempt.follow()
                }
            }))
            .build()
            .map_err(|source| OpenError::Other { url: url.clone(), source: source.into() })?;
        let cache = ObjectCache::new(options.http_cache_bytes);
        Ok(Self { client, base, url, pace: options.pace.clone(), cache, ranges: AtomicU8::new(0) })
    }

    fn translate<'a>(&'a self, action: Action, key: &'a str) -> Translate<'a> {
        Translate { store: &self.url, kind: Kind::Web, action, key }
    }

    fn unsupported<T>(&self, action: Action, key: &str, what: &str) -> Result<T, StoreError> {
        Err(self.translate(action, key).unsupported(what))
    }

    /// Sends one request and sorts out answers that carry no bytes of the object.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        range: Option<&Range<u64>>,
        meter: &Meter<'_>,
    ) -> Result<Response, StoreError> {
        let translate = self.translate(Action::Read, key);
        check_key(&self.url, key)?;
        let url = self.base.join(key).map_err(|error| translate.other(error.into()))?;
        let mut request = self.client.request(method, url).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let sent = meter.wait(request.send()).await.map_err(|slow| translate.slow(&slow))?;
        let response = sent.map_err(|error| {
            let error = error.without_url();
            if error.is_redirect() || error.is_builder() {
                translate.other(error.into())
            } else {
                translate.transient(error.into())
            }
        })?;
        let status = response.status();
        let answer = || format!("the server answered {status}").into();
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                match response.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
                    Some(_) => Err(translate.unsupported("serve objects as they are, it re-encodes them")),
                    None => Ok(response),
                }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(translate.missing()),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(translate.short(range.map_or(0, |range| range.end))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(translate.denied(answer())),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(translate.transient(answer())),
            _ if status.is_server_error() => Err(translate.transient(answer())),
            _ => Err(translate.other(answer())),
        }
    }

    /// Passes the body to `take`, at most `cap_bytes`, and returns its length.
    async fn body(
        &self,
        key: &str,
        mut response: Response,
        cap_bytes: u64,
        meter: &mut Meter<'_>,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<u64, StoreError> {
        let translate = self.translate(Action::Read, key);
        if content_length(&response).is_some_and(|announced| announced > cap_bytes) {
            return Err(translate.too_big(cap_bytes));
        }
        let mut received_bytes = 0;
        loop {
            let piece = meter.wait(response.chunk()).await.map_err(|slow| translate.slow(&slow))?;
            let Some(piece) = piece.map_err(|error| translate.broken_off(error.without_url().into()))? else {
                return Ok(received_bytes);
            };
            meter.moved(piece.len() as u64);
            received_bytes += piece.len() as u64;
            if received_bytes > cap_bytes {
                return Err(translate.too_big(cap_bytes));
            }
            take(&piece).map_err(|error| translate.other(error.into()))?;
        }
    }

    async fn whole(
        &self,
        key: &str,
        response: Response,
        cap_bytes: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Bytes, StoreError> {
        let capacity = content_length(&response).unwrap_or(0).min(cap_bytes).min(TRUSTED_ALLOCATION_BYTES);
        let mut received = BytesMut::with_capacity(capacity as usize);
        let take = |piece: &[u8]| {
            received.extend_from_slice(piece);
            Ok(())
        };
        self.body(key, response, cap_bytes, meter, take).await?;
        Ok(received.freeze())
    }

    /// Stores a whole object in a temporary file.
    async fn to_disk(&self, key: &str, response: Response, meter: &mut Meter<'_>) -> Result<CachedObject, StoreError> {
        let translate = self.translate(Action::Read, key);
        let mut file = tempfile::tempfile().map_err(|error| translate.io(error))?;
        let len_bytes = self.body(key, response, self.cache.room_bytes, meter, |piece| file.write_all(piece)).await?;
        Ok(CachedObject { file: Arc::new(file), len_bytes })
    }

    /// Asks for a part: the part, or the answer with everything.
    fn range_once(&self, key: &str, range: &Range<u64>, end: Instant) -> Result<Part, StoreError> {
        let translate = self.translate(Action::Read, key);
        block_on(async {
            let mut meter = Meter::start_until(&self.pace, end);
            let response = self.ask(Method::GET, key, Some(range), &meter).await?;
            if response.status() != StatusCode::PARTIAL_CONTENT {
                self.ranges.store(2, Ordering::Relaxed);
                return self.to_disk(key, response, &mut meter).await.map(Part::Everything);
            }
            self.ranges.store(1, Ordering::Relaxed);
            let got = response.headers().get(CONTENT_RANGE).and_then(|value| parse_content_range(value.to_str().ok()?));
            match got {
                Some(got) if got == *range => {}
                Some(got) if got.start == range.start && got.end < range.end => {
                    return Err(translate.short(range.end));
                }
                _ => {
                    return Err(translate.unsupported("serve the part of an object that was asked for"));
                }
            }
            let length = range.end - range.start;
            let bytes = self.whole(key, response, length, &mut meter).await?;
            if (bytes.len() as u64) < length {
                return Err(translate.short(range.end));
            }
            Ok(Part::Bytes(bytes))
        })
    }

    fn slice(&self, key: &str, object: &CachedObject, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let translate = self.translate(Action::Read, key);
        if object.len_bytes < range.end {
            return Err(translate.short(range.end));
        }
        let length = usize::try_from(range.end - range.start).map_err(|_| translate.too_big(usize::MAX as u64))?;
        let mut buffer = BytesMut::zeroed(length);
        object.file.read_exact_at(&mut buffer, range.start).map_err(|error| translate.io(error))?;
        Ok(buffer.freeze())
    }
}

/// The answer to a request for a part.
enum Part {
    Bytes(Bytes),
    Everything(CachedObject),
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Parses `bytes FIRST-LAST/SIZE`, where SIZE may be `*`.
fn parse_content_range(value: &str) -> Option<Range<u64>> {
    let (range, _) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

/// Whether an address belongs to the link itself: 169.254.0.0/16, fe80::/10, or the metadata addresses of clouds.
fn is_link_local<S: AsRef<str>>(host: &Host<S>) -> bool {
    let ip = match host {
        Host::Ipv4(ip) => IpAddr::V4(*ip),
        Host::Ipv6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(*ip), IpAddr::V4),
        Host::Domain(name) => {
            return name.as_ref().eq_ignore_ascii_case("metadata.google.internal");
        }
    };
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

impl Store for WebStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn abilities(&self) -> Abilities {
        let ranges = RANGES[usize::from(self.ranges.load(Ordering::Relaxed))];
        Abilities { can_write: Ability::No, can_list: Ability::No, ranges }
    }

    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        self.pace.repeat_until(self.pace.end_of(cap_bytes, true), |end| {
            block_on(async {
                let mut meter = Meter::start_until(&self.pace, end);
                let response = self.ask(Method::GET, key, None, &meter).await?;
                self.whole(key, response, cap_bytes, &mut meter).await
            })
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        // A server that may answer with everything gets the time for that.
        let everything = self.pace.end_of(self.cache.room_bytes, false);
        let known = self.ranges.load(Ordering::Relaxed);
        if known != 2 {
            let end = if known == 1 { self.pace.end_of(range.end - range.start, false) } else { everything };
            match self.pace.repeat_until(end, |end| self.range_once(key, &range, end))? {
                Part::Bytes(bytes) => return Ok(bytes),
                Part::Everything(object) => {
                    let object = self.cache.get(key, || Ok(object))?;
                    return self.slice(key, &object, &range);
                }
            }
        }
        let object = self.cache.get(key, || {
            self.pace.repeat_until(everything, |end| {
                block_on(async {
                    let mut meter = Meter::start_until(&self.pace, end);
                    let response = self.ask(Method::GET, key, None, &meter).await?;
                    self.to_disk(key, response, &mut meter).await
                })
            })
        })?;
        self.slice(key, &object, &range)
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.pace.repeat(|| {
            let response = block_on(async { self.ask(Method::HEAD, key, None, &Meter::start(&self.pace)).await })?;
            content_length(&response)
                .ok_or_else(|| self.translate(Action::Read, key).unsupported("tell the length of an object"))
        })
    }

    fn put(&self, key: &str, _bytes: Bytes) -> Result<(), StoreError> {
        self.unsupported(Action::Write, key, "be written to, it is a web server")
    }

    fn create(&self, key: &str, _bytes: Bytes) -> Result<Created, StoreError> {
        self.unsupported(Action::Create, key, "be written to, it is a web server")
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.unsupported(Action::Delete, key, "be written to, it is a web server")
    }

    fn list(&self, prefix: &str, _after: Option<&str>, _visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.unsupported(Action::List, prefix, "be listed, it is a web server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_recognised() {
        for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
            assert!(is_link_local(&Host::parse(host).unwrap()), "{host}");
        }
        for host in ["127.0.0.1", "example.org", "[2001:db8::1]"] {
            assert!(!is_link_local(&Host::parse(host).unwrap()), "{host}");
        }
    }

    #[test]
    fn content_range_is_parsed_strictly() {
        assert_eq!(parse_content_range("bytes 0-4/10"), Some(0..5));
        assert_eq!(parse_content_range("bytes 0-4/*"), Some(0..5));
        for bad in ["0-4/10", "bytes 0-4", "bytes */10", "bytes 0-18446744073709551615/*"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
