//! From the text of a template to its nodes. A mistake is told with its place.

use serde_json::Value;

use super::{Call, FUNCTIONS, Node, Pipe, Word};

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The template.
    text: String,
    /// Where, in bytes.
    pub at: usize,
    why: String,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let before = self.text.get(..self.at).unwrap_or_default();
        // Of several lines the one with the mistake.
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[begin..].lines().next().unwrap_or_default();
        let column = self.text[begin..self.at.max(begin)].chars().count();
        write!(formatter, "{}\n    {line}\n    {:column$}^", self.why, "")
    }
}

impl std::error::Error for Malformed {}

/// How a list of nodes ended, and where.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Stop {
    Text,
    Else(usize),
    End(usize),
}

type Result<T> = std::result::Result<T, Malformed>;

/// Whether it is a table's, and its nodes.
pub fn template(text: &str) -> Result<(bool, Vec<Node>)> {
    let body = text.strip_prefix("table ").map_or(0, |body| text.len() - body.len());
    let mut reader = Reader { text, at: body };
    let (nodes, stop) = reader.nodes()?;
    if let Stop::Else(at) | Stop::End(at) = stop {
        return Err(reader.malformed(at, "there is an else or end without its beginning"));
    }
    if nodes.iter().all(|node| matches!(node, Node::Text(_))) {
        return Err(reader.malformed(0, "use json, table, or a template such as '{{.id}}'"));
    }
    Ok((body > 0, nodes))
}

/// A template that is read from `at` on.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn malformed(&self, at: usize, why: impl Into<String>) -> Malformed {
        Malformed { text: self.text.to_owned(), at, why: why.into() }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let open = rest.find("{{").unwrap_or(rest.len());
            if open > 0 {
                nodes.push(Node::Text(rest[..open].replace("\\t", "\t").replace("\\n", "\n")));
            }
            let begin = self.at + open;
            if begin == self.text.len() {
                self.at = begin;
                return Ok((nodes, Stop::Text));
            }
            let Some(length) = self.text[begin + 2..].find("}}") else {
                return Err(self.malformed(begin, "{{ without }}"));
            };
            self.at = begin + 2 + length + 2;
            let action = self.words(begin + 2, begin + 2 + length)?;
            match action.first().map(|(_, word)| word.as_str()) {
                Some("end") => return Ok((nodes, Stop::End(begin))),
                Some("else") => return Ok((nodes, Stop::Else(begin))),
                Some(word @ ("range" | "if")) => nodes.push(self.block(word, begin, &action[1..])?),
                _ => nodes.push(Node::Value(self.pipe(begin, &action)?)),
            }
        }
    }

    /// A `range` or `if` with what is in it.
    fn block(&mut self, word: &str, begin: usize, action: &[(usize, String)]) -> Result<Node> {
        let pipe = self.pipe(begin, action)?;
        let (body, stop) = self.nodes()?;
        let (otherwise, stop) = match stop {
            Stop::Else(_) => self.nodes()?,
            stop => (Vec::new(), stop),
        };
        if !matches!(stop, Stop::End(_)) {
            return Err(self.malformed(begin, format!("{{{{{word}}}}} without {{{{end}}}}")));
        }
        let make = if word == "if" { Node::If } else { Node::Range };
        Ok(make(pipe, body, otherwise))
    }

    fn pipe(&self, begin: usize, action: &[(usize, String)]) -> Result<Pipe> {
        let empty = || Call { function: String::new(), words: Vec::new() };
        let mut calls = vec![(begin, empty())];
        for (at, word) in action {
            let Some((place, call)) = calls.last_mut() else { break };
            if call.function.is_empty() && call.words.is_empty() {
                *place = *at;
            }
            if word == "|" {
                calls.push((*at, empty()));
            } else if FUNCTIONS.contains(&word.as_str()) && call.words.is_empty() && call.function.is_empty()
            {
                call.function.clone_from(word);
            } else if let Some(path) = word.strip_prefix('.') {
                let parts = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
                call.words.push(Word::Path(parts));
            } else if let Ok(literal) = serde_json::from_str::<Value>(word) {
                call.words.push(Word::Literal(literal));
            } else {
                let why = format!("{word:?} is unknown: use .field, or one of {}", FUNCTIONS.join(", "));
                return Err(self.malformed(*at, why));
            }
        }
        for (number, (at, call)) in calls.iter().enumerate() {
            let is_call = !call.function.is_empty();
            if !is_call && (number > 0 || call.words.len() != 1) {
                return Err(self.malformed(*at, "a field, or a function and what it takes, is wanted here"));
            }
        }
        Ok(calls.into_iter().map(|(_, call)| call).collect())
    }

    /// Words between spaces, each with its place; a text in quotes is one.
    fn words(&self, begin: usize, end: usize) -> Result<Vec<(usize, String)>> {
        let is_gap = |it: char| it.is_whitespace();
        let action = &self.text[begin..end];
        // `{{- x -}}` is for templates of several lines: there is nothing to trim in ours.
        let action = action.strip_suffix('-').filter(|rest| rest.ends_with(is_gap)).unwrap_or(action);
        let mut at = if action.starts_with("- ") { 1 } else { 0 };
        let mut words = Vec::new();
        while let Some(gap) = action[at..].find(|it: char| !is_gap(it)) {
            at += gap;
            let rest = &action[at..];
            let length = if let Some(text) = rest.strip_prefix('"') {
                let close = text.find('"');
                close.ok_or_else(|| self.malformed(begin + at, "a text without its closing quote"))? + 2
            } else if rest.starts_with('|') {
                1
            } else {
                rest.find(|it: char| is_gap(it) || it == '|').unwrap_or(rest.len())
            };
            words.push((begin + at, rest[..length].to_owned()));
            at += length;
        }
        Ok(words)
    }
}
