//! Waiting until this node has addresses of its own.

use std::{io, net::IpAddr, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{Families, InterfaceAddress, Interfaces, SystemInterfaces};

/// How long [`private_ips`] waits when the caller sets no limit: two minutes, the limit of the
/// agent which Handover re-implements. A node that boots may take that long to be given its
/// addresses.
pub const PRIVATE_IPS_LIMIT: Duration = Duration::from_secs(120);

/// The pause after the first look that found nothing; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two looks, and so the longest time by which an address that has
/// appeared is noticed late. A look costs about a tenth of a millisecond.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What [`private_ips`] looks for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateIpsOptions {
    /// How long to wait for addresses. With zero there is one look and no wait.
    pub limit: Duration,
    /// Whether link-local addresses (`169.254.0.0/16`, `fe80::/10`) count. They need no
    /// configuration, so they say nothing about a node being ready, and an IPv6 one is of no use
    /// without its interface.
    pub link_local: bool,
}

impl Default for PrivateIpsOptions {
    /// [`PRIVATE_IPS_LIMIT`], without link-local addresses.
    fn default() -> Self {
        Self {
            limit: PRIVATE_IPS_LIMIT,
            link_local: false,
        }
    }
}

/// The outcome of [`private_ips`].
#[derive(Debug)]
pub struct PrivateIps {
    /// The addresses, each once, in the system's order.
    pub addresses: Vec<IpAddr>,
    /// Whether the addresses were available before the limit was over: there is at least one, and
    /// no interface is waiting for its address. Otherwise `addresses` is what there was at the end.
    pub complete: bool,
    /// Why the last look failed, if it did. A failed look counts as one that found nothing.
    pub error: Option<io::Error>,
}

impl PrivateIps {
    /// The address families that the node has.
    #[must_use]
    pub fn families(&self) -> Families {
        Families::of(&self.addresses)
    }
}

/// The addresses of this node, as soon as it has any; or what there is when `limit`, or else
/// [`PRIVATE_IPS_LIMIT`], is over.
///
/// "Private" means the node's own: every unicast address of an interface that is up, from
/// whatever range, public ones included. Not among them are addresses that lead nowhere else:
/// those of loopback interfaces and of the loopback range, unspecified, multicast and link-local
/// ones. An interface that is up with the unspecified address waits to be configured, and so this
/// function waits too.
///
/// The system is looked at once at the start, then after 50 ms, with pauses that double up to one
/// second, and once more at the limit. An IPv6 address is listed from the moment it is assigned,
/// which is up to some seconds before duplicate address detection lets anyone bind it.
///
/// # Cancel safety
///
/// The future can be dropped at any time; it holds nothing but the time.
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

/// The addresses that `interfaces` lists, chosen and waited for as [`private_ips`] does it.
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
