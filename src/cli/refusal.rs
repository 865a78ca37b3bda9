//! Why a command is refused before it has done anything.

use std::borrow::Cow;

/// What is wrong with what was typed, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) what: String,
    pub(crate) mend: Cow<'static, str>,
}

pub(crate) fn refuse<T>(what: String, mend: impl Into<Cow<'static, str>>) -> Result<T, Refusal> {
    Err(Refusal { what, mend: mend.into() })
}
