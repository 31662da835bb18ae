//! Real ends, and what they are taken for.

use std::net::TcpListener;

use handover_envoy::failure::Failure;

use crate::support::{Epoch, Host, envoy};

fn failure(epoch: &mut Epoch) -> Failure {
    let status = epoch.wait();
    Failure::classify(status, &epoch.stderr(), false)
}

#[tokio::test]
async fn the_reasons_of_failed_starts_are_recognised() {
    let Some(binary) = envoy("the_reasons_of_failed_starts_are_recognised") else {
        return;
    };
    let host = Host::new(binary);

    host.write(0, "static_resources: {listenerz: []}");
    let rejected = failure(&mut host.start(0));
    assert!(
        matches!(&rejected, Failure::ConfigurationRejected { message } if message.contains("'listenerz'")),
        "{rejected}"
    );

    let taken = TcpListener::bind(host.web).unwrap();
    host.write(0, &host.config(host.web));
    assert_eq!(
        failure(&mut host.start(0)).to_string(),
        format!("cannot listen on {}: Address already in use", host.web)
    );
    drop(taken);

    host.write(0, &host.config(host.web));
    let id = host.base_id.id();
    let unknown = [
        host.args.serve("x".as_ref(), 0, id),
        vec!["--nonsense".into()],
    ]
    .concat();
    let refused = failure(&mut Epoch::spawn(&host.binary, &unknown));
    assert!(
        matches!(refused, Failure::ArgumentsRejected { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn the_reasons_of_failed_hand_overs_are_recognised() {
    let Some(binary) = envoy("the_reasons_of_failed_hand_overs_are_recognised") else {
        return;
    };
    let host = Host::new(binary);
    host.write(1, &host.config(host.web));
    let absent = failure(&mut host.start(1));
    assert!(matches!(absent, Failure::SharedMemory { .. }), "{absent}");

    let mut first = host.start_live(0).await;
    let conflict = failure(&mut host.start(0));
    let expected = Failure::BaseIdConflict {
        base_id: Some(host.base_id.id().get()),
        slot: Some(0),
    };
    assert_eq!(conflict, expected);

    let status = first.kill();
    let killed = Failure::classify(status, &first.stderr(), false);
    assert_eq!(killed, Failure::Killed { signal: 9 });
}
