//! Tokens to selectors. An error marks its place: `[before >|c|< after]: reason` (FLT-8).

use std::fmt;

use bosun_types::Error;

use crate::matching::compile;
use crate::scan::{Kind, Place, Scanner, Token, unquote};
use crate::{FILTER_BYTES_MAX, SELECTORS_MAX};

/// Why a text is no filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The whole text.
    pub input: String,
    /// Where it went wrong, in bytes; the text's length when something is missing at its end.
    pub position: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, position, reason } = self;
        let (before, rest) = input.split_at_checked(*position).unwrap_or((input, ""));
        let mut characters = rest.chars();
        match characters.next() {
            Some(here) => write!(f, "[{before} >|{here}|< {}]: {reason}", characters.as_str()),
            None => write!(f, "[{input} >||<]: {reason}"),
        }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::invalid_argument(format!("filter {error}")).with_hint(
            "a filter is fieldpath[==|!=|~=]value, joined by commas; quote what holds other characters: labels.\"a/b\"==\"x y\"",
        )
    }
}

/// How a field is compared.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// It is there and not empty.
    Present,
    Equal(String),
    NotEqual(String),
    Matches(regex::Regex),
}

/// One condition.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) path: Vec<String>,
    pub(crate) test: Test,
}

/// One filter's conditions; the empty text has none.
pub(crate) fn parse(input: &str) -> Result<Vec<Selector>, ParseError> {
    if input.len() > FILTER_BYTES_MAX {
        let head = input.chars().take(32).collect::<String>();
        let reason = format!("it has {} bytes, at most {FILTER_BYTES_MAX} are allowed", input.len());
        return Err(ParseError { position: head.len(), input: head, reason });
    }
    if input.is_empty() {
        return Ok(Vec::new());
    }
    Parser { scanner: Scanner::new(input) }.selectors()
}

struct Parser<'a> {
    scanner: Scanner<'a>,
}

impl<'a> Parser<'a> {
    fn selectors(&mut self) -> Result<Vec<Selector>, ParseError> {
        let mut selectors = vec![self.selector()?];
        while let Some(c) = self.scanner.peek() {
            let at = self.scanner.position();
            if c != ',' {
                return Err(self.scanner.error(at, format!("unexpected input: {c}")));
            }
            if selectors.len() == SELECTORS_MAX {
                return Err(self.scanner.error(at, format!("more than {SELECTORS_MAX} selectors")));
            }
            self.scanner.next(Place::Path)?;
            selectors.push(self.selector()?);
        }
        Ok(selectors)
    }

    fn selector(&mut self) -> Result<Selector, ParseError> {
        let path = self.field_path()?;
        let test = match self.scanner.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.comparison()?,
        };
        Ok(Selector { path, test })
    }

    fn field_path(&mut self) -> Result<Vec<String>, ParseError> {
        let mut path = vec![self.field()?];
        while self.scanner.peek() == Some('.') {
            self.scanner.next(Place::Path)?;
            path.push(self.field()?);
        }
        Ok(path)
    }

    fn field(&mut self) -> Result<String, ParseError> {
        let token = self.scanner.next(Place::Path)?;
        match token.kind {
            Kind::Field => Ok(token.text.to_owned()),
            Kind::Quoted => self.unquote(&token),
            _ => Err(self.scanner.error(token.at, "expected field or quoted")),
        }
    }

    fn comparison(&mut self) -> Result<Test, ParseError> {
        let operator = self.scanner.next(Place::Path)?;
        match (operator.kind, operator.text) {
            (Kind::Operator, "==") => Ok(Test::Equal(self.value(Place::Value)?.0)),
            (Kind::Operator, "!=") => Ok(Test::NotEqual(self.value(Place::Value)?.0)),
            (Kind::Operator, "~=") => {
                let (value, at) = self.value(Place::Expression)?;
                compile(&value).map(Test::Matches).map_err(|reason| self.scanner.error(at, reason))
            }
            (Kind::Operator, text) => {
                Err(self.scanner.error(operator.at, format!("unsupported operator {text:?}")))
            }
            _ => Err(self.scanner.error(operator.at, "expected an operator (\"==\"|\"!=\"|\"~=\")")),
        }
    }

    fn value(&mut self, place: Place) -> Result<(String, usize), ParseError> {
        let token = self.scanner.next(place)?;
        match token.kind {
            Kind::Value => Ok((token.text.to_owned(), token.at)),
            Kind::Quoted => Ok((self.unquote(&token)?, token.at)),
            _ => Err(self.scanner.error(token.at, "expected value or quoted")),
        }
    }

    fn unquote(&self, token: &Token<'_>) -> Result<String, ParseError> {
        unquote(token.text)
            .map_err(|reason| self.scanner.error(token.at, format!("unquoting failed: {reason}")))
    }
}
