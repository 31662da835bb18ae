//! The Envoy adapter of Handover.
