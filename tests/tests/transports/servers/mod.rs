//! Servers of others under `handover exec`, by the recipes of `docs/servers.md`: the commands and files here are
//! those of the page. Each server goes through five hand-overs under load and a configuration that fails.

mod applications;
mod page;
mod proxies;
mod sockets;
mod world;
