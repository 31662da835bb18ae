//! `--template`. What needs a real Envoy is with the tests of the workspace.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{finish, handover, output_of, skipped, stderr, stdout};

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
            assert!(last.contains(path) && last.contains(reason), "{said}");
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
