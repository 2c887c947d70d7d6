use std::{ffi::OsStr, sync::mpsc};

use notify::{Event, EventKind, event::Flag};

use super::*;
use content::is_manifest;

/// A directory that is removed with its content.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("clingfish-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes beside and renames, as careful writers do.
    fn put(&self, name: &str, text: &str) {
        let beside = self.0.join(format!("{name}.new"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn shown(changes: &[Change]) -> Vec<String> {
    let show = |change: &Change| match change {
        Change::Apply(object) => format!("+{}", object.object_ref().name),
        Change::Route(route) => format!("+{}", route.object().name),
        Change::Delete(object) => format!("-{}", object.name),
        Change::Undecodable(error) => error.to_string(),
        Change::Unparsed(unparsed) => format!("?{}", unparsed.file),
    };
    changes.iter().map(show).collect()
}

/// Collects changes until these have come, in this order.
fn expect(updates: &mpsc::Receiver<Update>, expected: &[&str]) {
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        match updates.recv_timeout(Duration::from_secs(10)) {
            Ok(update) => seen.extend(shown(&update.changes)),
            Err(_) => break,
        }
    }
    assert_eq!(seen, expected);
}

fn follow(path: &Path) -> (Directory, mpsc::Receiver<Update>, Update) {
    let (sender, updates) = mpsc::channel();
    let (directory, first) = Directory::follow(path, None, &Metrics::new(1), move |update| drop(sender.send(update))).unwrap();
    (directory, updates, first)
}

#[test]
fn only_manifests_are_read() {
    for (name, expected) in
        [("a.yaml", true), ("a.yml", true), ("a.json", true), (".a.yaml", false), ("a.yaml.new", false), ("a.YAML", false), ("a", false)]
    {
        assert_eq!(is_manifest(OsStr::new(name)), expected, "{name}");
    }
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let error = read_directory(Path::new("/nonexistent/x")).unwrap_err().to_string();
    assert!(error.starts_with("directory /nonexistent/x: "), "{error}");
}

#[test]
fn renames_writes_links_and_removals_are_followed() {
    let temporary = Temporary::new("follow");
    temporary.put("a.yaml", &namespace("a"));
    fs::write(temporary.0.join(".hidden.yaml"), namespace("hidden")).unwrap();
    let (_directory, updates, first) = follow(&temporary.0);
    assert_eq!(shown(&first.changes), ["+a"]);
    temporary.put("b.yaml", &namespace("b"));
    expect(&updates, &["+b"]);
    fs::write(temporary.0.join("b.yaml"), namespace("b2")).unwrap();
    expect(&updates, &["+b2", "-b"]);
    fs::rename(temporary.0.join("b.yaml"), temporary.0.join("b.off")).unwrap();
    expect(&updates, &["-b2"]);
    #[cfg(unix)]
    std::os::unix::fs::symlink(temporary.0.join("b.off"), temporary.0.join("l.yaml")).unwrap();
    expect(&updates, &["+b2"]);
    fs::remove_file(temporary.0.join("a.yaml")).unwrap();
    expect(&updates, &["-a"]);
}

#[cfg(unix)]
#[test]
fn a_config_map_volume_turns_its_link() {
    use std::os::unix::fs::symlink;
    let temporary = Temporary::new("configmap");
    let version = |version: &str, name: &str| {
        fs::create_dir(temporary.0.join(version)).unwrap();
        fs::write(temporary.0.join(version).join("a.yaml"), namespace(name)).unwrap();
    };
    version("..1", "one");
    symlink("..1", temporary.0.join("..data")).unwrap();
    symlink("..data/a.yaml", temporary.0.join("a.yaml")).unwrap();
    let (_directory, updates, first) = follow(&temporary.0);
    assert_eq!(shown(&first.changes), ["+one"]);
    version("..2", "two");
    symlink("..2", temporary.0.join("..data_tmp")).unwrap();
    fs::rename(temporary.0.join("..data_tmp"), temporary.0.join("..data")).unwrap();
    expect(&updates, &["+two", "-one"]);
}

#[cfg(unix)]
#[test]
fn the_directory_itself_may_be_a_link_that_is_turned() {
    use std::os::unix::fs::symlink;
    let temporary = Temporary::new("turned");
    for name in ["one", "two"] {
        fs::create_dir(temporary.0.join(name)).unwrap();
        fs::write(temporary.0.join(name).join("a.yaml"), namespace(name)).unwrap();
    }
    symlink("one", temporary.0.join("current")).unwrap();
    let (_directory, updates, first) = follow(&temporary.0.join("current"));
    assert_eq!(shown(&first.changes), ["+one"]);
    symlink("two", temporary.0.join("next")).unwrap();
    fs::rename(temporary.0.join("next"), temporary.0.join("current")).unwrap();
    expect(&updates, &["+two", "-one"]);
    // And the new one is watched.
    fs::write(temporary.0.join("two/b.yaml"), namespace("b")).unwrap();
    expect(&updates, &["+b"]);
}

#[test]
fn a_broken_file_is_a_notice_and_no_change() {
    let temporary = Temporary::new("broken");
    temporary.put("a.yaml", &namespace("a"));
    let (_directory, updates, _first) = follow(&temporary.0);
    temporary.put("a.yaml", "kind: [");
    let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(update.changes.is_empty());
    assert!(update.notices[0][0].text.starts_with("a.yaml:1"), "{:?}", update.notices);
    temporary.put("a.yaml", &namespace("a"));
    let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(update.changes.is_empty() && update.notices.is_empty(), "{update:?}");
}

/// Waits for the notices to be these.
fn expect_notices(updates: &mpsc::Receiver<Update>, expected: &[&str]) {
    let mut last = Vec::new();
    while let Ok(update) = updates.recv_timeout(Duration::from_secs(10)) {
        last = update.notices.iter().flat_map(|block| block.iter()).map(|notice| notice.text.to_string()).collect::<Vec<_>>();
        if last == expected {
            return;
        }
    }
    assert_eq!(last, expected);
}

#[test]
fn a_lost_event_means_that_everything_is_read_again() {
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    let everything = Reread { everything: true, ..Reread::default() };
    assert_eq!(Reread::after(&Ok(overflow), Path::new("/d")), everything);
    assert_eq!(Reread::after(&Err(notify::Error::generic("broken")), Path::new("/d")), everything);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_read_again_without_an_event() {
    use std::os::unix::fs::symlink;
    let (temporary, elsewhere) = (Temporary::new("retry"), Temporary::new("retry-elsewhere"));
    // A link to itself is an error of reading, and no event tells when it is mended: it is in another directory.
    let target = elsewhere.0.join("target");
    symlink(&target, &target).unwrap();
    symlink(&target, temporary.0.join("a.yaml")).unwrap();
    let (_directory, updates, first) = follow(&temporary.0);
    assert!(first.changes.is_empty());
    let notice = &first.notices[0][0].text;
    assert!(notice.starts_with("a.yaml: cannot be read: ") && notice.contains("it is tried again; the file is not"), "{notice}");
    fs::write(elsewhere.0.join("whole"), namespace("late")).unwrap();
    fs::rename(elsewhere.0.join("whole"), &target).unwrap();
    expect(&updates, &["+late"]);
}

#[cfg(unix)]
#[test]
fn a_directory_that_comes_back_unseen_is_read_again() {
    let temporary = Temporary::new("unseen");
    let path = temporary.0.join("parent/child");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("a.yaml"), namespace("a")).unwrap();
    let (_directory, updates, _first) = follow(&path);
    // The directory that would tell of its coming back goes too.
    fs::remove_dir_all(temporary.0.join("parent")).unwrap();
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("b.yaml"), namespace("b")).unwrap();
    let mut seen = Vec::new();
    // Whether the file is seen to go before its directory is, is a matter of luck.
    while seen.len() < 2 {
        let update = updates.recv_timeout(Duration::from_secs(20)).expect("the new directory is found");
        seen.extend(shown(&update.changes));
    }
    seen.sort_unstable();
    assert_eq!(seen, ["+b", "-a"]);
}

#[cfg(target_os = "linux")]
#[test]
fn odd_files_are_notices_and_cost_the_others_nothing() {
    use std::os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener};
    let temporary = Temporary::new("odd");
    let path = |name: &str| temporary.0.join(name);
    let (_directory, updates, _first) = follow(&temporary.0);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path("beside"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    fs::rename(path("beside"), path("fifo.yaml")).unwrap();
    symlink("/dev/zero", path("zero.yaml")).unwrap();
    let _socket = UnixListener::bind(path("beside")).unwrap();
    fs::rename(path("beside"), path("socket.yaml")).unwrap();
    fs::create_dir(path("beside")).unwrap();
    fs::rename(path("beside"), path("directory.yaml")).unwrap();
    symlink("nowhere", path("link.yaml")).unwrap();
    fs::File::create(path("large.yaml")).unwrap().set_len((16 << 20) + 1).unwrap();
    fs::write(temporary.0.join(OsStr::from_bytes(b"a\n\xff.yaml")), namespace("misnamed")).unwrap();
    let nothing = |name: &str, what: &str| format!("{name}: is {what}; expected a regular file, or a link to one; the file is not served");
    let expected = [
        nothing("directory.yaml", "a directory"),
        nothing("fifo.yaml", "a FIFO"),
        "large.yaml: is larger than 16 MiB, which is the most for a file of manifests; split it; the file is not served".into(),
        nothing("socket.yaml", "a socket"),
        nothing("zero.yaml", "a device"),
        "a\\n\\xFF.yaml: the name is not UTF-8; expected one that is; the file is not served".into(),
        "link.yaml: is a link to a file that does not exist; it is not served".into(),
    ];
    expect_notices(&updates, &expected.each_ref().map(String::as_str));
    temporary.put("b.yaml", &namespace("b"));
    expect(&updates, &["+b"]);
    // A file whose place one of them takes keeps its last version.
    rustix::fs::mknodat(rustix::fs::CWD, path("beside"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    fs::rename(path("beside"), path("b.yaml")).unwrap();
    let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(update.changes.is_empty(), "{update:?}");
    let kept = "b.yaml: is a FIFO; expected a regular file, or a link to one; the file's last version keeps serving";
    assert!(update.notices.iter().flat_map(|block| block.iter()).any(|notice| notice.text == kept), "{:?}", update.notices);
    for name in ["fifo.yaml", "zero.yaml", "socket.yaml", "link.yaml", "large.yaml", "b.yaml"] {
        fs::remove_file(path(name)).unwrap();
    }
    fs::remove_dir(path("directory.yaml")).unwrap();
    fs::remove_file(temporary.0.join(OsStr::from_bytes(b"a\n\xff.yaml"))).unwrap();
    expect_notices(&updates, &[]);
}

#[test]
fn a_file_of_just_the_most_bytes_is_read() {
    let temporary = Temporary::new("most");
    let mut text = namespace("a");
    text.extend(std::iter::repeat_n('\n', (16 << 20) - text.len()));
    fs::write(temporary.0.join("a.yaml"), text).unwrap();
    assert_eq!(shown(&read_directory(&temporary.0).unwrap().changes), ["+a"]);
}

#[test]
fn an_object_that_moves_between_files_is_never_deleted() {
    let temporary = Temporary::new("moves");
    temporary.put("b.yaml", &namespace("moved"));
    temporary.put("c.yaml", &namespace("kept"));
    let (_directory, updates, first) = follow(&temporary.0);
    assert_eq!(shown(&first.changes), ["+moved", "+kept"]);
    fs::rename(temporary.0.join("b.yaml"), temporary.0.join("a.yaml")).unwrap();
    expect(&updates, &["+moved"]);
    fs::remove_file(temporary.0.join("a.yaml")).unwrap();
    // Read before its deletion counts: it was moved into a file that declares something else too.
    temporary.put("c.yaml", &format!("{}---\n{}", namespace("kept"), namespace("moved")));
    expect(&updates, &["+moved"]);
    temporary.put("c.yaml", &namespace("last"));
    expect(&updates, &["+last", "-kept", "-moved"]);
}

#[test]
fn an_editor_that_renames_first_and_writes_nonsense_deletes_nothing() {
    let temporary = Temporary::new("nonsense");
    temporary.put("a.yaml", &namespace("a"));
    let (_directory, updates, _first) = follow(&temporary.0);
    fs::rename(temporary.0.join("a.yaml"), temporary.0.join("a.yaml~")).unwrap();
    fs::write(temporary.0.join("a.yaml"), "kind: [").unwrap();
    let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(update.changes.is_empty(), "{update:?}");
    assert!(update.notices[0][0].text.ends_with("the file's last version keeps serving"), "{:?}", update.notices);
    // Whatever comes next comes after the time in which a deletion would have counted.
    let later = updates.recv_timeout(2 * pending_deletions::ABSENCE);
    assert!(later.is_err(), "{later:?}");
}
