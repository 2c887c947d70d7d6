//! From settings to options of translation, and from a directory to a snapshot without serving it.

use std::{fs, net::IpAddr, path::Path};

use crate::base::crypto;
use crate::controller::{Clock, FilesError, Notice, NoticeBlocks, Update, read_directory};
use crate::settings::{self, ClientSettings, PathSettings, Settings, TenantSettings, UpstreamCrossNamespace};
use crate::snapshot::{EscapedSlashesAction, HeadersWithUnderscores, Observed, PathNormalization};
use crate::translate::{CrossNamespace, HostnameOwnership, Options, Resources, Translation, UseRemoteAddress, translate};

/// Options of translation for `standalone` and `demo`.
pub fn options(settings: &Settings) -> Options {
    let keeps_last_good = settings.state_directory.is_some();
    let has_system_authorities = !crypto::system_authorities().is_empty();
    let options = Options { bind: settings.bind, keeps_last_good, has_system_authorities, ..Options::default() };
    with_tenants(with_client(options, &settings.client), settings.tenants)
}

/// Options of translation for a directory that is only looked at, as `standalone` would serve it.
pub(super) fn dry_options(bind: Option<IpAddr>, client: &ClientSettings, tenants: TenantSettings) -> Options {
    let options = Options { assume_bound: true, ..Options::default() };
    with_tenants(with_client(Options { bind: bind.unwrap_or(options.bind), ..options }, client), tenants)
}

pub(super) fn with_client(options: Options, client: &ClientSettings) -> Options {
    Options {
        use_remote_address: client.use_remote_address.map_or(UseRemoteAddress::ByClass, UseRemoteAddress::Always),
        xff_num_trusted_hops: client.xff_num_trusted_hops,
        server_header: client.server_header.clone(),
        path: path(client.path),
        headers_with_underscores: headers_with_underscores(client.headers_with_underscores),
        ..options
    }
}

pub(super) fn with_tenants(options: Options, tenants: TenantSettings) -> Options {
    let hostname_ownership = match tenants.hostname_ownership {
        settings::HostnameOwnership::Any => HostnameOwnership::Any,
        settings::HostnameOwnership::FirstNamespace => HostnameOwnership::FirstNamespace,
    };
    let limits = options.limits.with_ring_points(tenants.ring_points);
    Options { hostname_ownership, limits, ..options }
}

/// Whether an Upstream may name a Service of another namespace.
pub(super) fn cross_namespace(setting: UpstreamCrossNamespace, install_namespace: &str) -> CrossNamespace {
    match setting {
        UpstreamCrossNamespace::ReleaseNamespace => CrossNamespace::ReleaseNamespace(install_namespace.into()),
        UpstreamCrossNamespace::Grant => CrossNamespace::Grant,
        UpstreamCrossNamespace::Any => CrossNamespace::Any,
    }
}

fn headers_with_underscores(setting: settings::HeadersWithUnderscores) -> HeadersWithUnderscores {
    match setting {
        settings::HeadersWithUnderscores::DropGuarded => HeadersWithUnderscores::DropGuarded,
        settings::HeadersWithUnderscores::Allow => HeadersWithUnderscores::Allow,
        settings::HeadersWithUnderscores::RejectRequest => HeadersWithUnderscores::RejectRequest,
        settings::HeadersWithUnderscores::DropHeader => HeadersWithUnderscores::DropHeader,
    }
}

fn path(settings: PathSettings) -> PathNormalization {
    let escaped_slashes = match settings.escaped_slashes {
        settings::EscapedSlashesAction::KeepUnchanged => EscapedSlashesAction::KeepUnchanged,
        settings::EscapedSlashesAction::RejectRequest => EscapedSlashesAction::RejectRequest,
        settings::EscapedSlashesAction::UnescapeAndRedirect => EscapedSlashesAction::UnescapeAndRedirect,
        settings::EscapedSlashesAction::UnescapeAndForward => EscapedSlashesAction::UnescapeAndForward,
    };
    PathNormalization { merge_slashes: settings.merge_slashes, escaped_slashes }
}

/// What is seen of the machine at the start.
pub(super) fn observed() -> Observed {
    let interfaces = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    Observed { ipv6: has_global_ipv6(&interfaces), hour: Clock::default().hour(), ..Observed::default() }
}

/// A directory that was read and translated once.
pub(super) struct Translated {
    pub(super) resources: Resources,
    pub(super) translation: Translation,
    /// What is to be said about the files.
    pub(super) notices: NoticeBlocks,
}

// === impl Translated ===

impl Translated {
    /// What is to be said about the files, one by one.
    pub(super) fn file_notices(&self) -> impl Iterator<Item = &Notice> {
        self.notices.iter().flat_map(|block| block.iter())
    }
}

/// A directory that was read once.
pub(super) struct ReadDirectory {
    pub(super) resources: Resources,
    notices: NoticeBlocks,
}

/// Reads a directory once.
pub(super) fn read(path: &Path) -> Result<ReadDirectory, FilesError> {
    let Update { changes, notices, .. } = read_directory(path)?;
    let mut resources = Resources::default();
    changes.into_iter().for_each(|change| resources.apply(change));
    Ok(ReadDirectory { resources, notices })
}

/// Reads and translates a directory once.
pub(super) fn translate_directory(path: &Path, options: &Options) -> Result<Translated, FilesError> {
    let ReadDirectory { resources, notices } = read(path)?;
    let translation = translate(&resources, &observed(), options, None);
    Ok(Translated { resources, translation, notices })
}

/// Whether /proc/net/if_inet6 has an address that others can be reached from: neither loopback nor link-local.
fn has_global_ipv6(interfaces: &str) -> bool {
    // Address, interface, prefix length, scope, flags, name; scope 00 is global (unique local addresses too).
    interfaces.lines().any(|line| line.split_whitespace().nth(3) == Some("00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_global_address_counts() {
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let link_local = "fe800000000000000042acfffe110002 02 40 20 80     eth0\n";
        let global = "fd000000000000000000000000000002 02 40 00 80     eth0\n";
        assert!(!has_global_ipv6(""));
        assert!(!has_global_ipv6(&format!("{loopback}{link_local}")));
        assert!(has_global_ipv6(&format!("{loopback}{link_local}{global}")));
    }
}
