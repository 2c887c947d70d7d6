//! From an installation of Gloo Gateway, as `kubectl get -o yaml` exports it, to the objects that let Clingfish serve the same routes beside it,
//! and to a report on what is lost, what behaves differently and what is left to do. `others` does the same for the affinity of other gateways.
//! No I/O.

mod check;
mod document;
mod gateways;
mod installation;
mod names;
mod options;
mod others;
mod output;
mod report;
mod routes;
mod unread;
mod upstreams;

use serde_json::Value;

use installation::Installation;
use output::Output;

pub use names::MigrationOptions;
pub use others::{OtherOptions, migrate_others};
pub use output::{Migration, OutputFile, Step};
pub use report::{Effect, Note};

/// Migrates the objects of an export. Lists among them are taken apart.
pub fn migrate(documents: Vec<Value>, options: &MigrationOptions) -> Migration {
    let mut output = Output::default();
    let installation = Installation::new(documents, &mut output);
    let twins = gateways::twins(&installation, options, &mut output);
    let used = routes::attach(&installation, &twins, &mut output);
    options::attach(&installation, &twins, &mut output);
    upstreams::keep(&installation, &used, &mut output);
    unread::tell(&installation, &mut output);
    if twins.is_empty() {
        output.note(
            Effect::ToDo,
            "export",
            "there is no Gateway of a class of Gloo's in it: expected Gateways whose class has controllerName solo.io/gloo-gateway",
        );
    }
    check::check(&installation, &used, options, &mut output);
    output.finish()
}
