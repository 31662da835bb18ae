//! The sockets by which the epochs of one base id speak: abstract ones, whose names hold the base id
//! and the restart epoch modulo 3.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;

use super::BaseId;

/// Linux's longest abstract name: Envoy pads its names with NULs up to it, and names that differ in
/// length are different.
const NAME: usize = 107;

/// The largest datagram; Envoy sends at most 4096 bytes at a time.
pub(super) const DATAGRAM: usize = 64 << 10;

/// Which of an epoch's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Where it answers its child.
    Parent,
    /// Where it gets the answers of its parent.
    Child,
}

/// The name of an epoch's socket in one of its roles. Envoy's own default for `--socket-path` is
/// part of it.
pub(super) fn name_of(role: Role, base_id: BaseId, restart_epoch: u32) -> String {
    let role = match role {
        Role::Parent => "parent",
        Role::Child => "child",
    };
    format!(
        "envoy_domain_socket_{role}_{}",
        u64::from(base_id.tenfold()) + u64::from(restart_epoch % 3)
    )
}

/// The address with this name, as Envoy binds it.
pub(super) fn address_of(name: &str) -> io::Result<SocketAddr> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(NAME, 0);
    SocketAddr::from_abstract_name(padded)
}
