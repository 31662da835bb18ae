use super::command_line::quoted;
use super::*;
use crate::bootstrap::Bootstrap;

fn with_extra(extra: &[&str]) -> Result<EnvoyArgs, ArgsError> {
    EnvoyArgs::new(ArgsOptions {
        concurrency: None,
        extra: extra.iter().map(|&arg| arg.to_owned()).collect(),
        ..ArgsOptions::default()
    })
}

fn shown(args: &[OsString]) -> String {
    args.iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn everything() -> EnvoyArgs {
    EnvoyArgs::new(ArgsOptions {
        drain_time: Duration::from_secs(5),
        parent_shutdown_time: Duration::from_secs(8),
        drain_strategy: DrainStrategy::Immediate,
        service_cluster: Some("front".to_owned()),
        service_node: Some("node-1".to_owned()),
        log_level: Some("debug".to_owned()),
        component_log_level: Some("upstream:trace".to_owned()),
        concurrency: NonZeroU32::new(4),
        local_address_ip_version: Some(IpVersion::V6),
        extra: [
            "--stats-tag",
            "a:b",
            "--service-zone",
            "-z",
            "--stats-tag",
            "c:d",
        ]
        .map(str::to_owned)
        .to_vec(),
    })
    .unwrap()
}

#[test]
fn every_option_is_rendered_as_two_arguments() {
    let args = everything().serve(
        Path::new("/run/envoy-rev3.yaml"),
        3,
        BaseId::new(7).unwrap(),
    );
    insta::assert_snapshot!(shown(&args), @"
    -c
    /run/envoy-rev3.yaml
    --restart-epoch
    3
    --base-id
    7
    --drain-time-s
    5
    --parent-shutdown-time-s
    8
    --drain-strategy
    immediate
    --concurrency
    4
    --log-level
    debug
    --component-log-level
    upstream:trace
    --service-cluster
    front
    --service-node
    node-1
    --local-address-ip-version
    v6
    --stats-tag
    a:b
    --service-zone
    -z
    --stats-tag
    c:d
    ");
}

#[test]
fn validation_has_what_decides_and_a_log_level_that_tells_why() {
    let args = everything().validate(Path::new("/run/envoy-rev3.yaml"));
    insta::assert_snapshot!(shown(&args), @"
    --mode
    validate
    -c
    /run/envoy-rev3.yaml
    --concurrency
    4
    --log-level
    warning
    --service-cluster
    front
    --service-node
    node-1
    --local-address-ip-version
    v6
    --stats-tag
    a:b
    --service-zone
    -z
    --stats-tag
    c:d
    ");
}

#[test]
fn the_default_passes_the_concurrency_explicitly() {
    let args = EnvoyArgs::new(ArgsOptions::default()).unwrap();
    let count = std::thread::available_parallelism().unwrap().get();
    let line = shown(&args.serve(Path::new("c.yaml"), 0, BaseId::new(0).unwrap()));
    assert!(line.contains(&format!("--concurrency\n{count}")), "{line}");
    assert_eq!(args.drain_time(), Duration::from_secs(45));
    assert_eq!(args.parent_shutdown_time(), Duration::from_secs(60));
}

#[test]
fn the_users_own_flags_fill_fields_that_are_not_set() {
    let args = with_extra(&[
        "-l",
        "warn",
        "--concurrency",
        "3",
        "--drain-strategy",
        "immediate",
    ]);
    let args = args.unwrap();
    assert_eq!(args.concurrency().get(), 3);
    let line = shown(&args.serve(Path::new("c"), 0, BaseId::new(1).unwrap()));
    assert_eq!(line.matches("--concurrency").count(), 1);
    assert!(line.contains("--log-level\nwarn"), "{line}");
    assert!(line.contains("--drain-strategy\nimmediate"), "{line}");
}

#[test]
fn every_refusal_tells_reason_and_remedy() {
    let flags = [
        "-c",
        "--config-path",
        "--config-yaml",
        "--restart-epoch",
        "--base-id",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        "--socket-path",
        "--socket-mode",
        "--mode",
        "--drain-time-s",
        "--parent-shutdown-time-s",
        "--cpuset-threads",
        "--version",
        "--hot-restart-version",
        "-h",
        "--help",
        "--",
        "--ignore_rest",
    ];
    let mut sentences = Vec::new();
    for flag in flags {
        let apart = with_extra(&[flag, "x"]).unwrap_err();
        assert_eq!(with_extra(&[&format!("{flag}=x")]).unwrap_err(), apart);
        // After a switch and after a value it is refused as well.
        assert_eq!(
            with_extra(&["--enable-core-dump", flag]).unwrap_err(),
            apart
        );
        assert_eq!(
            with_extra(&["--service-zone", "z", flag]).unwrap_err(),
            apart
        );
        assert_eq!(
            with_extra(&["--flag-of-tomorrow", flag]).unwrap_err(),
            apart
        );
        sentences.push(apart.to_string());
    }
    insta::assert_snapshot!("refused", sentences.join("\n"));
}

#[test]
fn a_value_that_looks_like_a_flag_stays_a_value() {
    assert!(with_extra(&["--service-zone", "-c"]).is_ok());
}

#[test]
fn what_envoy_would_refuse_or_misread_is_refused() {
    let sentences: Vec<_> = [
        &["--service-zone=eu"][..],
        &["-ch"],
        &["-linfo"],
        &["-"],
        &[""],
        &["stray"],
        &["--enable-core-dump", "stray"],
        &["--service-zone"],
        &["--service-zone", "a", "--service-zone", "b"],
        &["-l", "info", "--log-level", "info"],
        &["--log-level", "off"],
        &["--log-level", "loud"],
        &["--concurrency", "0"],
        &["--concurrency", "-1"],
        &["--drain-strategy", "slow"],
        &["--local-address-ip-version", "v5"],
        &["--service-zone", "a\0b"],
    ]
    .iter()
    .map(|extra| with_extra(extra).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!("misread", sentences.join("\n"));
}

#[test]
fn a_flag_in_a_field_and_in_the_arguments_is_a_duplicate() {
    let error = EnvoyArgs::new(ArgsOptions {
        service_node: Some("a".to_owned()),
        extra: vec!["--service-node".to_owned(), "b".to_owned()],
        ..ArgsOptions::default()
    });
    assert_eq!(
        error.unwrap_err(),
        ArgsError::Duplicate("--service-node".to_owned())
    );
}

#[test]
fn times_are_whole_seconds_and_in_order() {
    let times = |drain_time, parent_shutdown_time| {
        EnvoyArgs::new(ArgsOptions {
            drain_time,
            parent_shutdown_time,
            ..ArgsOptions::default()
        })
    };
    let second = Duration::from_secs(1);
    assert!(times(Duration::ZERO, second).is_ok());
    let sentences: Vec<_> = [
        times(Duration::from_millis(1500), 5 * second),
        times(second, Duration::from_millis(2500)),
        times(5 * second, 5 * second),
        times(second, Duration::from_secs(u64::from(u32::MAX) + 1)),
        times(second, Duration::new(u64::from(u32::MAX), 1)),
        times(second, Duration::MAX),
    ]
    .into_iter()
    .map(|result| result.unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!("times", sentences.join("\n"));
}

#[test]
fn a_shell_reads_the_command_line_as_it_is_meant() {
    let words = [
        "plain",
        "two words",
        "it's",
        "$HOME `x` \\ \"",
        "",
        "*",
        "ä",
    ];
    let line: Vec<_> = words.iter().map(|word| quoted(word.as_ref())).collect();
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("printf '%s\\n' {}", line.join(" "))])
        .output()
        .unwrap();
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(read.lines().collect::<Vec<_>>(), words);
    assert_eq!(line[0], "plain");
}

#[test]
fn only_listeners_with_a_socket_for_each_worker_lose_connections() {
    let bootstrap = |listeners: &str| {
        let text = format!(
            "{{admin: {{address: {{pipe: {{path: /a}}}}}}, static_resources: {{listeners: [{listeners}]}}}}"
        );
        let format = crate::bootstrap::Format::Yaml;
        Bootstrap::parse(text.as_bytes(), format).unwrap()
    };
    let socket = "address: {socket_address: {address: 0.0.0.0, port_value: 80}}";
    let args = everything();
    let risk = |listeners: &str| args.concurrency_risk(NonZeroU32::MIN, &bootstrap(listeners));
    let both = format!(
        "{{name: web, {socket}}}, {{{socket}}}, {{name: off, enable_reuse_port: false, {socket}}}"
    );
    insta::assert_snapshot!(
        risk(&both).unwrap(),
        @"changing --concurrency from 1 to 4 resets some new connections while one epoch hands over to the next, on listener web, a listener without a name: keep --concurrency 1, set enable_reuse_port: false there, or restart cold"
    );
    assert_eq!(risk("{name: pipe, address: {pipe: {path: /b}}}"), None);
    assert_eq!(
        args.concurrency_risk(args.concurrency(), &bootstrap(&both)),
        None
    );
}

#[test]
fn the_command_line_is_shown_as_a_shell_takes_it() {
    let args = EnvoyArgs::new(ArgsOptions {
        service_node: Some("node 1".to_owned()),
        ..ArgsOptions::default()
    });
    let config = "/run/envoy.yaml".as_ref();
    let base_id = BaseId::new(7).unwrap();
    let line = args
        .unwrap()
        .command_line("/bin/envoy".as_ref(), config, 0, base_id);
    assert!(line.starts_with("/bin/envoy -c /run/envoy.yaml "), "{line}");
    assert!(line.ends_with(" --service-node 'node 1'"), "{line}");
}
