//! The static binary, and the files that it writes about itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Build, Profile, empty, left};
use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// The most bytes that a released binary may have: it had 8.03 million when this was measured. What it is made of
/// is in docs/size.md.
const LIMIT: u64 = 8_100_000;

/// What tells the released binary from another: it has no fake Envoy in it.
pub(crate) const RELEASED: &str = "--no-default-features";

/// Where the units expect the program that was installed by hand, and where a package has it.
const BY_HAND: &str = "/usr/local/bin/handover ";
const PACKAGED: &str = "/usr/bin/handover ";

/// The shells whose completions are packed.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds the binary, or says that this toolchain cannot.
pub(super) fn build(
    context: &Context,
    profile: Profile,
    findings: &mut Findings,
) -> Result<Option<Build>> {
    let triple = static_triple();
    if !has_std(context, &triple) {
        let why = format!("`rustup target add {triple}` was not run");
        left(findings, "the packages", &why);
        return Ok(None);
    }
    let mut cargo = context.cargo_words("build --package handover --locked --target");
    cargo.args([&triple, "--profile", profile.name(), RELEASED]);
    if let Some(problem) = process::passes(cargo)? {
        findings.problem(problem);
        return Ok(None);
    }
    let built = context.target().join(&triple).join(profile.name());
    let binary = built.join("handover");
    size(profile, &binary, findings)?;
    let packaged = built.join("packaged");
    about(context, &binary, &packaged, findings)?;
    Ok(Some(Build {
        profile,
        triple,
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

fn size(profile: Profile, binary: &Path, findings: &mut Findings) -> Result<()> {
    let size = fs_err::metadata(binary)?.len();
    findings.note(format!("{} has {size} bytes", binary.display()));
    if profile == Profile::Dist && size > LIMIT {
        findings.problem(format!(
            "{} has {size} bytes, more than {LIMIT}: see what has grown, beside docs/size.md",
            binary.display()
        ));
    }
    Ok(())
}

/// Writes manual pages, completions and units for a package below `packaged`.
fn about(context: &Context, binary: &Path, packaged: &Path, findings: &mut Findings) -> Result<()> {
    empty(packaged)?;
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
