//! The Envoys of this host that use a base id, whichever program started them: each binds abstract
//! sockets whose names hold it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use handover_netutil::proc_net::{sockets_of, unix_socket};

use super::BaseId;

/// One socket of an Envoy that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Its name, as `/proc/net/unix` shows it.
    pub(super) name: String,
    inode: u64,
}

/// The sockets that are bound under a base id, by whichever process but our own: what we have bound
/// there stands in for an Envoy that is dead.
pub(super) fn sockets(proc: &Path, base_id: BaseId) -> io::Result<Vec<Socket>> {
    let all = bound(proc)?.into_iter();
    Ok(all
        .filter_map(|(id, socket)| (id == base_id).then_some(socket))
        .collect())
}

/// The same under every base id, each with its own.
pub(super) fn bound(proc: &Path) -> io::Result<Vec<(BaseId, Socket)>> {
    let table = std::fs::read(proc.join("net/unix"))?;
    // Names are bytes of anybody's choice; Envoy's are ASCII.
    let table = String::from_utf8_lossy(&table);
    let bound = table.lines().filter_map(unix_socket);
    // Where our own sockets cannot be seen, all are taken for those of others.
    let own = sockets_of(&proc.join("self")).unwrap_or_default();
    Ok(bound
        .filter(|(inode, _)| !own.contains_key(inode))
        .filter_map(|(inode, name)| {
            let name = name.trim_end_matches('@');
            let number: u64 = name
                .strip_prefix("@envoy_domain_socket_")?
                .rsplit_once('_')?
                .1
                .parse()
                .ok()?;
            // The base id times 10, plus the restart epoch modulo 3.
            let base_id = BaseId::new(u32::try_from(number / 10).ok()?).ok()?;
            let name = name.to_owned();
            Some((base_id, Socket { name, inode }))
        })
        .collect())
}

/// Whether an abstract socket of this name is bound, by whichever process.
pub(super) fn is_bound(proc: &Path, name: &str) -> bool {
    inode_of(proc, name).is_some()
}

/// The process that has bound the abstract socket of this name, where it can be seen.
pub(super) fn process_with(proc: &Path, name: &str) -> Option<u32> {
    let inode = inode_of(proc, name)?;
    let name = name.to_owned();
    owner(proc, &[Socket { name, inode }])
}

fn inode_of(proc: &Path, name: &str) -> Option<u64> {
    let table = std::fs::read(proc.join("net/unix")).ok()?;
    let table = String::from_utf8_lossy(&table);
    let mut bound = table.lines().filter_map(unix_socket);
    let found = bound.find(|(_, bound)| bound.strip_prefix('@') == Some(name));
    found.map(|(inode, _)| inode)
}

/// Shows a process that may be unknown.
pub(super) struct Process(pub(super) Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "with pid {pid}"),
            None => f.write_str("of another user or container"),
        }
    }
}

/// The process that has one of these sockets, where it can be seen.
pub(super) fn owner(proc: &Path, sockets: &[Socket]) -> Option<u32> {
    let processes = std::fs::read_dir(proc).ok()?;
    let mut pids = processes.filter_map(|entry| {
        let path: PathBuf = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.parse::<u32>().ok()?;
        Some((pid, path))
    });
    pids.find_map(|(pid, path)| {
        let own = sockets_of(&path).ok()?;
        let found = sockets.iter().any(|socket| own.contains_key(&socket.inode));
        found.then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn an_abstract_socket_is_bound_while_it_is_open() {
        let name = format!("handover-test-bound-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let proc = Path::new("/proc");
        assert!(!is_bound(proc, &name));
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        assert!(is_bound(proc, &name));
        assert_eq!(process_with(proc, &name), Some(std::process::id()));
        drop(socket);
        assert!(!is_bound(proc, &name));
    }
}
