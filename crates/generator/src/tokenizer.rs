//! How many tokens a text has for a model.

use std::path::Path;
use std::sync::Arc;

use tiktoken_rs::CoreBPE;

/// Longest piece, in bytes, that is read at once: of text without spaces the work grows faster than its length.
const PIECE: usize = 2048;

/// Names of the vocabularies that need no file.
pub(crate) const BUILT_IN: [&str; 2] = ["o200k_base", "cl100k_base"];

/// What a model's text is cut by.
#[derive(Clone)]
pub(crate) enum Tokenizer {
    /// A vocabulary of OpenAI's models.
    Bpe(&'static CoreBPE),
    /// A `tokenizer.json` as models are published with.
    File(Arc<tokenizers::Tokenizer>),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokenizer")
    }
}

impl Tokenizer {
    /// The one of [`BUILT_IN`] of this name, or the file of this path.
    ///
    /// # Errors
    /// The file is none of a tokenizer.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match name {
            "o200k_base" => Ok(Self::Bpe(tiktoken_rs::o200k_base_singleton())),
            "cl100k_base" => Ok(Self::Bpe(tiktoken_rs::cl100k_base_singleton())),
            path => {
                let read = tokenizers::Tokenizer::from_file(Path::new(path));
                let tokenizer = read.map_err(|error| {
                    let built_in = BUILT_IN.join(" and ");
                    anyhow::anyhow!("{path:?} is no tokenizer.json, and no other than {built_in} is known by name: {error}")
                })?;
                Ok(Self::File(Arc::new(tokenizer)))
            }
        }
    }

    /// How many tokens a text has; of a long one up to one more for each 2 KiB of it.
    pub(crate) fn count(&self, text: &str) -> u64 {
        pieces(text).map(|piece| self.count_piece(piece)).sum()
    }

    fn count_piece(&self, piece: &str) -> u64 {
        let tokens = match self {
            Self::Bpe(vocabulary) => vocabulary.encode_ordinary(piece).len(),
            // A text that a tokenizer cannot read has at most as many tokens as bytes.
            Self::File(tokenizer) => {
                tokenizer.encode_fast(piece, false).map_or(piece.len(), |encoding| encoding.len())
            }
        };
        tokens as u64
    }
}

/// A text in pieces that begin with a space where there is one.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let most = rest.floor_char_boundary(PIECE);
        let cut = if rest.len() > PIECE { rest[..most].rfind(' ').filter(|at| *at > 0) } else { None };
        let (piece, after) = rest.split_at(cut.unwrap_or(most));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_the_providers_do_and_any_text_has_some() {
        let [newer, older] = BUILT_IN.map(|name| Tokenizer::named(name).unwrap());
        for (text, n) in [("", 0), ("hello world", 2), ("A card costs 5 pounds.", 7)] {
            assert_eq!([newer.count(text), older.count(text)], [n, n], "{text}");
        }
        // Each of these can make a tokenizer slow or stop it.
        for text in ["a".repeat(60_000), " ".repeat(60_000), "\n".repeat(60_000), "é".repeat(30_000)] {
            let tokens = newer.count(&text);
            assert!((1..=60_000).contains(&tokens), "{tokens}");
        }
    }

    #[test]
    fn long_texts_lose_nothing_to_the_cuts() {
        let text = "Cards arrive within 5 days, naïve or not. ".repeat(500);
        assert_eq!(pieces(&text).collect::<String>(), text);
        let vocabulary = Tokenizer::named("o200k_base").unwrap();
        let whole = vocabulary.count_piece(&text);
        assert!(vocabulary.count(&text).abs_diff(whole) <= text.len() as u64 / PIECE as u64);
    }

    #[test]
    fn what_is_no_tokenizer_is_named() {
        let error = Tokenizer::named("gpt-5").unwrap_err().to_string();
        assert!(error.contains("\"gpt-5\"") && error.contains("o200k_base and cl100k_base"), "{error}");
    }
}
