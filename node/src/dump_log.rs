//! `kvnode dump-log`: a stopped member's log as NDJSON, for a person and for `jq`.
//!
//! In: a data directory, or one that a member has put aside (`damaged-…`). Out: one line per entry, in the order of the indexes, and a last
//! line with the vote and how far the log goes. A damaged log is printed as far as it can be read, entries that stand behind the damage are
//! marked, and the damage is the error. Absent by design: any write, and the state machine's data.
//!
//! A running member recycles segments while somebody reads them, which would look like damage: so a directory in use is refused.

mod command;

use std::{
    fs::{File, TryLockError},
    io::{self, BufWriter, Write},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use kvfleet_api::admin::MemberAddress;
use serde::Serialize;

use self::command::Readable;
use crate::{
    log::{Inspected, Inspection, LogId, OpenError, Vote},
    raft::Logged,
    state::Proposal,
};

/// Why a log was not printed, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// There is nothing to read.
    #[error("{}: holds no log (no `raft` in it); give the --data-dir of a member", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// A member runs.
    #[error("{}: a running process uses it; stop that process, or read a copy of the directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// No member must start with this log. What can be read of it has been printed.
    #[error("printed as far as it can be read: {0}")]
    Log(#[source] OpenError),
}

/// One line.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "camelCase")]
enum Line {
    Command {
        #[serde(flatten)]
        place: Place,
        #[serde(flatten)]
        said: Said,
    },
    /// An entry of many writes.
    Writes {
        #[serde(flatten)]
        place: Place,
        writes: Vec<Said>,
    },
    Membership {
        #[serde(flatten)]
        place: Place,
        /// The voters' ids as text: JSON's numbers end at 2^53.
        voters: Vec<Vec<String>>,
        members: Vec<MemberAddress>,
    },
    Blank {
        #[serde(flatten)]
        place: Place,
    },
    Unreadable {
        #[serde(flatten)]
        place: Place,
        bytes: usize,
        problem: String,
    },
    End {
        vote: Option<VoteLine>,
        committed: Option<IdLine>,
        purged: Option<IdLine>,
    },
}

/// A command with its stamp.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    stamp_ms: u64,
    command: Readable,
}

impl Said {
    fn of(Proposal { stamp_ms, command }: Proposal, values: bool) -> Said {
        Said {
            stamp_ms,
            command: Readable::of(command, values),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    index: u64,
    term: u64,
    segment: String,
    offset: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    behind_damage: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VoteLine {
    term: u64,
    voted_for: Option<String>,
    committed: bool,
}

#[derive(Serialize)]
struct IdLine {
    term: u64,
    index: u64,
}

/// Writes the entries of `range`, then the last line. Blocking.
///
/// # Errors
/// [`DumpError`]; [`DumpError::Log`] only after everything that can be read has been written.
pub fn write(data_dir: &Path, range: RangeInclusive<u64>, values: bool, out: &mut dyn Write) -> Result<(), DumpError> {
    let directory = data_dir.join("raft");
    if !directory.is_dir() {
        return Err(DumpError::NoLog { path: data_dir.to_owned() });
    }
    let _lock = share(data_dir)?;
    let inspection = Inspection::of(&directory).map_err(DumpError::Log)?;
    let mut out = BufWriter::new(out);
    for found in inspection.entries(range) {
        let found = found.map_err(|source| DumpError::Io {
            path: directory.clone(),
            source,
        })?;
        put(&mut out, &line(found, values))?;
    }
    let id = |id: LogId| IdLine {
        term: id.term,
        index: id.index,
    };
    let end = Line::End {
        vote: inspection.vote.map(
            |Vote {
                 term,
                 voted_for,
                 committed,
             }| VoteLine {
                term,
                voted_for: voted_for.map(|member| member.to_string()),
                committed,
            },
        ),
        committed: inspection.committed.map(id),
        purged: inspection.purged.map(id),
    };
    put(&mut out, &end)?;
    out.flush().map_err(DumpError::Output)?;
    inspection.problem.map_or(Ok(()), |problem| Err(DumpError::Log(problem)))
}

fn put(out: &mut impl Write, line: &Line) -> Result<(), DumpError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| DumpError::Output(error.into()))?;
    out.write_all(b"\n").map_err(DumpError::Output)
}

fn line(found: Inspected, values: bool) -> Line {
    let Inspected {
        entry,
        segment,
        offset,
        behind_damage,
    } = found;
    let place = Place {
        index: entry.id.index,
        term: entry.id.term,
        segment,
        offset,
        behind_damage,
    };
    let bytes = entry.payload.len();
    match Logged::read(entry.payload) {
        Logged::Proposal(proposal) => Line::Command {
            place,
            said: Said::of(proposal, values),
        },
        Logged::Writes(writes) => Line::Writes {
            place,
            writes: writes.into_iter().map(|write| Said::of(write, values)).collect(),
        },
        Logged::Membership { configurations, members } => Line::Membership {
            place,
            voters: configurations
                .iter()
                .map(|voters| voters.iter().map(u64::to_string).collect())
                .collect(),
            members,
        },
        Logged::Blank => Line::Blank { place },
        Logged::Unreadable(problem) => Line::Unreadable { place, bytes, problem },
    }
}

/// Keeps members from starting while the log is read; a directory without a lock file never ran.
fn share(data_dir: &Path) -> Result<Option<File>, DumpError> {
    let path = data_dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DumpError::Io { path, source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(DumpError::InUse { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(DumpError::Io { path, source }),
    }
}
