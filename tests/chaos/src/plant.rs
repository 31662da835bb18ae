//! A violation that is planted: by it the chaos shows how a failure is told and shortened.

use std::str::FromStr;

use crate::step::{Step, StepError};
use crate::summary::Done;

/// Breaks an invariant that does not exist, once two steps were done in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plant {
    first: Step,
    then: Step,
}

/// Why a text plants nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlantError {
    /// There are not two steps.
    #[error("{0:?} plants no violation: write two steps, such as `kill newest then reload --cold`")]
    Steps(String),
    /// One of them cannot be read.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl FromStr for Plant {
    type Err = PlantError;

    fn from_str(text: &str) -> Result<Self, PlantError> {
        let (first, then) = text
            .split_once(" then ")
            .ok_or_else(|| PlantError::Steps(text.to_owned()))?;
        Ok(Self {
            first: first.parse()?,
            then: then.parse()?,
        })
    }
}

impl Plant {
    /// Returns what is violated by these steps, if anything.
    pub(crate) fn violation(&self, steps: &[Done]) -> Option<String> {
        let Self { first, then } = self;
        let begun = steps.iter().position(|done| done.step == *first)?;
        let mut rest = steps.iter().skip(begun + 1);
        let is_broken = rest.any(|done| done.step == *then);
        is_broken.then(|| format!("planted: `{first}`, and later `{then}`"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::step;

    #[test]
    fn two_steps_in_their_order_are_a_violation_and_nothing_else() {
        let plant: Plant = "kill newest then who".parse().unwrap();
        let violation = |text: &str| {
            let steps = step::read(text).unwrap().into_iter();
            let steps: Vec<_> = steps
                .map(|step| Done {
                    step,
                    at: Duration::ZERO,
                    took: Duration::ZERO,
                })
                .collect();
            plant.violation(&steps)
        };
        let told = "planted: `kill newest`, and later `who`".to_owned();
        assert_eq!(violation("kill newest; settle; who; settle"), Some(told));
        for good in [
            "who; settle; kill newest; settle",
            "who; who",
            "kill newest; status",
        ] {
            assert_eq!(violation(good), None, "{good}");
        }
        for (bad, words) in [
            ("who", "\"who\" plants no violation: write two steps"),
            ("who then what", "\"what\" is no step"),
        ] {
            let error = bad.parse::<Plant>().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
