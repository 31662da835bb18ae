//! The processes that listen on a port, for the message about a port in use.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The kernel's number of the state of a listening socket.
const LISTEN: &str = "0A";

/// The processes that listen on an address that we want, as far as they are visible.
///
/// Its `Display` is the end of a sentence: `held by pid 4711 (server)`.
///
/// ```
/// use handover_netutil::{Listen, PortHolders};
///
/// let listener = Listen::new("127.0.0.1:0".parse()?).tcp()?;
/// let holders = PortHolders::of(listener.local_addr()?);
/// assert_eq!(holders.processes[0].pid, std::process::id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortHolders {
    /// The visible processes, by process id.
    pub processes: Vec<PortHolder>,
}

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortHolder {
    /// The process id.
    pub pid: u32,
    /// The name of the process, as the kernel has it. The process has chosen it, so it may hold any
    /// character.
    pub name: String,
}

impl PortHolders {
    /// Returns the processes that listen on `addr`, or on an address that excludes it: the same
    /// port on all addresses.
    ///
    /// The function reads `/proc`, and its time grows with the sockets and processes of the host.
    /// Only root sees processes of other users, and processes of other containers are invisible.
    /// UDP is not examined. What cannot be read is left out.
    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        Self::in_proc(Path::new("/proc"), addr)
    }

    fn in_proc(proc: &Path, addr: SocketAddr) -> Self {
        let tables = ["net/tcp", "net/tcp6"].map(|table| {
            let text = fs::read(proc.join(table)).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        });
        let lines = tables.iter().flat_map(|table| table.lines());
        let inodes: BTreeSet<_> = lines
            .filter_map(listener)
            .filter(|(bound, _)| excludes(*bound, addr))
            .map(|(_, inode)| format!("socket:[{inode}]"))
            .collect();
        if inodes.is_empty() {
            return Self::default();
        }
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let mut processes: Vec<_> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let path = entry.path();
                has_one_of(&path, &inodes).then(|| {
                    let name = fs::read(path.join("comm")).unwrap_or_default();
                    let name = String::from_utf8_lossy(&name);
                    let name = name.strip_suffix('\n').unwrap_or(&name).to_owned();
                    PortHolder { pid, name }
                })
            })
            .collect();
        processes.sort_unstable_by_key(|process| process.pid);
        Self { processes }
    }
}

impl fmt::Display for PortHolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held by ")?;
        if self.processes.is_empty() {
            return f.write_str("a process that cannot be seen from here");
        }
        for (index, PortHolder { pid, name }) in self.processes.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "pid {pid} ({name})")?;
        }
        Ok(())
    }
}

/// Where a line of the table listens, and the inode of its socket.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(ip_of(ip)?, port), inode))
}

/// An address as the kernel writes it: words of four bytes, each in the order of the processor.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at..at.checked_add(8)?)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// Whether a socket that listens on `bound` keeps another one from listening on `wanted`.
fn excludes(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let both = |ip: IpAddr| ip.is_unspecified() && ip.is_ipv6();
    bound.port() == wanted.port()
        && (bound.ip() == wanted.ip().to_canonical()
            || both(bound.ip())
            || both(wanted.ip())
            || ((bound.ip().is_unspecified() || wanted.ip().is_unspecified())
                && bound.is_ipv4() == wanted.is_ipv4()))
}

fn has_one_of(process: &Path, sockets: &BTreeSet<String>) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    descriptors.flatten().any(|entry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_str().is_some_and(|name| sockets.contains(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listen;

    #[test]
    fn all_holders_are_named_one_behind_the_other() {
        let holder = |pid, name: &str| PortHolder {
            pid,
            name: name.to_owned(),
        };
        let holders = PortHolders {
            processes: vec![holder(1, "init"), holder(7, "envoy")],
        };
        assert_eq!(holders.to_string(), "held by pid 1 (init), pid 7 (envoy)");
    }

    #[test]
    fn who_listens_is_named_by_pid_and_name() {
        let listener = Listen::new("[::]:0".parse().unwrap()).tcp().unwrap();
        let port = listener.local_addr().unwrap().port();
        for wanted in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"] {
            let wanted = format!("{wanted}:{port}").parse().unwrap();
            let holders = PortHolders::of(wanted);
            let own = format!("held by pid {} (", std::process::id());
            assert!(holders.to_string().starts_with(&own), "{holders}");
        }
        drop(listener);
        let wanted = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(
            PortHolders::of(wanted).to_string(),
            "held by a process that cannot be seen from here"
        );
    }

    #[test]
    fn only_sockets_that_are_in_the_way_count() {
        let excluded =
            |bound: &str, wanted: &str| excludes(bound.parse().unwrap(), wanted.parse().unwrap());
        assert!(excluded("127.0.0.1:80", "127.0.0.1:80"));
        assert!(excluded("0.0.0.0:80", "127.0.0.1:80"));
        assert!(excluded("127.0.0.1:80", "0.0.0.0:80"));
        assert!(excluded("127.0.0.1:80", "[::]:80"));
        assert!(!excluded("127.0.0.1:81", "127.0.0.1:80"));
        assert!(!excluded("127.0.0.2:80", "127.0.0.1:80"));
        assert!(!excluded("0.0.0.0:80", "[::1]:80"));
    }

    #[test]
    fn lines_of_another_form_are_passed_over() {
        let line = "   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 24970 1";
        if cfg!(target_endian = "little") {
            let expected = (SocketAddr::from(([127, 0, 0, 1], 80)), 24970);
            assert_eq!(listener(line), Some(expected));
        }
        for line in [
            "",
            "  sl  local_address rem_address   st",
            "   0: 0100007F:0050 0100007F:8C3A 01 0:0 00:0 0 0 0 24970 1",
            "   0: 01:0050 00000000:0000 0A 0:0 00:0 0 0 0 24970 1",
            "   0: \u{e9}\u{e9}\u{e9}\u{e9}:0050 00000000:0000 0A 0:0 00:0 0 0 0 24970 1",
        ] {
            assert_eq!(listener(line), None, "{line}");
        }
    }
}
