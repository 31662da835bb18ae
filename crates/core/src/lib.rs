//! The pure state machine of Handover: restart epochs, retries, drain, cleanup; no clock, no I/O.
