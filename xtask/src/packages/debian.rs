//! The Debian package: made by cargo-deb, then installed, upgraded, removed and purged by dpkg in a copy of the
//! machine's file system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::sandbox::{COPY_OF_THE_MACHINE, Sandbox};
use super::{Build, Profile, left};
use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// What the package holds besides the manual pages, each by its mode.
const FILES: [(&str, &str); 12] = [
    ("755", "/usr/bin/handover"),
    ("644", "/usr/lib/systemd/system/handover-envoy.service"),
    ("644", "/usr/lib/systemd/system/handover-exec@.service"),
    ("644", "/usr/lib/systemd/system/handover-exec@.socket"),
    ("644", "/usr/share/bash-completion/completions/handover"),
    ("644", "/usr/share/zsh/vendor-completions/_handover"),
    ("644", "/usr/share/fish/vendor_completions.d/handover.fish"),
    ("644", "/etc/default/handover-envoy"),
    ("644", "/usr/share/doc/handover/examples/before-253.conf"),
    ("644", "/usr/share/doc/handover/changelog.gz"),
    ("644", "/usr/share/doc/handover/LICENSE-APACHE"),
    ("644", "/usr/share/doc/handover/copyright"),
];

/// What the parts of the trial must print: the name of the part, how the lines that count begin, and those lines.
const MUST: [(&str, &str, &[&str]); 10] = [
    ("install", "systemctl ", &[RELOAD]),
    ("conffiles", "", &["/etc/default/handover-envoy"]),
    ("verify", "", &[]),
    ("commands of the units", "", &["/usr/bin/handover"]),
    ("upgrade", "systemctl ", &[RELOAD]),
    ("upgrade", "HANDOVER_", &[CHANGED]),
    ("remove", "systemctl ", &[STOP, RELOAD]),
    ("remove", "HANDOVER_", &[CHANGED]),
    ("purge", "systemctl ", &[RELOAD]),
    ("left behind", "", &[]),
];

const RELOAD: &str = "systemctl --system daemon-reload";

const STOP: &str =
    "systemctl --system stop handover-envoy.service handover-exec@*.socket handover-exec@*.service";

/// What the trial adds to the file of an administrator.
const CHANGED: &str = "HANDOVER_MIN_DRAIN=7s";

