//! The user's own arguments, and how they go together with the options.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::{ArgsError, refused};

/// Where the value of a flag comes from.
pub(super) enum Given<T> {
    Field(T),
    Argument(String),
    Nothing,
}

impl<T: ToString> Given<T> {
    pub(super) fn value(&self) -> Option<String> {
        match self {
            Self::Field(value) => Some(value.to_string()),
            Self::Argument(value) => Some(value.clone()),
            Self::Nothing => None,
        }
    }

    pub(super) fn render(&self, flag: &str, args: &mut Vec<OsString>) -> Result<(), ArgsError> {
        if let Some(value) = self.value() {
            if value.contains('\0') {
                return Err(ArgsError::Nul(value));
            }
            args.extend([flag.into(), value.into()]);
        }
        Ok(())
    }
}

/// The user's own arguments, split the way Envoy's parser splits them.
pub(super) struct UserArgs {
    flags: Vec<(String, Option<String>)>,
}

impl UserArgs {
    pub(super) fn parse(extra: &[String]) -> Result<Self, ArgsError> {
        let mut flags = Vec::new();
        let mut seen = BTreeSet::new();
        let mut tokens = extra.iter().peekable();
        while let Some(token) = tokens.next() {
            if token.contains('\0') {
                return Err(ArgsError::Nul(token.clone()));
            }
            let (name, joined) = match token.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&**token, None),
            };
            if let Some((reason, remedy)) = refused::reason(name) {
                return Err(ArgsError::Refused {
                    flag: name.to_owned(),
                    reason,
                    remedy,
                });
            }
            if name != "-l" && !(name.starts_with("--") && name.len() > 2) {
                return Err(if name.starts_with('-') && name.len() > 1 {
                    ArgsError::Combined(token.clone())
                } else {
                    ArgsError::Stray(token.clone())
                });
            }
            if let Some(value) = joined {
                return Err(ArgsError::Joined {
                    flag: name.to_owned(),
                    value: value.to_owned(),
                });
            }
            let long = if name == "-l" { "--log-level" } else { name };
            if long != "--stats-tag" && !seen.insert(long.to_owned()) {
                return Err(ArgsError::Duplicate(long.to_owned()));
            }
            let value = match refused::takes_value(long) {
                Some(true) => Some(
                    tokens
                        .next()
                        .ok_or_else(|| ArgsError::MissingValue(name.to_owned()))?
                        .clone(),
                ),
                Some(false) => None,
                // A flag of a newer Envoy: what follows and does not look like a flag is its value.
                None => tokens.next_if(|next| !next.starts_with('-')).cloned(),
            };
            if let Some(value) = value.as_ref().filter(|value| value.contains('\0')) {
                return Err(ArgsError::Nul(value.clone()));
            }
            flags.push((long.to_owned(), value));
        }
        Ok(Self { flags })
    }

    /// Takes a flag that has a field of its own out of the user's arguments.
    pub(super) fn take<T>(&mut self, flag: &str, field: Option<T>) -> Result<Given<T>, ArgsError> {
        let place = self.flags.iter().position(|(name, _)| name == flag);
        let argument = place.and_then(|place| self.flags.remove(place).1);
        match (field, argument) {
            (Some(_), Some(_)) => Err(ArgsError::Duplicate(flag.to_owned())),
            (Some(field), None) => Ok(Given::Field(field)),
            (None, Some(argument)) => Ok(Given::Argument(argument)),
            (None, None) => Ok(Given::Nothing),
        }
    }

    pub(super) fn rest(self) -> impl Iterator<Item = OsString> {
        self.flags
            .into_iter()
            .flat_map(|(flag, value)| std::iter::once(flag).chain(value))
            .map(OsString::from)
    }
}
