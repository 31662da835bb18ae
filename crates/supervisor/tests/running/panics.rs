//! A bug of a proxy or of a source must not take what runs along.

use async_trait::async_trait;
use handover_supervisor::agent::core::{Epoch, Outcome, Target};
use handover_supervisor::agent::{Proxy, RunControl, RunError};
use handover_supervisor::control::{Answered, Client, wire};
use handover_supervisor::{Facts, Operate};

use crate::support::{Place, Plain, Running, status_when};

async fn is_drained_after(text: &str, message: &str) {
    let place = Place::with("one");
    let running = Running::start(place.supervisor(Plain));
    status_when(&place, "epoch 0", |status| status.ready).await;
    place.write(text);
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    assert_eq!(ended.exit_code(), 70);
    let problem = ended.problem().unwrap();
    assert!(problem.contains(message), "{problem}");
}

#[tokio::test]
async fn a_panic_of_the_source_drains_what_runs() {
    is_drained_after("a panic", "of the source").await;
}

#[tokio::test]
async fn a_panic_of_a_read_drains_what_runs() {
    is_drained_after("a late panic", "of the read").await;
}

/// It cannot tell of itself.
struct Shy;

#[async_trait]
impl Proxy for Shy {
    type Config = String;

    async fn run(
        &self,
        target: Target<String>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        Plain.run(target, epoch, control).await
    }

    fn cleanup(&self, _epoch: Epoch) {}

    fn panic(&self, _config: &String) {}
}

#[async_trait]
impl Operate for Shy {
    async fn facts(&self) -> Facts {
        panic!("of the proxy")
    }
}

#[tokio::test]
async fn a_panic_of_the_proxy_drains_what_runs_and_whoever_asked_is_answered() {
    let place = Place::with("one");
    let running = Running::start(place.supervisor(Shy));
    let socket = place.socket();
    let answer = Client::new(&socket).get(wire::STATUS).await.unwrap();
    let Answered::Refused(refusal) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refusal.code, wire::Code::Ending);
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    let problem = ended.problem().unwrap();
    assert!(problem.contains("of the proxy"), "{problem}");
}
