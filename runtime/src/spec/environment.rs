//! Environment words: merged by key, so that none is there twice (SPC-9, SPC-12).

use bosun_types::Error;

/// Refuses what could become another line, or another word, somewhere else (CVE-2022-4318).
pub fn check_text(what: &str, text: &str) -> Result<(), Error> {
    match text.chars().find(|c| c.is_control()) {
        Some(found) => {
            let message = format!("{what} {text:?} holds the control character {found:?}");
            Err(Error::invalid_argument(message))
        }
        None => Ok(()),
    }
}

/// Applies words in order: `KEY=VALUE` replaces in its place or appends, a word without `=` removes.
pub fn merge(environment: &mut Vec<String>, words: &[String]) -> Result<(), Error> {
    for word in words {
        check_text("environment word", word)?;
        let (key, value) =
            word.split_once('=').map_or((word.as_str(), None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            return Err(Error::invalid_argument(format!("environment word {word:?} has no name")));
        }
        let place = environment.iter().position(|it| it.split('=').next() == Some(key));
        match (value, place) {
            (Some(_), Some(place)) => environment[place].clone_from(word),
            (Some(_), None) => environment.push(word.clone()),
            (None, Some(place)) => drop(environment.remove(place)),
            (None, None) => {}
        }
    }
    Ok(())
}
