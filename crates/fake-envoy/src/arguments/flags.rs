//! The flags that Envoy 1.40 knows, and the texts with which it refuses others.

/// Whether a flag is followed by a value, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value.
    Switch,
    /// Any text.
    Text,
    /// Any text, and the flag may come several times.
    Texts,
    /// A number of 32 bits. Like Envoy's parser this takes a negative one, and lets it wrap.
    Number,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// The name with both dashes.
    pub(super) long: &'static str,
    /// The short name with its dash; empty if there is none.
    pub(super) short: &'static str,
    pub(super) kind: Kind,
}

const fn flag(long: &'static str, kind: Kind) -> Flag {
    Flag {
        long,
        short: "",
        kind,
    }
}

const fn short(long: &'static str, short: &'static str, kind: Kind) -> Flag {
    Flag { long, short, kind }
}

/// All flags, in the order in which Envoy lists them.
pub(super) const FLAGS: [Flag; 41] = [
    flag("--stats-tag", Kind::Texts),
    flag("--enable-core-dump", Kind::Switch),
    flag("--socket-mode", Kind::Text),
    flag("--socket-path", Kind::Text),
    flag("--disable-extensions", Kind::Text),
    flag("--cpuset-threads", Kind::Switch),
    flag("--enable-mutex-tracing", Kind::Switch),
    flag("--disable-hot-restart", Kind::Switch),
    flag("--mode", Kind::Text),
    flag("--parent-shutdown-time-s", Kind::Number),
    flag("--drain-strategy", Kind::Text),
    flag("--drain-time-s", Kind::Number),
    flag("--file-flush-min-size-kb", Kind::Number),
    flag("--file-flush-interval-msec", Kind::Number),
    flag("--service-zone", Kind::Text),
    flag("--service-node", Kind::Text),
    flag("--service-cluster", Kind::Text),
    flag("--hot-restart-version", Kind::Switch),
    flag("--restart-epoch", Kind::Number),
    flag("--log-path", Kind::Text),
    flag("--enable-fine-grain-logging", Kind::Switch),
    flag("--log-format-escaped", Kind::Switch),
    flag("--log-format", Kind::Text),
    flag("--component-log-level", Kind::Text),
    short("--log-level", "-l", Kind::Text),
    flag("--local-address-ip-version", Kind::Text),
    flag("--admin-address-path", Kind::Text),
    flag("--log-stacktrace-single-entry", Kind::Switch),
    flag("--skip-deprecated-logs", Kind::Switch),
    flag("--ignore-unknown-dynamic-fields", Kind::Switch),
    flag("--reject-unknown-dynamic-fields", Kind::Switch),
    flag("--allow-unknown-static-fields", Kind::Switch),
    flag("--allow-unknown-fields", Kind::Switch),
    flag("--config-yaml", Kind::Text),
    short("--config-path", "-c", Kind::Text),
    flag("--concurrency", Kind::Number),
    flag("--base-id-path", Kind::Text),
    flag("--skip-hot-restart-parent-stats", Kind::Switch),
    flag("--skip-hot-restart-on-no-parent", Kind::Switch),
    flag("--use-dynamic-base-id", Kind::Switch),
    flag("--base-id", Kind::Number),
];

impl Flag {
    /// Returns the flag of an argument.
    pub(super) fn named(argument: &str) -> Option<Self> {
        let is_named = |flag: &&Self| {
            argument == flag.long || !flag.short.is_empty() && argument == flag.short
        };
        FLAGS.iter().find(is_named).copied()
    }

    /// Returns the flag as Envoy's complaints name it.
    pub(super) fn in_complaints(self) -> String {
        if self.short.is_empty() {
            format!("({})", self.long)
        } else {
            format!("{} ({})", self.short, self.long)
        }
    }
}

/// Returns the page of `--help`, or the short form of it that follows a refusal.
pub(super) fn usage(program: &str, is_help: bool) -> String {
    let each = FLAGS.iter().map(|flag| {
        let name = if is_help && !flag.short.is_empty() {
            format!("{} <string>,  {}", flag.short, flag.long)
        } else {
            flag.long.to_owned()
        };
        let value = match flag.kind {
            Kind::Switch => "",
            Kind::Text => " <string>",
            Kind::Texts => " <string>  (accepted multiple times)",
            Kind::Number => " <uint32_t>",
        };
        format!("{name}{value}")
    });
    if is_help {
        let each: Vec<_> = each.map(|flag| format!("   {flag}\n")).collect();
        format!(
            "\nUSAGE: \n\n   {program}  ...\n\nWhere: \n\n{}\n   --version\n   -h,  --help\n",
            each.concat()
        )
    } else {
        let each: Vec<_> = each.map(|flag| format!("[{flag}]")).collect();
        format!(
            "Brief USAGE: \n   {program}  {}\n\nFor complete USAGE and HELP type: \n   {program} --help\n\n",
            each.join("\n                                        ")
        )
    }
}
