//! `snapkit pins`: what nodes may run, from the configuration to a signed document.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::pins::{PAYLOAD_TYPE, PINS_CAP, Pins};
use manifests::document::root::Root;
use manifests::envelope::{self, Nested};
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use snapkit::manifest::{ManifestError, Surroundings, plan, write_file};
use snapkit::span::{Said, whole_second};
use snapkit::trust::{self, Judge, TrustDir};

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::output::{Report, write_table};
use super::session::Session;
use super::signer_options::SignerOptions;

/// Say what nodes may run: images, service, trees, needs
///
/// Pins are made from `[pins]` of snapkit.toml, signed with the release key, and embedded in every manifest. The key that
/// keeps manifests fresh cannot change them.
#[derive(Debug, Args)]
pub(super) struct PinsArgs {
    #[command(subcommand)]
    command: PinsCommand,
}

#[derive(Debug, Subcommand)]
enum PinsCommand {
    /// Write the next version as `[pins]` of snapkit.toml says, to be signed
    ///
    /// The file then holds a draft without signatures. What did not change since the last version stays as it was; if
    /// nothing did, nothing is written.
    Edit {
        /// The file; default: `pins` of `[manifest]` in snapkit.toml
        file: Option<PathBuf>,
        /// Make a new version even if nothing changes, to put off its expiry
        #[arg(long)]
        renew: bool,
    },
    /// Add a signature by a release key
    ///
    /// No store is asked where the chain is known on this machine, so that the key can stay offline.
    Sign {
        /// The file; default: `pins` of `[manifest]` in snapkit.toml
        file: Option<PathBuf>,
        #[command(flatten)]
        signer: SignerOptions,
    },
    /// Show what pins say, and whether they are signed
    Show {
        /// The file; default: `pins` of `[manifest]` in snapkit.toml
        file: Option<PathBuf>,
    },
}

pub(super) fn run(args: &PinsArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let file = |given: &Option<PathBuf>| given.clone().unwrap_or_else(|| session.config.manifest.pins.value.clone());
    match &args.command {
        PinsCommand::Edit { file: given, renew } => edit(&file(given), *renew, session),
        PinsCommand::Sign { file: given, signer } => sign(&file(given), signer, session),
        PinsCommand::Show { file: given } => show(&file(given), session),
    }
}

/// The variables of this process, where needs are looked for.
pub(super) fn surroundings() -> impl Fn(&str) -> Option<std::ffi::OsString> {
    |name: &str| env::var_os(name)
}

/// The envelope in a pins file; nothing verified.
pub(super) fn read_draft(path: &Path) -> Result<Option<Nested>, CliError> {
    let cap = PINS_CAP as u64;
    let bytes = match fs::metadata(path).and_then(|metadata| {
        // One byte more than may be, so that the reader says so.
        if metadata.len() > cap { Ok(vec![b' '; PINS_CAP + 1]) } else { fs::read(path) }
    }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| ManifestError::Read { path: path.to_owned(), source })?,
    };
    Ok(Some(Nested::read(&bytes, PINS_CAP, &path.display().to_string())?))
}

fn edit(path: &Path, renew: bool, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let Some(config) = session.config.pins.clone() else {
        return Err(CliError::usage("the configuration has no `[pins]`")
            .next("put `[pins]` into snapkit.toml; docs/manifest.md shows one"));
    };
    let object = path.display().to_string();
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let name = session.config.manifest.name.value.clone();
    let judge = Judge { pin: &opened.pin.root, root: chain.root(), chain: &chain.id() };
    let draft = read_draft(path)?;
    let before = draft.as_ref().map(|draft| Pins::of_draft(draft, &object)).transpose()?;
    let before = before.filter(|before| before.chain == chain.id() && before.name == name);
    let kept = opened.trust.kept_pins(&judge, &name)?.map_or(0, |kept| kept.pins.version);
    let signed = match &draft {
        Some(draft) => Pins::verify(&draft.to_bytes(), judge.root, judge.chain, Some(&name), &object).ok(),
        None => None,
    };
    let floor = signed.as_ref().map_or(0, |signed| signed.pins.version).max(kept);
    let surroundings = surroundings();
    let planned = plan(&config, &chain.id(), &name, before.as_ref(), floor, chain.now(), &Surroundings(&surroundings))
        .map_err(explained)?;
    let mut pins = planned.pins;
    let stands = !planned.changed && (signed.is_some() || pins.version > floor);
    let renew = renew || pins.expires <= chain.now();
    if stands && !(renew && signed.is_some()) {
        session.out.report(&Edited::of(path, &pins, Vec::new(), signed.is_some()))?;
        return Ok(Exit::DONE);
    }
    if !planned.changed {
        let lifetime = pins.expires.duration_since(pins.issued);
        (pins.version, pins.issued) = (floor + 1, whole_second(chain.now()));
        pins.expires = pins.issued.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    }
    write_file(path, &envelope::sign(PAYLOAD_TYPE, &pins.payload()?, &[])?)?;
    let changed = differences(before.as_ref(), &pins);
    session.out.report(&Edited { written: true, ..Edited::of(path, &pins, changed, false) })?;
    Ok(Exit::DONE)
}

