//! Who a child runs as: its user, its groups and its capabilities.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Gid, Uid, getegid, geteuid};

use super::capabilities::{Capabilities, Capability};

/// For the kernel it means: as it is.
const RESERVED: u32 = u32::MAX;

/// The user, the groups and the capabilities of a child. Without a setting, the child has those of the
/// supervisor.
///
/// A child that gets another user has the groups that are named here, and no other. A child for which a
/// user is named has the capabilities that are named here, unless it runs as root. If that user is the one
/// of this process, and not root, the supplementary groups stay. The program that it executes may still gain
/// some, by a set-user-ID bit or by capabilities of its file.
///
/// ```
/// use handover_process::RunAs;
///
/// let run_as = RunAs::new().user(65534, 65534).capabilities("net_bind_service".parse()?);
/// assert!(run_as.changes_user());
/// # Ok::<(), handover_process::UnknownCapability>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunAs {
    account: Option<Account>,
    capabilities: Option<Capabilities>,
}

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) supplementary: Vec<u32>,
}

impl RunAs {
    /// Returns a value that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the numbers of the user and of its group. Supplementary groups that were set before go.
    #[must_use]
    pub fn user(mut self, user: u32, group: u32) -> Self {
        self.account = Some(Account {
            user,
            group,
            supplementary: Vec::new(),
        });
        self
    }

