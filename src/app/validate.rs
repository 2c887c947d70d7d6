//! `clingfish validate`: what a cluster, or `clingfish standalone`, would accept of a directory.

use std::io::{self, Write};

use crate::cli::{ValidateArgs, ValidateOutput};
use crate::settings::{SettingsError, TenantSettings, UpstreamCrossNamespace, ValidateAs};
use crate::translate::{
    CONTROLLER_NAME, Options,
    report::{Report, report, statuses_yaml},
    status_key,
};

use super::{
    error::CommandError,
    source::{Translated, cross_namespace, translate_directory, with_tenants},
    verdict::Verdict,
};

/// Validates a directory. Statuses as YAML go to `out` alone; what is rejected is then told on standard error.
pub(super) fn run(arguments: &ValidateArgs, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let options = options(arguments)?;
    let translated = translate_directory(&arguments.directory, &options)?;
    let report = report(&translated.resources, &translated.translation, &options);
    match arguments.output {
        ValidateOutput::Yaml => {
            let yaml = statuses_yaml(&translated.translation)
                .map_err(|error| CommandError::Message(format!("the statuses cannot be shown as YAML: {error}; please report this")))?;
            out.write_all(yaml.as_bytes())?;
            tell(&translated, &report, &mut io::stderr().lock())?;
        }
        ValidateOutput::Text => tell(&translated, &report, out)?,
    }
    Ok(verdict(&translated, &report))
}

/// The options of those for whom it answers; nothing is bound.
fn options(arguments: &ValidateArgs) -> Result<Options, SettingsError> {
    let tenants = TenantSettings::from(arguments.tenants).validate()?;
    let options = match arguments.for_whom {
        ValidateAs::Standalone => Options { assume_bound: true, ..Options::default() },
        ValidateAs::Cluster => {
            let crossing = UpstreamCrossNamespace::or_default(arguments.upstream_cross_namespace, arguments.gloo);
            Options {
                allow_local_endpoints: false,
                cross_namespace: cross_namespace(crossing, &arguments.install_namespace),
                status_key: status_key(arguments.gloo, &arguments.install_namespace, CONTROLLER_NAME),
                ..Options::validate()
            }
        }
    };
    Ok(with_tenants(options, tenants))
}

fn verdict(translated: &Translated, report: &Report) -> Verdict {
    let refused = translated.file_notices().any(|notice| notice.refused);
    if refused || report.is_rejected() { Verdict::Rejected } else { Verdict::Accepted }
}

fn tell(translated: &Translated, report: &Report, out: &mut impl Write) -> io::Result<()> {
    for notice in translated.file_notices() {
        writeln!(out, "{}: {}", if notice.refused { "rejected" } else { "notice" }, notice.text)?;
    }
    for notice in translated.translation.notices.iter() {
        writeln!(out, "notice: {notice}")?;
    }
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    let statuses = translated.translation.statuses.len();
    let objects = if statuses == 1 { "1 object has".to_owned() } else { format!("{statuses} objects have") };
    match verdict(translated, report) {
        Verdict::Accepted => writeln!(out, "{objects} a status; nothing is rejected"),
        Verdict::Rejected => writeln!(out, "{objects} a status; something is rejected: mend what is marked `rejected` above"),
    }
}