/// The names of the fields that differ, but for number and times.
fn differences(before: Option<&Pins>, after: &Pins) -> Vec<String> {
    let fields = |pins: &Pins| -> BTreeMap<String, serde_json::Value> {
        match serde_json::to_value(pins) {
            Ok(serde_json::Value::Object(fields)) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        }
    };
    let (before, after) = (before.map(fields).unwrap_or_default(), fields(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    const OF_EVERY_VERSION: [&str; 6] = ["chain", "expires", "format", "issued", "name", "version"];
    let counts = |name: &&&String| !OF_EVERY_VERSION.contains(&name.as_str());
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    names.iter().filter(counts).filter(differs).map(|name| (*name).clone()).collect()
}

fn sign(path: &Path, signer: &SignerOptions, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let object = path.display().to_string();
    let Some(mut draft) = read_draft(path)? else {
        return Err(CliError::usage(format!("there is no {object}")).next("write it with `snapkit pins edit`"));
    };
    let pins = Pins::of_draft(&draft, &object)?;
    let (trust, pin, root) = root_of(&pins.chain, session)?;
    let signer = signer.for_role("release", &root, &trust, &pin, &session.cancel)?;
    draft.sign(&[&*signer], &object)?;
    let bytes = draft.to_bytes();
    let judged = Pins::verify(&bytes, &root, &pins.chain, None, &object);
    let missing = match &judged {
        Ok(_) => None,
        Err(refusal) if refusal.class() == Class::Threshold => Some(refusal.expected().to_owned()),
        Err(refusal) => return Err(refusal.clone().into()),
    };
    write_file(path, &bytes)?;
    session.out.report(&Signed {
        file: path.to_owned(),
        name: pins.name.clone(),
        version: pins.version,
        key_id: signer.public().id().to_string(),
        enough: missing.is_none(),
        missing,
        expires: pins.expires,
    })?;
    Ok(Exit::DONE)
}

/// The newest root of a chain: as it is known here, without asking any store, else as the store says.
fn root_of(chain: &Digest, session: &Session<'_>) -> Result<(TrustDir, Digest, Root), CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let mut pins: Vec<Digest> = trust.stores()?.into_values().collect();
    pins.dedup();
    for pin in pins {
        if trust.mark(&pin)?.is_some_and(|mark| mark.chain == *chain) {
            let root = trust::known_root(&pin, &trust, session.now)?;
            return Ok((trust, pin, root));
        }
    }
    let opened = Opened::new(session)?;
    let found = opened.chain()?;
    if found.id() != *chain {
        let expected = format!("pins of chain {}", found.id());
        return Err(Refusal::new(Class::Origin, "pins", expected, chain).into());
    }
    Ok((trust, opened.pin.root, found.root().clone()))
}

fn show(path: &Path, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let object = path.display().to_string();
    let Some(draft) = read_draft(path)? else {
        return Err(CliError::usage(format!("there is no {object}")).next("write it with `snapkit pins edit`"));
    };
    let pins = Pins::of_draft(&draft, &object)?;
    let (_, _, root) = root_of(&pins.chain, session)?;
    let judged = Pins::verify(&draft.to_bytes(), &root, &pins.chain, None, &object);
    let (signed, exit) = match &judged {
        Ok(_) => ("good".to_owned(), Exit::DONE),
        // A draft is no failure.
        Err(refusal) if matches!(refusal.class(), Class::SigMissing | Class::Threshold) => {
            (format!("not enough yet: {} of {}", refusal.found(), refusal.expected()), Exit::DONE)
        }
        Err(refusal) => (refusal.to_string(), Exit::of_code(refusal.class().exit_code())),
    };
    let digest = Digest::sha256(&draft.unverified(&object)?.1).to_string();
    session.out.report(&Shown { digest, signed, good: judged.is_ok(), now: session.now, pins })?;
    Ok(exit)
}

/// What a [`ManifestError`] tells a person to do.
pub(super) fn explained(error: ManifestError) -> CliError {
    let (class, next) = (error.class(), error.next());
    let refusal_inside = matches!(error, ManifestError::Refused(_) | ManifestError::Trust(_) | ManifestError::Chain(_));
    let unfit = matches!(error, ManifestError::Unfit { .. } | ManifestError::Lost { .. });
    let error = match class {
        Some(class) if !refusal_inside => CliError::of_class(error, class),
        _ => CliError::from(error),
    };
    let error = if unfit { error.with_exit(Exit::REFUSED) } else { error };
    match next {
        Some(next) => error.next(next),
        None => error,
    }
}

#[derive(Debug, Serialize)]
struct Edited {
    file: PathBuf,
    name: String,
    version: u64,
    changed: Vec<String>,
    signed: bool,
    expires: Timestamp,
    written: bool,
}

impl Edited {
    fn of(path: &Path, pins: &Pins, changed: Vec<String>, signed: bool) -> Self {
        Self {
            file: path.to_owned(),
            name: pins.name.clone(),
            version: pins.version,
            written: false,
            changed,
            signed,
            expires: pins.expires,
        }
    }
}

impl Report for Edited {
    const SCHEMA: &'static str = "snapkit.pins-edit/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let file = self.file.display();
        let Self { version, name, .. } = self;
        if self.signed {
            return writeln!(out, "nothing changed: {file} is version {version} of {name}, signed");
        }
        match (self.written, self.changed.is_empty()) {
            (false, _) => writeln!(out, "nothing changed: {file} is the draft of version {version} of {name}")?,
            (true, true) => writeln!(out, "{file} is a draft of version {version} of {name}, with later times")?,
            (true, false) => {
                writeln!(
                    out,
                    "{file} is a draft of version {version} of {name}; changed: {}",
                    self.changed.join(", ")
                )?;
            }
        }
        writeln!(out, "sign it with `snapkit pins sign`")
    }
}

#[derive(Debug, Serialize)]
struct Signed {
    file: PathBuf,
    name: String,
    version: u64,
    key_id: String,
    enough: bool,
    missing: Option<String>,
    expires: Timestamp,
}

impl Report for Signed {
    const SCHEMA: &'static str = "snapkit.pins-sign/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, version, key_id, .. } = self;
        writeln!(out, "{} is signed by {key_id}: version {version} of {name}", self.file.display())?;
        match &self.missing {
            None => writeln!(out, "valid until {}; `snapkit manifest generate` embeds it", self.expires),
            Some(missing) => writeln!(out, "more must sign: {missing}"),
        }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    digest: String,
    signed: String,
    good: bool,
    #[serde(skip)]
    now: Timestamp,
    pins: Pins,
}

impl Report for Shown {
    const SCHEMA: &'static str = "snapkit.pins-show/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pins(&self.pins, self.now, out, &[["pins", &self.digest], ["signatures", &self.signed]])
    }
}

