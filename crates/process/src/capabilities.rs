//! The capabilities of Linux by name.

use std::fmt;
use std::ops::{BitOr, Sub};
use std::str::FromStr;

/// A capability, as in capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability(u8);

impl Capability {
    pub(super) const CHOWN: Self = Self(0);
    pub(super) const KILL: Self = Self(5);
    pub(super) const SETGID: Self = Self(6);
    pub(super) const SETUID: Self = Self(7);
}

/// The names of the kernel's capabilities, in the order of their numbers.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A set of capabilities. It is parsed from names with commas between them, with or without `CAP_`, in
/// upper or lower case, and displayed as the names of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bit with the number of each capability.
    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, it| bits | 1 << it.0))
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for Capabilities {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        text.split(',').map(number_of).collect()
    }
}

fn number_of(text: &str) -> Result<Capability, UnknownCapability> {
    let lower = text.trim().to_ascii_lowercase();
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    (0..)
        .zip(NAMES)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| Capability(number))
        .ok_or_else(|| UnknownCapability {
            name: text.to_owned(),
            nearest: nearest(name),
        })
}

/// The known name that takes the fewest changes of a letter.
fn nearest(name: &str) -> &'static str {
    // A longer text is no mistyped name, and would only cost time.
    let name: Vec<char> = name.chars().take(32).collect();
    let all = NAMES.into_iter();
    all.min_by_key(|known| distance(&name, known))
        .unwrap_or_default()
}

/// How many letters must be added, removed or replaced to make one text the other.
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (place, letter) in to.chars().enumerate() {
        let mut left = place + 1;
        let mut next = vec![left];
        for (other, above) in from.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { continue };
            let replaced = diagonal + usize::from(*other != letter);
            left = replaced.min(left + 1).min(above + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for number in (0..u64::BITS).filter(|number| self.0 & 1 << number != 0) {
            let name = usize::try_from(number).ok().and_then(|it| NAMES.get(it));
            match name {
                Some(name) => write!(f, "{separator}CAP_{}", name.to_ascii_uppercase())?,
                // One that is newer than this list.
                None => write!(f, "{separator}{number}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// A text is the name of no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no capability; did you mean `{nearest}`? capabilities(7) lists all")]
#[non_exhaustive]
pub struct UnknownCapability {
    /// The text.
    pub name: String,
    /// The most similar name.
    pub nearest: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_their_prefix() {
        let parsed: Capabilities = "net_bind_service,CAP_SYS_PTRACE, Kill".parse().unwrap();
        assert_eq!(parsed.bits(), 1 << 10 | 1 << 19 | 1 << 5);
        assert_eq!(
            parsed.to_string(),
            "CAP_KILL, CAP_NET_BIND_SERVICE, CAP_SYS_PTRACE"
        );
        assert_eq!(Capabilities::from_bits(1 << 63).to_string(), "63");
    }

    #[test]
    fn an_unknown_name_is_answered_by_the_nearest() {
        let nearest = |text: &str| text.parse::<Capabilities>().unwrap_err().nearest;
        assert_eq!(nearest("net_bind_servce"), "net_bind_service");
        assert_eq!(nearest("CAP_NETBIND_SERVICE"), "net_bind_service");
        assert_eq!(nearest("cap_setuidd"), "setuid");
        let error = "kill,nonsense,".parse::<Capabilities>().unwrap_err();
        assert_eq!(error.name, "nonsense");
        for bad in ["", "cap_", "kill,", &"x".repeat(100_000)] {
            assert!(bad.parse::<Capabilities>().is_err());
        }
    }

    /// The constants of the C library are the kernel's.
    #[test]
    fn the_numbers_are_those_of_the_kernel() {
        let set = rustix::thread::CapabilitySet::NET_BIND_SERVICE;
        assert_eq!("net_bind_service".parse(), Ok(Capabilities(set.bits())));
        let last = rustix::thread::CapabilitySet::CHECKPOINT_RESTORE;
        assert_eq!("checkpoint_restore".parse(), Ok(Capabilities(last.bits())));
        let kill = rustix::thread::CapabilitySet::KILL;
        assert_eq!(
            Capabilities::from_iter([Capability::KILL]).bits(),
            kill.bits()
        );
    }

    #[test]
    fn a_capability_that_is_named_twice_is_named() {
        let kill = Capabilities::from_iter([Capability::KILL]);
        assert_eq!("kill,kill".parse(), Ok(kill));
        assert_eq!(kill | kill, kill);
    }

    #[test]
    fn the_distance_is_the_fewest_changes_of_a_letter() {
        for (from, to, expected) in [
            ("kill", "kill", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
            ("xkill", "kill", 1),
            ("kill", "xkill", 1),
            ("abcdef", "f", 5),
        ] {
            let letters: Vec<char> = from.chars().collect();
            assert_eq!(distance(&letters, to), expected, "{from} {to}");
        }
    }
}
