//! What only a real Envoy can show: what its admin endpoint tells of listeners, how it waits for what it fetches,
//! where its main thread stands still, and that its versions take over from each other.

mod evidence;
mod first_resources;
mod refused_question;
mod still_thread;
mod versions;
