//! Which sections a PEM text (RFC 7468) has. It reports sections that the decoder skips silently.

/// What a section holds, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Certificate,
    /// A certificate under a label that the decoder does not know: skipping it would leave a gap in a chain.
    OtherCertificate,
    PrivateKey,
    EncryptedPrivateKey,
    Other,
}

/// The sections, in order.
///
/// # Errors
/// The text is damaged. The error shows no part of it.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, &'static str> {
    let mut sections = Vec::new();
    let mut open: Option<&[u8]> = None;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let trimmed = line.trim_ascii();
        if !trimmed.starts_with(b"-----") {
            if open.is_some() && trimmed == b"Proc-Type: 4,ENCRYPTED" {
                sections.pop();
                sections.push(Section::EncryptedPrivateKey);
            }
            continue;
        }
        if !line.starts_with(b"-") {
            return Err("a section is indented");
        }
        match (label(trimmed, b"-----BEGIN "), label(trimmed, b"-----END "), open) {
            (Some(label), _, None) => {
                sections.push(Section::of(label));
                open = Some(label);
            }
            (Some(_), _, Some(_)) => return Err("a section has no end"),
            (None, Some(_), None) => return Err("a section has no beginning"),
            (None, Some(label), Some(begun)) if label == begun => open = None,
            (None, Some(_), Some(_)) => return Err("a section ends with another label than it began with"),
            (None, None, _) => return Err("a section has no proper beginning or end"),
        }
    }
    if open.is_some() { Err("a section has no end") } else { Ok(sections) }
}

fn label<'t>(line: &'t [u8], beginning: &[u8]) -> Option<&'t [u8]> {
    line.strip_prefix(beginning)?.strip_suffix(b"-----")
}

// === impl Section ===

impl Section {
    fn of(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" => Self::Certificate,
            b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" | b"PKCS7" => Self::OtherCertificate,
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => Self::PrivateKey,
            b"ENCRYPTED PRIVATE KEY" => Self::EncryptedPrivateKey,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_by_their_labels() {
        use Section::*;
        for (text, expected) in [
            ("", Ok(&[][..])),
            ("words\n", Ok(&[])),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", Ok(&[Certificate])),
            ("Bag Attributes\r\n-----BEGIN CERTIFICATE-----\r\nAA==\r\n-----END CERTIFICATE-----\r\nwords\r\n", Ok(&[Certificate])),
            (
                "-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----",
                Ok(&[Other, PrivateKey]),
            ),
            ("-----BEGIN TRUSTED CERTIFICATE-----\n-----END TRUSTED CERTIFICATE-----", Ok(&[OtherCertificate])),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----", Ok(&[EncryptedPrivateKey])),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n-----END RSA PRIVATE KEY-----", Ok(&[EncryptedPrivateKey])),
            ("-----BEGIN CERTIFICATE-----\nAA==\n", Err("no end")),
            ("-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----", Err("no end")),
            ("AA==\n-----END CERTIFICATE-----\n", Err("no beginning")),
            ("-----BEGIN A-----\n-----END B-----", Err("ends with another label")),
            ("-----BEGIN CERTIFICATE----\n-----END CERTIFICATE-----", Err("no proper")),
            ("  -----BEGIN CERTIFICATE-----\n  -----END CERTIFICATE-----", Err("indented")),
        ] {
            match (sections(text.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
