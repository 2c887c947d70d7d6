//! What a migration says of an object.

use std::fmt;

use crate::base::Message;

/// What a note says becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It guards in Gloo, and nothing takes its place.
    Unguarded,
    /// Gloo serves it, and here it is answered with errors or not at all.
    Refused,
    /// It has no effect here.
    Lost,
    /// It is served, and behaves otherwise.
    Differs,
    /// It is left to the operator.
    ToDo,
}

/// One thing to be said of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Kind, namespace and name.
    pub object: String,
    /// What becomes of it.
    pub effect: Effect,
    /// For people.
    pub text: Message,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unguarded => "unguarded",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Differs => "differs",
            Self::ToDo => "to do",
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.effect, self.object, self.text)
    }
}
