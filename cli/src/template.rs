//! Templates of `--format`: the part of Go's language that people write for `docker`. Pure.
//!
//! `{{.field}}`, `{{.a.b}}`, `{{json .}}`, `{{range .list}}…{{else}}…{{end}}`, `{{if .x}}…{{else}}…{{end}}`, the functions json, upper, lower, len,
//! join, index, and `|`. Fields are those of `--json`; upper case and `_` make no difference, so `{{.CreatedAt}}` is `created_at`. `table ` in front makes
//! columns with a header of what tabs separate.

mod parse;

use anyhow::bail;
use serde_json::Value;

pub use self::parse::Malformed;

/// A template that is well formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
    /// Columns with a header.
    pub is_table: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Value(Pipe),
    Range(Pipe, Vec<Node>, Vec<Node>),
    If(Pipe, Vec<Node>, Vec<Node>),
}

/// Calls, each fed with what the one before gave.
type Pipe = Vec<Call>;

#[derive(Debug, Clone, PartialEq)]
struct Call {
    /// Empty: the word itself.
    function: String,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq)]
enum Word {
    Path(Vec<String>),
    Literal(Value),
}

const FUNCTIONS: [&str; 6] = ["json", "upper", "lower", "len", "join", "index"];

impl Template {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (is_table, nodes) = parse::template(text)?;
        Ok(Self { nodes, is_table })
    }

    /// One item.
    pub fn render(&self, item: &Value) -> anyhow::Result<String> {
        let mut out = String::new();
        render(&self.nodes, item, item, &mut out)?;
        Ok(out)
    }

    /// What the columns are called.
    pub fn header(&self) -> Vec<String> {
        let mut text = String::new();
        for node in &self.nodes {
            match node {
                Node::Text(plain) => text.push_str(plain),
                Node::Value(pipe) => text.push_str(&name_of(pipe)),
                Node::Range(..) | Node::If(..) => {}
            }
        }
        text.split('\t').map(|cell| cell.trim().to_owned()).collect()
    }
}

fn name_of(pipe: &Pipe) -> String {
    let mut paths = pipe.iter().flat_map(|call| &call.words).filter_map(|word| match word {
        Word::Path(path) => path.last(),
        Word::Literal(_) => None,
    });
    paths.next_back().map(|name| name.to_uppercase().replace('_', " ")).unwrap_or_default()
}

fn render(nodes: &[Node], item: &Value, root: &Value, out: &mut String) -> anyhow::Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Value(pipe) => out.push_str(&shown(&value_of(pipe, item, root)?)),
            Node::If(pipe, body, otherwise) => {
                let chosen = if is_true(&value_of(pipe, item, root)?) { body } else { otherwise };
                render(chosen, item, root, out)?;
            }
            Node::Range(pipe, body, otherwise) => {
                let items: Vec<Value> = match value_of(pipe, item, root)? {
                    Value::Array(items) => items,
                    Value::Object(map) => map.into_iter().map(|(_, value)| value).collect(),
                    Value::Null => Vec::new(),
                    other => bail!("range needs a list, this is {other}"),
                };
                if items.is_empty() {
                    render(otherwise, item, root, out)?;
                }
                for item in &items {
                    render(body, item, root, out)?;
                }
            }
        }
    }
    Ok(())
}

fn value_of(pipe: &Pipe, item: &Value, root: &Value) -> anyhow::Result<Value> {
    let mut fed: Option<Value> = None;
    for call in pipe {
        let mut given: Vec<Value> = Vec::new();
        for word in &call.words {
            given.push(match word {
                Word::Literal(value) => value.clone(),
                Word::Path(path) => follow(path, item, std::ptr::eq(item, root))?,
            });
        }
        given.extend(fed.take());
        fed = Some(called(&call.function, given)?);
    }
    Ok(fed.unwrap_or(Value::Null))
}

/// A field that an item never has is a mistake; one that is missing further inside is nothing.
fn follow(path: &[String], item: &Value, is_top: bool) -> anyhow::Result<Value> {
    let mut here = item;
    for (depth, name) in path.iter().enumerate() {
        match field(here, name) {
            Some(value) => here = value,
            None if depth == 0 && is_top => {
                let fields = item.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>().join(", "));
                bail!(
                    "there is no field {name:?}: there are {}",
                    fields.unwrap_or_else(|| "none".to_owned())
                );
            }
            None => return Ok(Value::Null),
        }
    }
    Ok(here.clone())
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    let plain = |text: &str| text.to_lowercase().replace('_', "");
    map.get(name).or_else(|| map.iter().find(|(key, _)| plain(key) == plain(name)).map(|(_, value)| value))
}

