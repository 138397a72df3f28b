//! Characters to tokens, as the original's scanner cuts them: after an operator comes a value, elsewhere fields.

use crate::parse::ParseError;

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `[A-Za-z0-9_]+`.
    Field,
    /// Begins and ends with the same quote.
    Quoted,
    /// A run behind an operator.
    Value,
    /// `,` or `.`.
    Separator,
    /// A run of `=`, `!`, `~`.
    Operator,
    /// Nothing of the grammar.
    Stray,
    End,
}

/// A token and where it begins, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) text: &'a str,
}

/// What may follow: decided by the parser, which knows what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A field, a separator, an operator.
    Path,
    /// The value of `==` or `!=`.
    Value,
    /// The value of `~=`: `/` and `|` quote.
    Expression,
}

pub(crate) struct Scanner<'a> {
    input: &'a str,
    at: usize,
}

fn is_field(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '!' | '~')
}

fn is_value(c: char) -> bool {
    c != ',' && !c.is_whitespace() && !c.is_control()
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(input: &'a str) -> Self {
        Self { input, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// The next character that is no space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    /// Where the next token begins.
    pub(crate) fn position(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    pub(crate) fn next(&mut self, place: Place) -> Result<Token<'a>, ParseError> {
        self.skip_space();
        let (rest, at) = (self.rest(), self.at);
        let Some(first) = rest.chars().next() else {
            return Ok(Token { kind: Kind::End, at, text: "" });
        };
        let (kind, length) = match (first, place) {
            ('"', _) | ('/' | '|', Place::Expression) => (Kind::Quoted, self.quoted(first)?),
            ('|', _) => return Err(self.error(at, "invalid quote encountered")),
            ('/', Place::Value) => (Kind::Value, self.path_value()?),
            (_, Place::Value | Place::Expression) if is_value(first) => (Kind::Value, run(rest, is_value)),
            (',' | '.', _) => (Kind::Separator, 1),
            (c, _) if is_operator(c) => (Kind::Operator, run(rest, is_operator)),
            (c, _) if is_field(c) => (Kind::Field, run(rest, is_field)),
            (c, _) => (Kind::Stray, c.len_utf8()),
        };
        self.at += length;
        Ok(Token { kind, at, text: &rest[..length] })
    }

    /// FLT-4: `/` quotes only behind `~=`. A path is taken as it is; what looks like a regular expression is more likely a mistake.
    fn path_value(&self) -> Result<usize, ParseError> {
        let rest = self.rest();
        let length = run(rest, is_value);
        let looks_quoted =
            length == 1 || rest[..length].ends_with('/') || rest[1..length].contains(['[', '(', '*']);
        if looks_quoted { Err(self.error(self.at, "invalid quote encountered")) } else { Ok(length) }
    }

    /// The length of a quoted text with its quotes.
    fn quoted(&self, quote: char) -> Result<usize, ParseError> {
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = characters.next() {
            match c {
                c if c == quote => return Ok(offset + c.len_utf8()),
                '\n' => return Err(self.error(self.at + offset, "newline in a quoted text")),
                '\\' => match characters.next() {
                    Some((offset, '\n')) => {
                        return Err(self.error(self.at + offset, "newline in a quoted text"));
                    }
                    Some(_) => {}
                    None => break,
                },
                _ => {}
            }
        }
        Err(self.error(self.at, "quoted literal not terminated"))
    }

    pub(crate) fn error(&self, at: usize, reason: impl Into<String>) -> ParseError {
        ParseError { input: self.input.to_owned(), position: at, reason: reason.into() }
    }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A quoted text's content (FLT-4). `"` takes Go's escapes and no others; between other quotes an unknown escape is left as it is, for the regular
/// expression. The error is the reason.
pub(crate) fn unquote(quoted: &str) -> Result<String, String> {
    let mut characters = quoted.chars();
    let quote = characters.next().unwrap_or('"');
    characters.next_back();
    let mut bytes = Vec::with_capacity(quoted.len());
    while let Some(c) = characters.next() {
        if c == '\\' {
            escape(&mut characters, quote, &mut bytes)?;
        } else {
            push(&mut bytes, c);
        }
    }
    String::from_utf8(bytes).map_err(|_| "its escapes are not UTF-8".to_owned())
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What follows a backslash.
fn escape(characters: &mut std::str::Chars<'_>, quote: char, bytes: &mut Vec<u8>) -> Result<(), String> {
    let c = characters.next().ok_or("it ends in a backslash")?;
    match c {
        'a' => bytes.push(7),
        'b' if quote == '"' => bytes.push(8),
        'f' => bytes.push(12),
        'n' => bytes.push(10),
        'r' => bytes.push(13),
        't' => bytes.push(9),
        'v' => bytes.push(11),
        'x' => bytes.push(u8::try_from(number(characters, 2, 16)?).map_err(|_| "\\x is out of range")?),
        'u' => push(bytes, code_point(characters, 4)?),
        'U' => push(bytes, code_point(characters, 8)?),
        '0'..='7' => {
            let value = c.to_digit(8).unwrap_or(0) * 64 + number(characters, 2, 8)?;
            bytes.push(u8::try_from(value).map_err(|_| "an octal escape is above 255")?);
        }
        c if c == quote => push(bytes, c),
        '\\' => bytes.push(b'\\'),
        c if quote != '"' => {
            bytes.push(b'\\');
            push(bytes, c);
        }
        c => return Err(format!("\\{c} is no escape")),
    }
    Ok(())
}

fn number(characters: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Result<u32, String> {
    (0..digits).try_fold(0_u32, |value, _| {
        let digit = characters.next().and_then(|c| c.to_digit(radix)).ok_or("an escape lacks digits")?;
        value
            .checked_mul(radix)
            .and_then(|value| value.checked_add(digit))
            .ok_or_else(|| "an escape is too large".to_owned())
    })
}

fn code_point(characters: &mut std::str::Chars<'_>, digits: usize) -> Result<char, String> {
    char::from_u32(number(characters, digits, 16)?).ok_or_else(|| "an escape is no character".to_owned())
}
