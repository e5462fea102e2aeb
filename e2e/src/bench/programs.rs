//! Where the programs are, and where they may write.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    bare,
    cluster::{Cluster, System},
    etcd, kvfleet,
};

/// The programs under test, and the disk.
#[derive(Clone, Debug, clap::Args)]
pub struct Programs {
    /// The member's program; unless set, the one beside this.
    #[arg(long, env = "KVNODE")]
    pub kvnode: Option<PathBuf>,
    /// etcd's server; unless set, where `e2e/cluster/build etcd` puts it.
    #[arg(long, env = "ETCD")]
    pub etcd: Option<PathBuf>,
    /// The disk under test; unless set, the one of this program.
    #[arg(long)]
    pub directory: Option<PathBuf>,
}

impl Programs {
    /// Starts a system on the disk under test.
    ///
    /// # Errors
    /// When its program is not there, or it does not come up.
    pub fn start(&self, system: System, members: usize) -> Result<Cluster> {
        let here = env::current_exe()?;
        let beside = here.parent().context("a program is in a folder")?;
        self.start_on(self.directory.as_deref().unwrap_or(beside), system, members)
    }

    /// Starts a system that writes below `directory`.
    ///
    /// # Errors
    /// As [`Programs::start`].
    pub fn start_on(&self, directory: &Path, system: System, members: usize) -> Result<Cluster> {
        let here = env::current_exe()?;
        let beside = here.parent().context("a program is in a folder")?;
        match system {
            System::Kvfleet => {
                let program = self.kvnode.clone().unwrap_or_else(|| beside.join("kvnode"));
                kvfleet::start(&program, directory, members)
            }
            System::Etcd => etcd::start(&self.etcd.clone().unwrap_or_else(etcd::built), directory, members),
            System::Bare => bare::start(directory),
        }
    }
}
