//! A process's settings: from flags, environment variables and one file to a checked [`Config`].
//!
//! In: the command line, the variables `KVNODE_…`, the YAML file of `--config`. A setting has one name in three spellings (`dataDir` in the
//! file, `--data-dir`, `KVNODE_DATA_DIR`) and one parser, whichever way it comes; the flag wins over the variable, the variable over the
//! file, the file over the default. Out: a [`Config`] in which every value is usable, or the first [`ConfigError`], which names the field,
//! where its value came from and what to write instead. Absent by design: what may change while the process runs; that travels through
//! the log (`/admin/settings`).

mod arguments;
mod error;
mod file;
mod load;
mod member;
mod reference;
mod value;

pub use arguments::{Arguments, CertificateArguments, DumpLogArguments, JoinTokenArguments, Subcommand};
pub use error::{ConfigError, Source};
pub(crate) use file::Scalar;
pub use member::{Addresses, Config, JoinToken, LogFormat, LogLevel, Logging, Mode, Peer, PeerPort, RaftTiming, Standalone};
pub use reference::markdown;
pub use value::duration;
pub(crate) use value::quantity;
