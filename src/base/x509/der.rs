//! The parts of DER (X.690) that certificates are made of.

/// Why something is no certificate: words that fit after "it is no X.509 certificate: ".
pub type X509Error = &'static str;

/// Tags that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    Boolean = 0x01,
    Integer = 0x02,
    BitString = 0x03,
    OctetString = 0x04,
    ObjectIdentifier = 0x06,
    UtcTime = 0x17,
    GeneralizedTime = 0x18,
    Sequence = 0x30,
    Set = 0x31,
    /// The version.
    Context0 = 0xa0,
    /// issuerUniqueID.
    Context1Primitive = 0x81,
    /// subjectUniqueID.
    Context2Primitive = 0x82,
    /// Extensions.
    Context3 = 0xa3,
}

/// An element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// Without tag and length.
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// Elements one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

// === impl Element ===

impl<'a> Element<'a> {
    /// What the element is made of.
    pub(super) fn inner(self) -> Der<'a> {
        Der(self.content)
    }

    /// The bytes of a BIT STRING of whole bytes.
    pub(super) fn bits(self) -> Result<&'a [u8], X509Error> {
        match self.content.split_first() {
            Some((0, bytes)) => Ok(bytes),
            Some(_) | None => Err("a string of bits is not made of whole bytes"),
        }
    }
}

// === impl Der ===

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may follow.
    pub(super) fn end(self, problem: X509Error) -> Result<(), X509Error> {
        if self.is_empty() { Ok(()) } else { Err(problem) }
    }

    /// The next element, which must be of this kind.
    pub(super) fn read(&mut self, tag: Tag) -> Result<Element<'a>, X509Error> {
        self.read_if(tag)?.ok_or("a field is missing")
    }

    /// The next element if it is of this kind.
    pub(super) fn read_if(&mut self, tag: Tag) -> Result<Option<Element<'a>>, X509Error> {
        if self.0.first() == Some(&(tag as u8)) { self.any().map(Some) } else { Ok(None) }
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<Element<'a>, X509Error> {
        const CUT: X509Error = "it is cut off";
        let bytes = self.0;
        let (&tag, rest) = bytes.split_first().ok_or(CUT)?;
        if tag & 0x1f == 0x1f {
            return Err("it is not in DER");
        }
        let (&first, rest) = rest.split_first().ok_or(CUT)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // A certificate is no longer than the 16 MiB that three bytes can say.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(CUT)?;
                let length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
                let is_shortest = if digits.len() == 1 { length > 0x7f } else { digits.first() != Some(&0) };
                if !is_shortest {
                    return Err("it is not in DER");
                }
                (length, rest)
            }
            _ => return Err("it is not in DER"),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        let whole = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
        Ok(Element { tag, content, whole })
    }
}
