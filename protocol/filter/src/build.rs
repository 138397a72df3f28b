//! Filters built from values, for who has them in a program: quoting is done here.

use std::fmt;

/// The filters of a request as they go over the wire: texts, OR-ed; none wants everything. Made from texts or [`Expression`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<String>);

impl Filters {
    /// Everything.
    pub const fn all() -> Self {
        Self(Vec::new())
    }

    /// One more alternative.
    #[must_use]
    pub fn or(mut self, filter: impl Into<String>) -> Self {
        self.0.push(filter.into());
        self
    }

    /// The texts.
    pub fn texts(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Filters {
    fn from(text: &str) -> Self {
        Self(vec![text.to_owned()])
    }
}

impl From<Expression> for Filters {
    fn from(expression: Expression) -> Self {
        Self(vec![expression.0])
    }
}

impl From<Vec<String>> for Filters {
    fn from(texts: Vec<String>) -> Self {
        Self(texts)
    }
}

impl From<&[String]> for Filters {
    fn from(texts: &[String]) -> Self {
        Self(texts.to_vec())
    }
}

/// A field, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(String);

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(String);

/// A field by its path, with its dots: `runtime.name`, `event.container_id`.
pub fn field(path: &str) -> FieldPath {
    FieldPath(path.split('.').map(word).collect::<Vec<_>>().join("."))
}

/// A label by its key, whatever characters it has.
pub fn label(key: &str) -> FieldPath {
    FieldPath(format!("labels.{}", quote(key)))
}

impl FieldPath {
    /// It is there and not empty.
    pub fn present(self) -> Expression {
        Expression(self.0)
    }

    /// It has this value.
    pub fn equals(self, value: &str) -> Expression {
        Expression(format!("{}=={}", self.0, quote(value)))
    }

    /// It has another value, or none.
    pub fn differs(self, value: &str) -> Expression {
        Expression(format!("{}!={}", self.0, quote(value)))
    }

    /// It matches a regular expression (RE2's syntax, unanchored).
    pub fn matches(self, expression: &str) -> Expression {
        Expression(format!("{}~={}", self.0, quote(expression)))
    }
}

impl Expression {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(format!("{},{}", self.0, other.0))
    }

    /// Either.
    #[must_use]
    pub fn or(self, other: Self) -> Filters {
        Filters::from(self).or(other)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.0
    }
}

fn word(text: &str) -> String {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    if plain { text.to_owned() } else { quote(text) }
}

/// In Go's escapes.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
