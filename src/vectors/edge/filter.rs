//! Filters by tag and tokens in the engine's terms. Both are keywords to it: 32 hexadecimal digits.

use qdrant_edge::{
    AnyVariants, Condition, FieldCondition, Filter, JsonPath, KeywordIndexParams, Match, MatchAny, MatchValue,
    PayloadFieldSchema, PayloadSchemaParams, ValueVariants,
};

use crate::vectors::engine::TokenFilter;

/// The field of a point's tag.
pub(super) const TAG: &str = "te";
/// The field of its tokens.
pub(super) const TOKENS: &str = "b";

/// The path of a field.
pub(super) fn path(field: &str) -> JsonPath {
    JsonPath { first_key: field.to_owned(), rest: Vec::new() }
}

/// How the engine is to index a field: for each tag it builds a search graph, for tokens it would build far too many.
pub(super) fn index(field: &str) -> PayloadFieldSchema {
    let by_tag = field == TAG;
    PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(KeywordIndexParams {
        is_tenant: by_tag.then_some(true),
        enable_hnsw: Some(by_tag),
        ..KeywordIndexParams::default()
    }))
}

/// A tag or token as the engine has it.
pub(super) fn word(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

/// The bytes of what [`word`] made; `None` for anything else.
pub(super) fn from_word(text: &str) -> Option<[u8; 16]> {
    let bytes = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    (word(&bytes) == text).then_some(bytes)
}

/// `filter` for the engine.
pub(super) fn to_engine(filter: &TokenFilter) -> Filter {
    match filter {
        TokenFilter::All(parts) => Filter { must: Some(conditions(parts)), ..Filter::new() },
        // An empty list is no condition to the engine.
        TokenFilter::Any(parts) if parts.is_empty() => only(has_one_of(std::iter::empty())),
        TokenFilter::Any(parts) => match tokens(parts) {
            Some(tokens) => only(has_one_of(tokens.iter().map(word))),
            None => Filter { should: Some(conditions(parts)), ..Filter::new() },
        },
        TokenFilter::Not(part) => Filter { must_not: Some(vec![condition(part)]), ..Filter::new() },
        TokenFilter::Token(_) | TokenFilter::Tag(_) => only(condition(filter)),
    }
}

fn conditions(parts: &[TokenFilter]) -> Vec<Condition> {
    parts.iter().map(condition).collect()
}

fn condition(filter: &TokenFilter) -> Condition {
    let has = |field, bytes| {
        let value = ValueVariants::String(word(bytes));
        Condition::Field(FieldCondition::new_match(path(field), Match::Value(MatchValue { value })))
    };
    match filter {
        TokenFilter::Token(token) => has(TOKENS, token),
        TokenFilter::Tag(tag) => has(TAG, tag),
        tree => Condition::Filter(to_engine(tree)),
    }
}

/// The tokens that `parts` consist of, if of nothing else.
fn tokens(parts: &[TokenFilter]) -> Option<Vec<[u8; 16]>> {
    let token = |part: &TokenFilter| match part {
        TokenFilter::Token(token) => Some(*token),
        _ => None,
    };
    parts.iter().map(token).collect()
}

fn has_one_of(words: impl Iterator<Item = String>) -> Condition {
    let any = AnyVariants::Strings(words.collect());
    Condition::Field(FieldCondition::new_match(path(TOKENS), Match::Any(MatchAny { any })))
}

fn only(condition: Condition) -> Filter {
    Filter { must: Some(vec![condition]), ..Filter::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::disk::DataDir;
    use crate::vectors::edge::Edge;
    use crate::vectors::engine::{
        EngineCollection, Fields, Nearest, Point, SearchableVector, Shape, VectorBackend as _,
    };
    use crate::vectors::{CollectionId, Metric};

    const POINTS: u8 = 60;

    fn bytes(n: u8) -> [u8; 16] {
        [n; 16]
    }

    fn point(n: u8) -> Point {
        Point {
            id: Uuid::from_u128(u128::from(n) + 1),
            epoch: 1,
            version: 1,
            payload: vec![n],
            vector: vec![n],
            searchable: vec![(0, vec![f32::from(n), 1.0])],
            tag: (!n.is_multiple_of(5)).then(|| bytes(n % 5)),
            tokens: (0..8).filter(|bit| n >> bit & 1 == 1).map(|bit| bytes(0xf0 | bit)).collect(),
        }
    }

    fn shape() -> Shape {
        let vectors = vec![SearchableVector { position: 0, size: 2, metric: Metric::Dot }];
        Shape { vectors, tags: true, tokens: true }
    }

    fn opened(dir: &tempfile::TempDir, id: CollectionId, shape: &Shape) -> Box<dyn EngineCollection> {
        let shards = dir.path().join("shards");
        std::fs::create_dir_all(&shards).unwrap();
        let disk = Arc::new(DataDir::hold(&dir.path().join("data"), 0).unwrap());
        Edge::new(shards, disk).open(id, shape).unwrap()
    }

    fn found(engine: &dyn EngineCollection, filter: &TokenFilter) -> [BTreeSet<Uuid>; 2] {
        let scrolled = engine.scroll_filtered(None, 1000, Fields::Id, Some(filter)).unwrap().0;
        let nearest = Nearest {
            position: 0,
            vector: &[1.0, 0.0],
            limit: 1000,
            exact: false,
            ef: None,
            filter: Some(filter),
            fields: Fields::Id,
        };
        let searched = engine.search(&nearest).unwrap();
        [scrolled.iter().map(|p| p.id).collect(), searched.iter().map(|(p, _)| p.id).collect()]
    }

    fn any_filter() -> impl Strategy<Value = TokenFilter> {
        let leaf = prop_oneof![
            (0..6_u8).prop_map(|n| TokenFilter::Tag(bytes(n))),
            (0..9_u8).prop_map(|bit| TokenFilter::Token(bytes(0xf0 | bit))),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(TokenFilter::All),
                prop::collection::vec(inner.clone(), 0..4).prop_map(TokenFilter::Any),
                inner.prop_map(|part| TokenFilter::Not(Box::new(part))),
            ]
        })
    }

    #[test]
    fn the_engine_finds_what_passes() {
        let dir = tempfile::tempdir().unwrap();
        let id = CollectionId::random().unwrap();
        // Indexes that come after the points know them too.
        let engine = opened(&dir, id, &Shape { tokens: false, ..shape() });
        engine.upsert((0..POINTS).map(point).collect()).unwrap();
        assert!(engine.flush().unwrap());
        drop(engine);
        let engine = opened(&dir, id, &shape());
        proptest!(|(filter in any_filter())| {
            let passing: BTreeSet<Uuid> = (0..POINTS).map(point)
                .filter(|p| filter.passes(p.tag.as_ref(), &p.tokens)).map(|p| p.id).collect();
            prop_assert_eq!(found(&*engine, &filter), [passing.clone(), passing]);
        });
        let kept = engine.scroll(None, 1000, Fields::Both).unwrap().0;
        assert!(kept == (0..POINTS).map(point).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_we_made_is_read_as_a_tag() {
        assert_eq!(from_word(&word(&bytes(0xab))), Some(bytes(0xab)));
        for text in ["", "ab", "+0000000000000000000000000000001", &"AB".repeat(16), &"0".repeat(33)] {
            assert_eq!(from_word(text), None, "{text}");
        }
    }
}
