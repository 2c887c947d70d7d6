//! How much memory this process may use, and how much it does.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    path::Path,
};

use super::cgroup::{Cgroup, CgroupVersion, own_cgroups};

/// Version 1 has no word for "no limit": it shows the largest number of pages. No machine has this much.
const UNLIMITED: u64 = 1 << 60;

/// Looks at memory again and again. Its files stay open, so that it goes on seeing when descriptors have run out.
#[derive(Debug)]
pub struct MemoryMonitor {
    groups: Vec<Group>,
    process: Option<Process>,
}

/// A cgroup that holds the process.
#[derive(Debug)]
struct Group {
    version: CgroupVersion,
    limit: File,
    usage: File,
    stat: File,
}

/// The process by itself, against a limit that it was told.
#[derive(Debug)]
struct Process {
    limit: u64,
    status: File,
}

/// Memory used and the limit it is held against, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryReading {
    /// In use. Of a cgroup without the page cache that the kernel can drop at once.
    pub used: u64,
    /// The most there may be.
    pub limit: u64,
}

/// Resident memory of this process in bytes as Linux reports it; 0 elsewhere.
pub fn resident_memory() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)).unwrap_or(0)
}

// === impl MemoryMonitor ===

impl MemoryMonitor {
    /// Watches the cgroups of this process and, if `max_heap_size` (bytes) is given, its resident memory against that, as Envoy's
    /// `cgroup_memory` and `fixed_heap` resource monitors do.
    pub fn new(max_heap_size: Option<u64>) -> Self {
        let groups = own_cgroups("memory").iter().filter_map(|group| Group::open(group).ok()).collect();
        let process = max_heap_size.and_then(|limit| Some(Process { limit, status: File::open("/proc/self/status").ok()? }));
        Self { groups, process }
    }

    /// The least limit there is, in bytes; `None` without any.
    pub fn limit(&mut self) -> Option<u64> {
        let groups = self.groups.iter_mut().filter_map(Group::limit).min();
        let process = self.process.as_ref().map(|process| process.limit);
        groups.into_iter().chain(process).min()
    }

    /// The reading with the highest pressure; `None` where nothing limits memory.
    pub fn read(&mut self) -> Option<MemoryReading> {
        let groups = self.groups.iter_mut().filter_map(Group::read);
        let process = self.process.iter_mut().filter_map(Process::read);
        groups.chain(process).max_by(|a, b| a.pressure().total_cmp(&b.pressure()))
    }
}

// === impl Group ===

impl Group {
    fn open(group: &Cgroup) -> io::Result<Self> {
        let (limit, usage) = match group.version {
            CgroupVersion::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            CgroupVersion::V2 => ("memory.max", "memory.current"),
        };
        let open = |name: &str| File::open(Path::new(&group.directory).join(name));
        Ok(Self { version: group.version, limit: open(limit)?, usage: open(usage)?, stat: open("memory.stat")? })
    }

    /// Read each time: the limit of a running pod can be changed.
    fn limit(&mut self) -> Option<u64> {
        limit(&text(&mut self.limit)?)
    }

    fn read(&mut self) -> Option<MemoryReading> {
        let limit = self.limit()?;
        let usage: u64 = text(&mut self.usage)?.trim().parse().ok()?;
        let droppable = inactive_file(&text(&mut self.stat)?, self.version).unwrap_or(0);
        Some(MemoryReading { used: usage.saturating_sub(droppable), limit })
    }
}

// === impl Process ===

impl Process {
    fn read(&mut self) -> Option<MemoryReading> {
        Some(MemoryReading { used: resident(&text(&mut self.status)?)?, limit: self.limit })
    }
}

// === impl MemoryReading ===

impl MemoryReading {
    /// Memory used over memory there is.
    pub fn pressure(&self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

/// The file's text from its beginning.
fn text(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

/// `memory.max` or `memory.limit_in_bytes`: bytes; `None`: unlimited.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| (1..UNLIMITED).contains(limit))
}

/// The page cache that nobody used lately, of this group and those below it: what kubelet takes off for its working set, too.
fn inactive_file(stat: &str, version: CgroupVersion) -> Option<u64> {
    let name = match version {
        CgroupVersion::V1 => "total_inactive_file ",
        CgroupVersion::V2 => "inactive_file ",
    };
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// `VmRSS` of `/proc/PID/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_both_versions() {
        for (text, expected) in
            [("134217728\n", Some(128 << 20)), ("max\n", None), ("9223372036854771712\n", None), ("0\n", None), ("", None), ("-1\n", None)]
        {
            assert_eq!(limit(text), expected, "{text:?}");
        }
    }

    #[test]
    fn page_cache_that_can_be_dropped_is_found_under_its_name_of_each_version() {
        let stat = "cache 9\ninactive_file 7\nactive_file 6\ntotal_inactive_file 8\n";
        assert_eq!(inactive_file(stat, CgroupVersion::V2), Some(7));
        assert_eq!(inactive_file(stat, CgroupVersion::V1), Some(8));
        assert_eq!(inactive_file("anon 1\n", CgroupVersion::V2), None);
    }

    /// A directory of a test's own with the files of a group in it.
    struct Files(std::path::PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let directory = std::env::temp_dir().join(format!("clingfish-memory-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let this = Self(directory);
            files.iter().for_each(|(name, text)| this.put(name, text));
            this
        }

        fn put(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }

        fn group(&self, version: CgroupVersion) -> io::Result<Group> {
            Group::open(&Cgroup { version, directory: self.0.clone() })
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_group_nearest_to_its_limit_counts_and_files_are_read_anew() {
        let pod = Files::new("pod", &[("memory.max", "max\n"), ("memory.current", "5\n"), ("memory.stat", "inactive_file 1\n")]);
        let names = [("memory.limit_in_bytes", "1000\n"), ("memory.usage_in_bytes", "900\n"), ("memory.stat", "total_inactive_file 100\n")];
        let container = Files::new("container", &names);
        let groups = vec![pod.group(CgroupVersion::V2).unwrap(), container.group(CgroupVersion::V1).unwrap()];
        let mut monitor = MemoryMonitor { groups, process: None };
        assert_eq!((monitor.limit(), monitor.read()), (Some(1000), Some(MemoryReading { used: 800, limit: 1000 })));
        pod.put("memory.max", "4\n");
        assert_eq!((monitor.limit(), monitor.read()), (Some(4), Some(MemoryReading { used: 4, limit: 4 })));
        assert!(pod.group(CgroupVersion::V1).is_err(), "another version's files are not there");
    }

    #[test]
    fn resident_memory_is_held_against_the_setting() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    8 kB\n"), Some(8192));
        assert_eq!(resident("VmRSS: 8\n"), None);
        let mut monitor = MemoryMonitor { groups: Vec::new(), ..MemoryMonitor::new(Some(1 << 40)) };
        assert_eq!(monitor.limit(), Some(1 << 40));
        assert!(monitor.read().is_some_and(|reading| (1 << 20..1 << 40).contains(&reading.used)));
        let mut monitor = MemoryMonitor { groups: Vec::new(), process: None };
        assert_eq!((monitor.limit(), monitor.read()), (None, None));
    }
}
