//! A group of users, by number or name.

use std::str::FromStr;

/// The file with the names of groups.
const GROUPS: &str = "/etc/group";

/// A group of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group(u32);

impl Group {
    /// The number of the group.
    pub(crate) fn id(self) -> u32 {
        self.0
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse::<u32>() {
            // The highest number stands for "leave it as it is".
            return match id {
                u32::MAX => Err(format!(
                    "{id} is reserved and no group: give another number, or a name"
                )),
                id => Ok(Self(id)),
            };
        }
        let groups = std::fs::read(GROUPS).map_err(|error| {
            format!(
                "cannot read {GROUPS} to look the name up ({error}): give the number of the group"
            )
        })?;
        number_of(&String::from_utf8_lossy(&groups), text)
            .map(Self)
            .ok_or_else(|| format!("{GROUPS} has no group of this name: give its number"))
    }
}

/// Returns the number of the group with this name, from the lines of the file.
fn number_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let id = fields.nth(1)?.trim().parse().ok()?;
        (found && id != u32::MAX).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_number_or_a_name_that_the_host_knows() {
        assert_eq!("101".parse(), Ok(Group(101)));
        assert_eq!("root".parse(), Ok(Group(0)));
        for bad in [
            "",
            "-1",
            "4294967295",
            "4294967296",
            "no such group",
            "root:x",
        ] {
            assert!(bad.parse::<Group>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_of_another_form_are_passed_over() {
        let groups = "\nroot\nroot:x\n#envoy:x:1:\nenvoy:x:nan:\nenvoy:x:101:a,b\nenvoy:x:102:\n";
        assert_eq!(number_of(groups, "envoy"), Some(101));
        assert_eq!(number_of(groups, "root"), None);
    }
}
