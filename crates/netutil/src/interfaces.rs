//! The addresses of this node's interfaces, behind a trait so that a test can make them up.

use std::{io, net::IpAddr};

use getifaddrs::{InterfaceFilter, InterfaceFlags};

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name, such as `eth0`.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Whether the interface is up. That is a setting; a cable may still be missing.
    pub up: bool,
    /// Whether the interface is a loopback interface.
    pub loopback: bool,
}

/// Lists the addresses of interfaces.
pub trait Interfaces: Send + Sync {
    /// Returns all current addresses of all interfaces, in the system's order. It is called from
    /// async code, so it must not block.
    ///
    /// # Errors
    ///
    /// Returns an error if the addresses cannot be read.
    fn addresses(&self) -> io::Result<Vec<InterfaceAddress>>;
}

/// The interfaces of the process's network namespace, by `getifaddrs`. On Linux this is two short
/// exchanges with the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemInterfaces;

impl Interfaces for SystemInterfaces {
    fn addresses(&self) -> io::Result<Vec<InterfaceAddress>> {
        let listed = InterfaceFilter::new().v4().v6().get()?;
        let with_ip = listed.filter_map(|interface| {
            Some(InterfaceAddress {
                ip: interface.address.ip_addr()?,
                up: interface.flags.contains(InterfaceFlags::UP),
                loopback: interface.flags.contains(InterfaceFlags::LOOPBACK),
                interface: interface.name,
            })
        });
        Ok(with_ip.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed_as_such() {
        let listed = SystemInterfaces.addresses().unwrap();
        let loopback = listed.iter().find(|it| it.ip.is_loopback());
        assert!(
            loopback.is_some_and(|it| it.up && it.loopback),
            "{listed:?}"
        );
    }
}
