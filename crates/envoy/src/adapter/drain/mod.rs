//! Letting clients go: before a stop, and on request.

mod on_request;
mod stop;

pub(super) use self::on_request::{Drains, holding};
pub use self::on_request::{Holding, OnRequestError};
pub(super) use self::stop::{CutConnections, Stop, not_drained};
