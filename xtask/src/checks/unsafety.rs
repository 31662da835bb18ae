//! Unsafe code is expected by name, with a reason, and absent from core and retry. That each block has
//! its `SAFETY` comment is clippy's to see.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::text::rust;

const NEVER: [&str; 2] = ["crates/core/", "crates/retry/"];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut with = 0_usize;
    for file in context.files()?.iter().filter(|file| file.ends_with(".rs")) {
        let Some(source) = context.text(file)? else {
            continue;
        };
        let code = rust::code(&source);
        let used = rust::lines_with_word(&code, "unsafe");
        let Some(first) = used.first() else { continue };
        with += 1;
        if NEVER.iter().any(|prefix| file.starts_with(prefix)) {
            findings.problem(format!(
                "{file}:{first}: there is no unsafe code in this crate"
            ));
        }
        // The workspace denies unsafe code, so the compiler demands an exception; which kind is ours to see.
        let flat: String = code.split_whitespace().collect();
        if !flat.contains("expect(unsafe_code,reason=") {
            findings.problem(format!(
                "{file}:{first}: unsafe code needs `#[expect(unsafe_code, reason = \"...\")]` in the same file"
            ));
        }
        if flat.contains("allow(unsafe_code") || flat.contains("warn(unsafe_code") {
            findings.problem(format!("{file}: `unsafe_code` is expected, not allowed"));
        }
    }
    findings.note(format!("{with} files with unsafe code"));
    Ok(findings)
}
