//! The grammar of an address: `host:port`, `[host]:port` or `[v6%zone]:port`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{HostError, ResolveError};

/// The longest host name in characters, without a dot at the end (RFC 1035, section 2.3.4: 255
/// octets on the wire, of which a name in text needs two fewer).
const NAME_MAX: usize = 253;

/// The longest part of a host name between two dots (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;

/// An address taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: Port<'a>,
}

/// What stands behind the last colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port<'a> {
    Number(u16),
    /// The name of a service, such as `http`. Only the system knows its number.
    Service(&'a str),
}

/// What stands before the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host<'a> {
    V4(Ipv4Addr),
    /// An IPv6 address with its zone; 0 is no zone.
    V6 {
        ip: Ipv6Addr,
        zone: u32,
    },
    Name(&'a str),
}

impl<'a> Authority<'a> {
    pub(super) fn parse(addr: &'a str) -> Result<Self, ResolveError> {
        if addr.trim().is_empty() {
            return Err(ResolveError::NoAddress);
        }
        if addr.contains(char::is_whitespace) {
            return Err(bad_host(addr, HostError::WhiteSpace));
        }
        if addr.contains("://") {
            return Err(bad_host(addr, HostError::Scheme));
        }
        match addr.strip_prefix('[') {
            Some(bracketed) => Self::bracketed(addr, bracketed),
            None => Self::bare(addr),
        }
    }

    /// `after_open` is `addr` without the opening bracket.
    fn bracketed(addr: &'a str, after_open: &'a str) -> Result<Self, ResolveError> {
        let unbalanced = || ResolveError::UnbalancedBrackets { addr: addr.into() };
        let (host, rest) = after_open.split_once(']').ok_or_else(unbalanced)?;
        if host.contains('[') || rest.contains(['[', ']']) {
            return Err(unbalanced());
        }
        if host.is_empty() {
            return Err(ResolveError::MissingHost { addr: addr.into() });
        }
        let port = rest
            .strip_prefix(':')
            .ok_or_else(|| ResolveError::MissingPort { addr: addr.into() })?;
        let port = parse_port(addr, port)?;

        let host = match host.split_once('%') {
            Some((ip, zone)) => Host::V6 {
                ip: parse_v6(addr, ip)?,
                zone: parse_zone(addr, zone)?,
            },
            None if host.contains(':') => Host::V6 {
                ip: parse_v6(addr, host)?,
                zone: 0,
            },
            None => parse_host(addr, host)?,
        };
        Ok(Self { host, port })
    }

    fn bare(addr: &'a str) -> Result<Self, ResolveError> {
        if addr.contains(['[', ']']) {
            return Err(ResolveError::UnbalancedBrackets { addr: addr.into() });
        }
        let (host, port) = addr
            .split_once(':')
            .ok_or_else(|| ResolveError::MissingPort { addr: addr.into() })?;
        if port.contains(':') {
            return Err(ResolveError::MissingBrackets { addr: addr.into() });
        }
        if host.is_empty() {
            return Err(ResolveError::MissingHost { addr: addr.into() });
        }
        let port = parse_port(addr, port)?;
        let host = parse_host(addr, host)?;
        Ok(Self { host, port })
    }
}

/// Reads an IPv4 address or a host name.
fn parse_host<'a>(addr: &str, host: &'a str) -> Result<Host<'a>, ResolveError> {
    if let Ok(ip) = host.parse() {
        return Ok(Host::V4(ip));
    }
    check_name(host).map_err(|reason| bad_host(addr, reason))?;
    Ok(Host::Name(host))
}

fn parse_v6(addr: &str, ip: &str) -> Result<Ipv6Addr, ResolveError> {
    ip.parse().map_err(|_| bad_host(addr, HostError::NotIpv6))
}

fn parse_port<'a>(addr: &str, port: &'a str) -> Result<Port<'a>, ResolveError> {
    if port.is_empty() {
        return Err(ResolveError::MissingPort { addr: addr.into() });
    }
    if is_service(port) {
        return Ok(Port::Service(port));
    }
    // Rust's own parser takes a sign, and a port has none.
    let number = if is_digits(port) {
        port.parse().ok()
    } else {
        None
    };
    number
        .map(Port::Number)
        .ok_or_else(|| ResolveError::BadPort {
            addr: addr.into(),
            port: port.into(),
        })
}

/// Returns whether the system may know a service of this name. RFC 6335, section 5.1, wants a letter
/// in each name; the usual tables have names that are longer than its 15 characters, and these signs.
fn is_service(port: &str) -> bool {
    port.len() <= LABEL_MAX
        && port.starts_with(|c: char| c.is_ascii_alphanumeric())
        && port.bytes().any(|byte| byte.is_ascii_alphabetic())
        && port
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

/// The zone's number. Digits are the number itself, as RFC 4007, section 11.2, has it; an interface
/// that is called by digits can be reached by its number only.
fn parse_zone(addr: &str, zone: &str) -> Result<u32, ResolveError> {
    let index = match zone.parse() {
        Ok(number) if is_digits(zone) => Ok(number),
        // Rust's parser takes a sign, and a zone has none.
        Ok(_) => Err(io::ErrorKind::InvalidInput.into()),
        Err(_) => getifaddrs::if_nametoindex(zone),
    };
    index.map_err(|source| ResolveError::UnknownZone {
        addr: addr.into(),
        zone: zone.into(),
        source,
    })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses what no resolver should be asked for.
fn check_name(host: &str) -> Result<(), HostError> {
    let absolute = host.strip_suffix('.').unwrap_or(host);
    if let Some(odd) = absolute.chars().find(|&c| !is_name_character(c)) {
        return Err(HostError::Character(odd));
    }
    if absolute.len() > NAME_MAX {
        return Err(HostError::TooLong);
    }
    if absolute
        .split('.')
        .any(|label| label.is_empty() || label.len() > LABEL_MAX)
    {
        return Err(HostError::PartLength);
    }
    if absolute.rsplit('.').next().is_some_and(is_number) {
        return Err(HostError::NotIpv4);
    }
    Ok(())
}

const fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Whether a resolver may take this last part of a name for a number, and so the name for an
/// address: decimal, octal or hexadecimal digits.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    hexadecimal.map_or_else(
        || is_digits(label),
        |digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
    )
}

fn bad_host(addr: &str, reason: HostError) -> ResolveError {
    ResolveError::BadHost {
        addr: addr.into(),
        reason,
    }
}
