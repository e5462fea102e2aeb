//! A copy of the tracked files, as they are in the working tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Makes `to` equal to what is tracked below `root`. A file that is the same already is not touched, so that what was built from it stays
/// good.
///
/// # Errors
/// When git or the disk refuses.
pub fn tracked(root: &Path, to: &Path) -> Result<()> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("git")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let names: BTreeSet<PathBuf> = String::from_utf8(listed.stdout)?
        .split('\0')
        .filter(|name| !name.is_empty() && root.join(name).is_file())
        .map(PathBuf::from)
        .collect();
    for name in &names {
        let (from, to) = (root.join(name), to.join(name));
        let bytes = fs::read(&from)?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", name.display()))?;
        // The copy is new, whatever the age of the original: cargo compares times.
        fs::File::options()
            .write(true)
            .open(&to)?
            .set_modified(std::time::SystemTime::now())?;
    }
    remove_others(to, to, &names)
}

fn remove_others(top: &Path, folder: &Path, names: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(top, &path, names)?;
        } else if !names.contains(path.strip_prefix(top)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
