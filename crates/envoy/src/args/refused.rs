//! The flags of Envoy that a user cannot pass on, each with the reason and the remedy, and which of
//! the others take a value.

const ITS_OWN: &str = "Handover sets it itself for every epoch";
const TURNS_IT_OFF: &str = "without hot restart no epoch can take over from another";
const NOT_SERVING: &str = "Envoy would print something and exit instead of serving";
const END_OF_FLAGS: &str = "Envoy ignores every argument after it";

/// Why a flag is refused and what to do instead, or `None` where it may be passed on.
pub(super) fn reason(flag: &str) -> Option<(&'static str, &'static str)> {
    Some(match flag {
        "-c" | "--config-path" => (ITS_OWN, "name the file in Handover's own --config-path"),
        "--config-yaml" => (
            "everybody on the host can read a command line, and what is merged from there into the \
             configuration is neither watched nor kept",
            "put its content into the configuration file",
        ),
        "--restart-epoch" => (ITS_OWN, "remove it"),
        "--base-id" => (
            "Handover owns the base id through a lock",
            "use Handover's own --base-id",
        ),
        "--use-dynamic-base-id" => (
            "Envoy refuses it for every epoch after the first",
            "remove it; Handover picks a free base id itself",
        ),
        "--disable-hot-restart" => (TURNS_IT_OFF, "remove it"),
        "--socket-path" => (
            "Handover finds other Envoys with the same base id, and answers for a dead epoch, by \
             the name of the default socket",
            "remove it; a base id of its own keeps an Envoy apart from others",
        ),
        "--socket-mode" => (
            "it is the file mode of a --socket-path, and Handover uses Envoy's default socket, \
             which has none",
            "remove it",
        ),
        "--mode" => (
            "Handover sets it itself to validate a configuration before it is used",
            "use `handover validate` to only validate",
        ),
        "--drain-time-s" => (
            "Handover plans the hand-over by it",
            "use Handover's own --drain-time",
        ),
        "--parent-shutdown-time-s" => (
            "Handover plans the hand-over by it",
            "use Handover's own --parent-shutdown-time",
        ),
        "--cpuset-threads" => (
            "it has no effect beside --concurrency, which Handover passes to every epoch",
            "set --concurrency",
        ),
        "--version" | "--hot-restart-version" | "-h" | "--help" => {
            (NOT_SERVING, "call Envoy itself with it")
        }
        "--" | "--ignore_rest" => (END_OF_FLAGS, "remove it"),
        _ => return None,
    })
}

/// Whether a flag that may be passed on takes a value; `None` for a flag that Envoy 1.40 does not
/// have.
pub(super) fn takes_value(flag: &str) -> Option<bool> {
    Some(match flag {
        "--admin-address-path"
        // Every epoch writes the same number there, so it does no harm.
        | "--base-id-path"
        | "--component-log-level"
        | "--concurrency"
        | "--disable-extensions"
        | "--drain-strategy"
        | "--file-flush-interval-msec"
        | "--file-flush-min-size-kb"
        | "--local-address-ip-version"
        | "--log-format"
        | "--log-level"
        | "--log-path"
        | "--service-cluster"
        | "--service-node"
        | "--service-zone"
        | "--stats-tag" => true,
        "--allow-unknown-fields"
        | "--allow-unknown-static-fields"
        | "--enable-core-dump"
        | "--enable-fine-grain-logging"
        | "--enable-mutex-tracing"
        | "--ignore-unknown-dynamic-fields"
        | "--log-format-escaped"
        | "--log-stacktrace-single-entry"
        | "--reject-unknown-dynamic-fields"
        | "--skip-deprecated-logs"
        | "--skip-hot-restart-on-no-parent"
        | "--skip-hot-restart-parent-stats" => false,
        _ => return None,
    })
}
