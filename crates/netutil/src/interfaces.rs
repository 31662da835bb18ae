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
    /// Whether the interface has been set up (administratively; a cable may still be missing).
    pub up: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
}

/// Lists the addresses of interfaces.
pub trait Interfaces: Send + Sync {
    /// All addresses of all interfaces as of this moment, in the system's order. It is called from
    /// async code, so it must not wait for anything.
    ///
    /// # Errors
    ///
    /// Whatever kept the addresses from being read.
    fn addresses(&self) -> io::Result<Vec<InterfaceAddress>>;
}

/// The interfaces of the network namespace that the process is in, by `getifaddrs`. On Linux this
/// is two short exchanges with the kernel.
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
