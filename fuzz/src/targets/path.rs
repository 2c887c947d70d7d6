//! One path is matched, hashed and forwarded: normalised once, without dot segments, and the rule is that of what is forwarded.

use std::sync::Arc;

use clingfish::{
    base::head::request,
    plan::{self, Chooser, Connection, Outcome},
    snapshot::{Bind, Snapshot},
};
use http::{HeaderValue, Method, Request, Uri, Version, header::HOST};

use super::support::World;

/// Prefixes of the routes, the longest first; the last takes everything.
const PREFIXES: [&str; 4] = ["/a/b", "/a", "/%2e", ""];

thread_local! {
    static SNAPSHOT: Snapshot = snapshot();
}

fn snapshot() -> Snapshot {
    let host = "10.0.0.1:80".parse().expect("an address");
    let mut world = World::to(&[host]);
    let served = world.clusters.remove(0);
    for prefix in PREFIXES {
        let mut served = served.clone();
        served.prefix = prefix;
        world.clusters.push(served);
    }
    world.snapshot()
}

/// The bytes are a target; the first tells the version.
pub fn run(data: &[u8]) {
    let Some((kind, target)) = data.split_first() else { return };
    let Ok(uri) = Uri::try_from(target) else { return };
    let version = if kind % 2 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    let method = if kind % 4 < 2 { Method::GET } else { Method::OPTIONS };
    SNAPSHOT.with(|snapshot| {
        let bind = snapshot.binds.values().next().expect("a bind");
        let Some((forwarded, rule)) = planned(uri.clone(), version, &method, bind, snapshot) else { return };
        check_form(&forwarded);
        assert_eq!(usize::from(rule), expected_rule(forwarded.path()), "the rule of {forwarded}");
        assert_eq!(forwarded.path(), without_dot_segments(uri.path()), "{uri}");
        assert_eq!(forwarded.query(), uri.query(), "{uri}");
        let again = planned(forwarded.clone(), Version::HTTP_11, &method, bind, snapshot);
        assert_eq!(again, Some((forwarded, rule)), "the second time");
    });
}

/// The target that is forwarded, and the rule's index; `None` where the request is answered otherwise.
fn planned(uri: Uri, version: Version, method: &Method, bind: &Arc<Bind>, snapshot: &Snapshot) -> Option<(Uri, u16)> {
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.method_mut() = method.clone();
    request.headers_mut().insert(HOST, HeaderValue::from_static("a"));
    let mut parts = request::Parts::from(request.into_parts().0);
    let address = "127.0.0.1:1".parse().expect("an address");
    let connection = Connection { bind, remote: address, local: address, tls: None };
    let mut chooser = Chooser { random: fastrand::Rng::with_seed(1), turns: Vec::new() };
    let plan = plan::plan(&mut parts, &connection, snapshot, &mut chooser);
    match plan.outcome {
        Outcome::Forward(_) => Some((parts.uri, plan.rule()?.index)),
        Outcome::Reply(_) => None,
    }
}

fn check_form(uri: &Uri) {
    assert!(uri.scheme().is_none() && uri.authority().is_none(), "{uri}");
    let path = uri.path();
    assert!(path.starts_with('/') && !path.contains("%00") && !path.contains('\\'), "{path}");
    let target = uri.to_string();
    assert!(target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#'), "{target}");
}

/// Whole path elements, as the Gateway API has it.
fn expected_rule(path: &str) -> usize {
    let fits = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PREFIXES.iter().position(|prefix| fits(prefix)).expect("the last fits everything")
}

/// RFC 3986 section 5.2.4, word for word, on a path whose encoded dot segments are written out, and their parameters left out.
fn without_dot_segments(path: &str) -> String {
    let plain = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        let dots = name.replace("%2e", ".").replace("%2E", ".");
        if matches!(dots.as_str(), "." | "..") { dots } else { segment.to_owned() }
    };
    let mut input = path.split('/').map(plain).collect::<Vec<_>>().join("/");
    let mut output = String::new();
    while !input.is_empty() {
        if input == "/." || input.starts_with("/./") {
            input.replace_range(.."/.".len(), "");
            if input.is_empty() {
                input.push('/');
            }
        } else if input == "/.." || input.starts_with("/../") {
            input.replace_range(.."/..".len(), "");
            if input.is_empty() {
                input.push('/');
            }
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input.get(1..).and_then(|rest| rest.find('/')).map_or(input.len(), |at| at + 1);
            output.extend(input.drain(..end));
        }
    }
    if output.is_empty() { "/".to_owned() } else { output }
}
