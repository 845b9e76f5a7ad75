//! Engines: what Docker or Podman has, runs, saves and loads, asked through their commands.
//!
//! A name in an engine proves nothing, and neither does the id it gives an image: with one image store it is the config
//! digest, with another that of a manifest. Where the id is not the config digest, the engine is asked to save the image,
//! and what it saves is hashed. Layer: operations.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use manifests::digest::Digest;
use manifests::document::image::ImagePin;
use serde_json::Value;

use super::ImageError;
use super::archive::Archive;
use super::document::Launch;
use super::identity::{Identity, Platform};
use super::resolve::Resolved;
use super::scratch::Scratch;
use crate::cancel::Cancel;

/// How long an engine may take for a question.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to save or load an image.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// The longest answer.
const ANSWER_CAP: u64 = 64 << 20;

/// A container engine.
#[derive(Debug, Clone)]
pub struct Engine {
    program: String,
    cancel: Cancel,
}

/// An image that an engine has.
#[derive(Debug, Clone)]
pub struct Held {
    /// What the engine calls it: a digest of something.
    pub id: Digest,
    /// Digests under which it was pulled or pushed, as `repository@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Its layers as they are unpacked.
    pub diff_ids: Vec<Digest>,
    /// What the engine says it runs on.
    pub platform: Platform,
    /// What a container of it runs unless told otherwise.
    pub launch: Launch,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The id of the image it was created from.
    pub image: Digest,
    /// What that image was called then.
    pub reference: String,
    /// Whether it runs now.
    pub running: bool,
    /// How it was started.
    pub launch: Launch,
}

impl Engine {
    /// The engine behind a command such as `docker` or `podman`.
    pub fn new(program: &str, cancel: &Cancel) -> Self {
        Self { program: program.to_owned(), cancel: cancel.clone() }
    }

    /// The command that is called.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// An image by name or id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Engine`].
    pub fn inspect(&self, image: &str) -> Result<Held, ImageError> {
        let value = self.object(&["image", "inspect", "--", image], image)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let variant = Some(text(&value["Variant"])).filter(|variant| !variant.is_empty());
        Ok(Held {
            id: self.digest(&text(&value["Id"]))?,
            repo_digests: texts(&value["RepoDigests"]),
            diff_ids: texts(&value["RootFS"]["Layers"]).iter().map(|id| self.digest(id)).collect::<Result<_, _>>()?,
            platform: Platform { os: text(&value["Os"]), architecture: text(&value["Architecture"]), variant },
            launch: launch(&value["Config"]),
        })
    }

    /// The containers that run now.
    ///
    /// # Errors
    /// [`ImageError::Engine`]
    pub fn running(&self) -> Result<Vec<Container>, ImageError> {
        let answer = self.ask(&["ps", "--quiet", "--no-trunc"], "containers")?;
        let ids: Vec<String> = String::from_utf8_lossy(&answer).split_whitespace().map(str::to_owned).collect();
        // One that ended meanwhile does not run.
        let found = ids.iter().map(|id| self.container(id));
        found.filter(|one| !matches!(one, Err(ImageError::NotFound { .. }))).collect()
    }

    /// A container by name or id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Engine`].
    pub fn container(&self, name: &str) -> Result<Container, ImageError> {
        let value = self.object(&["container", "inspect", "--", name], name)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let config = &value["Config"];
        let mut launch = launch(config);
        // What was really started, with what the image gave. Podman repeats a command that has no arguments.
        let mut rest = texts(&value["Args"]);
        if value["ImageName"].is_string() && rest == [text(&value["Path"])] {
            rest.clear();
        }
        launch.argv = std::iter::once(text(&value["Path"])).chain(rest).collect();
        // Docker keeps the name in `Config.Image`, Podman in `ImageName`.
        let reference = value["ImageName"].as_str().or(config["Image"].as_str()).unwrap_or_default().to_owned();
        Ok(Container {
            name: text(&value["Name"]).trim_start_matches('/').to_owned(),
            image: self.digest(&text(&value["Image"]))?,
            reference,
            running: value["State"]["Running"].as_bool().unwrap_or_default(),
            launch,
        })
    }

    /// Which image this really is. `pin` spares the saving where the engine's id is the pinned config digest, or where the
    /// layers differ anyway.
    ///
    /// # Errors
    /// [`ImageError`]
    pub fn identify(&self, image: &str, pin: Option<&ImagePin>, scratch: &Path) -> Result<Identity, ImageError> {
        let held = self.inspect(image)?;
        if let Some(pin) = pin
            && (held.id == pin.config || held.diff_ids != pin.diff_ids)
        {
            return Ok(Identity { platform: held.platform, config: held.id, diff_ids: held.diff_ids });
        }
        let (_kept, saved, _) = self.save(image, scratch)?;
        Ok(saved.identity())
    }

