//! Form of the access log.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use clap::ValueEnum;

use crate::base::{AccessLogConditions, AccessLogFormat, LogTemplate, MILLION};

use super::error::{SettingsError, refused};

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

/// Which requests have a line, as typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawAccessLogConditions {
    /// `--access-log-status`.
    pub statuses: Vec<String>,
    /// `--access-log-min-duration`.
    pub min_duration: Option<Duration>,
    /// `--access-log-flags`.
    pub flags: Vec<String>,
    /// `--access-log-sample`, in percent.
    pub sample: Option<f64>,
}

// === impl RawAccessLogConditions ===

impl RawAccessLogConditions {
    /// Validates all but the flags, which only the log itself knows.
    pub(super) fn validate(self) -> Result<AccessLogConditions, SettingsError> {
        let given = |list: Vec<String>| list.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty());
        let share = match self.sample {
            // A million fits, and what is cut off is less than one in a million.
            Some(percent) if (0.0..=100.0).contains(&percent) => Some((percent * f64::from(MILLION) / 100.0).round() as u32),
            Some(percent) => return Err(refused("--access-log-sample", format!("{percent} is out of range; expected 0 to 100 percent"))),
            None => None,
        };
        Ok(AccessLogConditions {
            statuses: given(self.statuses).map(|text| statuses(&text)).collect::<Result<_, _>>()?,
            min_duration: self.min_duration,
            flags: given(self.flags).map(Into::into).collect(),
            share,
        })
    }
}

/// `5xx`, `404` or `500-599`; 0 stands for no response at all.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, SettingsError> {
    let problem =
        || refused("--access-log-status", format!("{text:?}; expected a status, a class such as 5xx, or a range such as 500-504"));
    let status = |text: &str| text.parse().ok().filter(|status| *status == 0 || (100..=599).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class)).ok_or_else(problem)?;
        return Ok(class * 100..=class * 100 + 99);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = status(first).zip(status(last)).map(|(first, last)| first..=last);
    range.filter(|range| !range.is_empty()).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_what_is_wrong_is_named() {
        let raw = |statuses: &[&str], sample: Option<f64>| RawAccessLogConditions {
            statuses: statuses.iter().map(|text| (*text).to_owned()).collect(),
            sample,
            ..RawAccessLogConditions::default()
        };
        let read = raw(&["5xx", " 404", "0", "500-504", ""], Some(0.01)).validate().unwrap();
        assert_eq!(read.statuses, [500..=599, 404..=404, 0..=0, 500..=504]);
        assert_eq!((read.share, read.share_of_others()), (Some(100), 100));
        assert_eq!(raw(&[], None).validate().unwrap().share_of_others(), MILLION, "without conditions every request has a line");
        assert_eq!(raw(&["5xx"], None).validate().unwrap().share_of_others(), 0);
        for (statuses, sample, expected) in [
            (&["6xx"][..], None, "--access-log-status: \"6xx\"; expected a status, a class such as 5xx, or a range such as 500-504"),
            (&["504-500"], None, "--access-log-status: \"504-500\"; expected a status, a class such as 5xx, or a range such as 500-504"),
            (&["99"], None, "--access-log-status: \"99\"; expected a status, a class such as 5xx, or a range such as 500-504"),
            (&[], Some(101.0), "--access-log-sample: 101 is out of range; expected 0 to 100 percent"),
            (&[], Some(f64::NAN), "--access-log-sample: NaN is out of range; expected 0 to 100 percent"),
        ] {
            assert_eq!(raw(statuses, sample).validate().unwrap_err().to_string(), expected);
        }
    }

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
