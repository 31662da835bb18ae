//! What is wrong with a script is said with the line, the word and the remedy.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use handover_core::{Input, Policy, Timestamp};
use handover_core_testing::scenario::{Line, RunError, Scenario};
use insta::assert_snapshot;

fn problem(script: &str) -> String {
    Scenario::parse(script).unwrap_err().to_string()
}

#[test]
fn an_unknown_input_is_told_with_those_there_are() {
    assert_snapshot!(problem("0 desire A\n1s start B"), @"line 2: `start B` is not an input; the inputs are `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, `unfit N`, `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`");
    assert_snapshot!(problem("0 live"), @"line 1: `live` is not an input; the inputs are `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, `unfit N`, `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`");
    assert_snapshot!(problem("0"), @"line 1: `nothing` is not an input; the inputs are `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, `unfit N`, `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`");
    assert_snapshot!(problem("0 desire A B"), @"line 1: `desire A B` is not an input; the inputs are `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, `unfit N`, `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`");
}

#[test]
fn a_bad_number_or_exit_is_named() {
    assert_snapshot!(problem("0 live zero"), @"line 1: `zero` is not the number of an epoch");
    assert_snapshot!(problem("0 released 4294967296"), @"line 1: `4294967296` is not the number of an epoch");
    assert_snapshot!(problem("0 exit 0 crashed"), @"line 1: `crashed` is none of `clean`, `failed`, `permanent` and `aborted`");
}

