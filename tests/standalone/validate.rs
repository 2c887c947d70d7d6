//! `clingfish validate` answers for a cluster, or for `standalone`.

use std::process::Command;

use crate::support::{Directory, gateway, route, service, upstream};

/// Runs it on the guide's resources; exit code and answer.
fn validate(arguments: &[&str]) -> (i32, String) {
    let directory = Directory::new();
    directory.put("gateway.yaml", &gateway("gloo-gateway").replace("{port}", "8080"));
    directory.put("service.yaml", &service());
    directory.put("upstream.yaml", &upstream(""));
    directory.put("route.yaml", &route());
    let fixed = "apiVersion: gloo.solo.io/v1\nkind: Upstream\nmetadata: {name: local, namespace: team}\nspec: {static: {hosts: [{addr: 127.0.0.1, port: 80}]}}\n";
    if arguments.contains(&"--as") {
        directory.put("local.yaml", fixed);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_clingfish")).arg("validate").args(arguments).arg(directory.path()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn it_answers_as_the_cluster_would() {
    let crossing = "Upstreams of namespace gloo-system may not use Service httpbin/httpbin; expected a ReferenceGrant";
    let local = "field spec.static.hosts[0].addr is 127.0.0.1: expected neither a loopback nor a link-local address";
    for (arguments, code, refusals) in [
        // What `run` does without flags: the install namespace is another one.
        (&[][..], 1, &[crossing][..]),
        (&["--install-namespace", "gloo-system"], 0, &[]),
        (&["--gloo"], 0, &[]),
        (&["--upstream-cross-namespace", "any"], 0, &[]),
        (&["--gloo", "--upstream-cross-namespace", "grant"], 1, &[crossing]),
        (&["--as", "cluster"], 1, &[crossing, local]),
        (&["--as", "standalone"], 0, &[]),
    ] {
        let (seen, out) = validate(arguments);
        assert_eq!(seen, code, "{arguments:?}: {out}");
        for refusal in [crossing, local] {
            assert_eq!(out.contains(refusal), refusals.contains(&refusal), "{arguments:?}: {out}");
        }
    }
}
