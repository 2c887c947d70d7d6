//! What the log, `GET /config` and `validate` say of objects that others wrote: no value of a Secret, no line that somebody forged, and no more
//! than a message's length of it.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::support::{Client, Directory, free_address};

/// In every value of a Secret below, and nowhere else.
const VALUE: &str = "THEVALUE";

/// The beginning of a line that a name tries to forge.
const FORGED: &str = "FORGED";

const SECRETS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: text, namespace: default}
data: "-----BEGIN PRIVATE KEY-----\nTHEVALUE\n-----END PRIVATE KEY-----\n"
---
apiVersion: v1
kind: Secret
metadata: {name: list}
stringData: [{tls.key: THEVALUE}]
---
apiVersion: v1
kind: Secret
metadata: {name: number}
stringData: {tls.key: {THEVALUE: 5}}
---
apiVersion: v1
kind: Secret
metadata: {name: not-base64}
data: {tls.key: "THEVALUE is not base64"}
type: kubernetes.io/tls
---
apiVersion: v1
kind: Secret
metadata: {name: odd-type}
type: {a: THEVALUE}
---
apiVersion: v1
kind: Secret
metadata: {name: used, namespace: default}
type: THEVALUE
---
apiVersion: v1
kind: SecretList
items:
- {metadata: {name: one}, data: THEVALUE}
- {metadata: {name: "THEVALUE of a name"}, data: {}}
- THEVALUE
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: two}, stringData: "THEVALUE"}
"#;

/// Documents that are no YAML, each in a file of its own.
const BROKEN: [&str; 4] = [
    "kind: Secret\nstringData: {THEVALUE: 1, THEVALUE: 2}\n",
    "kind: Secret\nstringData: {a: *THEVALUE}\n",
    "kind: Secret\nstringData: {a: !!int THEVALUE\n",
    "{\"kind\": \"Secret\", \"data\": {\"a\": \"THEVALUE\" \"b\"}}",
];

fn gateway(port: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  gatewayClassName: clingfish\n  listeners:\n  \
         - {{name: http, port: {port}, protocol: HTTP}}\n  - {{name: tls, port: {port}, protocol: HTTPS, hostname: a.example, tls: \
         {{certificateRefs: [{{name: used}}, {{name: text}}]}}}}\n"
    )
}

/// Routes whose every foreign text tries to forge a line, and one with a value of megabytes in the wrong place.
fn routes() -> String {
    let odd = "\\nFORGED \\u202e\\u001b[2J\\r\\nFORGED";
    let head = |name: &str| format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n");
    let spec = format!(
        r#"{{"parentRefs": [{{"name": "g"}}, {{"name": "g", "sectionName": "{odd}"}}, {{"name": "{odd}"}}], "hostnames": ["{odd}"],
        "rules": [{{"backendRefs": [{{"name": "{odd}", "namespace": "{odd}", "port": 80}}, {{"name": "a", "kind": "{odd}", "group": "{odd}"}}]}},
        {{"matches": [{{"path": {{"type": "RegularExpression", "value": "({odd}"}}, "headers": [{{"name": "{odd}", "value": "x"}}]}}],
        "filters": [{{"type": "ExtensionRef", "extensionRef": {{"group": "{odd}", "kind": "{odd}", "name": "{odd}"}}}}]}}]}}"#
    );
    let other = format!("apiVersion: \"{odd}\"\nkind: \"{odd}\"\nmetadata: {{name: \"{odd}\"}}\n");
    let upstream = format!(
        "apiVersion: gloo.solo.io/v1\nkind: Upstream\nmetadata: {{name: u}}\nspec: {{\"{odd}\": {{\"{odd}\": 1}}, static: {{hosts: [{{addr: \"{odd}\", port: 1}}]}}}}\n"
    );
    let option = format!(
        "apiVersion: gateway.solo.io/v1\nkind: RouteOption\nmetadata: {{name: o}}\nspec: {{targetRefs: [{{group: \"{odd}\", kind: \"{odd}\", name: \"{odd}\"}}], options: {{prefixRewrite: \"{odd}\"}}}}\n"
    );
    let large = format!("{}spec: {{hostnames: {}}}\n", head("large"), "a".repeat(5 << 20));
    let named = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: \"{}\"}}\n", "a b".repeat(1 << 20));
    [format!("{}spec: {spec}\n", head("odd")), other, upstream, option, large, named].join("---\n")
}