    /// Has the engine save an image, and reads it. The directory holds it until it is dropped.
    ///
    /// # Errors
    /// [`ImageError`]
    pub fn save(&self, image: &str, scratch: &Path) -> Result<(Scratch, Resolved, Archive), ImageError> {
        let held = self.inspect(image)?;
        let directory = Scratch::new(scratch)?;
        let file = directory.path().join("saved.tar");
        let path = file.to_str().ok_or_else(|| self.odd("the cache directory's path is not UTF-8"))?;
        // By id, so that a name that is moved meanwhile does not matter.
        let id = format!("sha256:{}", held.id);
        self.call(&["save", "--output", path, "--", &id], &id, TRANSFER_PATIENCE)?;
        let archive = Archive::open(&file)?;
        // An engine saves what it has of an image, which may be for one platform of several.
        let found = archive.image(None, Some(&held.platform))?;
        Ok((directory, found, archive))
    }

    /// Has the engine pull an image from its registry. What it then has is not looked at.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Engine`].
    pub fn pull(&self, reference: &str) -> Result<(), ImageError> {
        self.call(&["pull", "--quiet", "--", reference], reference, TRANSFER_PATIENCE).map(drop)
    }

    /// Has the engine load an archive.
    ///
    /// # Errors
    /// [`ImageError::Engine`]
    pub fn load(&self, archive: &Path) -> Result<(), ImageError> {
        let path = archive.to_str().ok_or_else(|| self.odd("the cache directory's path is not UTF-8"))?;
        self.call(&["load", "--input", path], path, TRANSFER_PATIENCE).map(drop)
    }

    /// The one object of an answer that is a list, which both engines give without a format of their own.
    fn object(&self, arguments: &[&str], about: &str) -> Result<Value, ImageError> {
        let answer = self.ask(arguments, about)?;
        match serde_json::from_slice(&answer) {
            Ok(Value::Array(mut all)) if all.len() == 1 => Ok(all.remove(0)),
            Ok(_) => Err(self.odd("an answer that does not describe one thing")),
            Err(error) => Err(self.odd(&error.to_string())),
        }
    }

    fn ask(&self, arguments: &[&str], about: &str) -> Result<Vec<u8>, ImageError> {
        self.call(arguments, about, PATIENCE)
    }

    /// Runs the command to its end, at most for `patience`.
    fn call(&self, arguments: &[&str], about: &str, patience: Duration) -> Result<Vec<u8>, ImageError> {
        let failed =
            |error: std::io::Error| ImageError::Engine { program: self.program.clone(), said: error.to_string() };
        let (mut stdout, mut stderr) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(failed)?)
            .stderr(stderr.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let status = self.wait(&mut child, patience)?;
        if status {
            return content(&mut stdout).map_err(failed);
        }
        let said = content(&mut stderr).map_err(failed)?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let lower = said.to_lowercase();
        if lower.contains("no such") || lower.contains("image not known") || lower.contains("no container with name") {
            return Err(ImageError::NotFound { image: about.to_owned(), place: self.program.clone() });
        }
        Err(self.odd(said.lines().last().unwrap_or("it failed and said nothing")))
    }

    fn wait(&self, child: &mut Child, patience: Duration) -> Result<bool, ImageError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(status) = child.try_wait().map_err(|error| self.odd(&error.to_string()))? {
                return Ok(status.success());
            }
            let stop = match self.cancel.check() {
                Err(cancelled) => Some(cancelled.into()),
                Ok(()) if started.elapsed() > patience => {
                    Some(self.odd(&format!("no answer within {} s", patience.as_secs())))
                }
                Ok(()) => None,
            };
            if let Some(stop) = stop {
                let _ = child.kill();
                let _ = child.wait();
                return Err(stop);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn odd(&self, said: &str) -> ImageError {
        ImageError::Engine { program: self.program.clone(), said: said.to_owned() }
    }

    /// Podman leaves the name of the hash out.
    fn digest(&self, text: &str) -> Result<Digest, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        hex.parse().map_err(|_| self.odd(&format!("an id that is no SHA-256 digest: {text}")))
    }
}

fn content(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(ANSWER_CAP).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A list of text, or one text as some versions of Podman write it.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn launch(config: &Value) -> Launch {
    let mut env = texts(&config["Env"]);
    env.sort_unstable();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Launch {
        argv: texts(&config["Entrypoint"]).into_iter().chain(texts(&config["Cmd"])).collect(),
        env,
        user: text(&config["User"]),
        directory: text(&config["WorkingDir"]),
    }
}
