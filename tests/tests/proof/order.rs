//! A start that waits for its files, and an instance that ends with its job.

use handover_test_support::require_any_envoy;

use crate::world::{LIMIT, Site};

/// A certificate and a configuration come after the start, as from a sidecar that fetches them.
#[tokio::test]
async fn envoy_starts_once_its_files_are_there_and_drains_when_its_job_is_done() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let at = |name: &str| site.dir.path().join(name);
    let text = |path: &std::path::Path| path.to_str().expect("the path is text").to_owned();
    let done = at("done");
    let mut supervisor = site
        .launch(&envoy)
        .args(["--wait-for-file", &text(&site.file())])
        .args(["--wait-for-file", &text(&at("certs/tls.crt"))])
        .args(["--exit-with-file", &text(&done)])
        .start();
    supervisor.wait_for_line("nothing is started yet: ", LIMIT);
    site.write("v0");
    std::fs::create_dir(at("certs")).expect("it is not there");
    assert_eq!(supervisor.children(), [0; 0]);
    std::fs::write(at("certs/tls.crt"), "a certificate").expect("a file");
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let answer = handover_test_support::http::get(site.listener.addr(), "/", LIMIT);
    let answer = answer.expect("Envoy answers");
    assert_eq!(answer.header("x-config"), Some("v0"));
    std::fs::write(&done, "").expect("a file");
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    supervisor.wait_for_line("the job is done, as its file has appeared: draining", LIMIT);
    site.assert_nothing_left();
}
