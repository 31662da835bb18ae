//! An admin endpoint that refuses a question, by a rule that Envoy alone understands.

use std::time::{Duration, Instant};

use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::require_envoy;

use crate::unseen::{is_given_up, serves_again, with_admin};
use crate::world::{Setup, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_refuses_the_question_is_ended_at_once_and_the_old_configuration_serves_again()
 {
    let envoy = AnyEnvoy::real(require_envoy!());
    let mut setup = Setup {
        // The new one, which nobody sees, must not end the old one before.
        parent_shutdown_time: Duration::from_secs(20),
        ..Setup::brisk()
    };
    // To be started again costs the old configuration no retry.
    setup.policy.retry.max_retries = 0;
    let mut world = World::with(&envoy, setup).await;
    world.events();
    let port = world.addresses().1.port();
    // An expression that only Envoy understands, so that nobody knows before it is asked.
    let text = with_admin(
        &world,
        "v1",
        &format!(
            "admin:\n  allow_paths: [{{ safe_regex: {{ regex: '/ready\\p{{Greek}}*' }} }}]\n  \
             address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}"
        ),
    );
    let asked = Instant::now();
    let why = is_given_up(&world, &text).await;
    // The start deadline is a minute.
    assert!(asked.elapsed() < Duration::from_secs(30), "{why}");
    for told in ["/server_info with 403", "admin.allow_paths"] {
        assert!(why.contains(told), "{why}");
    }
    serves_again(&mut world).await;
    println!("=== refused: {} requests lost", world.failed());
    world.hand_over("better", 2).await;
    world.finish().await;
}
