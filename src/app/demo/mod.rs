//! `clingfish demo`: the session affinity guide on loopback, in one process; or a scene in which pods come and go.

mod affinity;
mod backend;
mod port;

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::cli::DemoArgs;
use crate::controller::{Manifests, Update};

use super::{
    error::CommandError,
    serve::{App, Resources},
    serving::{control_runtime, prepare, serve_until_told},
    source,
};
use port::{check_listener, free_port};

/// The guide's resources; `{port}`, `{pod_port}` are filled in.
const MANIFESTS: &str = include_str!("manifests.yaml");

/// What is printed; `{...}` are filled in.
const INTRODUCTION: &str = include_str!("introduction.txt");

/// Serves the demo until it is told to end.
pub(super) fn run(arguments: DemoArgs) -> Result<(), CommandError> {
    let DemoArgs { affinity, port, mut serve } = arguments;
    // What a newcomer should read is the introduction.
    serve.log_level.get_or_insert_with(|| "warn".into());
    let (settings, logging) = prepare(serve, Some(Ipv4Addr::LOCALHOST.into()))?;
    let port = free_port(port)?;
    let failed = |error: io::Error| CommandError::Message(format!("the demo's pods cannot be started: {error}"));
    let mut pods = backend::start().map_err(failed)?;
    if affinity {
        return control_runtime()?.block_on(affinity::play(&settings, logging, port, pods, &mut io::stdout().lock()));
    }
    for pod in backend::PODS {
        pods.open(pod, format!("httpbin-{pod}")).map_err(failed)?;
    }
    let manifests = MANIFESTS.replace("{port}", &port.to_string()).replace("{pod_port}", &pods.port.to_string());
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let app = App::start(&settings, source::options(&settings), Resources::Fixed(parse(&manifests)), Some(logging))?;
        app.ready().await;
        check_listener(&app, port)?;
        introduce(port, pods.port, app.admin_address(), &mut io::stdout().lock())?;
        serve_until_told(app).await
    })
}

fn parse(manifests: &str) -> Update {
    let mut files = Manifests::new();
    let changes = files.update("demo.yaml", manifests.as_bytes()).changes;
    Update { changes, notices: files.notices(), unread: false }
}

fn introduce(port: u16, pod_port: u16, admin: SocketAddr, out: &mut impl Write) -> io::Result<()> {
    let command: Arc<str> = std::env::args().next().map_or_else(|| "clingfish".into(), Into::into);
    let text = INTRODUCTION
        .replace("{port}", &port.to_string())
        .replace("{pod_port}", &pod_port.to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{clingfish}", &command);
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::{self, Options, translate};

    #[test]
    fn the_manifests_are_accepted_without_a_word() {
        let update = parse(&MANIFESTS.replace("{port}", "8080").replace("{pod_port}", "8000"));
        assert!(update.notices.is_empty(), "{:?}", update.notices);
        let mut resources = translate::Resources::default();
        update.changes.into_iter().for_each(|change| resources.apply(change));
        let options = Options { assume_bound: true, ..Options::default() };
        let translation = translate(&resources, &source::observed(), &options, None);
        assert_eq!(translate::report::report(&resources, &translation, &options).findings, []);
        assert!(translation.notices.is_empty(), "{:?}", translation.notices);
        assert_eq!(translation.snapshot.binds.len(), 1);
    }

    #[test]
    fn everything_is_filled_in() {
        let mut text = Vec::new();
        introduce(8080, 8000, "127.0.0.1:9901".parse().unwrap(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains('{') && text.contains("http://127.0.0.1:8080/"), "{text}");
    }
}
