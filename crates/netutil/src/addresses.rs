//! Waiting until this node has addresses of its own.

use std::{io, net::IpAddr, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{Families, InterfaceAddress, Interfaces, SystemInterfaces};

/// The default limit of [`private_ips`]: two minutes, as in the agent that Handover re-implements.
/// A node that boots may take that long to get its addresses.
pub const PRIVATE_IPS_LIMIT: Duration = Duration::from_secs(120);

/// The pause after the first look that found nothing; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two looks, and so the longest time by which an address that has
/// appeared is noticed late. A look costs about a tenth of a millisecond.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The options of [`private_ips_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateIpsOptions {
    /// The longest time to wait for addresses. With zero the function looks once.
    pub limit: Duration,
    /// Whether link-local addresses (`169.254.0.0/16`, `fe80::/10`) count. They need no
    /// configuration, so they do not show that a node is ready. An IPv6 one is useless without its
    /// interface.
    pub link_local: bool,
}

impl Default for PrivateIpsOptions {
    /// Returns [`PRIVATE_IPS_LIMIT`], without link-local addresses.
    fn default() -> Self {
        Self {
            limit: PRIVATE_IPS_LIMIT,
            link_local: false,
        }
    }
}

/// The result of [`private_ips`].
#[derive(Debug)]
pub struct PrivateIps {
    /// The addresses, each once, in the system's order.
    pub addresses: Vec<IpAddr>,
    /// Whether the node had at least one address within the limit, and no interface still waited
    /// for one. Otherwise `addresses` has what was found at the end.
    pub complete: bool,
    /// The error of the last look, if it failed. A failed look counts as one that found nothing.
    pub error: Option<io::Error>,
}

impl PrivateIps {
    /// Returns the address families of the node.
    #[must_use]
    pub fn families(&self) -> Families {
        Families::of(&self.addresses)
    }
}

/// Waits until this node has addresses, and returns them. After `limit`, or [`PRIVATE_IPS_LIMIT`]
/// without one, it returns what it has found.
///
/// "Private" means the node's own: every unicast address of an interface that is up, public ones
/// included. Loopback, unspecified, multicast and link-local addresses are left out, because they
/// lead nowhere else. An interface that is up with the unspecified address is being configured, so
/// the function waits for it.
///
/// The function looks at the start, after 50 ms, at pauses that double up to one second, and at the
/// limit. An IPv6 address is listed from the moment it is assigned. It can be bound only after
/// duplicate address detection, which may take seconds.
///
/// # Cancel safety
///
/// Cancel safe: the future holds nothing but the time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover_netutil::private_ips;
/// use std::time::Duration;
///
/// let found = private_ips(Some(Duration::ZERO)).await;
/// assert!(found.addresses.iter().all(|ip| !ip.is_loopback()));
/// if !found.complete {
///     println!("this node has no address yet, only {:?}", found.addresses);
/// }
/// # }
/// ```
#[doc(alias = "GetPrivateIPs")]
pub async fn private_ips(limit: Option<Duration>) -> PrivateIps {
    let limit = limit.unwrap_or(PRIVATE_IPS_LIMIT);
    private_ips_with(
        &SystemInterfaces,
        PrivateIpsOptions {
            limit,
            ..Default::default()
        },
    )
    .await
}

/// Returns the addresses that `interfaces` lists, and selects and waits as [`private_ips`] does.
///
/// # Cancel safety
///
/// As [`private_ips`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use handover_netutil::{PrivateIpsOptions, SystemInterfaces, private_ips_with};
/// use std::time::Duration;
///
/// let options = PrivateIpsOptions { limit: Duration::ZERO, link_local: true };
/// let found = private_ips_with(&SystemInterfaces, options).await;
/// println!("{:?} {:?}", found.families(), found.addresses);
/// # }
/// ```
pub async fn private_ips_with<I>(interfaces: &I, options: PrivateIpsOptions) -> PrivateIps
where
    I: Interfaces + ?Sized,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let found = look(interfaces, options.link_local);
        let left = options.limit.saturating_sub(started.elapsed());
        if found.complete || left.is_zero() {
            return found;
        }
        sleep(pause.min(left)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// One look at the interfaces.
fn look<I>(interfaces: &I, link_local: bool) -> PrivateIps
where
    I: Interfaces + ?Sized,
{
    let listed = match interfaces.addresses() {
        Ok(listed) => listed,
        Err(error) => {
            return PrivateIps {
                addresses: Vec::new(),
                complete: false,
                error: Some(error),
            };
        }
    };
    let mut addresses = Vec::new();
    let mut unconfigured = false;
    for InterfaceAddress { ip, .. } in listed
        .iter()
        .filter(|address| address.up && !address.loopback)
    {
        if ip.is_unspecified() {
            unconfigured = true;
        } else if is_own(ip, link_local) && !addresses.contains(ip) {
            addresses.push(*ip);
        }
    }
    let complete = !addresses.is_empty() && !unconfigured;
    PrivateIps {
        addresses,
        complete,
        error: None,
    }
}

const fn is_own(ip: &IpAddr, link_local: bool) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_multicast() && (link_local || !is_link_local)
}

#[cfg(test)]
mod tests;
