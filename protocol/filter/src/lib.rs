//! Filters of lists and events, in containerd's grammar (FLT-1..8): a parser with positions, and a matcher that is a function of values.
//!
//! ```text
//! filters   := filter*                       several are OR-ed; none matches all
//! filter    := selector ("," selector)*      all must match; the empty text matches all
//! selector  := fieldpath [operator value]    no operator: the field is present
//! fieldpath := field ("." field)*
//! field     := quoted | [A-Za-z0-9_]+        keys with "/", "-", "." are quoted, or written with their dots as they are
//! operator  := "==" | "!=" | "~="            equal, not equal, matches (RE2, unanchored)
//! value     := quoted | a run without comma or space
//! quoted    := "…" with Go's escapes; after "~=" also /…/ and |…|
//! ```
//!
//! Pure: no IO. A crate of its own, because the shim imports `bosun-types` and must not grow by an engine for regular expressions.
//!
//! Where this says more than the original: a regular expression that does not compile is refused when it is parsed (FLT-6), with limits on what it may
//! cost; a value after `==` or `!=` may begin with `/` (`topic==/tasks/exit`), if it does not end with one, which is what a regular expression would look
//! like; between `/…/` and `|…|` an escape that is not Go's is left to the regular expression.
#![warn(missing_docs)]

mod build;
mod fields;
#[cfg(test)]
mod fields_tests;
mod matching;
mod parse;
mod scan;
#[cfg(test)]
mod tests;

pub use build::{Expression, FieldPath, Filters, field, label};
pub use fields::Fields;
pub use matching::Filter;
pub use parse::ParseError;

/// Most filters in one request.
pub const FILTERS_MAX: usize = 32;
/// Longest filter in bytes.
pub const FILTER_BYTES_MAX: usize = 8192;
/// Most selectors in one filter.
pub const SELECTORS_MAX: usize = 64;
