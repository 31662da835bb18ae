//! Ports and Envoy base ids that no other test uses, in this process or another.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketType, socket, sockopt};

use crate::claim::{Claim, random};
use crate::leftovers;

/// Where base ids are taken from: far from 0, which people use, and from the numbers in guides.
const BASE_IDS: std::ops::Range<u32> = 1_000..30_000;

/// Ports that programs under test listen on lie outside the kernel's ephemeral range, or the
/// outgoing connection of any program could take one between its choice and its use.
const PORTS: std::ops::Range<u16> = 10_000..61_000;

/// A TCP port claimed until this value is dropped. Nothing listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: Claim,
}

impl Port {
    /// Claims a port that nothing listens on, on any IPv4 address.
    ///
    /// # Panics
    ///
    /// When there is none, or claims cannot be written to the temporary directory.
    #[must_use]
    pub fn free() -> Self {
        let ephemeral = ephemeral_range();
        let ports: Vec<u16> = PORTS.filter(|port| !ephemeral.contains(port)).collect();
        let offset = usize::try_from(random() % 0x1_0000).unwrap_or_default() % ports.len().max(1);
        for number in ports.iter().cycle().skip(offset).take(ports.len()).copied() {
            let Some(claim) = claim(&format!("port-{number}")) else {
                continue;
            };
            if nobody_listens(number) {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!("no free port among {} candidates", ports.len());
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Whether nobody listens on this port, on any IPv4 address.
///
/// It is tried without listening: a process that another thread starts in this moment has a copy of the socket until it
/// executes its program, and a copy that listens would keep the port from who has claimed it.
fn nobody_listens(number: u16) -> bool {
    let bind = || {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, number)))
    };
    bind().is_ok()
}

/// An Envoy base id claimed until this value is dropped; then its shared memory file is removed,
/// which Envoy itself never does.
#[derive(Debug)]
pub struct BaseId {
    number: u32,
    _claim: Claim,
}

impl BaseId {
    /// Claims a base id without shared memory and without domain sockets.
    ///
    /// # Panics
    ///
    /// When there is none, or claims cannot be written to the temporary directory.
    #[must_use]
    pub fn free() -> Self {
        let size = BASE_IDS.end - BASE_IDS.start;
        let offset = u32::try_from(random() % u64::from(size)).unwrap_or_default();
        for step in 0..size {
            let number = BASE_IDS.start + (offset + step) % size;
            let Some(claim) = claim(&format!("base-id-{number}")) else {
                continue;
            };
            if leftovers::of_base_id(number).is_empty() {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!("no free base id among {size}");
    }

    /// The number, for `--base-id`.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The file that an Envoy with this base id creates.
    #[must_use]
    pub fn shared_memory(&self) -> PathBuf {
        leftovers::shared_memory(self.number)
    }
}

impl Drop for BaseId {
    fn drop(&mut self) {
        // Usually there is none: most tests assert just that.
        let _removed = fs::remove_file(self.shared_memory());
    }
}

/// The claim on `name`, unless another test has it.
fn claim(name: &str) -> Option<Claim> {
    match Claim::take(name) {
        Ok(claim) => claim,
        Err(error) => panic!("cannot claim {name} in the temporary directory: {error}"),
    }
}

/// What the kernel hands out for outgoing connections; its documented default if it does not say.
fn ephemeral_range() -> std::ops::RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        // Too wide a range leaves nothing outside it: then any port must do.
        (Some(first), Some(last)) if first > PORTS.start + 1_000 => first..=last,
        (Some(_), Some(_)) => 0..=0,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    /// As a process has it that another thread starts, until it executes its program.
    #[test]
    fn a_copy_of_the_socket_that_tried_a_port_keeps_nobody_from_it() {
        let port = Port::free();
        let tried = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&tried, true).unwrap();
        rustix::net::bind(
            &tried,
            &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number())),
        )
        .unwrap();
        assert!(nobody_listens(port.number()));
        let _listener = TcpListener::bind(port.addr()).unwrap();
        assert!(!nobody_listens(port.number()));
    }

    #[test]
    fn ports_claimed_together_differ_and_can_be_listened_on() {
        let ports: Vec<Port> = (0..20).map(|_| Port::free()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 20);
        let _listeners: Vec<TcpListener> = ports
            .iter()
            .map(|port| TcpListener::bind(port.addr()).unwrap())
            .collect();
    }

    #[test]
    fn a_port_lies_outside_the_ephemeral_range() {
        assert!(!ephemeral_range().contains(&Port::free().number()));
    }

    #[test]
    fn the_shared_memory_of_a_base_id_goes_with_its_claim() {
        let id = BaseId::free();
        let file = id.shared_memory();
        fs::write(&file, "left by an Envoy").unwrap();
        drop(id);
        assert!(!file.exists());
    }
}
