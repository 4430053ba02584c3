//! Where a value stands in a TOML file, and which name a misspelt one meant.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::Lines;

/// The line on which a path of keys leads to, from 1, as far as it leads; 0 when not even the first key
/// is there. Among the items of an array a step takes the equal string, the table of that name, id or
/// reason, or else the first table with that key.
pub(crate) fn line_of(text: &str, path: &[&str]) -> usize {
    let Ok(root) = DeTable::parse(text) else { return 0 };
    let root = root.into_inner();
    let Some((first, rest)) = path.split_first() else { return 0 };
    let Some((mut at, mut value)) = key_of(&root, first) else { return 0 };
    for step in rest {
        let next = match value {
            DeValue::Table(table) => key_of(table, step),
            DeValue::Array(items) => item_of(items, step),
            _ => None,
        };
        let Some(next) = next else { break };
        (at, value) = next;
    }
    Lines::of(text).at(at)
}

type Place<'v, 'i> = (usize, &'v DeValue<'i>);

fn key_of<'v, 'i>(table: &'v DeTable<'i>, key: &str) -> Option<Place<'v, 'i>> {
    let found = table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
    found.map(|(name, value)| (name.span().start, value.get_ref()))
}

fn item_of<'v, 'i>(items: &'v DeArray<'i>, step: &str) -> Option<Place<'v, 'i>> {
    let table = |item: &'v Spanned<DeValue<'i>>| item.get_ref().as_table();
    let is_named = |item: &Spanned<DeValue<'i>>| {
        let field = |key| item.get_ref().get(key).and_then(|value| value.get_ref().as_str());
        item.get_ref().as_str() == Some(step)
            || item.get_ref().is_table()
                && [field("name"), field("id"), field("reason")].contains(&Some(step))
    };
    let named = items.iter().find(|item| is_named(item));
    named
        .map(|item| (item.span().start, item.get_ref()))
        .or_else(|| items.iter().filter_map(table).find_map(|table| key_of(table, step)))
}

/// The known name that differs least, when at most every third letter does.
pub(crate) fn nearest<'n>(written: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = known.map(|name| (distance(written, name), name)).min();
    near.filter(|(distance, name)| distance * 3 <= name.chars().count()).map(|(_, name)| name)
}

/// Letters to insert, delete or replace to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_the_key_and_not_of_its_mention() {
        let text = "name = \"intents card body\"\nintents = [\n  \"a\",\n  \"b\",\n]\n[request.body]\nreason = \"x\"\nl = [{ card = 1 }]\n[[slot]]\nname = \"card\"\n[[slot]]\nname = \"reason\"\npattern = \"[\"\n";
        for (path, line) in [
            (&["intents"][..], 2),
            (&["intents", "b"], 4),
            (&["intents", "c"], 2),
            (&["request", "body", "reason"], 7),
            (&["request", "body", "l", "card"], 8),
            (&["slot", "reason"], 11),
            (&["slot", "reason", "pattern"], 13),
            (&["nowhere", "b"], 0),
        ] {
            assert_eq!(line_of(text, path), line, "{path:?}");
        }
        assert_eq!(nearest("lost_kard", ["stolen_card", "lost_card"].into_iter()), Some("lost_card"));
        assert_eq!(nearest("weather", ["stolen_card", "lost_card"].into_iter()), None);
    }
}
