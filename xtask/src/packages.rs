//! What is released beside the crates: two static binaries with their pages and units, a Debian package, and the
//! files of container images, with bills of materials and checksums. Each is made, and then tried as its user would.
//!
//! Nothing is installed on the machine itself: a package is tried in a copy of its file system that ends with the
//! trial, and an image in namespaces.

mod archive;
mod bill;
pub(crate) mod binary;
mod debian;
mod exec_alone;
mod image;
mod sandbox;
mod variant;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::checks::Findings;
use crate::context::Context;
pub(crate) use variant::Variant;

/// How the binary is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// In seconds, for trying what is made around it.
    Draft,
    /// As it is released.
    Dist,
}

impl Profile {
    /// The profile's name in the root's `Cargo.toml`.
    const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Dist => "dist",
        }
    }
}

/// A static binary, with the files that it writes about itself.
struct Build {
    variant: Variant,
    profile: Profile,
    /// The target that it was built for.
    triple: String,
    version: String,
    binary: PathBuf,
    /// Manual pages, completions and units.
    packaged: PathBuf,
}

/// Makes everything in the directory `out`, which is emptied first, and tries it. What cannot be done on this
/// machine is [left](Findings::left), with the reason.
///
/// # Errors
///
/// When a file cannot be read or written, or a program cannot be started.
pub(crate) fn make(context: &Context, profile: Profile, out: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    empty(out)?;
    let builds = binary::build_all(context, profile, &mut findings)?;
    if builds.is_empty() {
        return Ok(findings);
    }
    for build in builds {
        archive::pack(context, &build, out)?;
        match build.variant {
            Variant::Exec => exec_alone::try_out(context, &build, &mut findings)?,
            Variant::Whole => debian::package(context, &build, out, &mut findings)?,
        }
        image::assemble(context, &build, out, &mut findings)?;
        if profile == Profile::Dist {
            bill::write(context, &build, out, &mut findings)?;
        }
    }
    archive::checksums(context, out)?;
    Ok(findings)
}

/// Says that something was not done here, with the reason.
fn left(findings: &mut Findings, what: &str, why: &str) {
    findings.left(format!("{what}: {why}: the job `packages`"));
}

/// Makes a directory, without what an earlier run has left in it.
fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    fs_err::create_dir_all(directory)?;
    Ok(())
}
