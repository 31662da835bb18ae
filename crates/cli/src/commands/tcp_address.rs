//! The address of a socket on the command line, and what is written in its place by mistake.

use std::net::SocketAddr;
use std::path::PathBuf;

use handover_netutil::{ListenError, PortHolders, UnixKind, resolve_addr};

use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// Resolves the value of a flag for an address to listen on.
///
/// # Errors
///
/// A usage error for every kind of socket that other tools listen on, with its name and the remedy.
pub(super) async fn to_listen_on(flag: &str, text: &str) -> Result<SocketAddr, Fatal> {
    if let Some(mistake) = Mistake::of(text) {
        return Err(Fatal::usage(format_args!("{flag} {text:?}: {mistake}")));
    }
    resolve(flag, text).await
}

/// Where a program serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address.
    Udp(SocketAddr),
    /// The path of a Unix socket, or `@` and its name.
    Unix(UnixKind, PathBuf),
}

/// Resolves the value of a flag for any address on which a program can serve.
///
/// # Errors
///
/// A usage error for every other kind of socket, and for other spellings.
pub(super) async fn to_serve_on(flag: &str, text: &str) -> Result<Served, Fatal> {
    let refused =
        |mistake: &dyn std::fmt::Display| Fatal::usage(format_args!("{flag} {text:?}: {mistake}"));
    if let Some((kind, path)) = unix(text) {
        if path.is_empty() || path == "@" {
            return Err(refused(
                &"there is no path: write unix:/run/web.sock, or unix:@NAME",
            ));
        }
        return Ok(Served::Unix(kind, path.into()));
    }
    let (rest, udp) = match text.strip_prefix("udp:") {
        Some(rest) if !rest.starts_with('/') => (rest, true),
        Some(_) | None => (text, false),
    };
    if let Some(mistake) = Mistake::of(rest) {
        return Err(match mistake {
            Mistake::Unix => refused(
                &"for a Unix socket, write unix:PATH (or unixpacket:PATH, unixgram:PATH, unix:@NAME)",
            ),
            Mistake::Udp => refused(&"for UDP, write udp:HOST:PORT, such as udp:127.0.0.1:53"),
            Mistake::Decorated if !udp => {
                refused(&"for TCP, write HOST:PORT and nothing else, such as 127.0.0.1:8080")
            }
            Mistake::Passed
            | Mistake::Decorated
            | Mistake::Port
            | Mistake::AnyHost
            | Mistake::OtherKind => refused(&mistake),
        });
    }
    let address = resolve(flag, rest).await?;
    Ok(if udp {
        Served::Udp(address)
    } else {
        Served::Tcp(address)
    })
}

/// The kind and the path of a Unix socket.
fn unix(text: &str) -> Option<(UnixKind, &str)> {
    let kinds = [
        ("unix:", UnixKind::Stream),
        ("unixpacket:", UnixKind::SequentialPacket),
        ("unixgram:", UnixKind::Datagram),
    ];
    let mut kinds = kinds.into_iter();
    kinds.find_map(|(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)))
}

/// Resolves the value of a flag for an address to connect to.
///
/// # Errors
///
/// As [`to_listen_on`]. Only that any word may be the name of a host here.
pub(super) async fn to_connect_to(flag: &str, text: &str) -> Result<SocketAddr, Fatal> {
    let may_be_host = text.split_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host != "*" && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    match Mistake::of(text).filter(|_| !may_be_host) {
        Some(mistake) => Err(Fatal::usage(format_args!("{flag} {text:?}: {mistake}"))),
        None => resolve(flag, text).await,
    }
}

/// Names who has a port that is taken: often a process that a killed supervisor has left behind.
pub(super) fn not_bound(flag: &str, error: ListenError, address: SocketAddr) -> anyhow::Error {
    if is_taken(&error) {
        let holders = PortHolders::of(address);
        anyhow::Error::new(error).context(format!(
            "{flag}: {address} is {holders}: end that one first, or choose another port"
        ))
    } else {
        anyhow::Error::new(error).context(flag.to_owned())
    }
}

/// Whether another process has the port.
pub(super) fn is_taken(error: &ListenError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &std::io::Error| source.kind() == std::io::ErrorKind::AddrInUse)
}

