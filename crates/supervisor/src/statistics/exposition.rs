//! Reading the text format of Prometheus. Nothing is copied: all that is read lies in the text.

use std::collections::HashMap;
use std::fmt;

/// What a family counts, by its `TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "summary" => Self::Summary,
            "untyped" | "unknown" => Self::Untyped,
            _ => return None,
        })
    }

    /// Returns whether what an ended epoch has counted stays true, so that it can be added to what others count.
    pub(super) fn adds_up(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        })
    }
}

/// One line with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    /// What is between the braces, as written, without a comma at the end. It is empty if there are none.
    pub(super) labels: &'a str,
    /// Where the value begins.
    pub(super) value: &'a str,
}

/// All samples of one name. Those of a histogram have a suffix.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    /// The text of its `HELP` line, as written.
    pub(super) help: Option<&'a str>,
    pub(super) samples: Vec<Sample<'a>>,
}

/// A text that was read.
#[derive(Debug, Default)]
pub(super) struct Exposition<'a> {
    families: Vec<Family<'a>>,
    by_name: HashMap<&'a str, usize>,
}

/// What is wrong with a text: the first line that cannot be read, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not in the text format of Prometheus")]
pub(super) struct BadLine(usize);

impl<'a> Exposition<'a> {
    /// Reads a text. A family whose type is said twice keeps the first one, and loses what follows another one:
    /// no reader would take both.
    pub(super) fn read(text: &'a str) -> Result<Self, BadLine> {
        let mut read = Self::default();
        // The family whose second type was another one, while its samples are passed over.
        let mut passed_over = None;
        for (number, line) in text.split('\n').enumerate() {
            let line = line.trim_matches([' ', '\t', '\r']);
            let bad = BadLine(number.saturating_add(1));
            if line.is_empty() {
                continue;
            }
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.trim_start().splitn(3, [' ', '\t']);
                match (words.next(), words.next()) {
                    (Some("TYPE"), Some(name)) => {
                        let kind = words.next().map(str::trim).and_then(Kind::read);
                        let kind = kind.filter(|_| is_name(name)).ok_or(bad)?;
                        let family = read.family(name).ok_or(bad)?;
                        if family.kind == Kind::Untyped && family.samples.is_empty() {
                            family.kind = kind;
                        }
                        passed_over = (family.kind != kind).then_some(name);
                    }
                    (Some("HELP"), Some(name)) if is_name(name) => {
                        let family = read.family(name).ok_or(bad)?;
                        family.help = Some(words.next().unwrap_or_default());
                    }
                    _ => {}
                }
                continue;
            }
            let sample = Sample::read(line).ok_or(bad)?;
            let family = read.family_of(sample.name).ok_or(bad)?;
            if passed_over != Some(family.name) {
                family.samples.push(sample);
            }
        }
        Ok(read)
    }

    pub(super) fn families(&self) -> impl Iterator<Item = &Family<'a>> {
        // One that has a type only says nothing.
        let families = self.families.iter();
        families.filter(|family| !family.samples.is_empty())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Family<'a>> {
        let family = self.by_name.get(name).copied();
        let family = family.and_then(|index| self.families.get(index))?;
        (!family.samples.is_empty()).then_some(family)
    }

    /// Returns the family with this very name, which is made if there is none.
    fn family(&mut self, name: &'a str) -> Option<&mut Family<'a>> {
        let next = self.families.len();
        let index = *self.by_name.entry(name).or_insert(next);
        if index == next {
            self.families.push(Family {
                name,
                kind: Kind::Untyped,
                help: None,
                samples: Vec::new(),
            });
        }
        self.families.get_mut(index)
    }

    /// Returns the family to which a sample of this name belongs.
    fn family_of(&mut self, name: &'a str) -> Option<&mut Family<'a>> {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let base = name.strip_suffix(suffix)?;
            let family = self.families.get(*self.by_name.get(base)?)?;
            let is_part = match family.kind {
                Kind::Histogram => true,
                Kind::Summary => *suffix != "_bucket",
                Kind::Counter | Kind::Gauge | Kind::Untyped => false,
            };
            is_part.then_some(family.name)
        });
        self.family(base.unwrap_or(name))
    }
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' ', '\t'])?;
        let (name, rest) = line.split_at_checked(end)?;
        let (labels, value) = match rest.trim_start().strip_prefix('{') {
            None => ("", rest),
            Some(inner) => {
                let end = end_of_labels(inner)?;
                let (labels, rest) = inner.split_at_checked(end)?;
                (labels, rest.strip_prefix('}')?)
            }
        };
        let value = value.trim_start();
        let mut words = value.split_ascii_whitespace();
        let number = words.next()?;
        let is_value = number.parse::<f64>().is_ok();
        let is_time = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
        let labels = labels.trim().trim_end_matches(',').trim_end();
        let is_good = is_name(name) && is_value && is_time && words.next().is_none();
        is_good.then_some(Self {
            name,
            labels,
            value,
        })
    }

    /// Returns the labels, each with its value as written, without the quotes.
    pub(super) fn each_label(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.labels;
        std::iter::from_fn(move || {
            let (name, value, after) = next_label(rest)?;
            rest = after;
            Some((name, value))
        })
    }
}

