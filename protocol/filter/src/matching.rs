//! Conditions against values.

use bosun_types::{Error, Result};
use regex::{Regex, RegexBuilder};

use crate::FILTERS_MAX;
use crate::fields::Fields;
use crate::parse::{ParseError, Selector, Test, parse};

/// Memory that one compiled regular expression may take, in bytes; the engine's caches may take as much again.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// Deepest nesting of a regular expression's parentheses.
const REGEX_NEST_MAX: u32 = 64;

/// A parsed request: several filters of several conditions. Matching takes time linear in the value's length.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// OR-ed; none: everything matches.
    alternatives: Vec<Vec<Selector>>,
}

impl Filter {
    /// One filter.
    ///
    /// # Errors
    /// Where and why it is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { alternatives: vec![parse(text)?] })
    }

    /// Several, OR-ed (FLT-1).
    ///
    /// # Errors
    /// InvalidArgument: one is none, with the place marked; or there are too many.
    pub fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Self> {
        if texts.len() > FILTERS_MAX {
            let text = format!("{} filters given, at most {FILTERS_MAX} are allowed", texts.len());
            return Err(Error::invalid_argument(text));
        }
        let alternatives = texts.iter().map(|text| parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Whether it wants everything: there is nothing to look at.
    pub fn is_all(&self) -> bool {
        self.alternatives.is_empty() || self.alternatives.iter().any(Vec::is_empty)
    }

    /// Whether this one is wanted.
    pub fn matches(&self, value: &(impl Fields + ?Sized)) -> bool {
        self.is_all()
            || self
                .alternatives
                .iter()
                .any(|selectors| selectors.iter().all(|selector| selector.matches(value)))
    }
}

impl Selector {
    /// FLT-5: an empty field is absent; an absent one is `""` to `!=` and `~=`, and to `==` it is nothing.
    fn matches(&self, value: &(impl Fields + ?Sized)) -> bool {
        let found = value.field(&self.path);
        let text = found.as_deref().unwrap_or_default();
        match &self.test {
            Test::Present => !text.is_empty(),
            Test::Equal(wanted) => !text.is_empty() && text == wanted,
            Test::NotEqual(unwanted) => text != unwanted,
            Test::Matches(expression) => expression.is_match(text),
        }
    }
}

/// FLT-6: what does not compile is refused, not silently never matched. The error is the reason.
pub(crate) fn compile(expression: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(expression)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(REGEX_NEST_MAX)
        .build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        // Its last line says why; those before draw a picture that has its own place in a terminal.
        error => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("bad regular expression: {why}")
        }
    })
}
