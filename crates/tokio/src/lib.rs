//! The tokio driver of Handover and its child-process handling.
