//! The things of the host that Envoy's hot restart uses: the base id that tells one Envoy's epochs
//! from another's, the shared memory under that id, and the socket by which epochs speak.

mod base_id;
mod bound_sockets;
mod claim;
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
mod message;
mod neighbours;
mod owner;
mod parent;
mod shm;
mod socket;
mod stand_in;

pub use base_id::{BaseId, BaseIdChoice, BaseIdError, BaseIdTooLarge, HostPaths, OwnedBaseId};
pub use neighbours::Neighbour;
pub use parent::{Parent, ParentError};
pub use shm::{Repair, RepairError, SharedMemory, SharedMemoryState};
pub use stand_in::{StandIn, StandInError};
