//! What only a real Envoy can show: what its admin endpoint tells of listeners, how it waits for what it fetches,
//! where its main thread stands still or waits for its log, and that its versions take over from each other.

mod deaf_parent;
mod evidence;
mod first_resources;
mod refused_question;
mod still_thread;
mod versions;
