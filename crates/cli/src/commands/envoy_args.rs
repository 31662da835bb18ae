//! What Envoy is told, from the flags, for all commands that call it.

use std::time::Duration;

use handover_envoy::args::{ArgsOptions, IpVersion};
use handover_netutil::{Families, private_ips};

use crate::cli::run::{LocalAddress, NodeArgs};

/// How long the first address of the node is waited for. Who starts before the network does waits
/// with `handover private-ips`.
pub(crate) const ADDRESS_LIMIT: Duration = Duration::from_secs(10);

/// The part of the command line that has a say in whether a configuration is good.
///
/// # Cancel safety
///
/// It only looks and waits.
pub(super) async fn node_options(node: &NodeArgs, extra: &[String]) -> ArgsOptions {
    let local_address_ip_version = match node.local_address_ip_version {
        None => None,
        Some(LocalAddress::V4) => Some(IpVersion::V4),
        Some(LocalAddress::V6) => Some(IpVersion::V6),
        Some(LocalAddress::Auto) => {
            let found = private_ips(Some(ADDRESS_LIMIT)).await;
            if let Some(error) = &found.error {
                tracing::warn!("cannot read the network interfaces of this node: {error}");
            }
            of_families(found.families())
        }
    };
    ArgsOptions {
        service_cluster: node.service_cluster.clone(),
        service_node: node.service_node.clone(),
        local_address_ip_version,
        extra: extra.to_vec(),
        ..ArgsOptions::default()
    }
}

/// The family of the node's own address. IPv4 wins where there are both, as it does in Envoy.
fn of_families(families: Families) -> Option<IpVersion> {
    match families {
        Families::V6Only => Some(IpVersion::V6),
        Families::V4Only | Families::Both => Some(IpVersion::V4),
        Families::Neither => {
            tracing::warn!(
                "this node has no address after {ADDRESS_LIMIT:?}, so Envoy chooses the family of \
                 its own; set --local-address-ip-version to v4 or v6"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_without_ipv4_gets_ipv6() {
        for (families, version) in [
            (Families::Neither, None),
            (Families::V4Only, Some(IpVersion::V4)),
            (Families::V6Only, Some(IpVersion::V6)),
            (Families::Both, Some(IpVersion::V4)),
        ] {
            assert_eq!(of_families(families), version, "{families:?}");
        }
    }
}
