//! What holds of any bytes that are read as a template.

use super::{Template, TemplateError, engine};
use crate::fuzzing::assert_printable;

/// Compiles the text. Rendering is bounded only in a process of its own, so it is not tried.
///
/// # Panics
///
/// If an error names a line that is not there, or is not printable.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let template = Template::new("envoy.yaml".as_ref(), text.to_owned());
    if let Err((line, problem)) = engine::compile(&template.text) {
        assert!((1..=text.split('\n').count()).contains(&line), "{line}");
        let error = TemplateError::Line {
            path: template.path,
            line,
            problem,
        };
        assert_printable(&handover_tokio::error_chain(&error));
    }
}
