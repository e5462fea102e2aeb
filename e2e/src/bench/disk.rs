//! What a disk was made to write.
//!
//! The device's own counter, for the whole machine: a process's `write_bytes` counts a page cache folio of up to two megabytes for each
//! small write into it, and says nothing of the file system's journal.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};

/// Of `/sys/dev/block/*/stat`, whatever the device's own sectors are.
const SECTOR: u64 = 512;

/// Bytes written so far to the device that holds `directory`; none when it is on no device (in memory).
///
/// # Errors
/// When the kernel's counters cannot be read.
pub fn written(directory: &Path) -> Result<Option<u64>> {
    let device = fs::metadata(directory)?.dev();
    // As glibc's major() and minor().
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    let Ok(stat) = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")) else {
        return Ok(None);
    };
    let sectors: u64 = stat
        .split_whitespace()
        .nth(6)
        .context("a device has a counter of sectors")?
        .parse()?;
    Ok(Some(sectors * SECTOR))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[test]
    fn what_is_flushed_is_counted_and_memory_is_no_disk() {
        assert_eq!(written(Path::new("/proc")).unwrap(), None);
        let path = std::env::temp_dir().join(format!("kvbench-disk-{}", std::process::id()));
        let Some(before) = written(&std::env::temp_dir()).unwrap() else {
            return;
        };
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![7; 4 << 20]).unwrap();
        file.sync_all().unwrap();
        let after = written(&std::env::temp_dir()).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(after - before >= 4 << 20, "{before} {after}");
    }
}
