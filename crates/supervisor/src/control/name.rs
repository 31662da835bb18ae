//! The name of an instance.

use std::fmt;
use std::str::FromStr;

/// The longest name. With it, the path of the socket still fits where the kernel wants it.
const LONGEST: usize = 64;

/// The name of an instance, which is the name of its socket's file as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Returns the name of an instance that was given none.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        Self(format!("pid-{pid}"))
    }

    /// Returns the name that a socket's file stands for, or `None` for a file of another kind.
    #[must_use]
    pub fn of_file(file: &str) -> Option<Self> {
        file.strip_suffix(".sock")?.parse().ok()
    }

    /// Returns the name of the socket's file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{self}.sock")
    }
}

/// A text that cannot be the name of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to {LONGEST} letters, digits, `.`, `_` and `-`, and no `.` at the beginning")]
pub struct NameError;

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=LONGEST).contains(&text.len())
            && !text.starts_with('.')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        fits.then(|| Self(text.to_owned())).ok_or(NameError)
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