fn called(function: &str, mut given: Vec<Value>) -> anyhow::Result<Value> {
    let wanted = if matches!(function, "join" | "index") { 2 } else { 1 };
    if given.len() != wanted {
        bail!("{function} takes {wanted} values, here are {}", given.len());
    }
    let last = given.pop().unwrap_or(Value::Null);
    let first = given.pop();
    Ok(match (function, first) {
        ("json", _) => Value::String(last.to_string()),
        ("upper", _) => Value::String(shown(&last).to_uppercase()),
        ("lower", _) => Value::String(shown(&last).to_lowercase()),
        ("len", _) => Value::from(match &last {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            other => shown(other).chars().count(),
        }),
        ("join", Some(list)) => {
            let items = list.as_array().cloned().unwrap_or_default();
            Value::String(items.iter().map(shown).collect::<Vec<_>>().join(&shown(&last)))
        }
        ("index", Some(value)) => match last.as_u64() {
            Some(at) => value.get(usize::try_from(at).unwrap_or(usize::MAX)).cloned().unwrap_or(Value::Null),
            // A key is a key: nothing is made of its case.
            None => last.as_str().and_then(|key| value.get(key)).cloned().unwrap_or(Value::Null),
        },
        _ => last,
    })
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> String {
        let item = json!({
            "id": "web", "created_at": "today", "pid": 7, "exit": null, "labels": {"team": "a", "io.x/y": "b"},
            "mounts": [{"source": "/a"}, {"source": "/b"}], "words": ["x", "y"],
        });
        Template::parse(template).expect(template).render(&item).expect(template)
    }

    #[test]
    fn templates_as_people_write_them_for_docker() {
        for (template, wanted) in [
            ("{{.id}}", "web"),
            ("{{.ID}}\\t{{.CreatedAt}}", "web\ttoday"),
            ("{{ .pid }} [{{.exit}}]", "7 []"),
            ("{{json .labels}}", r#"{"io.x/y":"b","team":"a"}"#),
            ("{{.labels.team}}{{.labels.none}}", "a"),
            ("{{index .labels \"io.x/y\"}} {{index .words 1}}", "b y"),
            ("{{range .mounts}}{{.source}};{{end}}", "/a;/b;"),
            ("{{range .exit}}x{{else}}none{{end}}", "none"),
            ("{{if .exit}}ended{{else}}{{if .pid}}runs{{end}}{{end}}", "runs"),
            ("{{.id | upper}} {{len .words}} {{join .words \", \"}}", "WEB 2 x, y"),
            ("{{.words | json}}", r#"["x","y"]"#),
        ] {
            assert_eq!(rendered(template), wanted, "{template}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (bad, at) in [
            ("", 0),
            ("id", 0),
            ("{{.id", 0),
            ("x {{.id}} {{end}}", 10),
            ("{{range .x}}", 0),
            ("{{if .a}}{{range .x}}{{end}}", 0),
            ("é {{nonsense .}}", 5),
            ("{{}}", 0),
            ("{{.a .b}}", 2),
            ("{{.id | .x}}", 8),
            ("{{.id | upper}} {{lower \"x}}", 24),
            ("table {{.a}}\\t{{b}}", 16),
        ] {
            let error = Template::parse(bad).expect_err(bad);
            assert_eq!(error.at, at, "{bad}: {error}");
        }
        let told = Template::parse("é {{nonsense .}}").expect_err("unknown").to_string();
        assert!(told.ends_with("\n    é {{nonsense .}}\n        ^"), "{told}");
        let error = Template::parse("{{.name}}").expect("well formed").render(&json!({"id": 1, "image": 2}));
        assert!(error.expect_err("no such field").to_string().contains("id, image"));
    }

    #[test]
    fn a_table_has_a_header() {
        let template = Template::parse("table {{.ID}}\\t{{.CreatedAt}}\\t{{json .exit_code}}").expect("good");
        assert!(template.is_table);
        assert_eq!(template.header(), ["ID", "CREATEDAT", "EXIT CODE"]);
    }
}
