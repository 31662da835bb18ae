//! TCP and UDP sockets as the kernel lists them on request, in our own network namespace.
//!
//! The tables below `/proc` say the same, but the kernel writes every line of them: a host whose
//! clients open a connection for each request has tens of thousands in `TIME_WAIT`, which belong to
//! no process. Here the kernel leaves them out itself, reports what a connection has carried, and closes
//! it on request. The messages are those of `sock_diag(7)`.

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
/// The request for the TCP sockets of both families at once. It is older than the other one, and no other asks for both.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DESTROY: u16 = 21;
const REQUEST_DUMP: u16 = 0x301;
const REQUEST_ACK: u16 = 0x005;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The list changed while it was written.
const INTERRUPTED: u16 = 0x10;

/// The numbers of TCP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Without `SYN_RECV`, `TIME_WAIT` and `NEW_SYN_RECV`, which have no process.
const WITH_A_PROCESS: u32 = 0x0fff & !(1 << 3 | 1 << 6 | 1 << 12);

/// An address of zeros stands for every socket.
const ANY: [u8; 48] = [0; 48];

/// The bit that asks for `struct tcp_info`, and the number of the attribute that holds it.
const SHOW_TCP_INFO: u8 = 1 << (TCP_INFO - 1);
const TCP_INFO: u8 = 2;

/// Which protocol is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Which sockets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// All that belong to a process.
    All,
    /// Those that listen. The kernel keeps them in a table of their own, which takes it a tenth of the time to read:
    /// that of the connections has a place for each one that there could be.
    Listening,
}

impl States {
    const fn bits(self) -> u32 {
        match self {
            Self::All => WITH_A_PROCESS,
            Self::Listening => 1 << InetSocket::LISTEN,
        }
    }

    /// Whether such a socket is asked for.
    pub(crate) fn contains(self, socket: &InetSocket) -> bool {
        self == Self::All || socket.state == InetSocket::LISTEN
    }
}

/// The sockets of our network namespace that belong to a process.
///
/// # Errors
///
/// What the kernel says, and [`io::ErrorKind::Unsupported`] where it does not speak this protocol or
/// was interrupted.
pub(crate) fn inet_sockets(protocol: Protocol, states: States) -> io::Result<Vec<InetSocket>> {
    Kernel::open()?.dump(protocol, states, 0, socket)
}

/// A TCP socket, and what the kernel says of it beyond its table.
#[derive(Clone, Debug)]
pub(crate) struct TcpSocket {
    pub(crate) socket: InetSocket,
    pub(crate) id: SocketId,
    /// None of a socket that listens, or where the kernel does not say it.
    pub(crate) info: Option<TcpInfo>,
}

/// What the kernel knows one socket by. It holds a number that no other socket ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId {
    family: u8,
    id: [u8; 48],
}

/// What a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// How long ago the last data was sent, the last data received, and the last acknowledgement
    /// received. Each counts from the beginning of the connection where there was none.
    pub(crate) since: [Duration; 3],
    /// The bytes that the other end has acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) received: u64,
}

/// A way to ask the kernel about the sockets of our network namespace.
pub(crate) struct Kernel(OwnedFd);

impl Kernel {
    pub(crate) fn open() -> io::Result<Self> {
        let kernel = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        set_socket_timeout(&kernel, Timeout::Recv, Some(LIMIT))?;
        Ok(Self(kernel))
    }

    /// The TCP sockets whose inodes are wanted, with what they have carried.
    pub(crate) fn tcp_sockets(&self, wanted: impl Fn(u64) -> bool) -> io::Result<Vec<TcpSocket>> {
        self.dump(Protocol::Tcp, States::All, SHOW_TCP_INFO, |message| {
            let socket = socket(message).filter(|socket| wanted(socket.inode))?;
            Some(TcpSocket {
                socket,
                id: SocketId {
                    family: *message.first()?,
                    id: message.get(4..52)?.try_into().ok()?,
                },
                info: tcp_info(message),
            })
        })
    }

