//! File descriptors: how many there are, and who may have how many of them.
//!
//! The system hands out the lowest free number. So code that gives every number from `DescriptorBudget::is_reserved` on back at
//! once leaves that many descriptors to the others, whatever is opened and closed meanwhile: no count has to be kept.

use std::io;

/// The limit that is assumed where the system tells none.
const ASSUMED_LIMIT: usize = 1 << 20;

/// Ports of the admin server: in a cluster there are two.
const ADMIN_PORTS: usize = 2;

/// What the process holds for itself: standard streams, the sockets of the admin ports, what its threads wait on, a watched directory.
const OWN: usize = 32;

/// What each worker's loop holds for itself.
const OWN_PER_WORKER: usize = 6;

/// Manifests that are read, connections to the API server (a watch each), DNS.
const CONTROLLER: usize = 64;

/// Least and most connections of one admin port.
const ADMIN_LEAST: usize = 16;
const ADMIN_MOST: usize = 512;

/// Connections without which it makes no sense to serve.
const LEAST_SERVED: usize = 8;

/// Share of the limit that an admin port gets, as a divisor.
const ADMIN_SHARE: usize = 16;

/// Share of what is left for the data plane that listening sockets may take, as a divisor.
const LISTENER_SHARE: usize = 4;

/// How the file descriptors of the process are dealt out. All figures are numbers of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// The process may have this many open.
    pub limit: usize,
    /// Kept from the data plane: for files, the admin ports, the API server, and what the process needs for itself.
    pub reserved: usize,
    /// The part of `reserved` that connections of one admin port may take.
    pub admin: usize,
    /// Listening sockets of the data plane: one for each worker and address.
    pub listeners: usize,
    /// Connections of clients and to hosts together.
    pub connections: usize,
}

/// The limit on open files at the start and afterwards; `None`: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedLimit {
    /// The soft limit that the process was started with.
    pub before: Option<u64>,
    /// The soft limit now.
    pub now: Option<u64>,
}

// === impl DescriptorBudget ===

impl DescriptorBudget {
    /// The budget of a process with this soft limit (`RLIMIT_NOFILE`; `None`: unlimited) and this many workers.
    pub fn new(limit: Option<u64>, workers: usize) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(ASSUMED_LIMIT);
        let admin = (limit / ADMIN_SHARE).clamp(ADMIN_LEAST, ADMIN_MOST);
        let wanted = OWN + OWN_PER_WORKER * workers + CONTROLLER + ADMIN_PORTS * admin;
        // With a limit too low for everything the data plane still gets half.
        let reserved = wanted.min(limit / 2);
        let left = limit - reserved;
        let listeners = left / LISTENER_SHARE;
        Self { limit, reserved, admin, listeners, connections: left - listeners }
    }

    /// The least limit with which this many workers can serve anything: the process's own descriptors, an address, and some connections.
    pub fn least(workers: usize) -> usize {
        2 * (OWN + OWN_PER_WORKER * workers + LEAST_SERVED + 2 * workers)
    }

    /// The budget of this process as it is now.
    pub fn of_process(workers: usize) -> Self {
        Self::new(soft_limit(), workers)
    }

    /// Most connections of clients: each may need a second descriptor, for a connection to a host.
    pub fn client_connections(&self) -> usize {
        self.connections / 2
    }

    /// Most addresses that this many workers may listen on.
    pub fn addresses(&self, workers: usize) -> usize {
        self.listeners / workers.max(1)
    }

    /// Whether this descriptor is one of those that the data plane has to leave to the others.
    pub fn is_reserved(&self, descriptor: i32) -> bool {
        usize::try_from(descriptor).is_ok_and(|descriptor| descriptor >= self.limit - self.reserved)
    }
}

impl Default for DescriptorBudget {
    /// Without a limit that would ever bite.
    fn default() -> Self {
        Self { limit: usize::MAX, reserved: 0, admin: ADMIN_MOST, listeners: usize::MAX, connections: usize::MAX }
    }
}

/// Raises the soft limit on open files to the hard one: the low soft limit is for programs that use `select`.
///
/// # Errors
/// The system refuses; the limit is as it was.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> io::Result<RaisedLimit> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current: before, maximum } = getrlimit(Resource::Nofile);
    if before != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(RaisedLimit { before, now: maximum })
}

/// There is nothing to raise.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn raise_descriptor_limit() -> io::Result<RaisedLimit> {
    Ok(RaisedLimit { before: None, now: None })
}

/// The soft limit on open files; `None`: there is none.
fn soft_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    return None;
}

/// Descriptors that this process has open; `None` where the system does not tell.
pub fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the directory's size is their number; before, it is 0 and they are counted.
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        0 => std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        open => Some(open),
    }
}

/// Whether an error says that no file descriptor is left, in this process or in the whole system.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|code| codes.contains(&code))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        for (limit, workers, reserved, admin, listeners, connections) in [
            // Too little for anything: half is left to the data plane.
            (Some(64), 2, 32, 16, 8, 24),
            (Some(256), 2, 128, 16, 32, 96),
            (Some(1_024), 2, 236, 64, 197, 591),
            (Some(1_024), 8, 272, 64, 188, 564),
            (Some(20_000), 2, 1_132, 512, 4_717, 14_151),
            (Some(1_048_576), 8, 1_168, 512, 261_852, 785_556),
            (None, 8, 1_168, 512, 261_852, 785_556),
            (Some(0), 1, 0, 16, 0, 0),
        ] {
            let budget = DescriptorBudget::new(limit, workers);
            let expected = DescriptorBudget { limit: budget.limit, reserved, admin, listeners, connections };
            assert_eq!(budget, expected, "limit {limit:?}, {workers} workers");
            assert_eq!(budget.reserved + budget.listeners + budget.connections, budget.limit);
        }
    }

    #[test]
    fn shares_of_clients_and_addresses() {
        let budget = DescriptorBudget::new(Some(1_024), 2);
        assert_eq!((budget.client_connections(), budget.addresses(2), budget.addresses(0)), (295, 98, 197));
    }

    #[test]
    fn the_highest_numbers_are_reserved() {
        let budget = DescriptorBudget::new(Some(1_024), 2);
        for (descriptor, expected) in [(-1, false), (0, false), (787, false), (788, true), (1_023, true)] {
            assert_eq!(budget.is_reserved(descriptor), expected, "{descriptor}");
        }
        assert!(!DescriptorBudget::default().is_reserved(i32::MAX));
    }

    #[cfg(unix)]
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(soft_limit(), raised.now);
        assert_eq!(raise_descriptor_limit().unwrap(), RaisedLimit { before: raised.now, now: raised.now });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn open_descriptors_are_counted() {
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_descriptors().unwrap() >= 100);
        drop(files);
    }

    #[cfg(unix)]
    #[test]
    fn running_out_is_recognised() {
        for (code, expected) in [(23, true), (24, true), (2, false)] {
            assert_eq!(is_out_of_descriptors(&io::Error::from_raw_os_error(code)), expected, "{code}");
        }
        assert!(!is_out_of_descriptors(&io::Error::other("something else")));
    }
}
