//! Prints every metric with its type, labels and meaning, as a table in Markdown.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

fn main() {
    print!("{}", handover_supervisor::metrics::table());
}
