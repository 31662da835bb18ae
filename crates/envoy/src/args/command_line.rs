//! The command line as people read it.

use std::ffi::OsStr;
use std::path::Path;

use super::EnvoyArgs;
use crate::hot_restart::BaseId;

impl EnvoyArgs {
    /// Returns the command line with which an epoch serves, quoted for a shell, so that a person
    /// can read it and run it by hand.
    ///
    /// ```
    /// use handover_envoy::args::{ArgsOptions, EnvoyArgs};
    /// use handover_envoy::hot_restart::BaseId;
    ///
    /// let args = EnvoyArgs::new(ArgsOptions {
    ///     service_node: Some("node 1".to_owned()),
    ///     ..ArgsOptions::default()
    /// })?;
    /// let config = "/run/envoy-rev0.yaml".as_ref();
    /// let line = args.command_line("/usr/bin/envoy".as_ref(), config, 0, BaseId::new(7)?);
    /// assert!(line.starts_with("/usr/bin/envoy -c /run/envoy-rev0.yaml --restart-epoch 0"));
    /// assert!(line.ends_with("--service-node 'node 1'"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn command_line(
        &self,
        binary: &Path,
        config: &Path,
        epoch: u32,
        base_id: BaseId,
    ) -> String {
        let mut line = quoted(binary.as_os_str());
        for argument in self.serve(config, epoch, base_id) {
            line.push(' ');
            line += &quoted(&argument);
        }
        line
    }
}

/// An argument as a POSIX shell takes it. Bytes that are not text are shown as the replacement
/// character: a line that is printed cannot hold them.
pub(super) fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
