use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap()
}

fn reports() -> (tempfile::TempDir, CrashReports) {
    let parent = temporary();
    let reports = CrashReports::open(&parent.path().join("state")).unwrap();
    (parent, reports)
}

fn report(seconds: u64) -> CrashReport {
    CrashReport {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_366_040 + seconds),
        epoch: 3,
        pid: 4711,
        cause: ExitCause::Signal {
            number: 11,
            core_dumped: true,
        },
        failure: Failure::Crashed {
            signal: 11,
            core_dumped: true,
            message: "Caught Segmentation fault".to_owned(),
        },
        note: None,
        config: "/etc/envoy.yaml".into(),
        digest: Digest::of(b""),
        binary: "/usr/bin/envoy".into(),
        version: Some("1.40.0".to_owned()),
        uptime: Duration::from_millis(1500),
        stderr: vec![b"a \"line\"".to_vec(), b"not \xff text".to_vec()],
    }
}

fn names(reports: &CrashReports) -> Vec<String> {
    let entries = fs::read_dir(reports.dir.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_report_tells_all_but_the_configuration() {
    let (_parent, reports) = reports();
    let path = reports.write(&report(0)).unwrap();
    assert!(path.ends_with("crash-20261122T164720000Z-epoch3.json"));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    insta::assert_snapshot!(fs::read_to_string(path).unwrap(), @r#"
    {
      "time": "2026-11-22T16:47:20.000Z",
      "epoch": 3,
      "pid": 4711,
      "label": "core_dumped",
      "failure": "it crashed (signal 11, core dumped): Caught Segmentation fault",
      "note": null,
      "exit_code": null,
      "signal": 11,
      "core_dumped": true,
      "out_of_memory": false,
      "uptime_seconds": 1.5,
      "config": "/etc/envoy.yaml",
      "config_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "binary": "/usr/bin/envoy",
      "version": "1.40.0",
      "stderr": [
        "a \"line\"",
        "not � text"
      ]
    }
    "#);
}

#[test]
fn the_oldest_reports_go_and_other_files_stay() {
    let (_parent, reports) = reports();
    let other = [
        "crash-notes.json",
        "crash-20261122T164720000Z-epochX.json",
        "last-known-good",
    ];
    for name in other {
        fs::write(reports.dir.path().join(name), "x").unwrap();
    }
    let written: Vec<_> = (0..13)
        .map(|second| reports.write(&report(second)).unwrap())
        .collect();
    assert_eq!(reports.list().unwrap(), written[3..]);
    assert_eq!(names(&reports).len(), CrashReports::KEPT + other.len());
    let few = reports.keep(2);
    let last = few.write(&report(99)).unwrap();
    assert_eq!(few.list().unwrap(), [written[12].clone(), last]);
}

#[test]
fn the_last_lines_are_kept_within_the_limits() {
    let mut many = report(0);
    many.stderr = (0..200).map(|n| format!("{n}").into_bytes()).collect();
    let lines = many.last_lines();
    assert_eq!(lines.len(), MAX_LINES);
    assert_eq!((&*lines[0], &*lines[49]), ("150", "199"));

    let mut long = report(0);
    long.stderr = vec![
        b"lost".to_vec(),
        [vec![b'x'; MAX_BYTES], b"end".to_vec()].concat(),
        b"last".to_vec(),
    ];
    let lines = long.last_lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with("xend"));
    assert_eq!(lines[0].len() + lines[1].len(), MAX_BYTES);
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let (_parent, reports) = reports();
    let path = reports.dir.path().join(report(0).file_name());
    fs::create_dir(&path).unwrap();
    let error = reports.write(&report(0)).unwrap_err();
    assert!(matches!(error, ReportError::Write { .. }), "{error}");
    assert!(error.to_string().contains("crash-20261122T164720000Z"));
    assert_eq!(names(&reports).len(), 1);
}

#[test]
fn what_a_killed_agent_has_half_written_is_removed_by_the_next_one() {
    let (_parent, reports) = reports();
    let dir = reports.dir.path();
    let half = dir.join(".crash-20261122T164720123Z-epoch3.json.new");
    let writing = dir.join(".crash-20261122T164720124Z-epoch3.json.new");
    let other = dir.join(".last-known-good.new");
    for path in [&half, &writing, &other] {
        fs::write(path, "half").unwrap();
    }
    let held = fs::File::open(&writing).unwrap();
    held.lock().unwrap();
    CrashReports::open(dir).unwrap();
    assert!(!half.exists() && writing.exists() && other.exists());
}
