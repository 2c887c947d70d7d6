//! Form of the access log.

use std::sync::Arc;

use clap::ValueEnum;

use crate::base::{AccessLogFormat, LogTemplate};

use super::{SettingsError, refused};

/// What is asked for with `--access-log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AccessLogKind {
    /// No access log
    #[default]
    Off,
    /// key=value pairs
    Text,
    /// A JSON object in each line
    Json,
    /// As --access-log-template says
    Template,
}

// === impl AccessLogKind ===

impl AccessLogKind {
    /// The form of lines; `None`: no log. A template is checked even while it is not in use.
    pub(super) fn with(self, template: Option<&str>) -> Result<Option<AccessLogFormat>, SettingsError> {
        const FLAG: &str = "--access-log-template";
        let template = template.filter(|template| !template.is_empty());
        let parsed = template.map(LogTemplate::parse).transpose().map_err(|error| refused(FLAG, error.to_string()))?;
        match (self, parsed) {
            (Self::Off, _) => Ok(None),
            (Self::Text, None) => Ok(Some(AccessLogFormat::Text)),
            (Self::Json, None) => Ok(Some(AccessLogFormat::Json)),
            (Self::Text | Self::Json, Some(_)) => {
                Err(refused(FLAG, "a template is given, but --access-log does not ask for one; expected --access-log template".to_owned()))
            }
            (Self::Template, Some(template)) => Ok(Some(AccessLogFormat::Template(Arc::new(template)))),
            (Self::Template, None) => Err(refused(FLAG, "missing; expected the template that --access-log asks for".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_belongs_to_its_kind() {
        use AccessLogKind::{Json, Off, Template, Text};
        let template = Some("%PROTOCOL%");
        assert_eq!(Off.with(template), Ok(None));
        assert_eq!(Text.with(None), Ok(Some(AccessLogFormat::Text)));
        assert_eq!(Json.with(Some("")), Ok(Some(AccessLogFormat::Json)), "an empty environment variable is none");
        let parsed = LogTemplate::parse("%PROTOCOL%").unwrap();
        assert_eq!(Template.with(template), Ok(Some(AccessLogFormat::Template(Arc::new(parsed)))));
        for (kind, template, expected) in [
            (
                Text,
                template,
                "--access-log-template: a template is given, but --access-log does not ask for one; expected --access-log template",
            ),
            (
                Json,
                template,
                "--access-log-template: a template is given, but --access-log does not ask for one; expected --access-log template",
            ),
            (Template, None, "--access-log-template: missing; expected the template that --access-log asks for"),
            (Template, Some(""), "--access-log-template: missing; expected the template that --access-log asks for"),
            (
                Off,
                Some("%REQ(cookie)%"),
                "--access-log-template: character 1: %REQ%: cookie is never logged, since its value lets others be the client; expected \
                 another header",
            ),
        ] {
            assert_eq!(kind.with(template).unwrap_err().to_string(), expected);
        }
    }
}
