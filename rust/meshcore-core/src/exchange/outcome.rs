//! How a request, or an attempt of it, ended.

use std::borrow::Cow;

use crate::error::{By, Reason};

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)+) => {
        /// Where a request stands, and where it ended.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Phase { $($(#[$doc])* $variant),+ }

        impl Phase {
            /// Every phase, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that logs use.
            #[must_use]
            pub const fn word(self) -> &'static str { match self { $(Self::$variant => $word),+ } }
        }
    };
}

phases! {
    /// Its head was read; or its small body is awaited before it takes a place.
    #[default]
    Head = "head";
    /// Layers look at it.
    Layers = "layers";
    /// It waits for a connection, or for its next attempt.
    Waiting = "waiting";
    /// It was sent: the response's head is awaited.
    Asked = "asked";
    /// Layers look at the response.
    Looking = "looking";
    /// The response's head went to the client.
    Answering = "answering";
    /// Bytes of another protocol pass.
    Tunnel = "tunnel";
    /// It is over.
    Over = "over";
}

/// One end: of an attempt, or of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it was; the table of reasons says who ended it and what follows.
    pub reason: Reason,
    /// Where it ended.
    pub phase: Phase,
    /// What in particular: which rule of the codec, which error of the system. For logs alone.
    pub detail: Cow<'static, str>,
}

impl Outcome {
    /// An end without particulars.
    #[must_use]
    pub const fn of(reason: Reason, phase: Phase) -> Self {
        Self { reason, phase, detail: Cow::Borrowed("") }
    }

    /// The same with particulars.
    #[must_use]
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Who ended it.
    #[must_use]
    pub const fn by(&self) -> By {
        self.reason.by()
    }

    /// Whether the endpoint's answer was passed on whole.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        matches!(self.reason, Reason::Answered)
    }
}
