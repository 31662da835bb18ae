//! What a run has measured: the content of the file `figures.json`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The form of the file. Another number is refused, because its figures could mean something else.
pub(crate) const FORMAT: u32 = 1;

/// Everything that one run knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// When the run began, in UTC.
    pub(crate) date: String,
    /// The command as a person types it.
    pub(crate) command: String,
    /// Whether the counts were too small to judge anything by them.
    pub(crate) quick: bool,
    /// How long the run took, in seconds.
    pub(crate) seconds: f64,
    /// The machine and the programs, in the order of the page.
    pub(crate) facts: Vec<Fact>,
    /// What was measured.
    pub(crate) figures: Vec<Figure>,
    /// The measures that did not come to their end. What they had measured until then is kept.
    pub(crate) failures: Vec<Failure>,
}

/// Something that the figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A measure that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) measure: String,
    pub(crate) reason: String,
}

/// One thing that was measured of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The measure that it comes from, such as `latency`.
    pub(crate) measure: String,
    /// What was measured, such as `start`.
    pub(crate) what: String,
    /// Of which program.
    pub(crate) subject: String,
    pub(crate) unit: Unit,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// What the numbers of a figure count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Bytes,
    Count,
}

/// The numbers of a figure, or why there are none. Unknown is not zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Value {
    /// In the order in which they were measured.
    Samples(Vec<f64>),
    Unknown(String),
}

impl Figures {
    /// Reads a file that an earlier run has written.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is of another format.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(&fs_err::read_to_string(path)?)
            .with_context(|| format!("reading the figures in {}", path.display()))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    ///
    /// When it is no such text, or of another format.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let figures: Self = serde_json::from_str(text).context("the text is no figures")?;
        anyhow::ensure!(
            figures.format == FORMAT,
            "the format is {}, and this program writes and reads {FORMAT}; measure again",
            figures.format
        );
        Ok(figures)
    }

    /// Writes the file, with a line for each figure.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing the figures as JSON")?;
        fs_err::write(path, compact_arrays(&text) + "\n")?;
        Ok(())
    }

    /// The figure of this measure, thing and subject, if the run knows of it.
    pub(crate) fn find(&self, measure: &str, what: &str, subject: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| {
            figure.measure == measure && figure.what == what && figure.subject == subject
        })
    }

    /// The statistics of a figure.
    ///
    /// # Errors
    ///
    /// The reason for which it is unknown.
    pub(crate) fn stats(&self, measure: &str, what: &str, subject: &str) -> Result<Stats, String> {
        match self
            .find(measure, what, subject)
            .map(|figure| &figure.value)
        {
            Some(Value::Samples(samples)) => {
                Stats::of(samples).ok_or_else(|| "no sample was taken".to_owned())
            }
            Some(Value::Unknown(reason)) => Err(reason.clone()),
            None => Err(self.why_missing(measure)),
        }
    }

    /// Why there is no figure of a measure.
    pub(crate) fn why_missing(&self, measure: &str) -> String {
        let failed = self
            .failures
            .iter()
            .find(|failed| failed.measure == measure);
        failed.map_or_else(
            || "it was not measured in this run".to_owned(),
            |failed| failed.reason.clone(),
        )
    }
}

/// Puts the samples of each figure on one line: a file of thousands of lines shows nothing.
fn compact_arrays(pretty: &str) -> String {
    let mut compact = String::with_capacity(pretty.len());
    let mut in_samples = false;
    for line in pretty.lines() {
        if in_samples {
            let text = line.trim();
            compact.push_str(text);
            if text.ends_with(',') {
                compact.push(' ');
            } else if text.starts_with(']') {
                in_samples = false;
                compact.push('\n');
            }
        } else {
            compact.push_str(line);
            in_samples = line.ends_with("\"samples\": [");
            if !in_samples {
                compact.push('\n');
            }
        }
    }
    compact.trim_end().to_owned()
}

/// The few numbers that stand for many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stats {
    /// How many samples there are.
    pub(crate) n: usize,
    /// Half of the samples are at most this; of an even number, the mean of the middle two.
    pub(crate) median: f64,
    /// 99 of 100 samples are at most this. Of fewer than 100 samples it is the largest.
    pub(crate) p99: f64,
    pub(crate) sum: f64,
}

impl Stats {
    /// `None` for no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.get(sorted.len() / 2).copied()?;
        let below = sorted.len().checked_sub(1).map(|last| last / 2);
        let lower = below.and_then(|index| sorted.get(index).copied())?;
        Some(Self {
            n: sorted.len(),
            median: f64::midpoint(lower, upper),
            p99: quantile(&sorted, 99, 100)?,
            sum: sorted.iter().sum(),
        })
    }
}

/// The smallest sample that at least `part` of each `whole` samples do not exceed. The samples are sorted.
pub(crate) fn quantile(sorted: &[f64], part: usize, whole: usize) -> Option<f64> {
    let rank = (sorted.len() * part).div_ceil(whole.max(1));
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let stats = Stats::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(
            (stats.n, stats.median, stats.p99, stats.sum),
            (4, 2.5, 4.0, 10.0)
        );
        assert_eq!(Stats::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Stats::of(&[]), None);
    }

    #[test]
    fn a_quantile_is_a_sample_that_enough_others_do_not_exceed() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 99, 100), Some(99.0));
        assert_eq!(quantile(&hundred, 1, 2), Some(50.0));
        assert_eq!(quantile(&hundred, 999, 1000), Some(100.0));
        assert_eq!(quantile(&[], 1, 2), None);
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_another_format_is_refused() {
        let figures = Figures {
            format: FORMAT,
            date: "2026-01-02T03:04:05Z".to_owned(),
            command: "cargo xtask bench".to_owned(),
            quick: true,
            seconds: 1.5,
            facts: vec![Fact {
                name: "processors".to_owned(),
                value: "2".to_owned(),
            }],
            figures: vec![
                figure(Value::Samples(vec![1.25, 2.0])),
                figure(Value::Samples(vec![])),
                figure(Value::Unknown("it is not installed".to_owned())),
            ],
            failures: vec![],
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        figures.write(&file).unwrap();
        assert_eq!(Figures::read(&file).unwrap(), figures);
        let text = fs_err::read_to_string(&file).unwrap();
        assert!(text.contains("\"samples\": [1.25, 2.0]\n"), "{text}");
        let other = text.replace("\"format\": 1", "\"format\": 2");
        let error = format!("{:#}", Figures::parse(&other).unwrap_err());
        assert_eq!(
            error,
            "the format is 2, and this program writes and reads 1; measure again"
        );
    }

    fn figure(value: Value) -> Figure {
        Figure {
            measure: "latency".to_owned(),
            what: "start".to_owned(),
            subject: "Handover".to_owned(),
            unit: Unit::Milliseconds,
            value,
        }
    }
}
