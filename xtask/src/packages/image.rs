//! The container image: its files, laid out as `deploy/container/Dockerfile` copies them, and run without a
//! container engine as one would run them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::archive::{copy_files, tar};
use super::sandbox::Sandbox;
use super::{Build, Variant, empty, left};
use crate::checks::Findings;
use crate::context::Context;

const DOCKERFILE: &str = "deploy/container/Dockerfile";

/// The files of the image that are no program.
const ETC: &str = "deploy/container/etc";

/// What an engine does before it starts the program, and then what users start. The image is read-only, `/tmp` is
/// in memory, and the program has the user of the image and no variable.
const TRIAL: &str = r#"
image="$WORK/image"
mkdir "$image"
cp -a "$FILES/." "$image"
mkdir "$image/proc" "$image/dev"
touch "$image/dev/null"
echo "127.0.0.1 localhost" > "$image/etc/hosts"
mount --bind "$image" "$image"
mount -t proc proc "$image/proc"
mount --bind /dev/null "$image/dev/null"
mount -t tmpfs -o mode=1777 tmpfs "$image/tmp"
mount -o remount,bind,ro "$image"
chroot=$(command -v chroot)
inside() { env -i "$chroot" --userspec="$USER_OF_IMAGE" --groups= "$image" "$ENTRYPOINT" "$@"; }

echo "-- version"
inside --version
echo "-- resolve"
inside resolve localhost:http
echo "-- install"
inside install /tmp/program && stat --format='%u:%g %a' "$image/tmp/program/handover"
echo "-- write"
inside install /program 2>&1 || echo "exit $?"
echo "-- shell"
for shell in bin/sh bin/bash usr/bin/env; do [ ! -e "$image/$shell" ] || echo "$shell"; done
[ -z "$DEMO" ] || {
    echo "-- demo"
    inside demo --hand-overs 2 --interval 300ms --no-progress && echo "nothing lost"
}
echo "-- end"
"#;

/// Lays the image out in `out/image` or `out/image-exec`, where `docker build` finds it, and packs the same as an
/// archive that keeps modes on its way to another machine. Tries the image where this machine can.
pub(super) fn assemble(
    context: &Context,
    build: &Build,
    out: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let name = match build.variant {
        Variant::Exec => "image-exec",
        Variant::Whole => "image",
    };
    let directory = out.join(name);
    let files = directory.join("files");
    empty(&files)?;
    let dockerfile = context.text(DOCKERFILE)?;
    fs_err::write(directory.join("Dockerfile"), &dockerfile)?;
    fs_err::copy(&build.binary, files.join("handover"))?;
    copy_files(&context.root.join(ETC), &files.join("etc"))?;
    let licences = files.join("licences");
    fs_err::create_dir(&licences)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs_err::copy(context.root.join(licence), licences.join(licence))?;
    }
    let temporary = files.join("tmp");
    fs_err::create_dir(&temporary)?;
    fs_err::set_permissions(&temporary, std::fs::Permissions::from_mode(0o1777))?;

    let archive = out.join(format!("{name}-context.tar.gz"));
    tar(context, &directory, ".", &archive)?;

    let image = Image::read(&dockerfile).with_context(|| format!("reading {DOCKERFILE}"))?;
    match Sandbox::open(context)? {
        Err(why) => left(findings, "running the image", &why),
        Ok(sandbox) => {
            let has_demo = build.variant == Variant::Whole;
            let variables = [
                ("FILES", files.as_path()),
                ("USER_OF_IMAGE", Path::new(&image.user)),
                ("ENTRYPOINT", Path::new(&image.entrypoint)),
                ("DEMO", Path::new(if has_demo { "yes" } else { "" })),
            ];
            let (problem, said) = sandbox.run(name, TRIAL, &variables)?;
            findings.problems.extend(problem);
            findings
                .problems
                .extend(judge(&said, &build.version, &image.user, has_demo));
        }
    }
    Ok(())
}

/// What the Dockerfile says about the program that is started.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    user: String,
    entrypoint: String,
}

