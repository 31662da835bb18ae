//! The main job on the real thing: `handover run` keeps a real Envoy serving through changes,
//! mistakes, crashes and its own end, and a client counts what is lost.
#![expect(
    clippy::panic,
    reason = "a test reports failure by ending, with a message for its reader"
)]

mod apply;
mod arguments;
mod base_id;
mod binary;
mod changes;
mod control;
mod control_drain;
mod control_plane;
mod crashes;
mod demo;
mod drained;
mod ending;
mod fake;
mod frozen_disk;
mod gaps;
mod inbound_only;
mod keeping;
mod kubernetes;
mod large;
mod memory;
mod metrics;
mod mistakes;
mod order;
mod other_user;
mod overlay;
mod page;
mod places;
mod readiness;
mod refused_calls;
mod shortages;
mod stats;
mod stopping;
mod switches;
mod systemd;
mod template;
mod validate;
mod who;
mod withdrawing;
mod world;
