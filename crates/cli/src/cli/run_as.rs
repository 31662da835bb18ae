//! The flags of `run` and `exec` that say who the program runs as.

use std::str::FromStr;

use clap::Args;
use handover_process::{Capabilities, RunAs};

use super::group::Group;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Who the program runs as.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "User")]
pub(crate) struct RunAsArgs {
    /// Run the program as this user: a name in /etc/passwd, or a number.
    ///
    /// The program gets the groups that the user has in /etc/passwd and /etc/group, and no capabilities.
    /// Variables such as HOME stay as they are. Handover needs to be root, or `CAP_SETUID`, `CAP_SETGID`,
    /// `CAP_CHOWN` and `CAP_KILL`; otherwise it ends with 77.
    #[arg(long, value_name = "USER", env = "HANDOVER_USER")]
    pub(crate) user: Option<User>,

    /// Run the program with this group: a name in /etc/group, or a number.
    ///
    /// The default is the group of --user. A number that is not in /etc/passwd has none, so it needs the
    /// flag. Without --user, the program has no other group.
    #[arg(long, value_name = "GROUP", env = "HANDOVER_GROUP")]
    pub(crate) group: Option<Group>,

    /// The capabilities that the program keeps, such as `net_bind_service`, with commas between them.
    ///
    /// The names are those of capabilities(7), with or without `CAP_`. The program has no other ones. With
    /// `net_bind_service`, a user who is not root can listen on ports below 1024.
    #[arg(long, value_name = "NAMES", env = "HANDOVER_AMBIENT_CAPS")]
    pub(crate) ambient_caps: Option<Capabilities>,
}

impl RunAsArgs {
    /// Returns who the program runs as, or why that is not said well.
    pub(crate) fn run_as(&self) -> Result<RunAs, String> {
        let mut run_as = RunAs::new();
        let group = self.group.map(Group::id);
        match (&self.user, group) {
            (None, None) => {}
            (None, Some(group)) => {
                run_as = run_as.user(rustix::process::geteuid().as_raw(), group);
            }
            (Some(user), group) => {
                let Some(group) = group.or(user.group) else {
                    return Err(format!(
                        "--user {}: {USERS} has no user with this number, so its group is unknown: \
                         name it with --group",
                        user.id
                    ));
                };
                run_as = run_as
                    .user(user.id, group)
                    .supplementary_groups(user.supplementary.iter().copied());
            }
        }
        if let Some(capabilities) = self.ambient_caps {
            run_as = run_as.capabilities(capabilities);
        }
        Ok(run_as)
    }
}

/// A user, as the host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    id: u32,
    /// Its own group, if the host knows the user.
    group: Option<u32>,
    supplementary: Vec<u32>,
}

impl User {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<u32>().ok();
        if number == Some(u32::MAX) {
            return Err(format!(
                "{text} is reserved and no user: give another number, or a name"
            ));
        }
        let read = |path| match std::fs::read(path) {
            Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
            // An image without users has no such file; a number needs none.
            Err(_) if number.is_some() => Ok(String::new()),
            Err(error) => Err(format!(
                "cannot read {path} to look the name up ({error}): give the number of the user"
            )),
        };
        let (users, groups) = (read(USERS)?, read(GROUPS)?);
        user_of(&users, &groups, text, number)
            .ok_or_else(|| format!("{USERS} has no user of this name: give its number"))
    }
}

/// Looks a user up by its name or number in the lines of the two files.
fn user_of(users: &str, groups: &str, text: &str, number: Option<u32>) -> Option<User> {
    let found = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, id, group, ..] = &*fields else {
            return None;
        };
        let (id, group) = (id.trim().parse().ok()?, group.trim().parse().ok()?);
        let matches = match number {
            Some(number) => id == number,
            None => name == text,
        };
        let valid = id != u32::MAX && group != u32::MAX;
        (matches && valid).then(|| (id, group, name.to_owned()))
    });
    match (found, number) {
        (Some((id, group, name)), _) => Some(User {
            id,
            group: Some(group),
            supplementary: groups_of(groups, &name),
        }),
        (None, Some(id)) => Some(User {
            id,
            group: None,
            supplementary: Vec::new(),
        }),
        (None, None) => None,
    }
}

/// The groups that name this user as a member.
fn groups_of(groups: &str, user: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[_, _, id, members] = &*fields else {
            return None;
        };
        let is_member = members.split(',').any(|member| member.trim() == user);
        let id = id.trim().parse().ok().filter(|id| *id != u32::MAX);
        id.filter(|_| is_member && !user.is_empty())
    };
    groups.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "\n#x\nroot:x:0:0::/:/bin/sh\nbad:x:nan:1\nweb:x:101:102::/:/bin/false\n";
    const GROUPS: &str = "adm:x:4:root, web\nbad:x:nan:web\nssl:x:7:web\nweb:x:102:\n";

    fn found(text: &str) -> Option<User> {
        user_of(USERS, GROUPS, text, text.parse().ok())
    }

    #[test]
    fn a_user_is_found_by_name_and_number_with_its_groups() {
        let web = User {
            id: 101,
            group: Some(102),
            supplementary: vec![4, 7],
        };
        assert_eq!(found("web"), Some(web.clone()));
        assert_eq!(found("101"), Some(web));
        let unknown = User {
            id: 4711,
            group: None,
            supplementary: vec![],
        };
        assert_eq!(found("4711"), Some(unknown));
        for bad in ["", "bad", "#x", "we", "-1"] {
            assert_eq!(found(bad), None, "{bad}");
        }
        assert!("4294967295".parse::<User>().is_err());
        assert!("no such user".parse::<User>().is_err());
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let args = |group: Option<&str>| RunAsArgs {
            user: found("4711"),
            group: group.map(|group| group.parse().unwrap()),
            ambient_caps: None,
        };
        let error = args(None).run_as().unwrap_err();
        assert!(error.contains("--group"), "{error}");
        assert_eq!(args(Some("5")).run_as(), Ok(RunAs::new().user(4711, 5)));
    }
}