impl Image {
    /// Reads a Dockerfile. Only what this image needs is understood: one stage from nothing, one copy of all files,
    /// a user by numbers, and a program without arguments.
    fn read(dockerfile: &str) -> Result<Self> {
        let instruction = |name: &str| {
            let mut lines = dockerfile.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.with_context(|| format!("there is no instruction {name}"))
        };
        ensure!(
            instruction("FROM")? == "scratch",
            "it is not made from scratch"
        );
        ensure!(
            instruction("COPY")? == "files/ /",
            "it copies something else than `files/ /`"
        );
        let user = instruction("USER")?;
        let is_number = |part: &str| part.parse::<u32>().is_ok_and(|number| number != 0);
        ensure!(
            user.split(':').count() == 2 && user.split(':').all(is_number),
            "`{user}` is not UID:GID of an ordinary user; an engine can check no name"
        );
        let entrypoint: Vec<String> = serde_json::from_str(instruction("ENTRYPOINT")?)
            .context("the ENTRYPOINT needs the form of a list: the image has no shell")?;
        let [entrypoint] = <[String; 1]>::try_from(entrypoint)
            .map_err(|words| anyhow::anyhow!("the ENTRYPOINT {words:?} is not one program"))?;
        Ok(Self {
            user: user.to_owned(),
            entrypoint,
        })
    }
}

/// What is wrong with what the trial has printed.
fn judge(said: &str, version: &str, user: &str, has_demo: bool) -> Vec<String> {
    let lines: Vec<&str> = said.lines().collect();
    let mut problems = Vec::new();
    let mut expect = |part: &str, is_right: &dyn Fn(&[&str]) -> bool, must: &str| {
        let head = format!("-- {part}");
        let after = lines.iter().skip_while(|line| **line != head).skip(1);
        let part_lines: Vec<&str> = after
            .take_while(|line| !line.starts_with("-- "))
            .copied()
            .collect();
        if !is_right(&part_lines) {
            problems.push(format!(
                "the image, {part}: {must}, but it printed {part_lines:?}"
            ));
        }
    };
    let version = format!("handover {version}");
    let owner = format!("{user} 755");
    expect(
        "version",
        &|lines| lines == [version.as_str()],
        "it prints its version",
    );
    expect(
        "resolve",
        &|lines| lines == ["127.0.0.1:80"],
        "it finds a host and a service by name",
    );
    expect(
        "install",
        &|lines| lines.last() == Some(&owner.as_str()),
        "it copies itself as the user of the image",
    );
    expect(
        "write",
        &|lines| {
            lines.last() == Some(&"exit 71") && lines.iter().any(|line| line.contains("Read-only"))
        },
        "its file system is read-only, and that is a message",
    );
    expect("shell", &|lines| lines.is_empty(), "there is no shell");
    expect(
        "demo",
        &|lines| lines.last() == Some(&"nothing lost") || !has_demo,
        "it hands over without a loss",
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "# A comment\nFROM scratch\nCOPY files/ /\nUSER 65534:65534\nENTRYPOINT [\"/handover\"]\n";

    #[test]
    fn the_user_and_the_program_are_read_and_what_a_trial_cannot_follow_is_refused() {
        let image = Image::read(GOOD).unwrap();
        assert_eq!(
            (image.user.as_str(), image.entrypoint.as_str()),
            ("65534:65534", "/handover")
        );
        for (from, to) in [
            ("scratch", "debian"),
            ("files/ /", "handover /"),
            ("65534:65534", "nobody"),
            ("65534:65534", "65534"),
            ("65534:65534", "0:0"),
            ("[\"/handover\"]", "/handover"),
            ("[\"/handover\"]", "[\"/handover\", \"run\"]"),
            ("USER", "RUN"),
        ] {
            assert!(
                Image::read(&GOOD.replace(from, to)).is_err(),
                "{from} as {to}"
            );
        }
    }

    #[test]
    fn a_trial_that_printed_nothing_is_no_success() {
        let good = "-- version\nhandover 1.0.0\n-- resolve\n127.0.0.1:80\n-- install\ncopied\n65534:65534 755\n\
                    -- write\nRead-only file system\nexit 71\n-- shell\n-- demo\ntable\nnothing lost\n-- end\n";
        let judge = |said: &str, has_demo| judge(said, "1.0.0", "65534:65534", has_demo);
        assert_eq!(judge(good, true), Vec::<String>::new());
        assert_eq!(judge("", true).len(), 5);
        assert_eq!(judge("", false).len(), 4);
        for (from, to, part) in [
            ("handover 1.0.0", "handover 1.0.1", "version"),
            ("65534:65534 755", "0:0 755", "install"),
            ("exit 71", "", "write"),
            ("-- shell\n", "-- shell\nbin/sh\n", "shell"),
            ("nothing lost\n", "", "demo"),
        ] {
            let problems = judge(&good.replace(from, to), true);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with(&format!("the image, {part}: ")),
                "{problems:?}"
            );
        }
    }
}
