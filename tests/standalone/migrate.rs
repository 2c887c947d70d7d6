//! `clingfish migrate` as a process: what it writes, where, and with which exit code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::Directory;

fn clingfish(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clingfish")).args(arguments).output().unwrap()
}

fn export(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Migrates an export into a directory of its own, and puts beside the outcome what stays as it is.
fn migrated(name: &str) -> (Output, Directory) {
    let (written, together) = (Directory::new(), Directory::new());
    let output = clingfish(&["migrate", "gloo", "--from", export(name).to_str().unwrap(), "--to", written.path().to_str().unwrap()]);
    for step in ["new", "changed"] {
        for entry in fs::read_dir(written.path().join(step)).unwrap().map(Result::unwrap) {
            let name = format!("a-{step}-{}", entry.file_name().to_str().unwrap());
            together.put(&name, &fs::read_to_string(entry.path()).unwrap());
        }
    }
    // `validate` takes every class for its own: what stays Gloo's is left out.
    let stays = fs::read_dir(export(name)).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "gateways.yaml");
    for entry in stays {
        together.put(&format!("z-{}", entry.file_name().to_str().unwrap()), &fs::read_to_string(entry.path()).unwrap());
    }
    (output, together)
}

#[test]
fn the_guide_passes_validate_when_it_is_migrated() {
    let (output, together) = migrated("guide");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).ends_with("1 new, 1 changed; nothing that guards is lost, and nothing is refused\n"));
    let validated = clingfish(&["validate", "--gloo", together.path().to_str().unwrap()]);
    let said = text(&validated.stdout);
    assert_eq!(validated.status.code(), Some(0), "{said}");
    assert!(said.contains("4 objects have a status; nothing is rejected"), "{said}");
}

#[test]
fn of_the_shop_validate_rejects_what_was_named() {
    let (output, together) = migrated("shop");
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let validated = text(&clingfish(&["validate", "--gloo", together.path().to_str().unwrap()]).stdout);
    let rejected: Vec<_> = validated.lines().filter_map(|line| line.strip_prefix("rejected: ")).collect();
    assert!(!rejected.is_empty());
    for line in rejected {
        let object: String = line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim_end_matches(':').into();
        // Secrets are not exported; Upstreams of discovery that no route uses are left aside.
        let named = report.contains(&format!("refused: {object}")) || (report.contains(&format!("to do: {object}: Secret")));
        assert!(named || object == "Upstream gloo-system/default-kubernetes-443", "{line}\n{report}");
    }
}

#[test]
fn with_leave_a_link_is_replaced_and_what_it_leads_to_is_left_alone() {
    let (directory, elsewhere) = (Directory::new(), Directory::new());
    let (from, to) = (export("guide").to_str().unwrap().to_owned(), directory.path().to_str().unwrap().to_owned());
    let arguments = ["migrate", "gloo", "--from", &from, "--to", &to, "--force"];
    assert_eq!(clingfish(&arguments).status.code(), Some(0));
    let gateway = directory.path().join("new/3_gateway_gloo-system_http-clingfish.yaml");
    let written = fs::read_to_string(&gateway).unwrap();
    elsewhere.put("mine.yaml", "mine");
    fs::remove_file(&gateway).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("mine.yaml"), &gateway).unwrap();
    assert_eq!(clingfish(&arguments).status.code(), Some(0));
    assert_eq!(fs::read_to_string(elsewhere.path().join("mine.yaml")).unwrap(), "mine");
    assert!(!gateway.is_symlink());
    assert_eq!(fs::read_to_string(&gateway).unwrap(), written);
}

#[test]
fn nothing_is_overwritten_without_leave() {
    let directory = Directory::new();
    let to = directory.path().join("out");
    let (from, to) = (export("guide").to_str().unwrap().to_owned(), to.to_str().unwrap().to_owned());
    let arguments = ["migrate", "gloo", "--from", &from, "--to", &to];
    assert_eq!(clingfish(&arguments).status.code(), Some(0));
    let gateway = Path::new(&to).join("new/3_gateway_gloo-system_http-clingfish.yaml");
    let written = fs::read_to_string(&gateway).unwrap();
    fs::write(&gateway, "mine").unwrap();
    fs::write(Path::new(&to).join("changed/stale.yaml"), "").unwrap();
    let refused = clingfish(&arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is there already; expected --force"), "{}", text(&refused.stderr));
    assert_eq!(fs::read_to_string(&gateway).unwrap(), "mine");
    let forced = clingfish(&[&arguments[..], &["--force"]].concat());
    assert_eq!((forced.status.code(), fs::read_to_string(&gateway).unwrap()), (Some(0), written));
    assert!(text(&forced.stdout).contains("changed/stale.yaml: not of this run"), "{}", text(&forced.stdout));
}

#[test]
fn objects_go_to_standard_output_and_the_report_beside_them() {
    let output = clingfish(&["migrate", "gloo", "--from", export("guide").to_str().unwrap(), "--suffix", "-2", "--class", "mine"]);
    let (objects, report) = (text(&output.stdout), text(&output.stderr));
    assert!(objects.starts_with("---\n# new: 3_gateway_gloo-system_http-2.yaml\n"), "{objects}");
    assert!(objects.contains("gatewayClassName: mine") && !objects.contains("lost: "), "{objects}");
    assert!(report.contains("lost: GatewayClass gloo-gateway"), "{report}");
}

#[test]
fn what_cannot_be_read_is_told() {
    let directory = Directory::new();
    directory.put("a.yaml", "kind: [");
    directory.put("empty.yaml", "");
    let path = directory.path().to_str().unwrap();
    let output = clingfish(&["migrate", "gloo", "--from", path]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stderr);
    assert!(report.contains("rejected: a.yaml:1") && report.contains("there is no Gateway of a class of Gloo's"), "{report}");
    let missing = clingfish(&["migrate", "gloo", "--from", &format!("{path}/none")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("expected a directory"), "{}", text(&missing.stderr));
}

#[test]
fn another_gateway_s_objects_are_migrated_from_a_directory() {
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate_others");
    let (written, from) = (Directory::new(), others.join("kgateway"));
    let output = clingfish(&["migrate", from.to_str().unwrap(), "--to", written.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).ends_with("3 new, 2 changed; nothing that guards is lost, and nothing is refused\n"),
        "{}",
        text(&output.stdout)
    );
    let policy = fs::read_to_string(written.path().join("new/2_affinitypolicy_shop_cart.yaml")).unwrap();
    assert!(policy.contains("kind: AffinityPolicy") && policy.contains("terminal: true"), "{policy}");
    // Without --to the objects go to standard output.
    let output = clingfish(&["migrate", others.join("contour").to_str().unwrap(), "--gateway", "edge/shop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("namespace: edge") && text(&output.stderr).contains("unguarded: HTTPProxy shop/staff"));
    for wrong in [&["migrate"][..], &["migrate", "a", "gloo"], &["migrate", "a", "--gateway", "b"]] {
        assert_ne!(clingfish(wrong).status.code(), Some(0), "{wrong:?}");
    }
}
