//! Errors of resolving an address.

use std::{io, time::Duration};

use thiserror::Error;

/// The reason why [`resolve_addr`](crate::resolve_addr) returned no address. `addr` is the argument
/// of the caller.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The address is empty or white space only.
    #[doc(alias = "ErrResolveNoAddress")]
    #[error("no address specified; give a host and a port, such as \"example.com:80\"")]
    NoAddress,

    /// There is a port, and before it nothing or an empty pair of brackets.
    #[error("{addr:?} has no host; put one before the port, such as \"example.com:80\"")]
    MissingHost {
        /// The address as given.
        addr: String,
    },

    /// There is a host, and no `:` and port after it.
    #[error("{addr:?} has no port; append one, such as \":80\"")]
    MissingPort {
        /// The address as given.
        addr: String,
    },

    /// What stands after the last colon is neither a port nor the name of a service.
    #[error(
        "{port:?} in {addr:?} is not a port; use a decimal number from 0 to 65535 or the name of \
         a service, such as \"http\""
    )]
    BadPort {
        /// The address as given.
        addr: String,
        /// What stands in the place of the port.
        port: String,
    },

    /// The system's table of services has no TCP service of this name.
    #[error(
        "{service:?} in {addr:?} is not a TCP service that this system knows; use a decimal number \
         from 0 to 65535, or a name from /etc/services"
    )]
    UnknownService {
        /// The address as given.
        addr: String,
        /// The name in the place of the port.
        service: String,
    },

    /// The table of services could not be searched within the limit.
    #[error("the lookup of the port of {service:?} for {addr:?} failed; use a decimal number")]
    ServiceLookup {
        /// The address as given.
        addr: String,
        /// The name in the place of the port.
        service: String,
        /// The failure of the lookup.
        source: io::Error,
    },

    /// A bracket has no partner, or the pair does not enclose the host.
    #[error(
        "{addr:?} has unbalanced square brackets; write the host without \
         brackets, or inside one pair, such as \"[::1]:80\""
    )]
    UnbalancedBrackets {
        /// The address as given.
        addr: String,
    },

    /// More than one colon outside of brackets: in all likelihood an IPv6 address without them.
    #[error(
        "{addr:?} has more than one colon; if it is an IPv6 address, enclose it in square \
         brackets, such as \"[::1]:80\""
    )]
    MissingBrackets {
        /// The address as given.
        addr: String,
    },

    /// The host is neither an IP address nor a host name.
    #[error("{addr:?} has no valid host: {reason}")]
    BadHost {
        /// The address as given.
        addr: String,
        /// What is wrong with it, and the remedy.
        reason: HostError,
    },

    /// The zone of an IPv6 address is neither the name of an interface nor a number.
    #[error(
        "{zone:?} in {addr:?} is not an interface of this node; use a name or a number that \
         \"ip link\" shows"
    )]
    UnknownZone {
        /// The address as given.
        addr: String,
        /// What stands between `%` and `]`.
        zone: String,
        /// What the operating system says about an interface of this name.
        source: io::Error,
    },

    /// The resolver reported a failure.
    #[error(
        "the lookup of {host:?} for {addr:?} failed; check the name and the resolver's settings"
    )]
    Lookup {
        /// The address as given.
        addr: String,
        /// The host name that was looked up.
        host: String,
        /// The resolver's failure.
        source: io::Error,
    },

    /// The resolver knows the host, but no address of it.
    #[error("{host:?} of {addr:?} has neither an IPv4 nor an IPv6 address; check its DNS records")]
    NoUsableAddress {
        /// The address as given.
        addr: String,
        /// The host name that was looked up.
        host: String,
    },

    /// The resolver did not answer within the limit.
    #[error(
        "the lookup of {host:?} for {addr:?} did not end within {limit:?}; check that the DNS \
         servers can be reached"
    )]
    TimedOut {
        /// The address as given.
        addr: String,
        /// The host name that was looked up.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// What is wrong with the host of an address.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// The host contains white space, or has some around it.
    #[error("it contains white space; remove it")]
    WhiteSpace,
    /// The address begins with a scheme such as `http://`.
    #[error("a scheme comes before it; remove everything up to and including \"//\"")]
    Scheme,
    /// The host has a colon or a zone, and is not an IPv6 address.
    #[error("a colon or a zone inside square brackets makes it an IPv6 address; correct it")]
    NotIpv6,
    /// The last part of the host is a number, and the host is not an IPv4 address.
    #[error("its last part is a number, so it must be an IPv4 address with four numbers up to 255")]
    NotIpv4,
    /// The host has more than 253 characters.
    #[error("it is longer than the 253 characters of a host name; shorten it")]
    TooLong,
    /// Two dots in a row, a dot at the start, or more than 63 characters between two dots.
    #[error("each part between two dots must have 1 to 63 characters")]
    PartLength,
    /// A character no host name has.
    #[error(
        "{0:?} cannot be in a host name; use ASCII letters, digits, '-' and '_', and the \
         \"xn--\" form of other names"
    )]
    Character(char),
}
