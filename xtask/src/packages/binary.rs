//! The static binaries, and the files that they are shipped with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::copy_files;
use super::{Build, Profile, Variant, empty, left};
use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// Where the units expect the program that was installed by hand, and where a package has it.
const BY_HAND: &str = "/usr/local/bin/handover ";
const PACKAGED: &str = "/usr/bin/handover ";

/// The shells whose completions are packed.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds the binaries, or says that this toolchain cannot. The whole one is left where Cargo puts programs, and where
/// cargo-deb looks for it.
pub(super) fn build_all(
    context: &Context,
    profile: Profile,
    findings: &mut Findings,
) -> Result<Vec<Build>> {
    let triple = static_triple();
    if !has_std(context, &triple) {
        let why = format!("`rustup target add {triple}` was not run");
        left(findings, "the packages", &why);
        return Ok(Vec::new());
    }
    let mut builds = Vec::new();
    for variant in [Variant::Exec, Variant::Whole] {
        let Some(build) = build(context, variant, profile, &triple, findings)? else {
            return Ok(Vec::new());
        };
        builds.push(build);
    }
    if let [exec, whole] = builds.as_slice() {
        about(context, &whole.binary, &whole.packaged, findings)?;
        about_same_commands(whole, exec)?;
    }
    Ok(builds)
}

fn build(
    context: &Context,
    variant: Variant,
    profile: Profile,
    triple: &str,
    findings: &mut Findings,
) -> Result<Option<Build>> {
    let mut cargo = context.cargo_words("build --package handover --locked --target");
    cargo.args([triple, "--profile", profile.name()]);
    cargo.args(variant.features());
    if let Some(problem) = process::passes(cargo)? {
        findings.problem(problem);
        return Ok(None);
    }
    let built = context.target().join(triple).join(profile.name());
    let packaged = match variant {
        Variant::Whole => built.join("packaged"),
        Variant::Exec => built.join("packaged-exec"),
    };
    empty(&packaged)?;
    let binary = match variant {
        Variant::Whole => built.join("handover"),
        // The build of the whole one replaces it.
        Variant::Exec => {
            let copy = packaged.join("handover");
            fs_err::copy(built.join("handover"), &copy)?;
            copy
        }
    };
    size(variant, profile, &binary, findings)?;
    Ok(Some(Build {
        variant,
        profile,
        triple: triple.to_owned(),
        version: version(context)?,
        binary,
        packaged,
    }))
}

/// The target of a static binary for this machine.
pub(crate) fn static_triple() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Whether the toolchain has the standard library of a target.
pub(crate) fn has_std(context: &Context, triple: &str) -> bool {
    let mut rustc = context.command(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", triple]);
    process::capture(rustc).is_ok_and(|directory| Path::new(directory.trim()).is_dir())
}

fn version(context: &Context) -> Result<String> {
    let mut members = context.members().into_iter();
    let program = members.find(|member| member.name == "handover");
    let program = program.context("the workspace has no member `handover`")?;
    Ok(program.version.to_string())
}

fn size(variant: Variant, profile: Profile, binary: &Path, findings: &mut Findings) -> Result<()> {
    let limit = variant.most_bytes();
    let size = fs_err::metadata(binary)?.len();
    findings.note(format!("{} has {size} bytes", binary.display()));
    if profile == Profile::Dist && size > limit {
        findings.problem(format!(
            "{} has {size} bytes, more than {limit}: see what has grown, beside docs/size.md",
            binary.display()
        ));
    }
    Ok(())
}

/// Writes manual pages, completions and units for a package below `packaged`.
fn about(context: &Context, binary: &Path, packaged: &Path, findings: &mut Findings) -> Result<()> {
    let mut man = context.command(binary);
    man.arg("man").arg(packaged.join("man"));
    findings.problems.extend(process::passes(man)?);
    // As manual pages are installed. Without a time in it, the same page gives the same file.
    let mut gzip = context.command("gzip");
    gzip.args(["--best", "--no-name", "--recursive"])
        .arg(packaged.join("man"));
    findings.problems.extend(process::passes(gzip)?);

    let completions = packaged.join("completions");
    fs_err::create_dir(&completions)?;
    for shell in SHELLS {
        let mut command = context.command(binary);
        command.args(["completions", shell]);
        let text = process::capture(command)?;
        fs_err::write(completions.join(format!("handover.{shell}")), text)?;
    }

    let units = packaged.join("systemd");
    fs_err::create_dir(&units)?;
    for unit in shipped_units(context)? {
        let name = unit.file_name().context("a unit has no name")?;
        let text = for_a_package(&fs_err::read_to_string(&unit)?);
        fs_err::write(units.join(name), text)?;
    }
    Ok(())
}

/// Takes the pages and completions of the commands that both binaries have. The one without Envoy cannot write them.
fn about_same_commands(whole: &Build, exec: &Build) -> Result<()> {
    copy_files(
        &whole.packaged.join("completions"),
        &exec.packaged.join("completions"),
    )?;
    let pages = exec.packaged.join("man");
    copy_files(&whole.packaged.join("man"), &pages)?;
    for command in exec.variant.lacks() {
        fs_err::remove_file(pages.join(format!("handover-{command}.1.gz")))?;
    }
    Ok(())
}

/// The services and sockets of `deploy/systemd`.
fn shipped_units(context: &Context) -> Result<Vec<PathBuf>> {
    let is_unit = |file: &str| {
        let extension = Path::new(file).extension().and_then(OsStr::to_str);
        file.starts_with("deploy/systemd/") && matches!(extension, Some("service" | "socket"))
    };
    let units = context.files_where(is_unit)?;
    Ok(units.map(|unit| context.root.join(unit)).collect())
}

/// The unit as a package has it: with the program where packages put programs.
fn for_a_package(unit: &str) -> String {
    unit.replace(BY_HAND, PACKAGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packaged_unit_starts_the_packaged_program_and_keeps_all_else() {
        assert_eq!(
            for_a_package(
                "ExecStart=/usr/local/bin/handover run --envoy-path /usr/local/bin/envoy\n"
            ),
            "ExecStart=/usr/bin/handover run --envoy-path /usr/local/bin/envoy\n"
        );
    }
}