/// Host and port, and the path, of a URL that is asked by HTTP. The path may be left out.
///
/// # Errors
///
/// A usage error, which names what to do for a server with TLS.
pub(super) fn http_parts<'a>(
    flag: &str,
    url: &'a str,
    with_tls: &str,
) -> Result<(&'a str, &'a str), Fatal> {
    if url.trim_start().to_ascii_lowercase().starts_with("https:") {
        return Err(Fatal::usage(format_args!(
            "{flag} {url} cannot be asked: https is not supported; {with_tls}"
        )));
    }
    split_url(url).ok_or_else(|| {
        Fatal::usage(format_args!(
            "{flag} {url} cannot be asked: write http://HOST:PORT/PATH"
        ))
    })
}

/// Host and port, and the path, of `http://HOST:PORT/PATH`; the path may be left out.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    (!authority.is_empty()).then_some((authority, path))
}

async fn resolve(flag: &str, text: &str) -> Result<SocketAddr, Fatal> {
    resolve_addr(text).await.map_err(|error| {
        let code = ExitCode::of_resolve(&error);
        Fatal::new(code, anyhow::Error::new(error).context(flag.to_owned()))
    })
}

/// What stands in the place of a TCP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Unix,
    Udp,
    Passed,
    /// TCP it is, with a scheme before it or a protocol behind it.
    Decorated,
    Port,
    AnyHost,
    OtherKind,
}

