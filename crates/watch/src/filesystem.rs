//! Which file systems report the changes of their files.

use std::collections::HashMap;
use std::path::Path;

use rustix::fs::statfs;
use rustix::io::Errno;

/// What is known of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// Every change is made by this kernel, which reports it.
    Local,
    /// Changes can be made behind the kernel's back: by another machine, the host of a virtual
    /// machine or sandbox, or a process that serves the files.
    Remote(&'static str),
    /// It shows the state of the kernel. A file's size and times say nothing about its content, and
    /// reading some of them waits for ever.
    Kernel(&'static str),
}

impl FileSystem {
    /// Judges by the number that `statfs` returns as the type.
    pub(super) fn of_magic(magic: u32) -> Self {
        match magic {
            0x6969 => Self::Remote("NFS"),
            0x517B => Self::Remote("SMB"),
            0xFF53_4D42 | 0xFE53_4D42 => Self::Remote("CIFS"),
            // virtiofs says that it is FUSE.
            0x6573_5546 => Self::Remote("FUSE or virtiofs"),
            // The files that a gVisor sandbox gets from its host are 9P as well.
            0x0102_1997 => Self::Remote("9P"),
            0x00C3_6400 => Self::Remote("Ceph"),
            0x5346_414F | 0x6B41_4653 => Self::Remote("AFS"),
            0x7375_7245 => Self::Remote("Coda"),
            0x0BD0_0BD0 => Self::Remote("Lustre"),
            0x4750_4653 => Self::Remote("GPFS"),
            0x7461_636F => Self::Remote("OCFS2"),
            0x0116_1970 => Self::Remote("GFS2"),
            0x1983_0326 => Self::Remote("BeeGFS"),
            0x2003_0528 => Self::Remote("OrangeFS"),
            0xAAD7_AAEA => Self::Remote("PanFS"),
            0x786F_4256 => Self::Remote("a shared folder of VirtualBox"),
            0xBACB_ACBC => Self::Remote("a shared folder of VMware"),
            0x7C7C_6673 => Self::Remote("a shared folder of Parallels"),
            0x9FA0 => Self::Kernel("proc"),
            0x6265_6572 => Self::Kernel("sysfs"),
            0x6462_6720 => Self::Kernel("debugfs"),
            0x7472_6163 => Self::Kernel("tracefs"),
            0x7363_6673 => Self::Kernel("securityfs"),
            0x0027_E0EB | 0x6367_7270 => Self::Kernel("cgroup"),
            0xCAFE_4A11 => Self::Kernel("bpf"),
            0x6165_676C => Self::Kernel("pstore"),
            _ => Self::Local,
        }
    }

    fn at(path: &Path) -> Self {
        match statfs(path) {
            Ok(found) => {
                // The type has another width, and sign, on each architecture.
                let [a, b, c, d, ..] = found.f_type.to_le_bytes();
                Self::of_magic(u32::from_le_bytes([a, b, c, d]))
            }
            // It went in this moment, which is reported.
            Err(Errno::NOENT | Errno::NOTDIR) => Self::Local,
            Err(_) => Self::Remote("a file system that does not tell its type"),
        }
    }

    /// Returns the name of a file system that leaves changes unreported.
    pub(super) fn silent(self) -> Option<&'static str> {
        match self {
            Self::Local => None,
            Self::Remote(name) | Self::Kernel(name) => Some(name),
        }
    }
}

/// The file systems that were met during one look, each asked once. A device's number can belong to
/// another file system by the next look.
#[derive(Debug, Default)]
pub(super) struct FileSystems(HashMap<u64, FileSystem>);

impl FileSystems {
    /// The file system of a path that is on this device.
    pub(super) fn of(&mut self, device: u64, path: &Path) -> FileSystem {
        let known = self.0.entry(device);
        *known.or_insert_with(|| FileSystem::at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_silent_and_local_ones_are_not() {
        // The numbers of the kernel's `linux/magic.h`, and of what keeps its own.
        let remote = [
            (0x6969, "NFS"),
            (0x517B, "SMB"),
            (0xFF53_4D42, "CIFS"),
            (0xFE53_4D42, "CIFS"),
            (0x6573_5546, "FUSE or virtiofs"),
            (0x0102_1997, "9P"),
            (0x00C3_6400, "Ceph"),
            (0x5346_414F, "AFS"),
            (0x6B41_4653, "AFS"),
            (0x7375_7245, "Coda"),
            (0x0BD0_0BD0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x7461_636F, "OCFS2"),
            (0x0116_1970, "GFS2"),
            (0x1983_0326, "BeeGFS"),
            (0x2003_0528, "OrangeFS"),
            (0xAAD7_AAEA, "PanFS"),
            (0x786F_4256, "a shared folder of VirtualBox"),
            (0xBACB_ACBC, "a shared folder of VMware"),
            (0x7C7C_6673, "a shared folder of Parallels"),
        ];
        for (magic, name) in remote {
            assert_eq!(FileSystem::of_magic(magic), FileSystem::Remote(name));
            assert_eq!(FileSystem::of_magic(magic).silent(), Some(name));
        }
        let of_the_kernel = [
            (0x9FA0, "proc"),
            (0x6265_6572, "sysfs"),
            (0x6462_6720, "debugfs"),
            (0x7472_6163, "tracefs"),
            (0x7363_6673, "securityfs"),
            (0x0027_E0EB, "cgroup"),
            (0x6367_7270, "cgroup"),
            (0xCAFE_4A11, "bpf"),
            (0x6165_676C, "pstore"),
        ];
        for (magic, name) in of_the_kernel {
            assert_eq!(FileSystem::of_magic(magic), FileSystem::Kernel(name));
            assert_eq!(FileSystem::of_magic(magic).silent(), Some(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlay, ZFS.
        for magic in [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x0102_1994,
            0x794C_7630,
            0x2FC1_2FC1,
        ] {
            assert_eq!(FileSystem::of_magic(magic), FileSystem::Local);
        }
    }

    #[test]
    fn the_kernel_is_asked() {
        let mut systems = FileSystems::default();
        let proc = systems.of(1, Path::new("/proc/self"));
        assert_eq!(proc, FileSystem::Kernel("proc"));
        // By its device, so the path does not matter any more.
        assert_eq!(systems.of(1, Path::new("/")), proc);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            systems.of(2, &dir.path().join("gone")),
            FileSystem::Local,
            "what is gone is awaited, not unknown"
        );
    }
}