    /// Closes a TCP socket at once, whichever process has it: its peer is sent a reset.
    ///
    /// # Errors
    ///
    /// `PERM` without `CAP_NET_ADMIN`, `OPNOTSUPP` from a kernel without `CONFIG_INET_DIAG_DESTROY`,
    /// `NOENT` where there is no such socket any more.
    pub(crate) fn destroy(&self, socket: &SocketId) -> io::Result<()> {
        let head = [socket.family, TCP, 0, 0];
        let parts = [&head[..], &WITH_A_PROCESS.to_ne_bytes(), &socket.id];
        self.ask(SOCK_DESTROY, REQUEST_ACK, &parts, |_| {})
    }

    /// What `read` makes of each socket.
    fn dump<T>(
        &self,
        protocol: Protocol,
        states: States,
        show: u8,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let number = match protocol {
            Protocol::Tcp => match self.both_families(states, show, &read) {
                // It knows no such request. One that is silent for so long is not asked again.
                Err(error)
                    if error.raw_os_error().is_some()
                        && error.kind() != io::ErrorKind::WouldBlock =>
                {
                    TCP
                }
                found => return found,
            },
            Protocol::Udp => UDP,
        };
        self.each_family(number, states, show, &read)
    }

    /// The TCP sockets by one request. The kernel goes through its whole table of connections for each request, however
    /// few there are.
    fn both_families<T>(
        &self,
        states: States,
        show: u8,
        read: &impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        let head = [number_of(AddressFamily::INET), 0, 0, show];
        let parts = [&head[..], &ANY, &states.bits().to_ne_bytes(), &[0; 4]];
        let visit = |message: &[u8]| found.extend(read(message));
        self.ask(TCPDIAG_GETSOCK, REQUEST_DUMP, &parts, visit)?;
        Ok(found)
    }

    fn each_family<T>(
        &self,
        protocol: u8,
        states: States,
        show: u8,
        read: &impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let head = [number_of(family), protocol, show, 0];
            let parts = [&head[..], &states.bits().to_ne_bytes(), &ANY];
            let visit = |message: &[u8]| found.extend(read(message));
            self.ask(SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, &parts, visit)?;
        }
        Ok(found)
    }

    /// Sends a request, and gives each part of the answer to `visit`.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        parts: &[&[u8]],
        visit: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        send(&self.0, &request(kind, flags, parts), SendFlags::empty())?;
        self.read_all(visit)
    }

    fn read_all(&self, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            let read = buffer.get(..length).unwrap_or_default();
            if messages(read, &mut visit)? {
                return Ok(());
            }
        }
    }
}

fn number_of(family: AddressFamily) -> u8 {
    u8::try_from(family.as_raw()).unwrap_or_default()
}

/// The header, and the parts of the request behind it.
fn request(kind: u16, flags: u16, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    request
}

/// Takes in one datagram; true when it was the last one.
fn messages(mut rest: &[u8], visit: &mut impl FnMut(&[u8])) -> io::Result<bool> {
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
                // Zero is what a request is acknowledged by.
                if code == 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => visit(body),
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
    let address = |at: usize| {
        let bytes = message.get(at..at + 16)?;
        match AddressFamily::from_raw(u16::from(family)) {
            AddressFamily::INET => {
                let bytes: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
                Some(IpAddr::V4(Ipv4Addr::from(bytes)))
            }
            AddressFamily::INET6 => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
            }
            _ => None,
        }
    };
    let inode = number(message, 68).filter(|inode| *inode > 0)?;
    Some(InetSocket {
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
        state,
        inode: inode.into(),
    })
}

