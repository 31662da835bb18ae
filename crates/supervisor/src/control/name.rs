//! The name of an instance.

use std::fmt;
use std::str::FromStr;

/// The longest name. With it, the path of the socket still fits where the kernel wants it.
const LONGEST: usize = 64;

/// The name of an instance, which is the name of its socket's file as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// The name of an instance that was given none.
    pub(crate) fn of_process(pid: u32) -> Self {
        Self(format!("pid-{pid}"))
    }

    /// The name that a socket's file stands for.
    pub(crate) fn of_file(file: &str) -> Option<Self> {
        file.strip_suffix(".sock")?.parse().ok()
    }

    /// The name of the socket's file.
    pub(crate) fn file(&self) -> String {
        format!("{self}.sock")
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST).contains(&text.len())
            && !text.starts_with('.')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "use 1 to {LONGEST} letters, digits, `.`, `_` and `-`, and no `.` at the beginning"
        ))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_and_never_a_path() {
        for good in ["a", "web-1", "edge.eu_2", &"x".repeat(64)] {
            let name: Name = good.parse().unwrap();
            assert_eq!(Name::of_file(&name.file()), Some(name));
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        for file in ["a", "a.lock", ".sock", ".a.sock", "sock"] {
            assert_eq!(Name::of_file(file), None, "{file}");
        }
    }
}
