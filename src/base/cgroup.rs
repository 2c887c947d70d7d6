//! Where the kernel keeps the files of this process's cgroups, of version 1 and of version 2.

use std::path::{Path, PathBuf};

/// Which kernel interface a group's files belong to: their names and formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// The directory of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Whose files are in it.
    pub version: CgroupVersion,
    /// Where they are. The directory may be missing: a hierarchy need not be mounted here.
    pub directory: PathBuf,
}

/// The groups that hold this process for a controller: the innermost first, then those above it. A container may see its own group as the
/// root, so the root is among them.
pub fn own_cgroups(controller: &str) -> Vec<Cgroup> {
    std::fs::read_to_string("/proc/self/cgroup").map_or_else(|_| Vec::new(), |groups| cgroups(&groups, controller))
}

/// The same for the text of a `/proc/PID/cgroup` (cgroups(7)).
pub fn cgroups(groups: &str, controller: &str) -> Vec<Cgroup> {
    groups.lines().filter_map(|line| hierarchy(line, controller)).flatten().collect()
}

/// The groups that a line `number:controllers:path` names, if it is about the controller.
fn hierarchy(line: &str, controller: &str) -> Option<Vec<Cgroup>> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let root = Path::new("/sys/fs/cgroup");
    let (version, root) = if controllers.is_empty() {
        (CgroupVersion::V2, root.to_owned())
    } else if controllers.split(',').any(|name| name == controller) {
        (CgroupVersion::V1, root.join(controller))
    } else {
        return None;
    };
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    Some(groups.map(|group| Cgroup { version, directory: root.join(group) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_group_comes_first_and_the_root_last() {
        use CgroupVersion::{V1, V2};
        for (groups, expected) in [
            ("0::/pod/c\n", vec![(V2, "/sys/fs/cgroup/pod/c"), (V2, "/sys/fs/cgroup/pod"), (V2, "/sys/fs/cgroup/")]),
            ("0::/\n", vec![(V2, "/sys/fs/cgroup/")]),
            ("4:cpu,memory:/a\n3:cpuset:/b\n", vec![(V1, "/sys/fs/cgroup/memory/a"), (V1, "/sys/fs/cgroup/memory/")]),
            ("3:cpuset:/b\n", vec![]),
            ("", vec![]),
            ("rubbish", vec![]),
        ] {
            let found = cgroups(groups, "memory");
            let found: Vec<_> = found.iter().map(|group| (group.version, group.directory.to_str().unwrap())).collect();
            assert_eq!(found, expected, "{groups:?}");
        }
    }
}
