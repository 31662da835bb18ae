//! Any text, read as `handover simulate` reads a script: it is refused with a reason, or it runs and
//! keeps every invariant, and what is written of it is read as the same script.

#![no_main]

use handover_core_testing::scenario::{RunError, Scenario};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|text: &str| -> Corpus {
    let Ok(scenario) = Scenario::parse(text) else {
        // What is wrong with a script is worth trying, and not worth keeping.
        return Corpus::Reject;
    };
    match scenario.run() {
        // A table is for people, and is made of what they wrote.
        Ok(transcript) => drop(transcript.to_string()),
        Err(RunError::Policy(_) | RunError::TooLarge { .. }) => {}
        Err(error @ RunError::Violation(..)) => panic!("{error}\n\nthe script:\n\n{scenario}"),
    }
    let written = scenario.to_string();
    assert_eq!(
        Scenario::parse(&written).as_ref(),
        Ok(&scenario),
        "{written}"
    );
    Corpus::Keep
});
