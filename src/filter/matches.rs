//! What it is for a value to match.

use std::borrow::Cow;
use std::collections::BTreeSet;

use zeroize::Zeroize;

use super::Seen;

/// What a value is compared with.
#[derive(Clone, PartialEq)]
pub enum Match {
    /// A text that is exactly this.
    Keyword(String),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Bool(bool),
    /// A text that has all words of this one, in any order.
    Text(String),
    /// A text that has one word of this one.
    TextAny(String),
    /// A text that has the words of this one, one after the other.
    Phrase(String),
    /// A text that starts so.
    Prefix(String),
    /// A text that has this in it.
    Substring(String),
    /// A text that is one of these.
    AnyKeyword(BTreeSet<String>),
    /// An integer that is one of these.
    AnyInteger(BTreeSet<i64>),
    /// A value other than these texts.
    ExceptKeywords(BTreeSet<String>),
    /// A value other than these integers.
    ExceptIntegers(BTreeSet<i64>),
}

impl Match {
    /// Whether `value` does. An array within an array counts as one value.
    pub(crate) fn holds(&self, value: Seen<'_>) -> bool {
        match (self, value) {
            (Match::Keyword(wanted), Seen::Text(text)) => wanted == text,
            (Match::Integer(wanted), Seen::Number(number)) => number.as_i64() == Some(*wanted),
            (Match::Bool(wanted), Seen::Bool(value)) => *wanted == value,
            (Match::Text(wanted), Seen::Text(text)) => has_words(text, wanted),
            (Match::TextAny(wanted), Seen::Text(text)) => has_one_word(text, wanted),
            (Match::Phrase(wanted), Seen::Text(text)) => has_phrase(text, wanted),
            (Match::Prefix(wanted), Seen::Text(text)) => text.starts_with(wanted.as_str()),
            (Match::Substring(wanted), Seen::Text(text)) => text.contains(wanted.as_str()),
            (Match::AnyKeyword(wanted), Seen::Text(text)) => wanted.contains(text),
            (Match::AnyInteger(wanted), Seen::Number(number)) => number.as_i64().is_some_and(|n| wanted.contains(&n)),
            (Match::ExceptKeywords(_) | Match::ExceptIntegers(_), Seen::Null) => false,
            (Match::ExceptKeywords(unwanted), Seen::Text(text)) => !unwanted.contains(text),
            (Match::ExceptIntegers(unwanted), Seen::Number(number)) => {
                number.as_i64().is_none_or(|n| !unwanted.contains(&n))
            }
            (Match::ExceptKeywords(_) | Match::ExceptIntegers(_), _) => true,
            _ => false,
        }
    }

    /// How many values it names.
    pub(super) fn len(&self) -> usize {
        match self {
            Match::AnyKeyword(texts) | Match::ExceptKeywords(texts) => texts.len(),
            Match::AnyInteger(numbers) | Match::ExceptIntegers(numbers) => numbers.len(),
            _ => 1,
        }
    }
}

impl Zeroize for Match {
    fn zeroize(&mut self) {
        match self {
            Match::Keyword(s)
            | Match::Text(s)
            | Match::TextAny(s)
            | Match::Phrase(s)
            | Match::Prefix(s)
            | Match::Substring(s) => s.zeroize(),
            Match::AnyKeyword(texts) | Match::ExceptKeywords(texts) => {
                std::mem::take(texts).into_iter().for_each(|mut text| text.zeroize());
            }
            Match::Integer(n) => n.zeroize(),
            Match::Bool(b) => b.zeroize(),
            // The nodes of the tree are given back as they are: the allocator erases them.
            Match::AnyInteger(numbers) | Match::ExceptIntegers(numbers) => numbers.clear(),
        }
    }
}

impl From<&str> for Match {
    fn from(text: &str) -> Self {
        Self::Keyword(text.to_owned())
    }
}

impl From<i64> for Match {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Match {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// The words of a text as Qdrant's word tokenizer finds them: what is between characters that are neither letter nor
/// digit, in lower case.
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(Word::new)
}

/// A word in lower case, copied only where it was not.
struct Word<'a>(Cow<'a, str>);

impl<'a> Word<'a> {
    fn new(word: &'a str) -> Self {
        let lower = word.is_ascii() && !word.bytes().any(|b| b.is_ascii_uppercase());
        Self(if lower { Cow::Borrowed(word) } else { Cow::Owned(word.to_lowercase()) })
    }
}

impl Drop for Word<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(word) = &mut self.0 {
            word.zeroize();
        }
    }
}

impl PartialEq for Word<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

fn has_words(text: &str, wanted: &str) -> bool {
    let mut any = false;
    let all = words(wanted).all(|wanted| {
        any = true;
        words(text).any(|word| word == wanted)
    });
    any && all
}

fn has_one_word(text: &str, wanted: &str) -> bool {
    words(wanted).any(|wanted| words(text).any(|word| word == wanted))
}

fn has_phrase(text: &str, wanted: &str) -> bool {
    let wanted: Vec<_> = words(wanted).collect();
    let text: Vec<_> = words(text).collect();
    !wanted.is_empty() && text.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_qdrants_tokenizer() {
        let found: Vec<_> = words("Hello, wörld_of  ΟΔΟΣ-2x!").map(|w| w.0.clone().into_owned()).collect();
        assert_eq!(found, ["hello", "wörld", "of", "οδος", "2x"]);
    }

    #[test]
    fn texts_match_by_word_and_not_by_letter() {
        let holds = |m: Match| m.holds(Seen::Text("The Quick brown-fox, the end"));
        assert!(holds(Match::Text("FOX quick".into())));
        assert!(!holds(Match::Text("qui".into())) && !holds(Match::Text("fox cat".into())));
        assert!(!holds(Match::Text(String::new())) && !holds(Match::Text("--".into())));
        assert!(holds(Match::TextAny("cat fox".into())) && !holds(Match::TextAny("cat".into())));
        assert!(holds(Match::Phrase("quick BROWN fox".into())) && !holds(Match::Phrase("brown quick".into())));
        assert!(!holds(Match::Phrase(String::new())));
        assert!(holds(Match::Prefix("The Q".into())) && !holds(Match::Prefix("the".into())));
        assert!(holds(Match::Substring("n-f".into())) && holds(Match::Prefix(String::new())));
    }
}
