//! `--break-glass`: going on although something has expired, never silently.
//!
//! It lifts `E_STALE` and nothing else: signatures, hashes, rollback and forks are judged as ever. What was lifted is told
//! on stderr, stands in the result and in the receipt, and the command ends with 4 instead of 0.

use clap::Args;
use manifests::document::receipt::{Lifted, REASON_CAP};
use serde::Serialize;
use snapkit::chain::Chain;

use super::exit_code::Exit;
use super::session::Session;

/// The stable name of the warning.
const W_BREAKGLASS: &str = "W_BREAKGLASS";

/// The option by which a command goes on although something has expired.
#[derive(Debug, Args)]
pub(super) struct BreakGlass {
    /// Go on although the root has expired, and record this reason; ends with exit code 4
    #[arg(long, value_name = "REASON", value_parser = reason)]
    break_glass: Option<String>,
}

/// What was lifted, in the result of a command.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BrokenGlass {
    pub(super) name: &'static str,
    pub(super) reason: String,
    pub(super) lifted: Vec<Lifted>,
}

fn reason(text: &str) -> Result<String, String> {
    match text {
        text if text.trim().is_empty() => Err("say why".to_owned()),
        text if text.len() > REASON_CAP => Err(format!("a reason has at most {REASON_CAP} bytes")),
        text if text.chars().any(char::is_control) => Err("a reason is one line of text".to_owned()),
        text => Ok(text.to_owned()),
    }
}

impl BreakGlass {
    /// The reason, if the option was given.
    pub(super) fn reason(&self) -> Option<&str> {
        self.break_glass.as_deref()
    }

    /// What is lifted for this chain, told on stderr; nothing where nothing has expired.
    pub(super) fn lift(&self, chain: &Chain<'_>, session: &mut Session<'_>) -> Option<BrokenGlass> {
        let reason = self.break_glass.clone()?;
        let Some(refusal) = chain.expired() else {
            session.out.note(format_args!("--break-glass was not needed: nothing has expired"));
            return None;
        };
        let lifted = Lifted { class: refusal.class().name().to_owned(), object: refusal.object().to_owned() };
        session
            .out
            .warn(format_args!("going on although this is refused: {refusal}; reason: {reason} ({W_BREAKGLASS})"));
        Some(BrokenGlass { name: W_BREAKGLASS, reason, lifted: vec![lifted] })
    }
}

impl BrokenGlass {
    /// The exit code of a command that ended well but for this.
    pub(super) fn exit(glass: Option<&Self>, exit: Exit) -> Exit {
        if glass.is_some() && exit == Exit::DONE { Exit::DEGRADED } else { exit }
    }

    /// One line of a text report.
    pub(super) fn line(&self) -> String {
        let objects: Vec<String> = self.lifted.iter().map(|one| format!("{} ({})", one.object, one.class)).collect();
        format!("break-glass: {} was used although refused; reason: {}", objects.join(", "), self.reason)
    }
}

impl From<&BrokenGlass> for manifests::document::receipt::BreakGlass {
    fn from(glass: &BrokenGlass) -> Self {
        Self { reason: glass.reason.clone(), lifted: glass.lifted.clone() }
    }
}
