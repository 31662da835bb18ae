//! Texts for a program in which the number of its epoch and of its descriptors can stand.

use std::fmt;

use handover_core::Epoch;
use thiserror::Error;

/// A text with places for what differs from epoch to epoch.
///
/// `{epoch}` is the number of the epoch. `{fd:NAME}` is the number of the descriptor of the socket NAME; where
/// several sockets have that name, it is all their numbers with commas between them. `{{` and `}}` are braces.
///
/// ```
/// use handover_supervisor::program::Template;
///
/// let text: Template = "listener {fd:web} of epoch {epoch}".parse()?;
/// assert_eq!(text.names().collect::<Vec<_>>(), ["web"]);
/// # Ok::<(), handover_supervisor::program::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Epoch,
    Descriptor(String),
}

/// Why a text with braces says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// What stands between the braces is not known.
    #[error(
        "`{{{name}}}` is not known: use {{epoch}} or {{fd:NAME}}, and write {{{{ and }}}} for braces"
    )]
    Unknown {
        /// What stands between the braces.
        name: String,
    },

    /// A brace has no other one.
    #[error("a brace stands alone after {before:?}: write {{{{ or }}}} for a brace")]
    Alone {
        /// The text before it.
        before: String,
    },
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            let alone = || TemplateError::Alone {
                before: plain.clone(),
            };
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else {
                let inner = brace.strip_prefix('{').ok_or_else(alone)?;
                let (name, after) = inner.split_once('}').ok_or_else(alone)?;
                let part = placeholder(name)?;
                parts.extend((!plain.is_empty()).then(|| Part::Text(std::mem::take(&mut plain))));
                parts.push(part);
                rest = after;
            }
        }
        plain.push_str(rest);
        parts.extend((!plain.is_empty()).then_some(Part::Text(plain)));
        Ok(Self(parts))
    }
}

fn placeholder(name: &str) -> Result<Part, TemplateError> {
    match (name, name.strip_prefix("fd:")) {
        ("epoch", _) => Ok(Part::Epoch),
        (_, Some(socket)) if !socket.is_empty() => Ok(Part::Descriptor(socket.to_owned())),
        _ => Err(TemplateError::Unknown {
            name: name.to_owned(),
        }),
    }
}

impl Template {
    /// Returns the names of the sockets whose descriptors stand in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Descriptor(name) => Some(name.as_str()),
            Part::Text(_) | Part::Epoch => None,
        })
    }

    /// Returns whether it is the same for each epoch.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text for an epoch. The sockets are named in the order of their descriptors, from `first` on.
    pub(super) fn render(&self, epoch: Epoch, sockets: &[&str], first: i32) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Epoch => text.push_str(&epoch.number().to_string()),
                Part::Descriptor(name) => {
                    let numbers = sockets.iter().zip(first..);
                    let numbers = numbers.filter(|(socket, _)| *socket == name);
                    let numbers: Vec<_> = numbers.map(|(_, number)| number.to_string()).collect();
                    text.push_str(&numbers.join(","));
                }
            }
        }
        text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(plain) => f.write_str(&plain.replace('{', "{{").replace('}', "}}")),
            Part::Epoch => f.write_str("{epoch}"),
            Part::Descriptor(name) => write!(f, "{{fd:{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let template: Template = text.parse().unwrap();
        assert_eq!(template.to_string().parse(), Ok(template.clone()));
        template.render(Epoch::new(7), &["web", "admin", "web"], 3)
    }

    #[test]
    fn what_differs_from_epoch_to_epoch_is_put_in() {
        assert_eq!(rendered("plain"), "plain");
        assert_eq!(rendered(""), "");
        assert_eq!(rendered("{fd:admin};"), "4;");
        assert_eq!(rendered("{fd:web}"), "3,5");
        assert_eq!(rendered("a{epoch}b{epoch}"), "a7b7");
        assert_eq!(rendered("{{\"a\": {epoch}}}"), "{\"a\": 7}");
        assert_eq!(rendered("{{epoch}}"), "{epoch}");
        assert_eq!(rendered("ü{epoch}ü"), "ü7ü");
    }

    #[test]
    fn what_is_not_known_is_named() {
        let failed = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        insta::assert_snapshot!(failed("{epcoh}"), @"`{epcoh}` is not known: use {epoch} or {fd:NAME}, and write {{ and }} for braces");
        insta::assert_snapshot!(failed("{fd:}"), @"`{fd:}` is not known: use {epoch} or {fd:NAME}, and write {{ and }} for braces");
        insta::assert_snapshot!(failed("a{epoch"), @r#"a brace stands alone after "a": write {{ or }} for a brace"#);
        insta::assert_snapshot!(failed("a}"), @r#"a brace stands alone after "a": write {{ or }} for a brace"#);
        insta::assert_snapshot!(failed("{\"a\": {epoch}}"), @r#"`{"a": {epoch}` is not known: use {epoch} or {fd:NAME}, and write {{ and }} for braces"#);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_each_braceless_one_stays(text in "[{}a:fdepoch ü]{0,24}") {
            if let Ok(template) = text.parse::<Template>() {
                drop(template.render(Epoch::ZERO, &[], 3));
                assert_eq!(template.to_string().parse(), Ok(template));
            } else {
                assert!(text.contains(['{', '}']));
            }
        }
    }
}
