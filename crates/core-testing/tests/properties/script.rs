//! The text form of a scenario.

use handover_core_testing::scenario::Scenario;
use proptest::prelude::*;

use crate::generate::{self, Script};

proptest! {
    #![proptest_config(generate::config(256))]

    #[test]
    fn a_written_script_reads_as_it_was(Script(scenario) in generate::scenario(8)) {
        prop_assert_eq!(Scenario::parse(&scenario.to_string()), Ok(scenario));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        drop(Scenario::parse(&text));
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(word(), 0..40)) {
        if let Ok(scenario) = Scenario::parse(&words.concat()) {
            drop(scenario.run());
        }
    }
}

/// Pieces of scripts, so that a script comes about now and then.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\n".to_owned()),
        Just(" ".to_owned()),
        "(desire|renew|live|released|exit|terminate|wait|policy|#) ",
        "(clean|failed|permanent|aborted|drain|stop|kill|default|istio_1_2|resilient|A|B) ",
        "(retries|initial|max_epochs|grace|drain|advance|on_exhausted)=",
        "\\+?[0-9]{0,40}(ns|us|ms|s|m|)!? ",
    ]
}
