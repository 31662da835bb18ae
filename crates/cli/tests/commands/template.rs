//! `--template`. What needs a real Envoy is with the tests of the workspace.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;

use crate::support::{
    Running, children_of, eventually, finish, handover, output_of, skipped, stderr, stdout,
};

struct Template {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl Template {
    fn new(name: &'static str, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        Self { dir, name }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.name)
    }
}

/// `validate --template --print` of the file.
fn printed(path: &Path, env: &[(&str, &str)], more: &[&str]) -> Output {
    let path = path.to_str().unwrap();
    let words = ["validate", "--template", "--print", "--config-path", path];
    let mut command = handover(words.iter().chain(more));
    finish(command.envs(env.iter().copied()))
}

#[test]
fn what_is_rendered_is_printed_as_it_is() {
    let text = "\
node: {{ node_id }}
port: {{ env.PORT_OF_TEST | int + epoch }}
upstream: {{ resolve('localhost:80') }}
last line without an end";
    let template = Template::new("envoy.yaml", text);
    let env = [("PORT_OF_TEST", "9901")];
    let output = printed(&template.path(), &env, &["--service-node", "front-1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output), @r"
    node: front-1
    port: 9901
    upstream: 127.0.0.1:80
    last line without an end
    ");
}

/// The overlay has the extension of a template, and the number of the epoch.
#[test]
fn overlays_are_merged_and_rendered_like_the_file() {
    let admin = "admin: {address: {pipe: {path: /run/{{ env.NAME_OF_TEST }}.sock}}}";
    let main = Template::new("envoy.yaml", admin);
    let first = Template::new(
        "first.json.j2",
        r#"{"node": {"id": "{{ node_id }}-{{ epoch }}"}}"#,
    );
    let second = Template::new("second.yaml", "node: {cluster: c}\n");
    let overlays = [first.path(), second.path()];
    let [first, second] = overlays.each_ref().map(|path| path.to_str().unwrap());
    let node = ["--service-node", "front-1"];
    let flags = ["--config-overlay", first, "--config-overlay", second];
    let flags: Vec<_> = flags.into_iter().chain(node).collect();
    let env = [("NAME_OF_TEST", "a")];
    let output = printed(&main.path(), &env, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let merged = stdout(&output);
    insta::assert_snapshot!(merged, @r#"
    admin:
      address:
        pipe:
          path: /run/a.sock
    node:
      id: "front-1-0"
      cluster: c
    "#);
    // The variable has the same, with commas.
    let both = format!("{first},{second}");
    let env = [env[0], ("HANDOVER_CONFIG_OVERLAY", &*both)];
    assert_eq!(stdout(&printed(&main.path(), &env, &node)), merged);
    // An overlay that cannot be rendered is named.
    std::fs::write(&overlays[1], "node: {{ nothing }}").unwrap();
    let output = printed(&main.path(), &env, &node);
    assert_eq!(output.status.code(), Some(65));
    let named = format!("{second}, line 1: nothing is not known");
    assert!(stderr(&output).contains(&named), "{}", stderr(&output));
}

/// The block that handover needs may be in the overlay, and an overlay that is missing is named.
#[test]
fn a_file_without_an_admin_block_gets_it_from_an_overlay() {
    let main = Template::new("envoy.yaml", "node: {id: x}\n");
    let ours = Template::new("ours.yaml", "admin: {address: {pipe: {path: /a}}}\n");
    let (main, overlay) = (main.path(), ours.path());
    let words = [
        "validate",
        "--print",
        "--config-path",
        main.to_str().unwrap(),
        "--config-overlay",
    ];
    let printed = || output_of(words.into_iter().chain([overlay.to_str().unwrap()]));
    let output = printed();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let expected = "node:\n  id: x\nadmin:\n  address:\n    pipe:\n      path: /a\n";
    assert_eq!(stdout(&output), expected);
    std::fs::remove_file(&overlay).unwrap();
    let output = printed();
    assert_eq!(output.status.code(), Some(65));
    let named = format!("cannot read the overlay {}", overlay.display());
    assert!(stderr(&output).contains(&named), "{}", stderr(&output));
}

#[test]
fn the_addresses_are_those_that_private_ips_prints() {
    let addresses = stdout(&output_of(["private-ips", "--timeout", "0s"]));
    if addresses.is_empty() {
        let test = "template::the_addresses_are_those_that_private_ips_prints";
        skipped(test, "this node has no address");
        return;
    }
    let template = Template::new("e.yaml", "{{ private_ips | join('\n') }}");
    assert_eq!(
        stdout(&printed(&template.path(), &[], &[])),
        addresses,
        "of the template and of the command"
    );
}

#[test]
fn what_cannot_be_rendered_is_named_with_file_and_line_before_anything_starts() {
    for (text, reason) in [
        ("a: 1\nb: {{ nothing }}", "line 2: nothing is not known"),
        (
            "a: {{ env.NO_SUCH_VARIABLE }}",
            "line 1: the environment variable NO_SUCH_VARIABLE is not set",
        ),
        ("\n\na: {{ node_id }}", "line 3: node_id is not known"),
        ("a: {{ 1", "line 1: not the syntax"),
        (
            "a: {{ resolve('nowhere.invalid:80') }}",
            "cannot resolve \"nowhere.invalid:80\"",
        ),
        ("a: {{ resolve('localhost') }}", "has no port"),
    ] {
        let template = Template::new("envoy.yaml", text);
        let path = template.path();
        let path = path.to_str().unwrap();
        for command in ["run", "validate"] {
            let flags = ["--template", "--config-path", path, "--envoy-path"];
            let words = [command].into_iter().chain(flags).chain(["/bin/true"]);
            let output = output_of(words);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(65), "{said}");
            let last = said.lines().last().unwrap();
            assert!(last.contains(path), "{said}");
            assert_eq!(last.matches(reason).count(), 1, "{said}");
        }
    }
}

#[test]
fn a_rendered_configuration_must_have_what_run_needs() {
    let template = Template::new("envoy.yaml.j2", "{{ 'static_resources' }}: {}");
    let path = template.path();
    let words = ["validate", "--template", "--config-path"];
    let words = words.into_iter().chain([path.to_str().unwrap()]);
    let output = output_of(words.chain(["--envoy-path", "/bin/true"]));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(65), "{said}");
    // It was read as YAML: as JSON it would be no document at all.
    assert!(said.contains("has no admin address"), "{said}");
}

#[test]
fn a_variable_switches_templates_on_and_off() {
    let template = Template::new("envoy.yaml", "a: {{ nothing }}");
    let path = template.path();
    let flags = ["validate", "--envoy-path", "/bin/true", "--config-path"];
    for (value, reason) in [("1", "nothing is not known"), ("0", "has no admin address")] {
        let mut command = handover(flags.into_iter().chain([path.to_str().unwrap()]));
        let output = finish(command.env("HANDOVER_TEMPLATE", value));
        assert_eq!(output.status.code(), Some(65));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn only_a_template_is_printed() {
    let output = output_of(["validate", "--print", "--config-path", "/etc/envoy.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("--template"),
        "{}",
        stderr(&output)
    );
}

/// Each of these ended the whole program, took gigabytes, or never ended.
#[test]
fn no_template_takes_more_than_its_limits() {
    let many = |part: &str| part.repeat(100_000);
    let twice = |start: &str, step: &str| {
        format!(
            "{{% set n = namespace(v={start}) %}}{{% for i in range(100) %}}\
             {{% set n.v = {step} %}}{{% endfor %}}{{{{ n.v }}}}"
        )
    };
    for (text, limits) in [
        (
            "{% set n = namespace() %}{% set n.a = n %}{{ n }}".to_owned(),
            &["stack"][..],
        ),
        (
            "{% set n = namespace() %}{% set n.a = [n] %}{{ n | tojson }}".to_owned(),
            &["stack"],
        ),
        (format!("{{{{ 1{} }}}}", many(" ~ 1")), &["stack"]),
        (format!("{{{{ {}1 }}}}", many("not ")), &["stack"]),
        (format!("{{{{ env{} }}}}", many(".a")), &["stack"]),
        (
            "{{ 'a\nb' | indent(1000000000000) }}".to_owned(),
            &["steps", "memory"],
        ),
        ("{{ 'a' * 10000000000 }}".to_owned(), &["steps", "memory"]),
        (twice("'text'", "n.v ~ n.v"), &["steps", "memory"]),
        (twice("[1]", "[n.v, n.v]"), &["steps", "memory", "time"]),
    ] {
        let template = Template::new("bomb.yaml", &text);
        let output = printed(&template.path(), &[], &[]);
        let said = stderr(&output);
        let start: String = text.chars().take(60).collect();
        assert_eq!(output.status.code(), Some(65), "{start}: {said}");
        assert!(said.contains("bomb.yaml"), "{start}: {said}");
        assert!(
            limits.iter().any(|limit| said.contains(limit)),
            "{start}: {said}"
        );
    }
}

/// An upgrade replaces the file of the program while it runs.
#[test]
fn a_template_is_rendered_although_the_file_of_the_program_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("handover");
    let original = handover([""; 0]);
    std::fs::copy(original.get_program(), &program).unwrap();
    // It waits for who writes into the pipe, and the file goes meanwhile.
    let path = dir.path().join("envoy.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["validate", "--template", "--print", "--config-path"]);
    let mut running = Running::start(command.arg(&path));
    let mut pipe = std::fs::File::options().write(true).open(&path).unwrap();
    std::fs::remove_file(&program).unwrap();
    pipe.write_all(b"{{ 1 + 1 }}").unwrap();
    drop(pipe);
    assert_eq!(running.code(), 0, "{:?}", running.stderr.all());
    assert_eq!(running.stdout.all(), ["2"]);
}

#[test]
fn nothing_that_renders_outlives_the_program_that_waits_for_it() {
    let forever = "{% set n = namespace(v=[1]) %}{% for i in range(100) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v }}";
    let template = Template::new("envoy.yaml", forever);
    let path = template.path();
    let words = ["validate", "--template", "--print", "--config-path"];
    let running = Running::start(handover(words).arg(&path));
    let renders = eventually("the process that renders", || {
        children_of(running.pid()).first().copied()
    });
    running.signal(Signal::KILL);
    let process = PathBuf::from(format!("/proc/{}", renders.as_raw_nonzero()));
    eventually("its end", || (!process.exists()).then_some(()));
}