#[test]
fn a_bad_time_is_named() {
    assert_snapshot!(problem("soon desire A"), @"line 1: `soon` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    assert_snapshot!(problem("5 desire A"), @"line 1: `5` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    assert_snapshot!(problem("1h wait"), @"line 1: `1h` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    assert_snapshot!(problem("99999999999999999999999999m wait"), @"line 1: `99999999999999999999999999m` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    assert_snapshot!(problem("+99999999999999999999s wait"), @"line 1: `99999999999999999999s` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
}

#[test]
fn time_does_not_go_back() {
    assert_snapshot!(problem("5s desire A\n+1s wait\n5500ms live 0"), @"line 3: `5500ms` is before the line above, which is at 6s");
}

#[test]
fn a_bad_policy_is_told_with_what_would_be_right() {
    assert_snapshot!(problem("policy"), @"line 1: `nothing` is not a policy; the presets are `default`, `istio_1_2` and `resilient`");
    assert_snapshot!(problem("policy gentle"), @"line 1: `gentle` is not a policy; the presets are `default`, `istio_1_2` and `resilient`");
    assert_snapshot!(problem("policy default retries"), @"line 1: `retries` is not of the form KEY=VALUE");
    assert_snapshot!(problem("policy default retrys=1"), @"line 1: `retrys` is not a key of a policy; the keys are `retries`, `initial`, `max_interval`, `reset_after`, `start_deadline`, `give_way_after`, `min_interval`, `max_epochs`, `grace`, `probation`, `drain`, `advance`, `on_failure`, `on_exhausted` and `on_clean_exit`");
    assert_snapshot!(problem("policy default retries=many"), @"line 1: `many` is not a number");
    assert_snapshot!(problem("policy default initial=none"), @"line 1: `none` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    assert_snapshot!(problem("policy default on_exhausted=wait"), @"line 1: `wait` is none of `stop`, `hold`");
}

#[test]
fn there_is_one_policy_before_all_inputs() {
    let expected = "a script has one policy, and it stands before the first input";
    let twice = problem("policy default\npolicy resilient");
    assert_eq!(twice, format!("line 2: {expected}"));
    let late = problem("0 desire A\n\npolicy resilient");
    assert_eq!(late, format!("line 3: {expected}"));
}

#[test]
fn a_policy_that_cannot_be_honoured_is_told_when_the_script_is_run() {
    let scenario = Scenario::parse("policy default max_epochs=1\n0 desire A").unwrap();
    let error = scenario.run().unwrap_err();
    assert!(matches!(error, RunError::Policy(_)));
    assert_snapshot!(error, @"the policy of the scenario cannot be honoured");
    let source = std::error::Error::source(&error).unwrap();
    assert_snapshot!(source, @"max_epochs is 1, but a hand-over needs the old and the new epoch: set it to 2 or more, or leave it out");
}

#[test]
fn the_first_comment_is_the_title_and_the_policy_may_be_left_out() {
    let scenario = Scenario::parse("0 wait # one\n# two").unwrap();
    assert_eq!(scenario.title, "one");
    assert_eq!(scenario.policy, Policy::default());
}

#[test]
fn a_script_is_written_as_it_is_read() {
    let script = "# A title.\npolicy istio_1_2 retries=1 initial=1500us\n\
                  0 desire A\n1m! exit 0 clean\n+1ns wait\n";
    assert_snapshot!(Scenario::parse(script).unwrap(), @r"
    # A title.
    policy default retries=1 initial=1500us max_interval=none reset_after=none start_deadline=none give_way_after=none min_interval=none max_epochs=none grace=0 probation=none drain=5s advance=at_once on_failure=abort_all on_exhausted=stop on_clean_exit=stay
    0      desire A
    60s!   exit 0 clean
    60000000001ns wait
    ");
}

#[test]
fn the_presets_are_what_they_are() {
    let preset = |name: &str| {
        let scenario = Scenario::parse(&format!("policy {name}")).unwrap();
        scenario.to_string()
    };
    assert_snapshot!(preset("default"), @"policy default retries=10 initial=200ms max_interval=none reset_after=none start_deadline=none give_way_after=none min_interval=none max_epochs=none grace=5s probation=none drain=none advance=when_live on_failure=keep_serving on_exhausted=stop on_clean_exit=stay");
    assert_snapshot!(preset("istio_1_2"), @"policy default retries=10 initial=200ms max_interval=none reset_after=none start_deadline=none give_way_after=none min_interval=none max_epochs=none grace=0 probation=none drain=5s advance=at_once on_failure=abort_all on_exhausted=stop on_clean_exit=stay");
    assert_snapshot!(preset("resilient"), @"policy default retries=10 initial=200ms max_interval=30s reset_after=10s start_deadline=60s give_way_after=2s min_interval=none max_epochs=2 grace=5s probation=10s drain=5s advance=when_live on_failure=keep_serving on_exhausted=hold on_clean_exit=restart");
}

#[test]
fn a_transcript_may_be_as_large_as_its_limit_and_no_larger() {
    // The desired and the current one are listed by name, beside the one epoch.
    let name = "A".repeat(16 * 999_999);
    let line = |input| Line {
        at: Timestamp::ZERO,
        missing_deadlines: false,
        input,
    };
    let mut scenario = Scenario {
        title: String::new(),
        policy: Policy::default(),
        lines: vec![line(Some(Input::Desire(name)))],
    };
    assert!(scenario.run().is_ok());
    scenario.lines.push(line(None));
    let error = scenario.run().unwrap_err();
    assert_snapshot!(error, @"the transcript grows too large after 1 steps, which list 1000000 running epochs: write a shorter script, with fewer epochs at once or shorter names");
}

#[test]
fn a_long_name_is_cut_in_the_transcript() {
    let longest = |length: usize| {
        let script = format!("0 desire {}", "ä".repeat(length));
        let transcript = Scenario::parse(&script).unwrap().run().unwrap().to_string();
        let lengths = transcript.lines().map(|line| {
            let cells = line.split("  ").map(|cell| cell.trim().chars().count());
            cells.max().unwrap_or_default()
        });
        (
            lengths.max().unwrap_or_default(),
            transcript.matches('…').count(),
        )
    };
    // A name of this length fits beside its input, `desire`, and not beside the longer words.
    let (cell, cuts) = longest(193);
    assert_eq!((cell, cuts > 0), (201, true));
    assert_eq!(longest(100).1, 0);
}
