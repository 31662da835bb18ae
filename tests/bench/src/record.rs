//! Where a measure keeps what it has measured, after each round, so that a measure that is ended early has not
//! measured in vain.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::figures::{Figure, Unit, Value};

/// The figures of one measure.
#[derive(Debug)]
pub(crate) struct Record {
    measure: &'static str,
    file: PathBuf,
    figures: Vec<Figure>,
}

impl Record {
    /// Figures of this measure, to be kept in this file.
    pub(crate) fn new(measure: &'static str, file: PathBuf) -> Self {
        Self {
            measure,
            file,
            figures: Vec::new(),
        }
    }

    /// Adds a sample. A figure that is unknown stays unknown.
    pub(crate) fn add(&mut self, what: &str, subject: &str, unit: Unit, sample: f64) {
        if let Value::Samples(samples) = self.value(what, subject, unit) {
            samples.push(sample);
        }
    }

    /// Says why there are no samples. If there are some, they are kept.
    pub(crate) fn unknown(&mut self, what: &str, subject: &str, unit: Unit, reason: &str) {
        let value = self.value(what, subject, unit);
        if matches!(value, Value::Samples(samples) if samples.is_empty()) {
            *value = Value::Unknown(reason.to_owned());
        }
    }

    /// Adds a sample, or says why there is none.
    pub(crate) fn add_or_say_why(
        &mut self,
        what: &str,
        subject: &str,
        unit: Unit,
        sample: Result<f64>,
    ) {
        match sample {
            Ok(sample) => self.add(what, subject, unit, sample),
            Err(error) => self.unknown(what, subject, unit, &format!("{error:#}")),
        }
    }

    /// Writes all figures to the file, in one step: a measure may be ended at any moment.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_string(&self.figures).context("writing figures as JSON")?;
        let beside = self.file.with_extension("new");
        fs_err::write(&beside, text)?;
        fs_err::rename(beside, &self.file)?;
        Ok(())
    }

    fn value(&mut self, what: &str, subject: &str, unit: Unit) -> &mut Value {
        let known = self
            .figures
            .iter()
            .position(|figure| figure.what == what && figure.subject == subject);
        let index = known.unwrap_or_else(|| {
            self.figures.push(Figure {
                measure: self.measure.to_owned(),
                what: what.to_owned(),
                subject: subject.to_owned(),
                unit,
                value: Value::Samples(Vec::new()),
            });
            self.figures.len() - 1
        });
        &mut self
            .figures
            .get_mut(index)
            .expect("the index was found, or is that of what was pushed")
            .value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_when_a_later_one_fails_and_a_reason_when_there_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("part.json");
        let mut record = Record::new("latency", file.clone());
        record.add("start", "a", Unit::Count, 1.0);
        record.unknown("start", "a", Unit::Count, "later");
        record.add_or_say_why("start", "b", Unit::Count, Err(anyhow::anyhow!("never")));
        record.add("start", "b", Unit::Count, 2.0);
        record.save().unwrap();
        let text = fs_err::read_to_string(file).unwrap();
        let figures: Vec<Figure> = serde_json::from_str(&text).unwrap();
        let values: Vec<_> = figures.into_iter().map(|figure| figure.value).collect();
        assert_eq!(
            values,
            [
                Value::Samples(vec![1.0]),
                Value::Unknown("never".to_owned())
            ]
        );
    }
}
