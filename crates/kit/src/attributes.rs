//! What a caller knows of its customer: names and values, bounded.

const MOST: usize = 32;
const MAX_NAME_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 512;

/// What is wrong with attributes of a customer and what is allowed; `None` when nothing is.
pub fn wrong<'a>(attributes: impl ExactSizeIterator<Item = (&'a String, &'a String)>) -> Option<String> {
    if attributes.len() > MOST {
        return Some(format!("{} attributes, allowed up to {MOST}", attributes.len()));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let named = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= MAX_NAME_BYTES
            && name.bytes().all(fits)
    };
    attributes.into_iter().find_map(|(name, value)| match value.len() {
        _ if !named(name) => {
            let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
            Some(format!("name {shown:?}, allowed [a-z][a-z0-9_]* up to {MAX_NAME_BYTES} bytes"))
        }
        bytes if bytes > MAX_VALUE_BYTES => {
            Some(format!("{name} has {bytes} bytes, allowed up to {MAX_VALUE_BYTES}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    #[test]
    fn attributes_are_bounded() {
        let of = |name: &str, value: &str| {
            super::wrong(BTreeMap::from([(name.to_owned(), value.to_owned())]).iter())
        };
        assert_eq!(of("tier_2", &"x".repeat(512)), None);
        for (name, value, expected) in [
            ("Tier", "x", "name \"Tier\", allowed"),
            ("", "x", "name \"\", allowed"),
            ("a-b", "x", "name \"a-b\", allowed"),
            (&"a".repeat(65), "x", "name \"aaa"),
            ("tier", &"x".repeat(513), "tier has 513 bytes, allowed up to 512"),
        ] {
            assert!(of(name, value).is_some_and(|wrong| wrong.starts_with(expected)), "{name}");
        }
        let many: BTreeMap<_, _> = (0..33).map(|n| (format!("a{n}"), String::new())).collect();
        assert_eq!(super::wrong(many.iter()).as_deref(), Some("33 attributes, allowed up to 32"));
    }
}
