//! The address families of a set of addresses.

use std::net::IpAddr;

/// The address families among the addresses of a node.
///
/// Use it to choose the family of a proxy's own address. Envoy's `--local-address-ip-version` must
/// be `v6` on a node with IPv6 only, and is `v4` by default.
///
/// ```
/// use handover_netutil::Families;
/// use std::net::IpAddr;
///
/// let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse()?, "2001:db8::1".parse()?];
/// assert_eq!(Families::of(&addresses), Families::Both);
/// assert_eq!(Families::of(&addresses[1..]), Families::V6Only);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// No address at all.
    Neither,
    /// IPv4 addresses and no IPv6 address.
    V4Only,
    /// IPv6 addresses and no IPv4 address.
    V6Only,
    /// At least one address of each family.
    Both,
}

impl Families {
    /// Returns the families of these addresses. An IPv4 address that is mapped into IPv6
    /// (`::ffff:192.0.2.1`) counts as IPv6, because it needs that kind of socket.
    #[must_use]
    pub fn of(addresses: &[IpAddr]) -> Self {
        let v4 = addresses.iter().any(IpAddr::is_ipv4);
        let v6 = addresses.iter().any(IpAddr::is_ipv6);
        match (v4, v6) {
            (false, false) => Self::Neither,
            (true, false) => Self::V4Only,
            (false, true) => Self::V6Only,
            (true, true) => Self::Both,
        }
    }

    /// Returns whether there is an IPv4 address.
    #[must_use]
    pub const fn has_v4(self) -> bool {
        matches!(self, Self::V4Only | Self::Both)
    }

    /// Returns whether there is an IPv6 address.
    #[must_use]
    pub const fn has_v6(self) -> bool {
        matches!(self, Self::V6Only | Self::Both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mix_of_addresses_has_its_families() {
        let v4 = "192.0.2.1".parse().unwrap();
        let v6 = "2001:db8::1".parse().unwrap();
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        for (addresses, families, has) in [
            (vec![], Families::Neither, (false, false)),
            (vec![v4, v4], Families::V4Only, (true, false)),
            (vec![v6], Families::V6Only, (false, true)),
            (vec![mapped], Families::V6Only, (false, true)),
            (vec![v6, v4], Families::Both, (true, true)),
        ] {
            assert_eq!(Families::of(&addresses), families, "{addresses:?}");
            assert_eq!((families.has_v4(), families.has_v6()), has, "{families:?}");
        }
    }
}
