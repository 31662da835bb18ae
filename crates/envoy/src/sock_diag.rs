//! TCP and UDP sockets as the kernel lists them on request, in our own network namespace.
//!
//! The tables below `/proc` say the same, but the kernel writes every line of them: a host whose
//! clients open a connection for each request has tens of thousands in `TIME_WAIT`, which belong to
//! no process. Here the kernel leaves them out itself. The messages are those of `sock_diag(7)`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::proc_net::InetSocket;

/// How long an answer may take. The kernel writes it while it is asked.
const LIMIT: Duration = Duration::from_secs(2);

/// The kernel fills at most 32 KiB at a time.
const BUFFER: usize = 64 << 10;

const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The list changed while it was written.
const INTERRUPTED: u16 = 0x10;

/// Without `SYN_RECV`, `TIME_WAIT` and `NEW_SYN_RECV`, which have no process.
const STATES: u32 = 0x0fff & !(1 << 3 | 1 << 6 | 1 << 12);

/// Which protocol is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// The sockets of our network namespace that belong to a process.
///
/// # Errors
///
/// What the kernel says, and [`io::ErrorKind::Unsupported`] where it does not speak this protocol or
/// was interrupted.
pub(crate) fn inet_sockets(protocol: Protocol) -> io::Result<Vec<InetSocket>> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&kernel, Timeout::Recv, Some(LIMIT))?;
    let mut sockets = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        send(&kernel, &request(family, protocol), SendFlags::empty())?;
        read_all(&kernel, &mut sockets)?;
    }
    Ok(sockets)
}

fn request(family: AddressFamily, protocol: Protocol) -> Vec<u8> {
    // The header, the request, and the address of a socket, which stands for every one.
    const LENGTH: u32 = 16 + 8 + 48;
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, number, 0, 0]);
    request.extend(STATES.to_ne_bytes());
    request.extend([0; 48]);
    request
}

fn read_all(kernel: &OwnedFd, sockets: &mut Vec<InetSocket>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (length, _) = recv(kernel, buffer.as_mut_slice(), RecvFlags::empty())?;
        let read = buffer.get(..length).unwrap_or_default();
        if messages(read, sockets)? {
            return Ok(());
        }
    }
}

/// Takes in one datagram; true when it was the last one.
fn messages(mut rest: &[u8], sockets: &mut Vec<InetSocket>) -> io::Result<bool> {
    let garbled = || io::Error::from(io::ErrorKind::InvalidData);
    while !rest.is_empty() {
        let length = number(rest, 0).ok_or_else(garbled)?;
        let length = usize::try_from(length).map_err(|_| garbled())?;
        let kind = half(rest, 4).ok_or_else(garbled)?;
        let flags = half(rest, 6).ok_or_else(garbled)?;
        let body = rest.get(HEADER..length).ok_or_else(garbled)?;
        if flags & INTERRUPTED != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = number(body, 0).ok_or_else(garbled)?.cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => sockets.extend(socket(body)),
            _ => {}
        }
        // Each message begins at a multiple of four.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// One socket; none where it has no process, or is of another family.
fn socket(message: &[u8]) -> Option<InetSocket> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let source = message.get(8..24)?;
    let ip = match AddressFamily::from_raw(u16::from(family)) {
        AddressFamily::INET => {
            let bytes: [u8; 4] = source.get(..4)?.try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(bytes))
        }
        AddressFamily::INET6 => {
            let bytes: [u8; 16] = source.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    let inode = number(message, 68).filter(|inode| *inode > 0)?;
    Some(InetSocket {
        local: SocketAddr::new(ip, port(4)?),
        has_peer: port(6)? != 0,
        state,
        inode: inode.into(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::path::Path;

    use super::*;
    use crate::proc_net::{in_table, sockets_of};

    fn own(sockets: Vec<InetSocket>) -> Vec<InetSocket> {
        let own = sockets_of(Path::new("/proc/self")).unwrap();
        let mut sockets: Vec<_> = sockets
            .into_iter()
            .filter(|socket| own.contains_key(&socket.inode))
            .collect();
        sockets.sort_by_key(|socket| socket.inode);
        sockets
    }

    fn listed(protocol: Protocol, table: &str) -> (Vec<InetSocket>, Vec<InetSocket>) {
        let mut of_table = Vec::new();
        in_table(Path::new("/proc/self"), table, |socket| {
            of_table.push(socket);
        })
        .unwrap();
        (own(inet_sockets(protocol).unwrap()), own(of_table))
    }

    #[test]
    fn the_kernel_lists_what_its_tables_show() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let client = TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let (server, _) = v4.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(udp.local_addr().unwrap()).unwrap();
        let (kernel, table) = listed(Protocol::Tcp, "tcp");
        assert_eq!(kernel, table);
        for address in [&v4, &v6].map(|listener| listener.local_addr().unwrap()) {
            assert!(
                kernel
                    .iter()
                    .any(|it| it.local == address && it.state == InetSocket::LISTEN),
                "{kernel:?}"
            );
        }
        let at = |stream: &TcpStream| stream.local_addr().unwrap();
        let open = |address| {
            let mut found = kernel.iter().filter(|it| it.local == address);
            found.any(|it| it.is_connection() && it.has_peer)
        };
        assert!(open(at(&client)) && open(at(&server)), "{kernel:?}");
        let (kernel, table) = listed(Protocol::Udp, "udp");
        assert_eq!(kernel, table);
        let peers: Vec<_> = kernel.iter().map(|it| it.has_peer).collect();
        assert!(
            peers.contains(&true) && peers.contains(&false),
            "{kernel:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _read = messages(&bytes, &mut Vec::new());
        }

        #[test]
        fn no_message_makes_it_panic(
            length in 0_u32..200,
            kind in proptest::sample::select(vec![SOCK_DIAG_BY_FAMILY, ERROR, DONE, 0]),
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        ) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            let _read = messages(&bytes, &mut Vec::new());
        }
    }
}
