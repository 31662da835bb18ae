//! The `handover` binary from outside: what it prints, how it ends, and what it does to the
//! programs that it supervises. The programs are this binary's own demo server and small shell
//! scripts.

// A binary without it has fewer commands.
#![cfg(feature = "fake-envoy")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper of a test reports failure as the test does"
)]

mod addresses;
mod apply;
mod client;
mod compat;
mod control;
mod control_wire;
mod demo;
mod doctor;
mod ends;
mod envoy;
mod exchange;
mod exec;
mod flags;
mod help;
mod hooks;
mod install;
mod intervals;
mod logs;
mod manual;
mod metrics;
mod order;
mod passed;
mod print_command;
mod probation;
mod program;
mod readiness;
mod recorder;
mod releases;
mod run_as;
mod service_manager;
mod settings;
mod shortages;
mod signals;
mod sockets;
mod status_server;
mod story;
mod strays;
mod support;
mod systemd;
mod template;
mod usage;
mod variables;
mod waiting;
mod watch;
mod watching;
mod who;
