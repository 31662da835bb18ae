//! Envoys of others on this host, as far as they can be seen.

use std::io;
use std::path::Path;

use handover_files::is_held;

use super::base_id::{ids_left_by, lock_path};
use super::bound_sockets::{self, bound};
use super::{BaseId, HostPaths};

/// An Envoy, with all its epochs, that a base id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The base id.
    pub base_id: BaseId,
    /// The process id of one of its epochs, where it can be seen.
    pub pid: Option<u32>,
}

impl HostPaths {
    /// Returns the Envoys of this network namespace, by their base ids, lowest first. One that was
    /// started with `--disable-hot-restart` has none and is not seen.
    ///
    /// It looks through the processes of the host for each, so call it where blocking does no harm.
    ///
    /// # Errors
    ///
    /// What the operating system says if its table of sockets cannot be read.
    pub fn neighbours(&self) -> io::Result<Vec<Neighbour>> {
        let sockets = bound(&self.proc)?;
        let mut ids: Vec<BaseId> = sockets.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let neighbour = |base_id| {
            let own = sockets.iter().filter(|(id, _)| *id == base_id);
            let own: Vec<_> = own.map(|(_, socket)| socket.clone()).collect();
            Neighbour {
                base_id,
                pid: bound_sockets::owner(&self.proc, &own),
            }
        };
        Ok(ids.into_iter().map(neighbour).collect())
    }

    /// Returns the base id that an agent of this name owns at this moment, if one runs. See
    /// [`OwnedBaseId::claim`](super::OwnedBaseId::claim) for the name.
    #[must_use]
    pub fn base_id_of(&self, instance: &str) -> Option<BaseId> {
        let mut ids = ids_left_by(instance, self).into_iter();
        ids.find(|id| is_held(&lock_path(*id, self)))
    }

    /// Returns the base ids under which there is shared memory of Envoys, lowest first. Envoy never
    /// removes it, so its owner may be dead, or live in another network namespace.
    ///
    /// # Errors
    ///
    /// What the operating system says if the directory cannot be listed.
    pub fn base_ids_with_shared_memory(&self) -> io::Result<Vec<BaseId>> {
        let mut ids: Vec<BaseId> = std::fs::read_dir(&self.shared_memory)?
            .flatten()
            .filter_map(|entry| id_of_memory(Path::new(&entry.file_name())))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

fn id_of_memory(name: &Path) -> Option<BaseId> {
    let number = name.to_str()?.strip_prefix("envoy_shared_memory_")?;
    let tenfold: u32 = number.parse().ok()?;
    let id = tenfold.is_multiple_of(10).then_some(tenfold / 10)?;
    BaseId::new(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_runs_is_found_by_its_name() {
        use crate::hot_restart::{BaseIdChoice, OwnedBaseId};

        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix("handover-").tempdir().unwrap();
        let host = HostPaths::with_locks(dir.path());
        assert_eq!(host.base_id_of("front"), None);
        let owned = OwnedBaseId::claim(BaseIdChoice::Auto, "front", &host).unwrap();
        assert_eq!(host.base_id_of("front"), Some(owned.id()));
        assert_eq!(host.base_id_of("back"), None);
        drop(owned);
        assert_eq!(host.base_id_of("front"), None);
    }

    #[test]
    fn neighbours_are_told_by_their_sockets_and_their_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, memory) = (dir.path().join("proc"), dir.path().join("shm"));
        std::fs::create_dir_all(proc.join("net")).unwrap();
        std::fs::create_dir(&memory).unwrap();
        let line = |inode: u32, name: &str| {
            format!("0000000000000000: 00000002 00000000 00000000 0002 01 {inode} {name}\n")
        };
        let table = [
            line(70_001, "@envoy_domain_socket_parent_70@@@"),
            line(70_002, "@envoy_domain_socket_child_70@@@"),
            line(70_003, "@envoy_domain_socket_parent_32@@@"),
            line(70_004, "@envoy_domain_socket_parent_99999999999999999999"),
            line(70_005, "/run/other"),
        ];
        std::fs::write(proc.join("net/unix"), table.concat()).unwrap();
        for name in [
            "envoy_shared_memory_70",
            "envoy_shared_memory_0",
            "envoy_shared_memory_71",
            "x",
        ] {
            std::fs::write(memory.join(name), "").unwrap();
        }
        let host = HostPaths {
            proc,
            shared_memory: memory,
            ..HostPaths::with_locks(dir.path())
        };
        let ids = |ids: &[u32]| -> Vec<BaseId> {
            ids.iter().map(|id| BaseId::new(*id).unwrap()).collect()
        };
        let found = host.neighbours().unwrap();
        assert!(found.iter().all(|neighbour| neighbour.pid.is_none()));
        let found: Vec<_> = found.iter().map(|neighbour| neighbour.base_id).collect();
        assert_eq!(found, ids(&[3, 7]));
        assert_eq!(host.base_ids_with_shared_memory().unwrap(), ids(&[0, 7]));
    }
}
