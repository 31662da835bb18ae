//! Whether clients should be sent to an instance, through its whole life: a word, a reason and two answers.

use handover_supervisor::operator::Operator;

use crate::{run, script};

/// The verdict after each step of a script.
fn verdicts(text: &str) -> String {
    let script = script::parse(text).unwrap();
    let steps = run::steps(&script).unwrap();
    let lines = steps.iter().map(|step| {
        let told = told(&step.operator);
        format!("{:36} {told}\n", step.words)
    });
    lines.collect()
}

fn told(operator: &Operator<String>) -> String {
    let verdict = operator.verdict();
    let answers = match (verdict.is_ready(), verdict.is_current()) {
        (true, true) => "ready current",
        (true, false) => "ready",
        (false, false) => "-",
        (false, true) => "current, but not ready",
    };
    format!(
        "{:11} {answers:13} {}",
        verdict.health.to_string(),
        verdict.why
    )
}

#[test]
fn a_hand_over_is_ready_at_every_moment() {
    let script = "
        # A hand-over.
        settings looks=scripted
        0 read 1 ok A
        +1ms taken 1 changed
        +1ms agent starting:0 0=starting*
        +1ms agent live:0 0=live*
        +1ms looked 1 0=yes
        +1ms changed
        +1ms read 2 ok B
        +1ms taken 2 changed
        +1ms agent starting:1 0=live 1=starting*
        +1ms agent live:1 0=draining 1=live*
        +1ms looked 2 0=no 1=yes
        +1ms settled 2 live:1
        +1ms agent live:1 1=live*
        +1ms looked 3 1=yes";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: no configuration was read yet
    read 1 ok A                          NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent starting:0 0=starting*         NOT_READY   -             nothing serves: epoch 0 is starting
    agent live:0 0=live*                 NOT_READY   -             epoch 0 is live, and was not yet seen to listen for clients
    looked 1 0=yes                       READY       ready current epoch 0 serves what is desired
    changed                              READY       ready current epoch 0 serves what is desired
    read 2 ok B                          DEGRADED    ready         epoch 0 serves, but not what is desired: it was asked for just now
    taken 2 changed                      READY       ready current epoch 0 serves what is desired
    agent starting:1 0=live 1=starting*  DEGRADED    ready         epoch 0 serves, but not what is desired: epoch 1 is starting
    agent live:1 0=draining 1=live*      READY       ready current epoch 1 serves what is desired
    looked 2 0=no 1=yes                  READY       ready current epoch 1 serves what is desired
    settled 2 live:1                     READY       ready current epoch 1 serves what is desired
    agent live:1 1=live*                 READY       ready current epoch 1 serves what is desired
    looked 3 1=yes                       READY       ready current epoch 1 serves what is desired
    ");
}

#[test]
fn what_serves_although_something_else_is_desired_is_degraded_and_ready() {
    let script = "
        # Failures of a change.
        0 read 1 ok A
        +1ms taken 1 changed
        +1ms agent live:0 0=live*
        +1ms settled 1 live:0
        +1ms changed
        +1ms read 2 failed
        +1ms changed
        +1ms read 3 ok B
        +1ms taken 2 changed
        +1ms agent retry 0=live
        +1ms agent cap:2 0=live
        +1ms agent given_up:1 0=live
        +1ms settled 2 given_up:1
        +1ms changed
        +1ms read 4 ok A
        +1ms taken 3 changed
        +1ms agent live:0 0=live*
        +1ms settled 3 live:0
        +1ms agent stayed";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: no configuration was read yet
    read 1 ok A                          NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent live:0 0=live*                 READY       ready current epoch 0 serves what is desired
    settled 1 live:0                     READY       ready current epoch 0 serves what is desired
    changed                              READY       ready current epoch 0 serves what is desired
    read 2 failed                        DEGRADED    ready         epoch 0 serves, but not what is desired: the files ask for nothing that can be run (`handover status` shows the reason)
    changed                              DEGRADED    ready         epoch 0 serves, but not what is desired: the files ask for nothing that can be run (`handover status` shows the reason)
    read 3 ok B                          DEGRADED    ready         epoch 0 serves, but not what is desired: it was asked for just now
    taken 2 changed                      READY       ready current epoch 0 serves what is desired
    agent retry 0=live                   DEGRADED    ready         epoch 0 serves, but not what is desired: its start has failed, and a retry is due
    agent cap:2 0=live                   DEGRADED    ready         epoch 0 serves, but not what is desired: 2 epochs run already
    agent given_up:1 0=live              DEGRADED    ready         epoch 0 serves, but not what is desired: the desired configuration was given up, and epoch 1 failed last
    settled 2 given_up:1                 DEGRADED    ready         epoch 0 serves, but not what is desired: the desired configuration was given up, and epoch 1 failed last
    changed                              DEGRADED    ready         epoch 0 serves, but not what is desired: the desired configuration was given up, and epoch 1 failed last
    read 4 ok A                          DEGRADED    ready         epoch 0 serves, but not what is desired: it was asked for just now
    taken 3 changed                      DEGRADED    ready         epoch 0 serves, but not what is desired: the desired configuration was given up, and epoch 1 failed last
    agent live:0 0=live*                 READY       ready current epoch 0 serves what is desired
    settled 3 live:0                     READY       ready current epoch 0 serves what is desired
    agent stayed                         NOT_READY   -             nothing serves: the proxy ended cleanly and is not restarted
    ");
}

