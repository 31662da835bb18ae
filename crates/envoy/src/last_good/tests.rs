use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const DOCUMENT: &str = "admin: {address: {pipe: {path: /run/admin.sock}}}\n";

fn state() -> (tempfile::TempDir, LastKnownGood) {
    let parent = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let state = LastKnownGood::open(&parent.path().join("state")).unwrap();
    (parent, state)
}

fn config(document: &str) -> EnvoyConfig {
    EnvoyConfig::parse(Path::new("/etc/envoy.yaml"), document.as_bytes().to_vec()).unwrap()
}

fn live(seconds: u64) -> WentLive {
    WentLive {
        at: UNIX_EPOCH + Duration::from_secs(seconds),
        envoy: "1.40.0".to_owned(),
    }
}

#[test]
fn what_is_stored_is_loaded_and_only_the_owner_can_read_it() {
    let (_parent, state) = state();
    assert_eq!(state.load().unwrap(), None);
    let config = config(DOCUMENT);
    assert_eq!(state.store(&config, &live(7)).unwrap(), Stored::Written);
    let mode = fs::metadata(state.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = fs::metadata(state.dir.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // Another process, later.
    let again = LastKnownGood::open(state.dir.path()).unwrap();
    let kept = again.load().unwrap().unwrap();
    assert_eq!(kept.config, config);
    assert_eq!(kept.config.source(), Path::new("/etc/envoy.yaml"));
    assert_eq!(kept.digest, Digest::of(DOCUMENT.as_bytes()));
    assert_eq!((kept.at, &*kept.envoy), (live(7).at, "1.40.0"));
}

#[test]
fn what_was_rendered_from_a_template_keeps_its_format() {
    let (_parent, state) = state();
    let source = Path::new("/etc/envoy.yaml.j2");
    let content = DOCUMENT.as_bytes().to_vec();
    let config = EnvoyConfig::parse_as(source, content, Format::Yaml).unwrap();
    state.store(&config, &live(7)).unwrap();
    assert_eq!(state.load().unwrap().unwrap().config, config);
}

#[test]
fn what_overlays_were_merged_to_is_yaml_under_the_name_of_any_file() {
    let (_parent, state) = state();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let admin = r#"{"admin": {"address": {"pipe": {"path": "/a"}}}}"#;
    fs::write(at("envoy.json"), admin).unwrap();
    fs::write(at("ours.yaml"), "node: {id: x}").unwrap();
    let never = std::sync::atomic::AtomicBool::new(false);
    let merged = EnvoyConfig::read_merged_unless(&at("envoy.json"), &[at("ours.yaml")], &never);
    let merged = merged.unwrap();
    assert_eq!(merged.format(), Format::Yaml);
    state.store(&merged, &live(7)).unwrap();
    assert_eq!(state.load().unwrap().unwrap().config, merged);
}

#[test]
fn the_same_configuration_is_not_written_again_and_a_damaged_file_is() {
    let (_parent, state) = state();
    let config = config(DOCUMENT);
    state.store(&config, &live(7)).unwrap();
    assert_eq!(state.store(&config, &live(8)).unwrap(), Stored::Unchanged);
    assert_eq!(state.load().unwrap().unwrap().at, live(7).at);
    let newer = WentLive {
        envoy: "1.41.0".to_owned(),
        ..live(9)
    };
    assert_eq!(state.store(&config, &newer).unwrap(), Stored::Written);
    fs::write(state.path(), "x").unwrap();
    assert_eq!(state.store(&config, &newer).unwrap(), Stored::Written);
    assert_eq!(state.load().unwrap().unwrap().envoy, "1.41.0");
}

#[test]
fn a_file_with_any_byte_changed_or_missing_is_refused() {
    let (_parent, state) = state();
    state.store(&config(DOCUMENT), &live(7)).unwrap();
    let good = fs::read(state.path()).unwrap();
    for place in 0..good.len() {
        let mut changed = good.clone();
        changed[place] ^= 1;
        fs::write(state.path(), &changed).unwrap();
        let refused = state.load().unwrap_err();
        assert!(
            matches!(
                refused,
                LastGoodError::Damaged { .. } | LastGoodError::OtherVersion { .. }
            ),
            "{place}: {refused}"
        );
        fs::write(state.path(), &good[..place]).unwrap();
        assert!(state.load().is_err(), "cut at {place}");
    }
    fs::write(state.path(), [&good[..], b"\n"].concat()).unwrap();
    assert!(state.load().is_err());
    fs::write(state.path(), &good).unwrap();
    assert!(state.load().unwrap().is_some());
}

/// A file with a first line that fits the rest.
fn signed(rest: &[u8]) -> Vec<u8> {
    let first = format!("{MAGIC} {VERSION} {}\n", Digest::of(rest));
    [first.as_bytes(), rest].concat()
}

#[test]
fn every_refusal_tells_the_reason() {
    let (_parent, state) = state();
    let about = |format: &str, bytes: usize, live: u64| {
        format!(
            r#"{{"source":"/e.yaml","format":"{format}","live_unix_ms":{live},"envoy":"x","bytes":{bytes}}}"#
        )
    };
    let unusable = format!("{}\nstatic: 1", about("yaml", 9, 1));
    let other = format!("{}\n{DOCUMENT}", about("json", DOCUMENT.len(), 1));
    let short = format!("{}\n{DOCUMENT}", about("yaml", 1, 1));
    let files: [(&[u8], &str); 8] = [
        (b"", "it has no first line"),
        (b"\x7fELF\n", "something else has written it"),
        (b"handover-last-known-good 2 x\n", "has format \"2\""),
        (b"handover-last-known-good 1 x\n", "holds no checksum"),
        (&signed(b"nothing"), "no second line"),
        (&signed(b"{}\n"), "second line is not understood"),
        (&signed(short.as_bytes()), "more or less than it says"),
        (&signed(other.as_bytes()), "/e.yaml is not json"),
    ];
    for (content, reason) in files {
        fs::write(state.path(), content).unwrap();
        let refused = state.load().unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
        assert!(refused.contains("remove it"), "{refused}");
    }
    fs::write(state.path(), signed(unusable.as_bytes())).unwrap();
    let refused = state.load().unwrap_err();
    assert!(
        matches!(refused, LastGoodError::Unusable { .. }),
        "{refused}"
    );
}

#[test]
fn what_others_could_have_written_is_refused() {
    let (_parent, state) = state();
    state.store(&config(DOCUMENT), &live(7)).unwrap();
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o620)).unwrap();
    let refused = state.load().unwrap_err().to_string();
    assert!(refused.contains("mode 620"), "{refused}");

    let elsewhere = state.dir.path().join("elsewhere");
    fs::rename(state.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, state.path()).unwrap();
    let refused = state.load().unwrap_err().to_string();
    assert!(refused.contains("symbolic link"), "{refused}");

    fs::remove_file(state.path()).unwrap();
    fs::create_dir(state.path()).unwrap();
    let refused = state.load().unwrap_err().to_string();
    assert!(refused.contains("not a file"), "{refused}");
    let failed = state.store(&config(DOCUMENT), &live(7)).unwrap_err();
    assert!(matches!(failed, LastGoodError::Write { .. }), "{failed}");

    fs::set_permissions(state.dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let elsewhere = LastKnownGood::open(state.dir.path()).unwrap();
    assert_ne!(elsewhere.dir, state.dir);
    assert!(elsewhere.load().unwrap().is_none());
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let (_parent, state) = state();
    state.store(&config(DOCUMENT), &live(7)).unwrap();
    let file = File::options().append(true).open(state.path()).unwrap();
    // A hole, which takes no space on the disk.
    file.set_len(1 << 40).unwrap();
    let refused = state.load().unwrap_err().to_string();
    assert!(refused.contains("larger than"), "{refused}");
}

#[test]
fn instances_that_store_at_once_never_tear_the_file() {
    let (_parent, state) = state();
    let configs: Vec<_> = (1..4)
        .map(|n| config(&DOCUMENT.replace("admin.sock", &"x".repeat(n * 500))))
        .collect();
    state.store(&configs[0], &live(0)).unwrap();
    std::thread::scope(|scope| {
        for config in &configs {
            let state = state.clone();
            scope.spawn(move || {
                for time in 0..20 {
                    state.store(config, &live(time)).unwrap();
                }
            });
        }
        for _ in 0..100 {
            let kept = state.load().unwrap().unwrap();
            assert!(configs.contains(&kept.config));
        }
    });
}

/// The last millisecond of 9999 can be shown; the next one ended the program.
#[test]
fn a_time_that_cannot_be_shown_is_refused() {
    let (_parent, state) = state();
    for (live, shown) in [
        (0, Some("1970-01-01T00:00:00Z")),
        (253_402_300_799_999, Some("9999-12-31T23:59:59Z")),
        (253_402_300_800_000, None),
        (u64::MAX, None),
    ] {
        let about = format!(
            r#"{{"source":"/e.yaml","format":"yaml","live_unix_ms":{live},"envoy":"x","bytes":{}}}"#,
            DOCUMENT.len()
        );
        fs::write(
            state.path(),
            signed(format!("{about}\n{DOCUMENT}").as_bytes()),
        )
        .unwrap();
        let at = match state.load() {
            Ok(kept) => Some(humantime::format_rfc3339_seconds(kept.unwrap().at).to_string()),
            Err(refused) => {
                assert!(refused.to_string().contains("its time is out of range"));
                None
            }
        };
        assert_eq!(at.as_deref(), shown, "{live}");
    }
    let late = WentLive {
        at: UNIX_EPOCH + Duration::from_secs(1 << 40),
        ..live(0)
    };
    state.store(&config(DOCUMENT), &late).unwrap();
    let kept = state.load().unwrap().unwrap();
    assert!(
        humantime::format_rfc3339_seconds(kept.at)
            .to_string()
            .starts_with("9999")
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        about in r#"(\{|\}|"(source|format|live_unix_ms|envoy|bytes)":|"/e.yaml"|"yaml"|,|[0-9]{1,20}|\n|a: b){0,20}"#,
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..50),
    ) {
        let (_parent, state) = state();
        for content in [signed(&[about.as_bytes(), &rest].concat()), rest] {
            fs::write(state.path(), content).unwrap();
            let _refused = state.load().is_err();
        }
    }
}