impl Mistake {
    fn of(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Port);
        }
        match text.as_bytes().first() {
            Some(b'/' | b'.' | b'~' | b'@' | b'\0') => return Some(Self::Unix),
            Some(b'&') => return Some(Self::Passed),
            Some(b':') if !text.starts_with("::") => return Some(Self::Port),
            _ => {}
        }
        if text.starts_with("*:") {
            return Some(Self::AnyHost);
        }
        let scheme = text.split([':', '@']).next().unwrap_or_default();
        let by_scheme = match scheme {
            "unix" | "unixgram" | "unixpacket" | "unix-stream" | "unix-dgram"
            | "unix-seqpacket" | "uds" | "uxst" | "abns" | "abstract" | "local" | "pipe" => {
                Some(Self::Unix)
            }
            "udp" | "udp4" | "udp6" | "quic" | "quic4" | "quic6" | "dtls" => Some(Self::Udp),
            "fd" | "sockpair" | "systemd" | "sd" | "launchd" | "einhorn" => Some(Self::Passed),
            "tcp" | "tcp4" | "tcp6" | "ipv4" | "ipv6" | "http" | "https" | "h2c" | "tls"
            | "ssl" | "ws" | "wss" => Some(Self::Decorated),
            "vsock" | "sctp" | "mptcp" | "netlink" | "serial" | "raw" => Some(Self::OtherKind),
            _ => None,
        };
        // A scheme needs what follows it; alone it is the name of a host without a port.
        if by_scheme.is_some() && scheme.len() < text.len() {
            return by_scheme;
        }
        if text.contains("://") {
            return Some(Self::OtherKind);
        }
        match text.rsplit_once('/') {
            Some((_, "udp")) => Some(Self::Udp),
            Some((_, "tcp")) => Some(Self::Decorated),
            Some(_) => Some(Self::Unix),
            None => None,
        }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unix => {
                "Unix sockets are not supported, TCP only: give HOST:PORT, such as 127.0.0.1:8080"
            }
            Self::Udp => {
                "UDP sockets are not supported, TCP only: give HOST:PORT, such as 127.0.0.1:8080"
            }
            Self::Passed => {
                "a socket that handover's own parent has made is not named here, as exec passes all of them on \
                 (LISTEN_FDS): give HOST:PORT, such as 127.0.0.1:8080, and handover makes the socket"
            }
            Self::Decorated => "write HOST:PORT and nothing else, such as 127.0.0.1:8080",
            Self::Port => {
                "there is no host before the port: write 127.0.0.1:PORT for this host alone, \
                 0.0.0.0:PORT or [::]:PORT for all addresses"
            }
            Self::AnyHost => "`*` is not supported: all addresses are 0.0.0.0:PORT or [::]:PORT",
            Self::OtherKind => {
                "this kind of socket is not supported: give HOST:PORT, such as 127.0.0.1:8080"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(text: &str) -> Result<Served, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let served = runtime.block_on(to_serve_on("--listen", text));
        served.map_err(|fatal| fatal.to_string())
    }

    #[test]
    fn every_socket_that_can_be_passed_has_a_spelling() {
        let tcp = "127.0.0.1:80".parse().unwrap();
        assert_eq!(served("127.0.0.1:80"), Ok(Served::Tcp(tcp)));
        assert_eq!(served("udp:127.0.0.1:80"), Ok(Served::Udp(tcp)));
        for (text, kind, path) in [
            ("unix:/run/x", UnixKind::Stream, "/run/x"),
            ("unix:x.sock", UnixKind::Stream, "x.sock"),
            ("unix:@name", UnixKind::Stream, "@name"),
            ("unixpacket:/run/x", UnixKind::SequentialPacket, "/run/x"),
            ("unixgram:@x", UnixKind::Datagram, "@x"),
        ] {
            assert_eq!(served(text), Ok(Served::Unix(kind, path.into())), "{text}");
        }
    }

    #[test]
    fn each_other_spelling_is_answered_with_the_right_one() {
        for (text, remedy) in [
            ("/run/x", "write unix:PATH"),
            ("uds:/x", "write unix:PATH"),
            ("unix:", "there is no path"),
            ("unixgram:@", "there is no path"),
            ("udp://127.0.0.1:53", "write udp:HOST:PORT"),
            ("127.0.0.1:53/udp", "write udp:HOST:PORT"),
            ("udp:53", "there is no host before the port"),
            ("udp:*:53", "`*` is not supported"),
            ("tcp:127.0.0.1:80", "for TCP, write HOST:PORT"),
            ("fd:3", "exec passes all of them on"),
            ("vsock:1:2", "this kind of socket is not supported"),
        ] {
            let refused = served(text).unwrap_err();
            assert!(refused.contains(remedy), "{text}: {refused}");
        }
    }

    #[test]
    fn a_url_is_split_into_where_and_what() {
        assert_eq!(split_url("http://a:1/x/y"), Some(("a:1", "/x/y")));
        assert_eq!(split_url("http://[::1]:80"), Some(("[::1]:80", "/")));
        for bad in ["https://a:1/", "a:1/x", "http://", "http:///x"] {
            assert_eq!(split_url(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_other_kind_of_socket_is_known_by_its_usual_spelling() {
        for (mistake, texts) in [
            (
                Mistake::Unix,
                &[
                    "unix:/x",
                    "unix:x",
                    "unix:///x",
                    "UNIX:/x",
                    "unixgram:/x",
                    "unix@x",
                    "/run/x",
                    "./x",
                    "run/x.sock",
                    "@name",
                    "\0name",
                    "~/x",
                    " /x",
                    "abns@x",
                    "unix:80",
                ][..],
            ),
            (
                Mistake::Udp,
                &[
                    "udp:53",
                    "udp://127.0.0.1:53",
                    "udp6:[::1]:53",
                    "127.0.0.1:53/udp",
                    "quic:1",
                ],
            ),
            (
                Mistake::Passed,
                &["fd://3", "fd@3", "fd:3", "&3", "systemd:web"],
            ),
            (
                Mistake::Decorated,
                &[
                    "tcp://127.0.0.1:80",
                    "tcp:127.0.0.1:80",
                    "http://a:80/",
                    "127.0.0.1:80/tcp",
                ],
            ),
            (Mistake::Port, &["8080", ":8080", "0"]),
            (Mistake::AnyHost, &["*:80"]),
            (Mistake::OtherKind, &["vsock:1:2", "ftp://x", "sctp:1"]),
        ] {
            for text in texts {
                assert_eq!(Mistake::of(text), Some(mistake), "{text}");
            }
        }
    }

    #[test]
    fn a_tcp_address_and_a_plain_typing_error_are_left_to_the_resolver() {
        for text in [
            "127.0.0.1:80",
            "[::1]:80",
            "[::]:0",
            "localhost:80",
            "unix.example:80",
            "fd0:80",
            "[fe80::1%eth0]:80",
            "::1",
            "::1:80",
            "localhost",
            "",
            "udp",
            "1.2.3.4:http",
        ] {
            assert_eq!(Mistake::of(text), None, "{text}");
        }
    }
}
