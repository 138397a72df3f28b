//! Where examples stand: under "EXAMPLES:" in each command's help, and in the code blocks of the documents.

use std::path::Path;
use std::process::Command;

use bosun_tests::world::program;

/// Examples that belong together.
#[derive(Debug)]
pub struct Page {
    /// `bosun images rm`, or a file's path.
    pub title: String,
    pub examples: Vec<String>,
    /// A command without commands of its own.
    pub is_leaf: bool,
    /// The command's other names.
    aliases: Vec<String>,
}

impl Page {
    /// Whether an example uses this command, by whatever of its names and with whatever flags between.
    pub fn is_called_by(&self, example: &str) -> bool {
        std::iter::once(&self.title).chain(&self.aliases).any(|name| {
            let wanted: Vec<&str> = name.split(' ').collect();
            example.split(['|', '&', ';']).any(|part| {
                let mut words = part.split_whitespace().skip_while(|word| *word != "bosun");
                wanted.iter().all(|wanted| words.any(|word| word == *wanted))
            })
        })
    }
}

fn help(path: &[String]) -> String {
    let output = Command::new(program("bosun")).args(path).arg("--help").env("COLUMNS", "4000").output();
    String::from_utf8_lossy(&output.expect("bosun runs").stdout).into_owned()
}

/// Indented lines under a heading.
fn section<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

/// Every command's page.
pub fn of_commands() -> Vec<Page> {
    let mut pages = Vec::new();
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let text = help(&path);
        let commands: Vec<String> = section(&text, "Commands:")
            .iter()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect();
        left.extend(commands.iter().map(|name| [path.as_slice(), std::slice::from_ref(name)].concat()));
        let title =
            std::iter::once("bosun").chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        // What follows a wide gap explains.
        let plain = |line: &str| line.split("   ").next().unwrap_or(line).to_owned();
        let examples = section(&text, "EXAMPLES:").into_iter().map(plain).collect();
        // A noun's first command is what the noun alone does.
        let aliases = match path.as_slice() {
            [noun, list] if list == "ls" => vec![format!("bosun {noun}")],
            [noun, verb] if noun == "images" && verb == "import" => vec!["bosun load".to_owned()],
            [noun, verb] if noun == "images" && verb == "export" => vec!["bosun save".to_owned()],
            _ => Vec::new(),
        };
        pages.push(Page { title, examples, is_leaf: commands.is_empty(), aliases });
    }
    pages.sort_by(|one, other| one.title.cmp(&other.title));
    pages
}

/// The documents' pages: lines of code blocks that begin with `bosun `.
pub fn of_documents() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    for folder in ["docs/operations", "docs/protocol"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("there are documents").flatten();
        files.extend(entries.map(|entry| entry.path()));
    }
    files.retain(|path| path.extension().is_some_and(|it| it == "md"));
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("reads");
            let title = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            Page { title, examples: blocks(&text), is_leaf: false, aliases: Vec::new() }
        })
        .filter(|page| !page.examples.is_empty())
        .collect()
}

/// Indented blocks, and fenced ones of a shell. A comment at the end of a line is not part of it.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fence: Option<bool> = None;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                Some(_) => None,
                None => Some(matches!(language.trim(), "console" | "sh" | "shell" | "bash")),
            };
            continue;
        }
        let is_code = match fence {
            Some(is_shell) => is_shell,
            None => line.starts_with("    "),
        };
        let line = line.trim();
        let line = line.strip_prefix("$ ").unwrap_or(line);
        let line = line.split("  #").next().unwrap_or(line).trim();
        if is_code && line.starts_with("bosun ") {
            found.push(line.to_owned());
        }
    }
    found
}

#[test]
fn examples_are_found_where_they_stand() {
    let text =
        "    bosun ps    # look\n\n```console\n$ bosun tree\nroot\n```\n```toml\nbosun = 1\n```\nbosun is\n";
    assert_eq!(blocks(text), ["bosun ps", "bosun tree"]);
    let text = "Commands:\n  ls  List\n\nEXAMPLES:\n  bosun a\n  bosun b | c\n\nMore\n";
    assert_eq!(section(text, "EXAMPLES:"), ["bosun a", "bosun b | c"]);
    let page =
        |title: &str| Page { title: title.to_owned(), examples: vec![], is_leaf: true, aliases: vec![] };
    assert!(page("bosun images rm").is_called_by("bosun -n x images rm a"));
    assert!(page("bosun exec").is_called_by("true && bosun exec web ls"));
    assert!(!page("bosun images rm").is_called_by("bosun rm images"));
}
