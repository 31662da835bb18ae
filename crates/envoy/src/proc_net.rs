//! Sockets and processes as `/proc` shows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Whether a process is stopped by a signal. One that cannot be seen is not; nor is one that a
/// debugger holds, which no signal continues.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold any byte.
    let end = stat.iter().rposition(|byte| *byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    state == Some(&b'T')
}

/// The inodes of the sockets that a process has open, each with one of its descriptors there.
pub(crate) fn sockets_of(process: &Path) -> io::Result<BTreeMap<u64, RawFd>> {
    let mut sockets = BTreeMap::new();
    for entry in std::fs::read_dir(process.join("fd"))? {
        // A descriptor may be closed between the listing and the look at it.
        let Ok(entry) = entry else { continue };
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let inode = target.to_str().and_then(|target| {
            target
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse::<u64>()
                .ok()
        });
        let descriptor = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok());
        sockets.extend(inode.zip(descriptor));
    }
    Ok(sockets)
}

/// Calls `visit` for each TCP socket of a process, as the tables of its own network namespace show
/// it, with one of its descriptors there. An error comes with the file that could not be read.
pub(crate) fn each_tcp_socket(
    process: &Path,
    mut visit: impl FnMut(TcpSocket, RawFd),
) -> Result<(), (PathBuf, io::Error)> {
    let own = sockets_of(process).map_err(|error| (process.to_owned(), error))?;
    for table in ["net/tcp", "net/tcp6"] {
        let path = process.join(table);
        let file = match File::open(&path) {
            Ok(file) => file,
            // A host without IPv6 has no second table.
            Err(error) if table == "net/tcp6" && error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err((path, error)),
        };
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        // A busy host has tens of thousands of lines, so one buffer serves for all.
        while reader
            .read_line(&mut line)
            .map_err(|error| (path.clone(), error))?
            > 0
        {
            // Most lines of a busy host are connections in TIME_WAIT, which belong to no process.
            let socket = (!line.contains(" 06 ")).then(|| TcpSocket::parse(&line));
            let socket = socket.flatten();
            line.clear();
            let Some(socket) = socket else {
                continue;
            };
            if let Some(descriptor) = own.get(&socket.inode) {
                visit(socket, *descriptor);
            }
        }
    }
    Ok(())
}

/// One line of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    pub(crate) local_port: u16,
    /// The kernel's number of the state.
    pub(crate) state: u8,
    pub(crate) inode: u64,
}

impl TcpSocket {
    pub(crate) const ESTABLISHED: u8 = 0x01;
    /// The peer has closed its side, this side may still be sending.
    pub(crate) const CLOSE_WAIT: u8 = 0x08;
    pub(crate) const LISTEN: u8 = 0x0a;

    /// Reads a line; the heading and what has another form is `None`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let (_, port) = local.rsplit_once(':')?;
        Some(Self {
            local_port: u16::from_str_radix(port, 16).ok()?,
            state: u8::from_str_radix(state, 16).ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// One bound name of `/proc/net/unix`: the socket's inode and its name, with `@` for each NUL.
pub(crate) fn unix_socket(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.splitn(8, ' ');
    let inode = fields.nth(6)?;
    // The inode is padded to five places.
    let rest = fields.next()?;
    if inode.is_empty() {
        let (inode, name) = rest.trim_start().split_once(' ')?;
        return Some((inode.parse().ok()?, name));
    }
    Some((inode.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_families_are_read() {
        let v4 = "   1: 0100007F:4DE2 0100007F:8C3A 01 00000000:00000000 00:00000000 00000000     0        0 24970 1 0000000000000000 20 4 30 10 -1";
        let v6 = "   0: 00000000000000000000000001000000:4DE3 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24971 1 0000000000000000 100 0 0 10 0";
        let socket = |local_port, state, inode| {
            Some(TcpSocket {
                local_port,
                state,
                inode,
            })
        };
        assert_eq!(
            TcpSocket::parse(v4),
            socket(0x4de2, TcpSocket::ESTABLISHED, 24970)
        );
        assert_eq!(
            TcpSocket::parse(v6),
            socket(0x4de3, TcpSocket::LISTEN, 24971)
        );
        assert_eq!(
            TcpSocket::parse("  sl  local_address rem_address   st tx_queue"),
            None
        );
        assert_eq!(TcpSocket::parse(""), None);
    }

    #[test]
    fn a_process_is_stopped_until_it_is_continued() {
        use rustix::process::{Pid, Signal, kill_process};

        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        let stopped_is = |wanted| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while is_stopped(child.id()) != wanted {
                assert!(std::time::Instant::now() < end, "stopped is not {wanted}");
                std::thread::yield_now();
            }
        };
        stopped_is(false);
        kill_process(pid, Signal::STOP).unwrap();
        stopped_is(true);
        kill_process(pid, Signal::CONT).unwrap();
        stopped_is(false);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(child.id()));
    }

    #[test]
    fn unix_names_are_read_with_any_width_of_inode() {
        let line =
            |inode| format!("00000000fdfa64f6: 00000002 00000000 00000000 0002 01 {inode} @a b@@");
        assert_eq!(unix_socket(&line("24967")), Some((24967, "@a b@@")));
        assert_eq!(unix_socket(&line("  967")), Some((967, "@a b@@")));
        assert_eq!(unix_socket(&line("12345678")), Some((12_345_678, "@a b@@")));
        assert_eq!(
            unix_socket("00000000fdfa64f6: 00000002 00000000 00000000 0002 01 24967"),
            None
        );
        assert_eq!(
            unix_socket("Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
        assert_eq!(unix_socket(""), None);
    }
}
