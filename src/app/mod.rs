//! Carries out commands: puts sources, engine, data plane and admin server together.

mod affinity_keys;
mod chart_test;
mod client;
mod command;
mod crds;
mod data_plane;
mod demo;
mod descriptors;
mod doctor;
mod error;
mod explain;
mod migrate;
mod overload;
mod release;
mod run;
mod serve;
mod serving;
mod shutdown;
mod simulate;
mod source;
mod standalone;
mod validate;
mod verdict;
mod verify;

pub use command::run;
pub use error::AppError;
pub use serve::{App, Resources};
pub use source::options;