/// Returns where the closing brace is.
fn end_of_labels(inner: &str) -> Option<usize> {
    let mut rest = inner;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('}') {
            return inner.len().checked_sub(rest.len());
        }
        let (name, _, after) = next_label(rest)?;
        if !is_name(name) || !after.trim_start().starts_with([',', '}']) {
            return None;
        }
        rest = after;
    }
}

/// Returns the first label, its value, and what follows.
fn next_label(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let quoted = rest.trim_start().strip_prefix('"')?;
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (value, after) = quoted.split_at_checked(end)?;
    Some((name.trim_end(), value, after.strip_prefix('"')?))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let read = match Exposition::read(text) {
            Ok(read) => read,
            Err(error) => return error.to_string(),
        };
        let families = read.families().map(|family| {
            let samples: Vec<_> = family
                .samples
                .iter()
                .map(|sample| {
                    let labels: Vec<_> = sample.each_label().collect();
                    format!("\n  {} {labels:?} {}", sample.name, sample.value)
                })
                .collect();
            let Family {
                name, kind, help, ..
            } = family;
            format!("{name} {kind} {help:?}{}\n", samples.concat())
        });
        families.collect()
    }

    #[test]
    fn the_samples_of_a_family_are_kept_together_whatever_their_order() {
        let text = "# TYPE a counter\n\
            # HELP a What a \\n is.\n\
            a{x=\"1\",y=\"}, \\\" =\"} 5\n\
            # TYPE h histogram\n\
            h_bucket{le=\"+Inf\",} 2\n\
            b 1.5 1700000000000\r\n\
            a{} 7\n\
            h_sum 3\nh_count 2\nh_other 1\n\
            # TYPE empty gauge\n\
            # any comment\n\n\
            d_sum NaN";
        insta::assert_snapshot!(told(text), @r#"
        a counter Some("What a \\n is.")
          a [("x", "1"), ("y", "}, \\\" =")] 5
          a [] 7
        h histogram None
          h_bucket [("le", "+Inf")] 2
          h_sum [] 3
          h_count [] 2
        b untyped None
          b [] 1.5 1700000000000
        h_other untyped None
          h_other [] 1
        d_sum untyped None
          d_sum [] NaN
        "#);
    }

    #[test]
    fn what_follows_another_type_of_the_same_family_is_passed_over() {
        let text = "# TYPE a counter\na 1\n# TYPE a gauge\na 2\n# TYPE b gauge\nb 3\n# TYPE a counter\na{x=\"y\"} 4\n";
        insta::assert_snapshot!(told(text), @r#"
        a counter None
          a [] 1
          a [("x", "y")] 4
        b gauge None
          b [] 3
        "#);
    }

    #[test]
    fn a_line_that_is_no_sample_is_named() {
        for line in [
            "<html>",
            "a",
            "a{",
            "a{x} 1",
            "a{x=\"} 1",
            "a{x=\"1\"y=\"2\"} 1",
            "a{x=\"1\"}",
            "a{1x=\"1\"} 2",
            "1a 1",
            "a one",
            "a 1 2 3",
            "a 1 soon",
            "ä 1",
            "# TYPE a thing",
            "# TYPE a",
        ] {
            let text = format!("ok 1\n{line}\n");
            assert_eq!(
                told(&text),
                "line 2 is not in the text format of Prometheus",
                "{line}"
            );
        }
        assert_eq!(told(""), "");
    }
}
