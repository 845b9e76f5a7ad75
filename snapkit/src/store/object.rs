//! A store over the `object_store` crate: directory, memory, S3, Google Cloud Storage, Azure.
//!
//! The clients never repeat a request by themselves; [`Pace`] repeats reads, writes and listings here, so that one
//! `create` is one request. What a client's error means is decided in `object_error.rs`. Layer: part of `store`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, PutMode, PutOptions};

use super::object_error::{Action, Kind, Translate};
use super::pace::{LISTING, Meter, Repetitions, TooSlow};
use super::place::Place;
use super::runtime::block_on;
use super::{Abilities, Ability, Created, Pace, Store, StoreError, check_key};

/// No buffer is allocated larger than this on a server's word alone.
const TRUSTED_ALLOCATION_BYTES: u64 = 16 << 20;
/// Objects visited between two waits of a listing.
const LIST_BATCH: usize = 1000;

/// See the module.
pub(super) struct ObjectBackend {
    pub(super) client: Arc<dyn ObjectStore>,
    pub(super) url: String,
    /// Put before every key; empty, or ends with `/`.
    pub(super) prefix: String,
    pub(super) kind: Kind,
    pub(super) pace: Pace,
    /// The directory, if it is one.
    pub(super) directory: Option<Place>,
}

impl ObjectBackend {
    fn path(&self, key: &str) -> Result<Path, StoreError> {
        check_key(&self.url, key)?;
        let full = format!("{}{key}", self.prefix);
        Path::parse(&full).map_err(|source| StoreError::Other {
            action: "address",
            key: key.to_owned(),
            store: self.url.clone(),
            advice: "",
            retry: false,
            source: source.into(),
        })
    }

    fn translate<'a>(&'a self, action: Action, key: &'a str) -> Translate<'a> {
        Translate { store: &self.url, kind: self.kind, action, key }
    }

    /// Fails where a directory is not the one that was opened.
    fn in_place(&self, translate: &Translate<'_>) -> Result<(), StoreError> {
        let Some(place) = &self.directory else { return Ok(()) };
        place.check().map_err(|error| translate.other(error.into()))
    }

    /// The result of something done in a directory, if it is the same one afterwards: what was missing may have been missed.
    fn still_in_place<T>(&self, result: Result<T, StoreError>, translate: &Translate<'_>) -> Result<T, StoreError> {
        self.in_place(translate)?;
        result
    }

    fn saw(&self, key: &str) {
        if let Some(place) = &self.directory {
            place.saw(key);
        }
    }

