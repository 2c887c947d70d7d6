//! How many processors this process may use: the CPU quota of its cgroup, else the cores it may run on.

use std::{fs, path::Path};

use crate::base::{Cgroup, CgroupVersion, own_cgroups};

/// Most workers without being asked for more.
const MOST: usize = 8;

/// Default of `--workers`: the CPU quota of cgroup v1 or v2 rounded up, else the cores, at most 8.
pub fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = fs::read_to_string("/proc/self/status").ok().and_then(|status| allowed_cores(&status)).unwrap_or(cores);
    let quota = quota(&own_cgroups("cpu"), |path| fs::read_to_string(path).ok());
    quota.map_or(cores, |quota| quota.min(cores)).clamp(1, MOST)
}

/// The number of cores in `Cpus_allowed_list` of /proc/self/status.
fn allowed_cores(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split(',').try_fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(sum + last.checked_sub(first)? + 1)
    })
}

/// The least quota, rounded up to whole processors, of these groups; `None` without any.
fn quota(groups: &[Cgroup], read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let quotas = groups.iter().filter_map(|Cgroup { version, directory }| match version {
        CgroupVersion::V1 => quota_v1(&read(&directory.join("cpu.cfs_quota_us"))?, &read(&directory.join("cpu.cfs_period_us"))?),
        CgroupVersion::V2 => quota_v2(&read(&directory.join("cpu.max"))?),
    });
    quotas.min()
}

/// `cpu.max`: quota or `max`, then period, in microseconds.
fn quota_v2(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    rounded_up(quota.parse().ok()?, period.parse().ok()?)
}

/// `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`.
fn quota_v1(quota: &str, period: &str) -> Option<usize> {
    rounded_up(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn rounded_up(quota: u64, period: u64) -> Option<usize> {
    if period == 0 { None } else { usize::try_from(quota.div_ceil(period).max(1)).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cgroups;

    #[test]
    fn quotas_of_both_versions_round_up_and_the_least_above_counts() {
        let files = [
            ("/sys/fs/cgroup/kubepods/pod1/c/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/kubepods/cpu.max", "400000 100000\n"),
            ("/sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "250000\n"),
            ("/sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/free/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/free/cpu.cfs_period_us", "100000\n"),
        ];
        let read = |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        for (groups, expected) in [
            ("0::/kubepods/pod1/c\n", Some(2)),
            ("0::/kubepods\n", Some(4)),
            ("0::/\n", None),
            ("4:cpu,cpuacct:/docker\n0::/\n", Some(3)),
            ("4:cpuset:/docker\n", None),
            ("4:cpu,cpuacct:/free\n", None),
            ("", None),
            ("rubbish", None),
        ] {
            assert_eq!(quota(&cgroups(groups, "cpu"), read), expected, "{groups:?}");
        }
    }

    #[test]
    fn lists_of_cores_are_counted() {
        for (list, cores) in [("0-1", Some(2)), ("0", Some(1)), ("0-3,8,10-11", Some(7)), ("", None), ("3-1", None)] {
            assert_eq!(allowed_cores(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n")), cores, "{list}");
        }
    }
}
