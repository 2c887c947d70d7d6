//! `clingfish standalone`: a gateway that is fed by a directory.

use crate::cli::StandaloneArgs;
use crate::settings::Settings;
use crate::snapshot::BindState;

use super::{
    error::CommandError,
    serve::{App, Resources},
    serving::{control_runtime, drain, prepare, serve_until_told},
    shutdown, source,
};

pub(super) fn run(arguments: StandaloneArgs) -> Result<(), CommandError> {
    let StandaloneArgs { manifests, bind, state_directory, affinity_keys, serve } = arguments;
    let (settings, logging) = prepare(serve, bind)?;
    let settings = Settings { state_directory, affinity_keys, ..settings };
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let app = App::start(&settings, source::options(&settings), Resources::Directory(manifests.clone()), Some(logging))?;
        tracing::info!(manifests = %manifests.display(), admin = %app.admin_address(), workers = settings.workers, "clingfish {}", env!("CARGO_PKG_VERSION"));
        // A signal that comes before is heeded too: what can be served is served already.
        let signal = tokio::select! {
            signal = shutdown::signal() => Some(signal?),
            () = app.ready() => None,
        };
        if let Some(signal) = signal {
            return drain(app, &signal).await;
        }
        tell_sockets(&app);
        serve_until_told(app).await
    })
}

fn tell_sockets(app: &App) {
    let states = app.bound().borrow().states();
    let listening: Vec<String> =
        states.iter().filter(|(_, state)| **state == BindState::Bound).map(|(address, _)| address.to_string()).collect();
    if listening.is_empty() {
        tracing::warn!("nothing listens yet: no Gateway has a listener that can be served; statuses are in GET /config");
    } else {
        tracing::info!("listening on {}", listening.join(", "));
    }
}