    /// The files of a directory are never slow in a way that giving up would help.
    fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Directory | Kind::Memory)
    }

    /// Waits for one request that moves `bytes` at once.
    fn request<T>(
        &self,
        translate: Translate<'_>,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        if self.is_local() {
            return block_on(request).map_err(|error| translate.error(error));
        }
        block_on(async { Meter::start(&self.pace).wait_to_send(bytes, request).await })
            .map_err(|slow| translate.slow(&slow))?
            .map_err(|error| translate.error(error))
    }

    /// One attempt to read `range`, or everything up to `cap_bytes`.
    fn read_once(&self, key: &str, wanted: &Wanted, end: Instant) -> Result<Bytes, StoreError> {
        let path = self.path(key)?;
        let translate = self.translate(Action::Read, key);
        // Opening a fifo would wait for somebody to write into it, for ever.
        if let Some(directory) = &self.directory
            && std::fs::metadata(directory.path().join(path.as_ref()))
                .is_ok_and(|found| !found.is_file() && !found.is_dir())
        {
            return Err(translate.other("it is no regular file".into()));
        }
        self.in_place(&translate)?;
        let options = match wanted {
            // A directory reads its part from the open file below; asking for it here would read twice.
            Wanted::Range(range) if !self.is_local() => {
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() }
            }
            _ => GetOptions::default(),
        };
        let request = self.client.get_opts(&path, options);
        if self.is_local() {
            let result = block_on(request).map_err(|error| translate.error(error));
            let result = self.still_in_place(result, &translate)?;
            self.saw(key);
            let range = wanted.within(result.meta.size, &translate)?;
            return match result.payload {
                GetResultPayload::File(file, _) => read_file(&file, range, &translate),
                GetResultPayload::Stream(stream) => {
                    let whole = block_on(stream.collect::<Vec<_>>());
                    let whole = whole.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| translate.error(e))?;
                    Ok(Bytes::from(whole.concat()).slice(range.start as usize..range.end as usize))
                }
            };
        }
        block_on(async {
            let mut meter = Meter::start_until(&self.pace, end);
            let answer = meter.wait(request).await.map_err(|slow| translate.slow(&slow))?;
            let result = answer.map_err(|error| match (translate.error(error), wanted) {
                (StoreError::Short { .. }, Wanted::Range(range)) => translate.short(range.end),
                (error, _) => error,
            })?;
            let expected = wanted.within(result.meta.size, &translate)?;
            receive(result, expected, &mut meter, &translate).await
        })
    }

    /// One attempt to list everything after `after`, or after the last key a former attempt visited.
    fn list_once(
        &self,
        prefix: &str,
        after: Option<&str>,
        progress: &mut ListProgress,
        end: Instant,
        visit: &mut dyn FnMut(&str, u64),
    ) -> Result<(), StoreError> {
        let translate = self.translate(Action::List, prefix);
        self.in_place(&translate)?;
        // The client lists whole directories; a prefix that ends within a name is filtered below.
        let directory = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
        let parse = |text: &str| {
            let full = format!("{}{text}", self.prefix);
            Path::parse(full).map_err(|source| translate.other(source.into()))
        };
        let root = parse(directory)?;
        let root = (!root.as_ref().is_empty()).then_some(root);
        let start = progress.last.clone().or_else(|| after.map(str::to_owned));
        let mut stream = match &start {
            Some(start) => self.client.list_with_offset(root.as_ref(), &parse(start)?),
            None => self.client.list(root.as_ref()),
        };
        loop {
            // `visit` may call the store, so it runs outside the runtime, between batches.
            let batch = block_on(async {
                let first = if self.is_local() {
                    Ok(stream.next().await)
                } else {
                    Meter::start_until(&self.pace, end).wait(stream.next()).await
                };
                let mut batch = Vec::new();
                let mut next = first.map_err(|slow: TooSlow| translate.slow(&slow))?;
                loop {
                    match next {
                        Some(item) => batch.push(item),
                        None => return Ok((batch, true)),
                    }
                    if batch.len() >= LIST_BATCH {
                        return Ok((batch, false));
                    }
                    match stream.next().now_or_never() {
                        Some(ready) => next = ready,
                        None => return Ok((batch, false)),
                    }
                }
            });
            let (batch, done) = batch?;
            for item in batch {
                let meta = item.map_err(|error| translate.error(error))?;
                let Some(key) = meta.location.as_ref().strip_prefix(&self.prefix) else {
                    continue;
                };
                if key.starts_with(prefix) && start.as_deref().is_none_or(|start| key > start) {
                    progress.visited(key);
                    visit(key, meta.size);
                }
            }
            if done {
                return self.in_place(&translate);
            }
        }
    }
}

/// How far a listing came.
#[derive(Default)]
struct ListProgress {
    last: Option<String>,
    out_of_order: bool,
}

impl ListProgress {
    fn visited(&mut self, key: &str) {
        self.out_of_order |= self.last.as_deref().is_some_and(|last| key <= last);
        self.last = Some(key.to_owned());
    }
}

/// Which bytes of an object a read wants.
enum Wanted {
    Whole { cap_bytes: u64 },
    Range(Range<u64>),
}

impl Wanted {
    /// The bytes to read from an object of `size_bytes`, or why it cannot be the right one.
    fn within(&self, size_bytes: u64, translate: &Translate<'_>) -> Result<Range<u64>, StoreError> {
        match self {
            Self::Whole { cap_bytes } if size_bytes > *cap_bytes => Err(translate.too_big(*cap_bytes)),
            Self::Whole { .. } => Ok(0..size_bytes),
            Self::Range(range) if size_bytes < range.end => Err(translate.short(range.end)),
            Self::Range(range) => Ok(range.clone()),
        }
    }
}

