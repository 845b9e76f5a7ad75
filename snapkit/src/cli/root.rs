//! `snapkit root`: which keys count, and the way from one root to the next.

mod describe;
mod enroll;
mod fork;
mod lint;
mod prepare;
mod publish;
mod show;
mod sign;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use manifests::document::root::{Root, RootDocument};
use manifests::keys::KeyId;
use snapkit::keyfile;
use snapkit::trust::{TrustDir, newest_root_of_any_age};

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::session::Session;

pub(super) use enroll::{EnrollArgs, run as enroll};

/// Show and change which keys count
///
/// The next root is prepared as a draft in a file, signed by holders of the role root, perhaps on other machines, and then
/// published. Until then nothing changes for anybody.
#[derive(Debug, Args)]
pub(super) struct RootArgs {
    #[command(subcommand)]
    command: RootCommand,
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    Show(show::ShowArgs),
    AddKey(prepare::AddKeyArgs),
    RemoveKey(prepare::RemoveKeyArgs),
    SetThreshold(prepare::SetThresholdArgs),
    Renew(prepare::RenewArgs),
    Sign(sign::SignArgs),
    Publish(publish::PublishArgs),
    Fork(fork::ForkArgs),
    Lint(lint::LintArgs),
}

pub(super) fn run(args: &RootArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.command {
        RootCommand::Show(args) => show::run(args, session),
        RootCommand::AddKey(args) => prepare::add_key(args, session),
        RootCommand::RemoveKey(args) => prepare::remove_key(args, session),
        RootCommand::SetThreshold(args) => prepare::set_threshold(args, session),
        RootCommand::Renew(args) => prepare::renew(args, session),
        RootCommand::Sign(args) => sign::run(args, session),
        RootCommand::Publish(args) => publish::run(args, session),
        RootCommand::Fork(args) => fork::run(args, session),
        RootCommand::Lint(args) => lint::run(args, session),
    }
}

/// The newest root in the store, expired or not: whoever renews it must be able to read it.
fn newest(opened: &Opened) -> Result<Root, CliError> {
    Ok(newest_root_of_any_age(&*opened.store, &opened.pin.root, &opened.trust)?.root)
}

/// A key that is named by a file, or by the beginning of its id among those that are listed.
fn key_id(text: &str, document: &RootDocument) -> Result<KeyId, CliError> {
    if std::path::Path::new(text).exists() {
        return Ok(keyfile::read(text.as_ref())?.public().id());
    }
    let long_enough = text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids: Vec<KeyId> =
        document.keys.iter().map(|key| key.id).filter(|id| id.to_string().starts_with(text)).collect();
    match ids[..] {
        [only] if long_enough => Ok(only),
        _ => {
            Err(CliError::usage(format!("{text} names no key: there is no such file, and {} ids begin so", ids.len()))
                .next("give a key file, or at least 6 digits of an id that `snapkit root show` lists"))
        }
    }
}

/// A point in time: RFC 3339, or from now on such as `90d`, `1y` or `2y 6mo`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let later = text.parse::<Span>().and_then(|span| now.to_zoned(TimeZone::UTC).checked_add(span));
    later.map(|later| later.timestamp()).map_err(|error| {
        CliError::usage(format!("{text:?} is no time: {error}"))
            .next("give a time such as 2027-12-31T00:00:00Z, or how long from now: 90d, 1y")
    })
}

/// The roots that are known on this machine for the store that is named, if one is; no store is asked.
fn known_roots(session: &Session<'_>) -> Vec<Vec<u8>> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    pinned(session).and_then(|root| trust.kept_roots(&root).ok()).unwrap_or_default()
}

/// The pin of the store that is named, as far as this machine knows it.
fn pinned(session: &Session<'_>) -> Option<manifests::digest::Digest> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let location: snapkit::trust::Location = session.config.store.as_ref()?.value.parse().ok()?;
    let known = || trust.pinned(&snapkit::store::known_address(&location.url)).ok().flatten();
    location.pin.map(|pin| pin.root).or_else(known)
}