fn clingfish() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clingfish"));
    command.env_remove("CLINGFISH_LOG_LEVEL").env("NO_COLOR", "1");
    command
}

/// A gateway as a process; it ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The log up to the line which says that everything is under way, and the admin address that it names.
fn log_of_start(stderr: ChildStderr) -> (Vec<String>, SocketAddr) {
    let mut lines = Vec::new();
    for line in BufReader::new(stderr).lines() {
        lines.push(line.unwrap());
        let last = lines.last().unwrap();
        if let Some(address) = last.split("admin=").nth(1).filter(|_| last.contains("manifests=")) {
            let address = address.split(' ').next().unwrap().parse().unwrap();
            return (lines, address);
        }
    }
    panic!("the process ended: {lines:?}");
}

fn check(what: &str, text: &str) {
    assert!(!text.contains('\u{202e}'), "{what}: {}", shortened(text, "\u{202e}"));
    check_lines(what, text);
}

/// Fields that statuses must repeat as they are written, such as a parentRef, may hold bidirectional characters.
fn check_lines(what: &str, text: &str) {
    assert!(!text.contains(VALUE), "{what} tells a value of a Secret: {}", shortened(text, VALUE));
    assert!(!text.contains("PRIVATE KEY"), "{what} tells a value of a Secret");
    for line in text.lines() {
        assert!(!line.starts_with(FORGED), "{what} has a line that a name forged: {line}");
        // Tabs are in reasons as Gloo lays them out.
        assert!(!line.chars().any(|character| character.is_control() && character != '\t'), "{what}: {line:?}");
        assert!(line.len() < 4096, "{what} has a line of {} bytes: {}", line.len(), line.get(..200).unwrap());
    }
}

fn shortened(text: &str, around: &str) -> String {
    let at = text.find(around).unwrap_or_default();
    text.get(text.floor_char_boundary(at.saturating_sub(200))..text.floor_char_boundary(at + 100)).unwrap_or_default().to_owned()
}

fn directory(port: u16) -> Directory {
    let directory = Directory::new();
    directory.put("secrets.yaml", SECRETS);
    for (index, text) in BROKEN.iter().enumerate() {
        directory.put(&format!("broken-{index}.yaml"), text);
    }
    directory.put("odd\nFORGED\u{202e}.yaml", "kind: [");
    directory.put("routes.yaml", &routes());
    directory.put("gateway.yaml", &gateway(port));
    directory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_the_configuration_tell_no_secret_and_no_forged_line() {
    let address = free_address();
    let directory = directory(address.port());
    for format in ["text", "json"] {
        let mut child = clingfish()
            .args(["standalone", "--workers", "1", "--admin", "127.0.0.1:0", "--log-format", format])
            .args(["--bind", &address.ip().to_string(), "--manifests"])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let _process = Process(child);
        if format == "json" {
            // Of this form it is enough that every line is one object.
            let lines: Vec<String> = BufReader::new(stderr).lines().take(15).map(Result::unwrap).collect();
            for line in &lines {
                serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
            check("the log", &lines.join("\n"));
            continue;
        }
        let (lines, admin) = log_of_start(stderr);
        assert!(lines.len() > 15, "the test needs notices: {lines:#?}");
        check("the log", &lines.join("\n"));
        let config = Client::connect(admin).await.get("/config", &[]).await.body;
        assert!(config.contains("Secret default/text: field data: expected an object of strings in base64"), "{config}");
        check_lines("/config", &config);
    }
}

#[test]
fn validate_tells_no_secret_and_no_forged_line() {
    let directory = directory(8080);
    for format in ["text", "yaml"] {
        let output = clingfish().args(["validate", "--output", format]).arg(directory.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if format == "text" {
            check("validate", &out)
        } else {
            check_lines("validate", &out)
        }
        check("validate's standard error", &told);
        assert!((out + &told).contains("field spec.hostnames"), "the large route is told of");
    }
}