/// Writes what pins say, after the rows that the caller has.
pub(super) fn write_pins(pins: &Pins, now: Timestamp, out: &mut dyn Write, before: &[[&str; 2]]) -> io::Result<()> {
    let left = pins.expires.duration_since(now);
    let word = if left.is_positive() { "in" } else { "EXPIRED, for" };
    let lag = pins.max_head_lag.map_or_else(|| "any number of".to_owned(), |lag| lag.to_string());
    let age = Said(jiff::SignedDuration::from_secs(i64::try_from(pins.max_head_age_seconds).unwrap_or(i64::MAX)));
    let mut rows: Vec<[String; 2]> = before.iter().map(|row| row.map(str::to_owned)).collect();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("name", format!("{}, version {}", pins.name, pins.version));
    row("chain", pins.chain.to_string());
    row("valid", format!("{} to {} ({word} {})", pins.issued, pins.expires, Said(left)));
    row("fresh", format!("a snapshot of at most {age}, {lag} slots beyond the manifest"));
    for image in &pins.images {
        let place = match (&image.manifest, &image.archive) {
            (Some(manifest), _) => format!("manifest sha256:{manifest}"),
            (None, Some(archive)) => format!("archive in record {}", archive.seq),
            (None, None) => "nowhere to be had from".to_owned(),
        };
        row(
            "image",
            format!("{} {} ({}), config sha256:{}, {place}", image.name, image.reference, image.platform, image.config),
        );
    }
    if let Some(service) = &pins.service {
        let what = match (&service.argv, &service.unit, &service.hooks) {
            (Some(argv), ..) => argv.join(" "),
            (None, Some(unit), _) => unit.clone(),
            (None, None, Some(hooks)) => hooks.start.join(" "),
            (None, None, None) => "the compose file in the pins".to_owned(),
        };
        row("service", format!("{}: {what}", service.driver));
        for (name, argv) in service.hooks.iter().flat_map(|hooks| hooks.all()).filter(|(name, _)| *name != "start") {
            row("", format!("to {name} it: {}", argv.join(" ")));
        }
        for role in &service.roles {
            row("", format!("as {}: {}", role.role, role.args.join(" ")));
        }
    }
    for tree in &pins.trees {
        row(
            "tree",
            format!("{} at {} ({}), {} load-bearing files", tree.name, tree.path, tree.activation, tree.files.len()),
        );
    }
    let secrets = pins.needs.secrets.iter().map(|secret| match secret.fingerprint {
        Some(_) => format!("{} (known by its fingerprint)", secret.name),
        None => format!("{} (present)", secret.name),
    });
    let needs: Vec<String> =
        pins.needs.environment.iter().cloned().chain(secrets).chain(pins.needs.capabilities.iter().cloned()).collect();
    if !needs.is_empty() {
        row("needs", needs.join(", "));
    }
    if let Some(lease) = &pins.lease {
        let members: Vec<&str> = lease.members.iter().map(|member| member.node.as_str()).collect();
        row("lease", format!("{} {} of {}", lease.mode, lease.group, members.join(", ")));
    }
    write_table(out, &rows)
}
