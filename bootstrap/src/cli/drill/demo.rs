//! `bootstrap drill demo`: the whole story on one machine, with real processes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bootstrap::drill::demo::{DemoError, Settings, Told, World};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

/// Play a whole drill on this machine, in about a minute
///
/// In one new directory: a chain with two snapshots, keys, pins and a manifest; a leader, a follower and a blank node, each with
/// an agent of its own; then the leader is killed, the follower takes over, and the blank node is restored from the chain. What
/// a prober and a sentinel saw of it is sealed into a bundle, which is verified. Everything is real, and nothing but that
/// directory is touched. What was started is ended again.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The new directory [default: bootstrap-demo-TIME in the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}
