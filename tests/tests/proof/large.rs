//! A configuration of many megabytes in YAML, such as a generator writes.

use std::fmt::Write as _;
use std::fs;

use handover_test_support::envoy_config::replace_file;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, Site, World};

/// The configuration of this name, with so many nodes more.
fn large(site: &Site, name: &str, nodes: usize) -> String {
    let mut text = site.config(name).render();
    text += "  - name: large\n    type: STATIC\n    metadata:\n      filter_metadata:\n        large:\n          many:\n";
    for number in 0..nodes {
        writeln!(text, "          - a node with number {number:06}").expect("text takes any text");
    }
    text
}

/// 18 MB of YAML once held up the loop for 20 s: status, TERM and an Envoy that died waited for it.
#[tokio::test]
async fn nothing_waits_while_a_large_configuration_is_read() {
    let envoy = require_envoy!();
    let mut world = World::start(&envoy, &[]);
    world.load.stop().await.assert_no_loss();
    let text = large(&world.site, "v1", 300_000);
    replace_file(&world.site.file(), text.as_bytes());
    world.supervisor.wait_for_line("has changed", LIMIT);
    let status = world.site.status();
    assert_eq!(status["epochs"][0]["state"], "live", "{status:#}");
    world.supervisor.signal(Signal::TERM);
    assert_eq!(world.supervisor.wait_exit(LIMIT).code(), Some(0));
    // Both came before the end of the reading, which nobody wanted any more.
    assert_eq!(world.supervisor.count_lines("starting epoch 1"), 0);
    world.site.assert_nothing_left();
}

/// Memory was 40 times the file.
#[tokio::test]
async fn a_large_configuration_takes_memory_in_the_order_of_its_size() {
    let envoy = require_envoy!();
    let site = Site::new();
    let text = large(&site, "v0", 200_000);
    fs::write(site.file(), &text).expect("it can be written");
    let mut supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let status = fs::read_to_string(format!("/proc/{}/status", supervisor.pid()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak
        .expect("the kernel tells")
        .trim()
        .trim_end_matches(" kB");
    let peak: usize = peak.parse().expect("a number");
    let limit = (5 * text.len() + 20_000_000) / 1024;
    assert!(peak < limit, "{peak} KiB for {} bytes", text.len());
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