#[test]
fn what_stands_in_is_never_what_is_desired() {
    let script = "
        # A stand-in.
        settings stand_in=A
        0 taken 1 changed
        +1ms agent live:0 0=live*
        +1ms settled 1 live:0";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent live:0 0=live*                 DEGRADED    ready         epoch 0 serves, but not what is desired: it stands in for files that asked for nothing that could be run
    settled 1 live:0                     DEGRADED    ready         epoch 0 serves, but not what is desired: it stands in for files that asked for nothing that could be run
    ");
}

#[test]
fn an_epoch_that_nobody_can_connect_to_is_not_ready() {
    let script = "
        # A late listener, and a crash.
        settings looks=scripted
        0 read 1 ok A
        +1ms taken 1 changed
        +1ms agent live:0 0=live*
        +1ms settled 1 live:0
        +1ms looked 1 0=no
        +100ms wait
        +1ms looked 2 0=yes
        +1ms agent retry
        +1ms agent live:1 1=live*
        +1ms looked 3 1=unknown";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: no configuration was read yet
    read 1 ok A                          NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent live:0 0=live*                 NOT_READY   -             epoch 0 is live, and was not yet seen to listen for clients
    settled 1 live:0                     NOT_READY   -             epoch 0 is live, and was not yet seen to listen for clients
    looked 1 0=no                        NOT_READY   -             epoch 0 is live, but nothing listens for clients
    wait                                 NOT_READY   -             epoch 0 is live, but nothing listens for clients
    looked 2 0=yes                       READY       ready current epoch 0 serves what is desired
    agent retry                          NOT_READY   -             nothing serves: its start has failed, and a retry is due
    agent live:1 1=live*                 NOT_READY   -             epoch 1 is live, and was not yet seen to listen for clients
    looked 3 1=unknown                   READY       ready current epoch 1 serves what is desired
    ");
}

#[test]
fn the_end_is_terminating_from_the_signal_on_while_clients_are_still_served() {
    let script = "
        # The end.
        0 read 1 ok A
        +1ms taken 1 changed
        +1ms agent live:0 0=live*
        +1ms settled 1 live:0
        +1ms signal TERM
        +1ms agent draining ending 0=live*
        +1ms signal TERM
        +1ms agent stopping ending 0=aborting*
        +1ms ended skipped";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: no configuration was read yet
    read 1 ok A                          NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent live:0 0=live*                 READY       ready current epoch 0 serves what is desired
    settled 1 live:0                     READY       ready current epoch 0 serves what is desired
    signal TERM                          TERMINATING -             draining: new clients should go elsewhere
    agent draining ending 0=live*        TERMINATING -             draining: new clients should go elsewhere
    signal TERM                          TERMINATING -             stopping without a drain
    agent stopping ending 0=aborting*    TERMINATING -             stopping without a drain
    ended skipped                        TERMINATING -             everything has ended
    ");
}

#[test]
fn an_end_that_nobody_has_asked_for_is_terminating_too() {
    let script = "
        # The agent ends by itself.
        0 read 1 ok A
        +1ms taken 1 changed
        +1ms agent live:0 0=live*
        +1ms agent stopping ending
        +1ms ended gave_up";
    insta::assert_snapshot!(verdicts(script), @r"
    (new)                                NOT_READY   -             nothing serves: no configuration was read yet
    read 1 ok A                          NOT_READY   -             nothing serves: it was asked for just now
    taken 1 changed                      NOT_READY   -             nothing serves: it was asked for just now
    agent live:0 0=live*                 READY       ready current epoch 0 serves what is desired
    agent stopping ending                TERMINATING -             stopping without a drain
    ended gave_up                        TERMINATING -             everything has ended
    ");
}
