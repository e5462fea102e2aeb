//! Takes away what a fleet of a test process left behind that was killed before it could do so itself.

use std::path::Path;

use super::{memory, tool};

/// Every fleet's names begin so, followed by the process id of the test in hexadecimal and a dash.
pub(super) const PREFIX: &str = "kvf";

/// Network namespaces, control groups and volumes whose test is gone.
pub(super) fn sweep(folder: &Path) {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name) {
            tool::attempt("ip", &["netns", "delete", &name]);
        }
    }
    for entry in std::fs::read_dir(memory::root()).into_iter().flatten().flatten() {
        if is_orphan(&entry.file_name().to_string_lossy()) {
            // This fails while a process of it is still ending; then the next test does it.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name) {
            detach(&entry.path());
        }
    }
}

/// Whether a name is one of ours and its process is gone.
fn is_orphan(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(id, _)| id);
    let id = id.and_then(|id| u32::from_str_radix(id, 16).ok());
    id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists())
}

/// Unmounts what is mounted under a fleet's directory and frees its loop devices. The directory stays: its logs may be wanted.
fn detach(directory: &Path) {
    for image in std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if image.extension().is_none_or(|extension| extension != "img") {
            continue;
        }
        let (Some(mount), Some(file)) = (image.with_extension("").to_str().map(str::to_owned), image.to_str()) else {
            continue;
        };
        let _ = tool::run("fsfreeze", &["--unfreeze", &mount]);
        let _ = tool::run("umount", &[&mount]);
        for line in tool::run("losetup", &["--noheadings", "--output", "NAME", "--associated", file])
            .unwrap_or_default()
            .lines()
        {
            tool::attempt("losetup", &["--detach", line.trim()]);
        }
        let _ = std::fs::remove_file(&image);
    }
}

#[cfg(test)]
mod tests {
    use super::is_orphan;

    #[test]
    fn only_what_a_dead_test_left_is_swept() {
        assert!(!is_orphan(&format!("kvf{:x}-0m1", std::process::id())));
        assert!(is_orphan("kvfffffff0-0m1"));
        for foreign in ["kvf", "cni-12-3", "kvfleet", "kvf-1", "kvfzz-1"] {
            assert!(!is_orphan(foreign), "{foreign}");
        }
    }
}
