//! The sockets of `exec`.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration;
use super::group::Group;
use super::run_as::User;

/// The sockets that are passed to the program.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sockets")]
pub(crate) struct ListenArgs {
    /// Listen on this address and pass the socket to the program. Repeat it for more.
    ///
    /// `HOST:PORT` is TCP, `udp:HOST:PORT` is UDP, and `unix:PATH`, `unixpacket:PATH` and `unixgram:PATH` are
    /// Unix sockets for streams, sequential packets and datagrams. `unix:@NAME` has no file. With port 0 the
    /// system chooses a free port, which is logged. Sockets that a service manager passes (`LISTEN_FDS`) are
    /// passed on as well, before these.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_LISTEN",
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<String>,

    /// The name of a socket in `LISTEN_FDNAMES`. Repeat it in the order of --listen.
    ///
    /// A socket without a name is called by its place among all sockets: listen0, listen1 and so on.
    #[arg(
        long,
        value_name = "NAME",
        env = "HANDOVER_FD_NAME",
        value_delimiter = ','
    )]
    pub(crate) fd_name: Vec<String>,

    /// Bind so many sockets for each TCP and UDP address, one for each worker of the program.
    ///
    /// The system spreads connections and datagrams over them (`SO_REUSEPORT`). The program must serve all of
    /// them: what the system gives to a socket that no worker serves waits in vain. They have one name.
    #[arg(long, value_name = "N", env = "HANDOVER_LISTEN_WORKERS")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MOST_WORKERS))]
    pub(crate) listen_workers: Option<u16>,

    /// How many connections may wait in a socket until the program accepts them.
    ///
    /// The default is 4096. The system reduces it to `net.core.somaxconn`.
    #[arg(long, value_name = "N", env = "HANDOVER_LISTEN_BACKLOG")]
    pub(crate) listen_backlog: Option<NonZeroU32>,

    /// Leave IPv4 alone on a socket for `[::]`. Otherwise it takes both.
    #[arg(long, env = "HANDOVER_LISTEN_V6ONLY")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) listen_v6only: bool,

    /// Offer a TCP connection to the program once its client has sent something, or after this time.
    ///
    /// It suits protocols in which the client speaks first, such as HTTP (`TCP_DEFER_ACCEPT`). The time is
    /// rounded up to whole seconds.
    #[arg(long, value_name = "TIME", env = "HANDOVER_LISTEN_DEFER_ACCEPT")]
    #[arg(value_parser = duration::parse)]
    pub(crate) listen_defer_accept: Option<Duration>,

    /// The mode of the files of Unix sockets, such as 0660. Who may write may connect.
    ///
    /// The default is what the umask leaves of 0777.
    #[arg(long, value_name = "MODE", env = "HANDOVER_LISTEN_MODE")]
    pub(crate) listen_mode: Option<FileMode>,

    /// The user that owns the files of Unix sockets: a name in /etc/passwd, or a number.
    #[arg(long, value_name = "USER", env = "HANDOVER_LISTEN_USER")]
    pub(crate) listen_user: Option<User>,

    /// The group of the files of Unix sockets: a name in /etc/group, or a number.
    #[arg(long, value_name = "GROUP", env = "HANDOVER_LISTEN_GROUP")]
    pub(crate) listen_group: Option<Group>,

    /// Pass nonblocking sockets. Otherwise they block, as those of systemd do.
    ///
    /// A server with an event loop sets this itself, and the setting holds for all epochs. Few servers
    /// need the flag.
    #[arg(long, env = "HANDOVER_NONBLOCKING")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) nonblocking: bool,
}

/// Each socket is a descriptor in each epoch, and few hosts have more processors.
const MOST_WORKERS: i64 = 1024;

/// The mode of a file, in octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = digits.bytes().all(|digit| digit.is_ascii_digit());
        let mode = u32::from_str_radix(digits, 8).ok();
        mode.filter(|mode| is_octal && *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| "give a mode in octal digits, 0000 to 0777, such as 0660".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_octal_digits() {
        for (text, mode) in [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("0", 0)] {
            assert_eq!(text.parse(), Ok(FileMode(mode)), "{text}");
        }
        for text in ["", "u=rw", "888", "1777", "+660", "-1", "0x1f"] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
    }
}
