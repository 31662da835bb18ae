//! The fake as a process: alone, with a real Envoy before or behind it, and with faults.

mod faults;
mod hand_over;
mod life;
mod script;
mod world;
