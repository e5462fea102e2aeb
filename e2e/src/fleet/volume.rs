//! A member's disk: an ext4 file system in a loop image, whose power can be cut.
//!
//! `EXT4_IOC_SHUTDOWN` without a log flush stops the file system at once: what is in the page cache and in the journal's memory never reaches the
//! image. It is called by a program of a few lines of C, because the workspace forbids `unsafe` and a C compiler is there anyway (it links Rust).

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::tool;

/// Holds a log, a store and their spares many times over; the image is sparse.
const SIZE: u64 = 2 << 30;

/// A mounted image; unmounted and detached when dropped.
#[derive(Debug)]
pub struct Volume {
    power: PathBuf,
    device: String,
    mount: PathBuf,
}

impl Volume {
    /// Makes a file system in `<folder>/<name>.img` and mounts it at `<folder>/<name>`.
    ///
    /// # Errors
    /// When the caller is not root, or a tool fails.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let power = folder.join("power");
        if !power.is_file() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fleet/power.c");
            tool::run("cc", &["-O1", "-Wall", "-o", text(&power)?, text(&source)?])?;
        }
        let image = folder.join(format!("{name}.img"));
        let mount = folder.join(name);
        std::fs::create_dir_all(&mount)?;
        File::create(&image)?.set_len(SIZE)?;
        tool::run(
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-m",
                "0",
                "-E",
                "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                text(&image)?,
            ],
        )?;
        let device = tool::run("losetup", &["--find", "--show", text(&image)?]).context("a loop device (this needs root)")?;
        let volume = Volume {
            power,
            device: device.trim().to_owned(),
            mount,
        };
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Writes everything back, as the system does by itself every half minute.
    ///
    /// # Errors
    /// When it cannot.
    pub fn write_back(&self) -> Result<()> {
        tool::run("sync", &["--file-system", text(&self.mount)?]).map(drop)
    }

    /// Cuts the power: from now on every access fails, and what was not durable is gone.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn cut_power(&self) -> Result<()> {
        tool::run(text(&self.power)?, &[text(&self.mount)?]).map(drop)
    }

    /// Turns it on again: the journal is replayed. No process may have a file open.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted.
    pub fn restore_power(&self) -> Result<()> {
        tool::run("umount", &[text(&self.mount)?])?;
        self.mount()
    }

    /// Stops every write where it is (`fsfreeze`), as a disk does that hangs.
    ///
    /// # Errors
    /// When it is frozen already.
    pub fn freeze(&self) -> Result<()> {
        tool::run("fsfreeze", &["--freeze", text(&self.mount)?]).map(drop)
    }

    /// Lets writes go on.
    ///
    /// # Errors
    /// When it is not frozen.
    pub fn thaw(&self) -> Result<()> {
        tool::run("fsfreeze", &["--unfreeze", text(&self.mount)?]).map(drop)
    }

    /// Fills it with a file until `leave` bytes are free.
    ///
    /// # Errors
    /// When less is free already.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let mount = text(&self.mount)?;
        let free = tool::run("df", &["--output=avail", "--block-size=1", mount])?;
        let free: u64 = free.lines().last().unwrap_or_default().trim().parse().context("df")?;
        let length = free
            .checked_sub(leave)
            .with_context(|| format!("only {free} bytes are free in {mount}"))?;
        tool::run("fallocate", &["--length", &length.to_string(), text(&self.filler())?]).map(drop)
    }

    /// Takes the file of [`Volume::fill`] away.
    ///
    /// # Errors
    /// When there is none.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    fn mount(&self) -> Result<()> {
        tool::run(
            "mount",
            &["-t", "ext4", "-o", "noatime,nodiscard", &self.device, text(&self.mount)?],
        )
        .map(drop)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Ok(mount) = text(&self.mount) {
            // A frozen file system could not be unmounted. This fails when it is not frozen.
            let _ = self.thaw();
            if tool::run("mountpoint", &["-q", mount]).is_ok() {
                tool::attempt("umount", &[mount]);
            }
        }
        tool::attempt("losetup", &["--detach", &self.device]);
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}