fn read_file(file: &File, range: Range<u64>, translate: &Translate<'_>) -> Result<Bytes, StoreError> {
    let length = usize::try_from(range.end - range.start).map_err(|_| translate.too_big(usize::MAX as u64))?;
    let mut buffer = BytesMut::zeroed(length);
    match file.read_exact_at(&mut buffer, range.start) {
        Ok(()) => Ok(buffer.freeze()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(translate.short(range.end)),
        Err(error) => Err(translate.io(error)),
    }
}

/// Receives a body that must have exactly the length of `expected`.
async fn receive(
    result: GetResult,
    expected: Range<u64>,
    meter: &mut Meter<'_>,
    translate: &Translate<'_>,
) -> Result<Bytes, StoreError> {
    let expected_bytes = expected.end - expected.start;
    let mut body = result.into_stream();
    let mut received = BytesMut::with_capacity(expected_bytes.min(TRUSTED_ALLOCATION_BYTES) as usize);
    while let Some(piece) = meter.wait(body.next()).await.map_err(|slow| translate.slow(&slow))? {
        let piece = piece.map_err(|error| translate.broken_off(error.into()))?;
        meter.moved(piece.len() as u64);
        received.extend_from_slice(&piece);
        if received.len() as u64 > expected_bytes {
            return Err(translate.too_big(expected_bytes));
        }
    }
    if (received.len() as u64) < expected_bytes {
        return Err(translate.short(expected.end));
    }
    Ok(received.freeze())
}

impl Store for ObjectBackend {
    fn url(&self) -> &str {
        &self.url
    }

    fn abilities(&self) -> Abilities {
        let can_write = if self.kind == Kind::Memory { Ability::Yes } else { Ability::Unknown };
        Abilities { can_write, can_list: Ability::Yes, ranges: Ability::Yes }
    }

    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        let end = self.pace.end_of(cap_bytes, true);
        self.pace.repeat_until(end, |end| self.read_once(key, &Wanted::Whole { cap_bytes }, end))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let end = self.pace.end_of(range.end - range.start, false);
        self.pace.repeat_until(end, |end| self.read_once(key, &Wanted::Range(range.clone()), end))
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        let path = self.path(key)?;
        self.pace.repeat(|| {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let result = self.request(self.translate(Action::Read, key), 0, self.client.get_opts(&path, options));
            Ok(self.still_in_place(result, &self.translate(Action::Read, key))?.meta.size)
        })
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(key)?;
        self.pace.repeat(|| {
            self.in_place(&self.translate(Action::Write, key))?;
            let put = self.client.put_opts(&path, bytes.clone().into(), PutOptions::default());
            let done = self.request(self.translate(Action::Write, key), bytes.len() as u64, put).map(drop);
            self.still_in_place(done, &self.translate(Action::Write, key))?;
            self.saw(key);
            Ok(())
        })
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let path = self.path(key)?;
        let translate = self.translate(Action::Create, key);
        let length = bytes.len() as u64;
        self.in_place(&translate)?;
        let put = self.client.put_opts(&path, bytes.into(), PutOptions::from(PutMode::Create));
        let answer = block_on(async {
            if self.is_local() { Ok(put.await) } else { Meter::start(&self.pace).wait_to_send(length, put).await }
        });
        // It may be in what took the place meanwhile.
        if let Err(error) = self.in_place(&translate) {
            return Ok(Created::Unknown(error));
        }
        match answer {
            Ok(Ok(_)) => {
                self.saw(key);
                Ok(Created::Yes)
            }
            Ok(Err(error)) => match translate.not_created(error) {
                // A directory that may be written but not read refuses the sync after the file is there.
                Err(error) if self.kind == Kind::Directory && self.size(key).is_ok() => Ok(Created::Unknown(error)),
                done => done,
            },
            Err(slow) => Ok(Created::Unknown(translate.slow(&slow))),
        }
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        self.pace.repeat(|| {
            self.in_place(&self.translate(Action::Delete, key))?;
            let one = futures_util::stream::iter([Ok(path.clone())]).boxed();
            let deletion = self.client.delete_stream(one).collect::<Vec<_>>();
            let deletion = deletion.map(|results| results.into_iter().collect::<Result<Vec<_>, _>>());
            match self.request(self.translate(Action::Delete, key), 0, deletion) {
                Err(error) if error.is_missing() => Ok(()),
                done => done.map(drop),
            }
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        let mut progress = ListProgress::default();
        let end = Instant::now() + LISTING;
        let mut repetitions = Repetitions::new(&self.pace, end);
        loop {
            match self.list_once(prefix, after, &mut progress, end, visit) {
                // Continuing after the last key is right only where keys came in order.
                Err(error) if error.can_retry() && !progress.out_of_order && repetitions.wait() => {}
                done => return done,
            }
        }
    }
}
