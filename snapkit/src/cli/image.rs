//! `snapkit image`: pin container images, check what a node has and runs, keep archives in the chain.

mod check;
mod fetch;
mod pin;
mod show;
mod signed;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use manifests::document::image::ImagePin;
use manifests::refusal::{Class, Refusal};
use snapkit::image::ImageError;
use snapkit::image::engine::Engine;
use snapkit::image::identity::{Identity, Platform};
use snapkit::image::keep::KeepError;
use snapkit::image::registry::Access;

use super::exit_code::{CliError, Exit};
use super::session::Session;

/// The longest file with a pin.
const PIN_CAP_BYTES: u64 = 1 << 20;

/// Pin container images by what they are, check what a node runs, keep image archives in the chain
///
/// A tag names another image tomorrow. A pin holds the digest of the config and of every unpacked layer, which stay the
/// same when an image is pushed, pulled, saved and loaded, so that it can be checked anywhere.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    Pin(pin::PinArgs),
    Check(check::CheckArgs),
    Show(show::ShowArgs),
    Export(fetch::ExportArgs),
    Load(fetch::LoadArgs),
}

impl ImageArgs {
    /// The store that the command names by itself, so that its credentials are looked up.
    pub(super) fn place(&self) -> Option<String> {
        match &self.command {
            ImageCommand::Check(args) => args.place(),
            _ => None,
        }
    }
}

pub(super) fn run(args: &ImageArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.command {
        ImageCommand::Pin(args) => pin::run(args, session),
        ImageCommand::Check(args) => check::run(args, session),
        ImageCommand::Show(args) => show::run(args, session),
        ImageCommand::Export(args) => fetch::export(args, session),
        ImageCommand::Load(args) => fetch::load(args, session),
    }
}

/// How a registry is asked.
#[derive(Debug, Args)]
struct RegistryArgs {
    /// Ask the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// File with logins for registries [default: the one of docker or podman]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
}

impl RegistryArgs {
    fn access(&self, reference: &str) -> Result<Access, CliError> {
        let files = match &self.auth_file {
            Some(file) if !file.is_file() => {
                return Err(CliError::usage(format!("--auth-file {} is no file", file.display())));
            }
            Some(file) => vec![file.clone()],
            None => auth_files(),
        };
        let mut login = None;
        for file in files {
            if login.is_none() {
                login = snapkit::image::registry::login_of(&file, reference)?;
            }
        }
        Ok(Access { plain_http: self.plain_http, login })
    }
}

/// Where docker and podman keep logins.
fn auth_files() -> Vec<PathBuf> {
    let at = |variable: &str, rest: &str| std::env::var_os(variable).map(|value| Path::new(&value).join(rest));
    let named = std::env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    [named, at("XDG_RUNTIME_DIR", "containers/auth.json"), docker].into_iter().flatten().collect()
}

/// The engine that was named, else docker or podman, whichever is there.
fn engine(named: Option<&str>, session: &Session<'_>) -> Result<Engine, CliError> {
    let found = |program: &&&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    match named.or_else(|| ["docker", "podman"].iter().find(found).copied()) {
        Some(program) => Ok(Engine::new(program, &session.cancel)),
        None => {
            Err(CliError::usage("there is neither docker nor podman").next("name the engine's command with --engine"))
        }
    }
}

/// Reads a pin that `image pin --out` wrote.
fn read_pin(file: &Path) -> Result<ImagePin, CliError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(PIN_CAP_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| CliError::from(error).context(format!("cannot read {}", file.display())))?;
    let object = file.display().to_string();
    let tree = manifests::json::Tree::read(&bytes, PIN_CAP_BYTES as usize, &object)?;
    drop(tree);
    let pin: ImagePin = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(Class::Json, &object, "the fields of a pin", error))?;
    pin.check(&object)?;
    Ok(pin)
}

/// The platform of a pin.
fn platform_of(pin: &ImagePin) -> Result<Platform, Refusal> {
    Ok(Identity::of_pin(pin)?.platform)
}

/// What was not to be had ends with its own exit code.
fn refused(error: KeepError) -> CliError {
    match (error.class(), &error) {
        (Some(class), _) => CliError::of_class(error, class),
        (None, KeepError::NotFound(_)) => {
            CliError::from(error).with_exit(Exit::NO).next("`snapkit image show` lists the images of the chain")
        }
        (None, _) => error.into(),
    }
}

fn not_found(error: ImageError) -> CliError {
    match error {
        error @ ImageError::NotFound { .. } => CliError::from(error).with_exit(Exit::NO),
        error @ ImageError::Reference { .. } => CliError::from(error).with_exit(Exit::USAGE),
        error => error.into(),
    }
}
