//! What holds of any bytes that an admin endpoint answers.

use std::collections::BTreeSet;

use super::{Exclude, ServerInfo, certificates, init_dump, stats};
use crate::bootstrap::{Bootstrap, Format};
use crate::fuzzing::assert_printable;

/// What the answers are compared with.
const CONFIGURATION: &[u8] = b"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - {name: web, address: {socket_address: {address: 0.0.0.0, port_value: 80}}}
  - {name: b, stat_prefix: b, address: {pipe: {path: /run/b}}}
  - {name: inside, internal_listener: {}}
";

/// Reads the bytes as an answer of each path.
///
/// # Panics
///
/// If an error or a text for people is not printable, or if connections are counted that no
/// statistic tells of.
pub fn admin_answers(bytes: &[u8]) {
    match ServerInfo::parse(bytes) {
        Ok(info) => {
            for text in [
                &info.state.to_string(),
                &info.version,
                &info.hot_restart_version,
            ] {
                assert_printable(text);
            }
        }
        Err(error) => assert_printable(&error),
    }
    match init_dump::parse(bytes) {
        Ok(names) => {
            for name in &names.others {
                assert_printable(name);
            }
            let unique: BTreeSet<_> = names.others.iter().collect();
            assert_eq!(unique.len(), names.others.len(), "{names:?}");
        }
        Err(error) => assert_printable(&error),
    }
    let fetched = serde_json::from_slice(bytes);
    if let (Ok(fetched), Ok(contexts)) = (fetched, serde_json::from_slice(bytes)) {
        let unused = certificates::judge(&BTreeSet::new(), &fetched, &contexts);
        let told = certificates::told(&unused, &fetched, &contexts, &[], &[]);
        // Nothing was tried, so nothing was of use.
        assert_eq!(told.refused, told.never_used);
    }
    let internal = stats::internal(bytes);
    if let Err(error) = &internal {
        assert_printable(error);
    }
    match stats::parse(bytes) {
        Ok(stats) => connections(&stats, &internal.unwrap_or_default()),
        Err(error) => assert_printable(&error),
    }
}

/// Counts connections with and without a configuration.
fn connections(stats: &[(String, u64)], internal: &BTreeSet<String>) {
    let configured = Bootstrap::parse(CONFIGURATION, Format::Yaml).map(|it| it.listeners);
    for listeners in [Vec::new(), configured.unwrap_or_default()] {
        let active = stats::active(stats, &Exclude::default(), &listeners, internal, false);
        let Ok(active) = active else {
            continue;
        };
        for listener in active {
            let gauge = format!("listener.{}.downstream_cx_active", listener.listener);
            let most = stats.iter().filter(|(name, _)| *name == gauge);
            let most = most.map(|(_, count)| *count).max();
            assert!(listener.active > 0 && Some(listener.active) <= most);
        }
    }
}
