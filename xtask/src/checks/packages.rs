//! The static binaries, the Debian package and the files of the images can be made, and do what their user expects;
//! see [`packages`].

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::packages::{self, Profile};

pub(super) fn check(context: &Context) -> Result<Findings> {
    let out = context.scratch()?.join("packages");
    let mut findings = packages::make(context, Profile::Draft, &out)?;
    findings.left("the sizes of the binaries as they are released: the job `packages`");
    Ok(findings)
}
