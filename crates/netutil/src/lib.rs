//! Network questions of a process supervisor: the address of a host, the addresses of this node,
//! and the socket to listen on.
//!
//! - [`resolve_addr`] turns `host:port` into one socket address.
//! - [`private_ips`] waits until this node has addresses, and returns them.
//! - [`source_address`] returns the one of them from which packets to a destination would be sent.
//! - [`Listen`] binds a TCP or UDP socket of a server that can be shared with the next process, or passed
//!   to it. [`ListenUnix`] binds a Unix socket.
//! - [`take_passed`] takes sockets over that the parent of this process has passed to it.
//! - [`PortHolders`] names the processes that listen on a port in use.
//! - [`connections`] counts, lists and closes the connections of other processes, on Linux.
//!
//! The crate does not connect, accept, retry a failed lookup or choose between answers by latency.
//! It depends on no other crate of Handover.
//!
//! The asynchronous functions need a tokio runtime with its timers enabled. They use the system
//! through a trait ([`Lookup`], [`Interfaces`]), which a test can implement. Unix only.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use handover_netutil::{Listen, resolve_addr, source_address};
//!
//! let listener = Listen::new(resolve_addr("127.0.0.1:0").await?).tcp()?;
//! let client = source_address(listener.local_addr()?)?;
//! assert!(client.is_loopback());
//! # Ok(())
//! # }
//! ```

mod addresses;
#[cfg(target_os = "linux")]
pub mod connections;
mod families;
#[cfg(target_os = "linux")]
mod file_watch;
mod holders;
mod interfaces;
mod listen;
#[cfg(target_os = "linux")]
mod listen_unix;
#[cfg(target_os = "linux")]
mod own_file;
#[cfg(target_os = "linux")]
mod passed;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod proc_net;
mod resolve;
#[cfg(target_os = "linux")]
mod server_socket;
#[cfg(target_os = "linux")]
mod sock_diag;
#[cfg(target_os = "linux")]
mod socket_file;
mod source;

pub use addresses::{
    PRIVATE_IPS_LIMIT, PrivateIps, PrivateIpsOptions, private_ips, private_ips_with,
};
pub use families::Families;
#[cfg(target_os = "linux")]
pub use file_watch::FileWatch;
pub use holders::{PortHolder, PortHolders};
pub use interfaces::{InterfaceAddress, Interfaces, SystemInterfaces};
pub use listen::{Listen, ListenError};
#[cfg(target_os = "linux")]
pub use listen_unix::{ListenUnix, ListenUnixError};
#[cfg(target_os = "linux")]
pub use passed::{NotServing, PassedError, PassedFd, take_passed};
pub use resolve::{
    HostError, Lookup, RESOLVE_LIMIT, ResolveError, SystemLookup, resolve_addr, resolve_addr_with,
};
#[cfg(target_os = "linux")]
pub use server_socket::{ServerAddress, ServerSocket, UnixKind};
#[cfg(target_os = "linux")]
pub use socket_file::FileLook;
pub use source::{SourceAddressError, source_address};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