    /// Sets the supplementary groups of the user that was set before. Without a user it does nothing.
    #[must_use]
    pub fn supplementary_groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        if let Some(account) = &mut self.account {
            account.supplementary = groups.into_iter().collect();
        }
        self
    }

    /// Sets the capabilities that the child keeps, as its permitted, effective, inheritable and ambient
    /// ones. They also hold for programs that the child starts.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = Some(capabilities);
        self
    }

    /// Returns whether the child gets another user or group than this process has.
    #[must_use]
    pub fn changes_user(&self) -> bool {
        self.other_account().is_some()
    }

    /// Returns the number of the group, if a user was set.
    #[must_use]
    pub fn group(&self) -> Option<u32> {
        self.account.as_ref().map(|account| account.group)
    }

    /// The user that the child becomes, if it is another one than that of this process.
    pub(super) fn user_id(&self) -> Option<u32> {
        self.other_account().map(|account| account.user)
    }

    /// Makes the user the owner of a pipe. A process that opens `/dev/stdout` opens the pipe again, by the
    /// rights of a file.
    pub(super) fn own(&self, pipe: &OwnedFd) -> io::Result<()> {
        if let Some(account) = self.other_account() {
            let (user, group) = (Uid::from_raw(account.user), Gid::from_raw(account.group));
            rustix::fs::fchown(pipe, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// Checks that this process may start and end such a child.
    ///
    /// # Errors
    ///
    /// [`RunAsError::Missing`] names the capabilities that this process lacks. `CAP_KILL` is among them: a
    /// child that cannot be stopped must not be started. `CAP_CHOWN` gives the child its output.
    /// [`RunAsError::Reserved`] if the number of a user or a group is the one that stands for none. [`RunAsError::Root`] if capabilities are named for
    /// a child that runs as root, which has all of them anyway.
    pub fn check(&self) -> Result<(), RunAsError> {
        let own = rustix::thread::capabilities(None).map_err(io::Error::from)?;
        let effective = Capabilities::from_bits(own.effective.bits());
        let permitted = Capabilities::from_bits(own.permitted.bits());
        self.check_with(geteuid().as_raw(), effective, permitted)
    }

    fn check_with(
        &self,
        own_user: u32,
        effective: Capabilities,
        permitted: Capabilities,
    ) -> Result<(), RunAsError> {
        if let Some(account) = &self.account {
            let groups = account.supplementary.iter().copied();
            let mut numbers = groups.chain([account.user, account.group]);
            if numbers.any(|number| number == RESERVED) {
                return Err(RunAsError::Reserved);
            }
        }
        let mut missing = Capabilities::default();
        if self.changes_user() {
            let needed = [
                Capability::SETUID,
                Capability::SETGID,
                Capability::CHOWN,
                Capability::KILL,
            ];
            missing = needed.into_iter().collect::<Capabilities>() - effective;
        }
        if let Some(capabilities) = self.capabilities {
            let user = self.account.as_ref().map_or(own_user, |it| it.user);
            if user == 0 {
                return Err(RunAsError::Root);
            }
            missing = missing | (capabilities - permitted);
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(RunAsError::Missing { missing }),
        }
    }

    /// The account, if it is not the one of this process.
    fn other_account(&self) -> Option<&Account> {
        self.account_beside(geteuid().as_raw(), getegid().as_raw())
    }

    /// The account, if it is not the one of a process with this user and group.
    fn account_beside(&self, user: u32, group: u32) -> Option<&Account> {
        // Root changes its supplementary groups as well; another user cannot, and has its own already.
        let same = |it: &&Account| it.user == user && it.group == group && user != 0;
        self.account.as_ref().filter(|account| !same(account))
    }

    /// What the child has to do before it executes its program, if there is anything.
    pub(super) fn steps(&self) -> Option<Steps> {
        let account = self.other_account().cloned();
        // One that is named may be the one of this process.
        let named = self.account.is_some();
        let becomes_root = self.account.as_ref().is_some_and(|it| it.user == 0);
        let capabilities = match self.capabilities {
            Some(capabilities) => Some(capabilities),
            // What this process was given for itself must not reach another user.
            None if named && !becomes_root => Some(Capabilities::default()),
            None => None,
        };
        (account.is_some() || capabilities.is_some()).then_some(Steps {
            account,
            capabilities,
        })
    }
}

/// What the child does to become somebody else.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    pub(super) account: Option<Account>,
    pub(super) capabilities: Option<Capabilities>,
}

/// Why a child cannot run as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunAsError {
    /// This process lacks capabilities.
    #[error(
        "this process lacks {missing}: run it as root, or give it these capabilities (AmbientCapabilities= of a systemd unit, securityContext.capabilities.add of a container)"
    )]
    Missing {
        /// The capabilities that it lacks.
        missing: Capabilities,
    },
    /// The number stands for no user and no group, and the kernel would change nothing.
    #[error("{RESERVED} is no number of a user or a group: give another one")]
    Reserved,
    /// Capabilities are named for root.
    #[error("root has every capability: name another user, or name no capabilities")]
    Root,
    /// The capabilities of this process cannot be read.
    #[error("cannot read the capabilities of this process")]
    Read(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> Capabilities {
        text.parse().unwrap()
    }

    /// A user that this process is not.
    fn other() -> u32 {
        geteuid().as_raw() + 1
    }

    #[test]
    fn an_account_is_another_one_by_its_user_or_its_group_and_for_root_always() {
        let run_as = RunAs::new().user(5, 7);
        let is_other = |user, group| run_as.account_beside(user, group).is_some();
        let beside = [(5, 7), (5, 8), (6, 7), (6, 8)];
        let found = beside.map(|(user, group)| is_other(user, group));
        assert_eq!(found, [false, true, true, true]);
        assert!(RunAs::new().user(0, 0).account_beside(0, 0).is_some());
        assert!(RunAs::new().account_beside(5, 7).is_none());
        assert_eq!(run_as.group(), Some(7));
        assert_eq!(RunAs::new().group(), None);
    }

    #[test]
    fn the_number_that_stands_for_none_is_no_user() {
        let reserved = RunAs::new().user(RESERVED, 7);
        assert!(matches!(reserved.check(), Err(RunAsError::Reserved)));
        assert!(RunAs::new().check().is_ok());
    }

    #[test]
    fn another_user_needs_the_right_to_become_and_to_end_it() {
        let run_as = RunAs::new().user(other(), 7);
        let check = |effective: &str| {
            run_as
                .check_with(5, caps(effective), Capabilities::default())
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("setuid,setgid,kill,chown"), Ok(()));
        let error = check("setgid").unwrap_err();
        assert!(
            error.contains("lacks CAP_CHOWN, CAP_KILL, CAP_SETUID:"),
            "{error}"
        );
    }

    #[test]
    fn a_capability_must_be_permitted_and_means_nothing_for_root() {
        let run_as = RunAs::new().capabilities(caps("net_bind_service"));
        let none = Capabilities::default();
        assert!(run_as.check_with(5, none, caps("net_bind_service")).is_ok());
        assert!(matches!(
            run_as.check_with(5, none, caps("kill")),
            Err(RunAsError::Missing { missing }) if missing == caps("net_bind_service")
        ));
        assert!(matches!(
            run_as.check_with(0, caps("kill"), caps("net_bind_service")),
            Err(RunAsError::Root)
        ));
        let root = run_as.user(0, 0);
        let all = Capabilities::from_bits(u64::MAX);
        assert!(matches!(
            root.check_with(5, all, all),
            Err(RunAsError::Root)
        ));
    }

    #[test]
    fn a_number_that_changes_nothing_is_refused() {
        let all = Capabilities::from_bits(u64::MAX);
        for run_as in [
            RunAs::new().user(u32::MAX, 7),
            RunAs::new().user(7, u32::MAX),
            RunAs::new().user(7, 7).supplementary_groups([u32::MAX]),
        ] {
            let refused = run_as.check_with(0, all, all);
            assert!(matches!(refused, Err(RunAsError::Reserved)), "{run_as:?}");
            // A caller that does not check gets no child.
            assert!(run_as.steps().is_some());
        }
    }

    #[test]
    fn the_own_user_that_is_named_keeps_no_capability_either() {
        let own = RunAs::new().user(geteuid().as_raw(), getegid().as_raw());
        let kept = own.steps().and_then(|steps| steps.capabilities);
        let expected = (geteuid().as_raw() != 0).then(Capabilities::default);
        assert_eq!(kept, expected);
    }

    #[test]
    fn another_user_keeps_no_capability_that_was_not_named() {
        let steps = RunAs::new().user(other(), 7).steps().unwrap();
        assert_eq!(steps.capabilities, Some(Capabilities::default()));
        assert!(RunAs::new().steps().is_none());
    }
}
