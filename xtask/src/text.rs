//! Parsers and small judgements on text; none touches a file or starts a program.

pub(crate) mod console;
pub(crate) mod links;
pub(crate) mod rust;
pub(crate) mod spdx;
pub(crate) mod summary;
pub(crate) mod version;
