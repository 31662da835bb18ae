//! How much memory a process has taken, with those it has started.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel_file::text_of;

/// The most processes that are counted. A server has a worker for each processor, and hardly ever more
/// than one.
const MOST: usize = 1024;

/// Returns how many bytes a process and its descendants have taken for themselves: memory that no file
/// on a disk holds as well, and what is swapped out of it. So it is about what another process that
/// does the same will take. What several of them share counts for each of them, so it is rather too much.
///
/// A hand-over waits for the result. So only the process and its descendants are looked at, and not all
/// processes of the host, as [`family`](crate::family()) does to find also those whose parents have ended.
///
/// # Errors
///
/// What the operating system says if the process cannot be looked at. Descendants that cannot be looked
/// at are left out.
pub fn used_by(process: u32) -> io::Result<u64> {
    let mut used = private(&directory(process))?;
    let mut seen = BTreeSet::from([process]);
    let mut next = vec![process];
    while let Some(parent) = next.pop() {
        for child in children(&directory(parent)) {
            if seen.len() < MOST && seen.insert(child) {
                next.push(child);
                used = used.saturating_add(private(&directory(child)).unwrap_or(0));
            }
        }
    }
    Ok(used)
}

fn directory(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

/// The children of all threads. Without `CONFIG_PROC_CHILDREN` there is no such list.
fn children(process: &Path) -> Vec<u32> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten();
    let lists = threads.flatten().filter_map(|thread| {
        let list = text_of(&thread.path().join("children")).ok()?;
        Some(
            list.split(' ')
                .filter_map(|id| id.trim().parse().ok())
                .collect::<Vec<u32>>(),
        )
    });
    lists.flatten().collect()
}

/// What the kernel counts as it goes. Counts that share out what is shared (`smaps_rollup`) hold a lock
/// on the memory of the process while its pages are looked at, and one that serves would stand still: 100
/// ms for 4 GB (ncabatoff/process-exporter#246).
fn private(process: &Path) -> io::Result<u64> {
    let text = text_of(&process.join("status"))?;
    // One that has ended has none of these lines.
    sum(&text, ["RssAnon", "RssShmem", "VmSwap"]).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The sum of these lines, in bytes. `RssAnon: 712 kB` is one.
fn sum(text: &str, names: [&str; 3]) -> Option<u64> {
    names.into_iter().try_fold(0_u64, |sum, name| {
        let lines = text.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = values.next()?.trim().strip_suffix(" kB")?;
        sum.checked_add(value.parse::<u64>().ok()?.checked_mul(1024)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_file_holds_counts_and_what_is_swapped_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join("status");
        let text = "Name:\tx\nVmSwap:\t       3 kB\nRssAnon:\t     20 kB\nRssFile:\t  9 kB\nRssShmem:\t  1 kB\n";
        fs::write(&status, text).unwrap();
        assert_eq!(private(dir.path()).unwrap(), 24 * 1024);
        fs::write(&status, "Name:\tx\nState:\tZ (zombie)\n").unwrap();
        assert!(private(dir.path()).is_err());
    }

    #[test]
    fn those_that_a_child_has_started_count_as_well() {
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                "read line; sh -c 'x=$(head -c 8000000 /dev/zero | tr \"\\0\" x); read line'",
            ])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let used = || used_by(id).unwrap();
        let alone = used();
        assert!(alone > 0 && alone < 4_000_000, "{alone}");
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while used() < alone + 8_000_000 {
            assert!(std::time::Instant::now() < end, "{}", used());
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(used_by(id).is_err());
    }
}