/// What a message says of the traffic, among the attributes behind its fixed part.
fn tcp_info(message: &[u8]) -> Option<TcpInfo> {
    let mut rest = message.get(72..)?;
    let info = loop {
        let length = usize::from(half(rest, 0)?);
        let kind = half(rest, 2)?;
        let value = rest.get(4..length)?;
        if kind == u16::from(TCP_INFO) {
            break value;
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    };
    let since = |at| Some(Duration::from_millis(number(info, at)?.into()));
    let bytes = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    Some(TcpInfo {
        since: [since(44)?, since(52)?, since(56)?],
        acknowledged: bytes(120)?,
        received: bytes(128)?,
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

    #[test]
    fn every_state_with_a_process_is_asked_for() {
        let asked = (0..32).filter(|state| States::All.bits() >> state & 1 == 1);
        // All from ESTABLISHED to CLOSING, but for SYN_RECV and TIME_WAIT.
        let states = [0, 1, 2, 4, 5, 7, 8, 9, 10, 11];
        assert_eq!(asked.collect::<Vec<u32>>(), states);
    }

    #[test]
    fn a_socket_without_a_process_is_passed_over() {
        let mut message = [0; 72];
        message[0] = 2;
        assert_eq!(socket(&message), None);
        message[68] = 1;
        assert_eq!(
            socket(&message).map(|socket| socket.inode),
            number(&message, 68).map(u64::from)
        );
    }

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
        (
            own(inet_sockets(protocol, States::All).unwrap()),
            own(of_table),
        )
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
            found.any(|it| it.is_connection() && it.has_peer())
        };
        assert!(open(at(&client)) && open(at(&server)), "{kernel:?}");
        let (kernel, table) = listed(Protocol::Udp, "udp");
        assert_eq!(kernel, table);
        let peers: Vec<_> = kernel.iter().map(InetSocket::has_peer).collect();
        assert!(
            peers.contains(&true) && peers.contains(&false),
            "{kernel:?}"
        );
    }

    #[test]
    fn one_request_brings_what_one_for_each_family_brings() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let clients = [&v4, &v6].map(|it| TcpStream::connect(it.local_addr().unwrap()).unwrap());
        let kernel = Kernel::open().unwrap();
        for (states, number) in [(States::All, 4), (States::Listening, 2)] {
            let of_each = own(kernel.each_family(TCP, states, 0, &socket).unwrap());
            assert_eq!(of_each.len(), number, "{of_each:?}");
            let of_both = kernel.both_families(states, 0, &socket).unwrap();
            assert_eq!(own(of_both), of_each);
            assert_eq!(
                own(kernel.dump(Protocol::Tcp, states, 0, socket).unwrap()),
                of_each
            );
        }
        drop(clients);
        // What it does not know is an answer, and the next one is read as if it had not been asked.
        let refused = kernel.ask(99, REQUEST_DUMP, &[&[0; 60]], |_| {});
        assert!(refused.unwrap_err().raw_os_error().is_some());
        assert!(
            own(kernel
                .dump(Protocol::Tcp, States::Listening, 0, socket)
                .unwrap())
            .len()
                >= 2
        );
    }

    fn take_in(message: &[u8]) {
        let _taken = (socket(message), tcp_info(message));
    }

    #[test]
    fn what_a_connection_has_carried_is_reported() {
        use std::io::{Read as _, Write as _};

        let listener = TcpListener::bind("[::1]:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[0; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        server.write_all(&[0; 7]).unwrap();
        client.read_exact(&mut [0; 7]).unwrap();
        let peer = client.local_addr().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        // The acknowledgement may be on its way.
        let info = loop {
            let own = sockets_of(Path::new("/proc/self")).unwrap();
            let sockets = Kernel::open().unwrap();
            let sockets = sockets.tcp_sockets(|inode| own.contains_key(&inode));
            let mut sockets = sockets.unwrap().into_iter();
            let found = sockets.find(|found| found.socket.remote == peer).unwrap();
            let info = found.info.unwrap();
            if info.acknowledged > 0 {
                break info;
            }
            assert!(std::time::Instant::now() < end, "{info:?}");
        };
        assert_eq!((info.received, info.acknowledged), (100, 7));
        assert!(
            info.since
                .iter()
                .all(|since| *since < Duration::from_secs(20)),
            "{info:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _read = messages(&bytes, &mut |message| take_in(message));
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
            let _read = messages(&bytes, &mut |message| take_in(message));
        }
    }
}
