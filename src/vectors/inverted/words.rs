//! Words of a text, as keyword search counts them: by Unicode's rules, in lower case, cut to their stems.

use std::fmt;
use std::str::FromStr;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::error::{Error, Result};

/// Longest word that is cut to its stem, in bytes; what is longer is no word of a language.
const STEMMED_BYTES: usize = 64;

/// The language that texts are in, by which words are cut to their stems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Words are left whole.
    None,
    /// Arabic.
    Arabic,
    /// Armenian.
    Armenian,
    /// Danish.
    Danish,
    /// Dutch.
    Dutch,
    /// English.
    #[default]
    English,
    /// Finnish.
    Finnish,
    /// French.
    French,
    /// German.
    German,
    /// Greek.
    Greek,
    /// Hungarian.
    Hungarian,
    /// Italian.
    Italian,
    /// Norwegian.
    Norwegian,
    /// Portuguese.
    Portuguese,
    /// Romanian.
    Romanian,
    /// Russian.
    Russian,
    /// Spanish.
    Spanish,
    /// Swedish.
    Swedish,
    /// Tamil.
    Tamil,
    /// Turkish.
    Turkish,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 20] = [
        Self::None,
        Self::Arabic,
        Self::Armenian,
        Self::Danish,
        Self::Dutch,
        Self::English,
        Self::Finnish,
        Self::French,
        Self::German,
        Self::Greek,
        Self::Hungarian,
        Self::Italian,
        Self::Norwegian,
        Self::Portuguese,
        Self::Romanian,
        Self::Russian,
        Self::Spanish,
        Self::Swedish,
        Self::Tamil,
        Self::Turkish,
    ];

    /// The name in configuration and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Arabic => "arabic",
            Self::Armenian => "armenian",
            Self::Danish => "danish",
            Self::Dutch => "dutch",
            Self::English => "english",
            Self::Finnish => "finnish",
            Self::French => "french",
            Self::German => "german",
            Self::Greek => "greek",
            Self::Hungarian => "hungarian",
            Self::Italian => "italian",
            Self::Norwegian => "norwegian",
            Self::Portuguese => "portuguese",
            Self::Romanian => "romanian",
            Self::Russian => "russian",
            Self::Spanish => "spanish",
            Self::Swedish => "swedish",
            Self::Tamil => "tamil",
            Self::Turkish => "turkish",
        }
    }

    fn algorithm(self) -> Option<Algorithm> {
        Some(match self {
            Self::None => return None,
            Self::Arabic => Algorithm::Arabic,
            Self::Armenian => Algorithm::Armenian,
            Self::Danish => Algorithm::Danish,
            Self::Dutch => Algorithm::Dutch,
            Self::English => Algorithm::English,
            Self::Finnish => Algorithm::Finnish,
            Self::French => Algorithm::French,
            Self::German => Algorithm::German,
            Self::Greek => Algorithm::Greek,
            Self::Hungarian => Algorithm::Hungarian,
            Self::Italian => Algorithm::Italian,
            Self::Norwegian => Algorithm::Norwegian,
            Self::Portuguese => Algorithm::Portuguese,
            Self::Romanian => Algorithm::Romanian,
            Self::Russian => Algorithm::Russian,
            Self::Spanish => Algorithm::Spanish,
            Self::Swedish => Algorithm::Swedish,
            Self::Tamil => Algorithm::Tamil,
            Self::Turkish => Algorithm::Turkish,
        })
    }

    /// Whether it is what a collection has that was not told otherwise.
    pub(in crate::vectors) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|language| language.as_str() == s).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|language| language.as_str()).collect();
            Error::invalid(format!("`{}` is not a language that words can be cut to stems in", crate::id::shown(s)))
                .with_remedy(format!("use one of {}", all.join(", ")))
        })
    }
}

/// Finds the words of texts.
pub(super) struct Words(Option<Stemmer>);

impl Words {
    pub(super) fn new(language: Language) -> Self {
        Self(language.algorithm().map(Stemmer::create))
    }

    /// Calls `each` with every word of `text`, in order: as Unicode's annex 29 divides it, in lower case, and cut to its
    /// stem.
    pub(super) fn each(&self, text: &str, mut each: impl FnMut(&str)) {
        for word in text.unicode_words() {
            let word = word.to_lowercase();
            match &self.0 {
                Some(stemmer) if word.len() <= STEMMED_BYTES => each(&stemmer.stem(&word)),
                _ => each(&word),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(language: Language, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        Words::new(language).each(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn texts_are_divided_into_words() {
        assert_eq!(
            words(Language::None, "Don't panic: 42 CATS, naïve/ÜBER!"),
            ["don't", "panic", "42", "cats", "naïve", "über"]
        );
        assert_eq!(words(Language::English, "Searching searched SEARCHES"), ["search"; 3]);
        assert_eq!(words(Language::German, "Die Häuser"), ["die", "haus"]);
        assert_eq!(words(Language::English, "日本 text"), ["日", "本", "text"], "each ideograph by itself");
        assert!(words(Language::English, " … -- \n").is_empty());
    }

    #[test]
    fn names_round_trip() {
        for language in Language::ALL {
            assert_eq!(language.to_string().parse::<Language>().unwrap(), language);
            assert_eq!(serde_json::to_string(&language).unwrap(), format!("\"{language}\""));
        }
        assert!("klingon".parse::<Language>().unwrap_err().remedy().is_some());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text: String, at in 0..Language::ALL.len()) {
            words(Language::ALL[at], &text).iter().for_each(|word| assert!(!word.is_empty() || at > 0));
        }
    }
}