/// What a user does with the package. A `systemctl` that only writes down what it is asked for stands in for that
/// of the machine, which must hear nothing of a trial. Each line that begins with `--` is the start of a part.
const TRIAL: &str = r#"
cp "$PACKAGE" "$WORK/merged/run/handover.deb"
mkdir -p "$WORK/merged/run/systemd/system"
inside() { chroot "$WORK/merged" env -i PATH=/run/stand-in:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
mkdir "$WORK/merged/run/stand-in"
printf '#!/bin/sh\necho "systemctl $*"\n' > "$WORK/merged/run/stand-in/systemctl"
chmod 755 "$WORK/merged/run/stand-in/systemctl"
inside dpkg --no-triggers --force-unsafe-io --purge handover >/dev/null 2>&1 || true
written() { find "$WORK/upper" ! -type d -printf '/%P\n' | grep -Ev '^/var/(lib/dpkg|log|cache)/' | sort; }
written > "$WORK/before"
install() { inside dpkg --no-triggers --force-unsafe-io --install /run/handover.deb; }

echo "-- install"
install
echo "-- files"
inside dpkg --listfiles handover | while read -r path; do
    [ -d "$WORK/merged$path" ] || stat --format='%a %U %G' "$WORK/merged$path" | tr '\n' ' '
    [ -d "$WORK/merged$path" ] || echo "$path"
done
echo "-- conffiles"
inside dpkg-query --show --showformat='${Conffiles}\n' handover | sed -n 's/^ \([^ ]*\) .*/\1/p'
echo "-- verify"
inside dpkg --verify handover
echo "-- version"
inside handover --version
echo "-- commands of the units"
sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$WORK/merged"/usr/lib/systemd/system/handover-*.service | sort -u |
    while read -r program; do inside test -x "$program" && echo "$program"; done
echo "-- completions"
inside bash -c '. /usr/share/bash-completion/completions/handover && complete -p handover'
echo "-- upgrade"
echo "$CHANGED" >> "$WORK/merged/etc/default/handover-envoy"
install
tail -n 1 "$WORK/merged/etc/default/handover-envoy"
echo "-- remove"
mkdir -p "$WORK/merged/var/lib/handover-envoy" "$WORK/merged/etc/systemd/system/multi-user.target.wants"
ln -s /usr/lib/systemd/system/handover-envoy.service "$WORK/merged/etc/systemd/system/multi-user.target.wants/"
inside dpkg --no-triggers --force-unsafe-io --remove handover
inside test ! -e /usr/bin/handover
tail -n 1 "$WORK/merged/etc/default/handover-envoy"
echo "-- purge"
inside dpkg --no-triggers --force-unsafe-io --purge handover
written > "$WORK/after"
echo "-- left behind"
comm -13 "$WORK/before" "$WORK/after"
echo "-- end"
"#;

/// Makes the package in `out`, and tries it where this machine can.
pub(super) fn package(
    context: &Context,
    build: &Build,
    out: &Path,
    findings: &mut Findings,
) -> Result<()> {
    // A build without optimization is made in a minute, and this package in a second.
    if let Err(error) = context.ensure_tool("deb", "the packages", &["--debug"]) {
        left(findings, "the Debian package", &format!("{error:#}"));
        return Ok(());
    }
    let mut deb = context.cargo_words("deb --package handover --no-build --locked --target");
    deb.args([&build.triple, "--profile", build.profile.name(), "--output"]);
    deb.arg(out);
    if build.profile == Profile::Draft {
        deb.arg("--fast");
    }
    if let Some(problem) = process::passes(deb)? {
        findings.problem(problem);
        return Ok(());
    }
    let package = made(out)?;
    if process::capture(version_of(context, "dpkg")).is_err() {
        left(
            findings,
            "installing the Debian package",
            "dpkg is not here",
        );
        return Ok(());
    }
    match Sandbox::open(context)? {
        Err(why) => left(findings, "installing the Debian package", &why),
        Ok(sandbox) => {
            let script = format!("{COPY_OF_THE_MACHINE}{TRIAL}");
            let trial = sandbox.run(
                "the-debian-package",
                &script,
                &[
                    ("PACKAGE", package.as_path()),
                    ("CHANGED", Path::new(CHANGED)),
                ],
            )?;
            let (problem, said) = trial;
            findings.problems.extend(problem);
            let pages = pages(&build.packaged)?;
            findings
                .problems
                .extend(judge(&said, &build.version, &pages));
        }
    }
    Ok(())
}

/// The package that cargo-deb has written.
fn made(out: &Path) -> Result<PathBuf> {
    for entry in fs_err::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    None.with_context(|| format!("cargo-deb has written no package to {}", out.display()))
}

fn version_of(context: &Context, program: &str) -> std::process::Command {
    let mut command = context.command(program);
    command.arg("--version");
    command
}

/// The names of the manual pages that the binary has written.
fn pages(packaged: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for page in fs_err::read_dir(packaged.join("man"))? {
        names.insert(page?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// What is wrong with what the trial has printed.
fn judge(said: &str, version: &str, pages: &BTreeSet<String>) -> Vec<String> {
    let page = |name: &String| format!("644 root root /usr/share/man/man1/{name}");
    let files = FILES
        .iter()
        .map(|(mode, path)| format!("{mode} root root {path}"));
    let files: BTreeSet<String> = files.chain(pages.iter().map(page)).collect();
    let found: BTreeSet<String> = part(said, "files").into_iter().map(str::to_owned).collect();

    let mut problems = Vec::new();
    for lacking in files.difference(&found) {
        problems.push(format!("the Debian package lacks `{lacking}`"));
    }
    for surplus in found.difference(&files) {
        problems.push(format!("the Debian package also has `{surplus}`"));
    }
    let version = format!("handover {version}");
    let version = [version.as_str()];
    let expected = MUST.into_iter().chain([("version", "", &version[..])]);
    for (name, prefix, must) in expected {
        let mut is = part(said, name);
        is.retain(|line| line.starts_with(prefix));
        if is != must {
            problems.push(format!(
                "trying the Debian package, {name}: the lines that begin with `{prefix}` are {is:?}, not {must:?}"
            ));
        }
    }
    if part(said, "completions").is_empty() {
        problems.push("bash completes nothing after `handover`".to_owned());
    }
    problems
}

/// The lines that a part of the trial has printed.
fn part<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("-- {name}");
    let lines = said.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with("-- ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a trial prints in which nothing is wrong, for a program with one manual page.
    fn good() -> String {
        let files = FILES.map(|(mode, path)| format!("{mode} root root {path}\n"));
        format!(
            "-- install\nSetting up handover\nsystemctl --system daemon-reload\n-- files\n{}\
             644 root root /usr/share/man/man1/handover.1.gz\n-- conffiles\n/etc/default/handover-envoy\n\
             -- verify\n-- version\nhandover 1.0.0\n-- commands of the units\n/usr/bin/handover\n-- completions\n\
             complete -F _handover handover\n-- upgrade\nsystemctl --system daemon-reload\nHANDOVER_MIN_DRAIN=7s\n\
             -- remove\nsystemctl --system stop handover-envoy.service handover-exec@*.socket \
             handover-exec@*.service\nsystemctl --system daemon-reload\nHANDOVER_MIN_DRAIN=7s\n-- purge\n\
             systemctl --system daemon-reload\n-- left behind\n-- end\n",
            files.concat()
        )
    }

    fn judged(said: &str) -> Vec<String> {
        judge(said, "1.0.0", &BTreeSet::from(["handover.1.gz".to_owned()]))
    }

    #[test]
    fn a_trial_in_which_all_is_as_it_must_be_finds_nothing() {
        assert_eq!(judged(&good()), Vec::<String>::new());
    }

    #[test]
    fn what_a_trial_has_not_printed_is_never_taken_for_right() {
        let problems = judged("");
        // Each file, and each part that must print something.
        let silent = MUST.iter().filter(|(_, _, must)| must.is_empty()).count();
        // The manual page, the version and the completions are in no list.
        let all = FILES.len() + MUST.len() - silent + 3;
        assert_eq!(problems.len(), all, "{problems:#?}");
    }

    #[test]
    fn an_upgrade_that_stops_a_service_is_found() {
        let stops = "-- upgrade\nsystemctl --system stop handover-envoy.service\n";
        let problems = judged(&good().replace("-- upgrade\n", stops));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("package, upgrade:"), "{problems:?}");
    }

    #[test]
    fn a_file_that_lacks_and_one_that_stays_are_named() {
        let problems = judged(&good().replace("644 root root /etc/default/handover-envoy\n", ""));
        assert_eq!(
            problems,
            ["the Debian package lacks `644 root root /etc/default/handover-envoy`"]
        );
        let problems = judged(&good().replace(
            "-- left behind\n",
            "-- left behind\n/var/lib/handover-envoy\n",
        ));
        assert_eq!(
            problems,
            [
                "trying the Debian package, left behind: the lines that begin with `` are \
                 [\"/var/lib/handover-envoy\"], not []"
            ]
        );
    }
}
