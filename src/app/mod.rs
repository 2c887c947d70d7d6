//! Carries out commands: puts sources, engine, data plane and admin server together.

mod chart_test;
mod client;
mod command;
mod crds;
mod data_plane;
mod demo;
mod descriptors;
mod doctor;
mod explain;
mod migrate;
mod overload;
mod release;
mod run;
mod serve;
mod shutdown;
mod simulate;
mod source;
mod validate;

pub use command::run;
pub use serve::{App, AppError, Resources};
pub use source::options;
