//! Filters as tokens: which points surely pass and which possibly do, as far as tokens can tell.

use std::sync::Arc;

use crate::crypto::MacKey;
use crate::error::{Error, Result};
use crate::filter::{Check, Condition, Filter, JsonPath, Match};

use super::order::{self, Node};
use super::{Declared, Field, FieldIndexSpec, IndexKind, Of, PREFIX_LENGTHS, asks_for_a_value, prefix};
use crate::vectors::engine::TokenFilter;

/// Filters between which a filter lies.
#[derive(Clone)]
struct Bounds {
    /// What passes this passes the filter.
    sure: TokenFilter,
    /// What passes the filter passes this.
    possible: TokenFilter,
}

/// What an engine is to be asked for `filter`: no point whose chunk passes is left out. `keys` are those of the epochs
/// that points may be in, and `vectors` the names of those that a point can have.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a field that is not declared, or not for what is asked.
pub(in crate::vectors) fn token_filter(
    declared: &Declared,
    keys: &[Arc<dyn MacKey>],
    vectors: &[&str],
    filter: &Filter,
) -> Result<TokenFilter> {
    Ok(Blinder { declared, keys, vectors }.filter(filter)?.possible)
}

struct Blinder<'a> {
    declared: &'a Declared,
    keys: &'a [Arc<dyn MacKey>],
    vectors: &'a [&'a str],
}

impl Blinder<'_> {
    fn filter(&self, filter: &Filter) -> Result<Bounds> {
        let all = |conditions: &[Condition]| conditions.iter().map(|c| self.condition(c)).collect::<Result<Vec<_>>>();
        let (must, must_not, should) = (all(&filter.must)?, all(&filter.must_not)?, all(&filter.should)?);
        let min_should = filter.min_should.as_ref().map(|m| Ok::<_, Error>((m.min_count, all(&m.conditions)?)));
        let min_should = min_should.transpose()?;
        let part = |of: fn(&Bounds) -> &TokenFilter, other: fn(&Bounds) -> &TokenFilter, sure| {
            let mut parts: Vec<TokenFilter> = must.iter().map(|b| of(b).clone()).collect();
            parts.extend(must_not.iter().map(|b| not(other(b).clone())));
            if !should.is_empty() {
                parts.push(any(should.iter().map(|b| of(b).clone()).collect()));
            }
            if let Some((count, conditions)) = &min_should {
                parts.push(at_least(*count, conditions.iter().map(|b| of(b).clone()).collect(), sure));
            }
            all_of(parts)
        };
        let sure = part(|b| &b.sure, |b| &b.possible, true);
        Ok(Bounds { sure, possible: part(|b| &b.possible, |b| &b.sure, false) })
    }

    fn condition(&self, condition: &Condition) -> Result<Bounds> {
        match condition {
            Condition::Field(field) => self.check(&field.key, &field.check),
            Condition::IsEmpty(key) => {
                let spec = self.declared.get(key)?;
                Ok(exactly(not(self.has(key, spec, Of::Filled))))
            }
            Condition::IsNull(key) => {
                let spec = self.declared.get(key)?;
                Ok(exactly(self.has(key, spec, Of::Null)))
            }
            Condition::HasVector(name) if !self.vectors.contains(&name.as_str()) => Ok(exactly(never())),
            Condition::HasVector(_) | Condition::HasId(_) | Condition::Slice(_) => Ok(unknown()),
            Condition::Nested { key, filter } => Ok(Bounds { sure: never(), possible: self.nested(key, filter)? }),
            Condition::Filter(filter) => self.filter(filter),
        }
    }

    /// What holds at least where an object in the array `array` satisfies `filter`: of each condition that asks for a
    /// value, that the record has it in one of the objects.
    fn nested(&self, array: &JsonPath, filter: &Filter) -> Result<TokenFilter> {
        let each = |conditions: &[Condition]| {
            conditions.iter().map(|c| self.nested_condition(array, c)).collect::<Result<Vec<_>>>()
        };
        let mut parts = each(&filter.must)?;
        // Of what must not hold for an object, nothing follows for the record; but its fields have to be declared.
        each(&filter.must_not)?;
        if !filter.should.is_empty() {
            parts.push(any(each(&filter.should)?));
        }
        if let Some(min_should) = &filter.min_should {
            parts.push(at_least(min_should.min_count, each(&min_should.conditions)?, false));
        }
        Ok(all_of(parts))
    }

    fn nested_condition(&self, array: &JsonPath, condition: &Condition) -> Result<TokenFilter> {
        match condition {
            Condition::Field(field) => {
                let key = array.joined(&field.key);
                if asks_for_a_value(&field.check) {
                    return Ok(self.check(&key, &field.check)?.possible);
                }
                self.declared.get(&key).map(|_| always())
            }
            Condition::IsEmpty(key) | Condition::IsNull(key) => self.declared.get(&array.joined(key)).map(|_| always()),
            // An object has neither.
            Condition::HasId(_) | Condition::HasVector(_) | Condition::Slice(_) => Ok(never()),
            Condition::Nested { key, filter } => self.nested(&array.joined(key), filter),
            Condition::Filter(filter) => self.nested(array, filter),
        }
    }

    fn check(&self, key: &JsonPath, check: &Check) -> Result<Bounds> {
        let spec = self.declared.get(key)?;
        let has = |of| self.has(key, spec, of);
        let odd = || has(Of::Odd);
        let only_possible = |possible| Bounds { sure: never(), possible };
        Ok(match check {
            Check::Match(wanted) => self.matching(key, spec, wanted)?,
            Check::Range(range) => match spec.kind {
                IndexKind::Integer if spec.range => self.within(key, spec, order::integers(range)),
                IndexKind::Integer => {
                    return Err(Error::invalid(format!("the index of field `{}` has no ranges", key.shown()))
                        .with_remedy("drop the index and create it without `--no-range`"));
                }
                IndexKind::Float => self.within(key, spec, order::floats(range)),
                _ => only_possible(odd()),
            },
            Check::Dates(range) => match spec.kind {
                IndexKind::Datetime => self.within(key, spec, order::dates(range)),
                IndexKind::Keyword | IndexKind::Uuid => only_possible(has(Of::Filled)),
                _ => only_possible(odd()),
            },
            Check::GeoBox(_) | Check::GeoRadius(_) | Check::GeoPolygon(_) => only_possible(odd()),
            Check::ValuesCount(range) => only_possible(if range.has(0) { always() } else { has(Of::Filled) }),
            Check::IsEmpty(true) => exactly(any(vec![has(Of::Empty), not(any(vec![has(Of::Empty), has(Of::Filled)]))])),
            Check::IsEmpty(false) => exactly(has(Of::Filled)),
            Check::IsNull(true) => exactly(has(Of::Null)),
            // A record may have the field twice, as `null` and as something else.
            Check::IsNull(false) => Bounds { sure: not(has(Of::Null)), possible: always() },
        })
    }

    fn matching(&self, key: &JsonPath, spec: &FieldIndexSpec, wanted: &Match) -> Result<Bounds> {
        let (filled, odd) = (|| self.has(key, spec, Of::Filled), || self.has(key, spec, Of::Odd));
        let only_possible = |possible| Bounds { sure: never(), possible };
        let texts = |texts: &mut dyn Iterator<Item = &String>| match spec.kind {
            IndexKind::Keyword | IndexKind::Uuid => {
                let values: Vec<_> = texts.map(|text| text.as_bytes().to_vec()).collect();
                self.exact_or_odd(key, spec, Of::Value, &values)
            }
            IndexKind::Datetime => only_possible(filled()),
            _ => only_possible(odd()),
        };
        let integers = |numbers: &mut dyn Iterator<Item = i64>| match spec.kind {
            IndexKind::Integer => {
                let nodes: Vec<_> = numbers.map(|n| Node::leaf(order::of_integer(n)).to_bytes().to_vec()).collect();
                self.exact_or_odd(key, spec, Of::Node, &nodes)
            }
            IndexKind::Float => {
                let nodes = numbers.map(|n| Node::leaf(order::of_float(n as f64)).to_bytes().to_vec());
                only_possible(self.exact_or_odd(key, spec, Of::Node, &nodes.collect::<Vec<_>>()).possible)
            }
            _ => only_possible(odd()),
        };
        Ok(match wanted {
            Match::Keyword(text) => texts(&mut std::iter::once(text)),
            Match::AnyKeyword(wanted) => texts(&mut wanted.iter()),
            Match::Integer(number) => integers(&mut std::iter::once(*number)),
            Match::AnyInteger(wanted) => integers(&mut wanted.iter().copied()),
            Match::Bool(flag) if spec.kind == IndexKind::Bool => {
                self.exact_or_odd(key, spec, Of::Value, &[vec![u8::from(*flag)]])
            }
            Match::Bool(_) => only_possible(odd()),
            Match::Prefix(wanted) => match spec.kind {
                IndexKind::Keyword if spec.prefix => self.starting(key, spec, wanted),
                IndexKind::Keyword => {
                    return Err(Error::invalid(format!("the index of field `{}` has no prefixes", key.shown()))
                        .with_remedy("drop the index and create it with `--prefix`"));
                }
                IndexKind::Datetime | IndexKind::Uuid => only_possible(filled()),
                _ => only_possible(odd()),
            },
            Match::Text(_)
            | Match::TextAny(_)
            | Match::Phrase(_)
            | Match::Substring(_)
            | Match::ExceptKeywords(_)
            | Match::ExceptIntegers(_) => only_possible(filled()),
        })
    }

    fn starting(&self, key: &JsonPath, spec: &FieldIndexSpec, wanted: &str) -> Bounds {
        let characters = wanted.chars().count();
        let Some(length) = PREFIX_LENGTHS.into_iter().rfind(|length| *length <= characters) else {
            return Bounds { sure: never(), possible: self.has(key, spec, Of::Filled) };
        };
        let first = prefix(wanted, length).unwrap_or_default().as_bytes().to_vec();
        let bounds = self.exact_or_odd(key, spec, Of::Prefix, &[first]);
        // A longer one is only known by its beginning.
        if length == characters { bounds } else { Bounds { sure: never(), possible: bounds.possible } }
    }

    fn within(&self, key: &JsonPath, spec: &FieldIndexSpec, range: Option<(u64, u64)>) -> Bounds {
        let nodes = range.map(|(low, high)| order::cover(low, high)).unwrap_or_default();
        let nodes: Vec<_> = nodes.into_iter().map(|node| node.to_bytes().to_vec()).collect();
        self.exact_or_odd(key, spec, Of::Node, &nodes)
    }

    /// Records that have one of `values` surely pass; those with a value of another kind possibly do.
    fn exact_or_odd(&self, key: &JsonPath, spec: &FieldIndexSpec, of: Of, values: &[Vec<u8>]) -> Bounds {
        let sure = self.tokens(key, spec, of, values);
        let odd = self.tokens(key, spec, Of::Odd, &[Vec::new()]);
        let possible = sure.iter().chain(&odd).copied().collect();
        Bounds { sure: one_of(sure), possible: one_of(possible) }
    }

    fn has(&self, key: &JsonPath, spec: &FieldIndexSpec, of: Of) -> TokenFilter {
        one_of(self.tokens(key, spec, of, &[Vec::new()]))
    }

    /// In every epoch: a point has tokens of the one that it is in.
    fn tokens(&self, path: &JsonPath, spec: &FieldIndexSpec, of: Of, values: &[Vec<u8>]) -> Vec<[u8; 16]> {
        let fields = self.keys.iter().map(|key| Field::new(&**key, path, spec));
        fields.flat_map(|field| values.iter().map(move |value| field.token(of, value)).collect::<Vec<_>>()).collect()
    }
}

fn always() -> TokenFilter {
    TokenFilter::All(Vec::new())
}

fn never() -> TokenFilter {
    TokenFilter::Any(Vec::new())
}

fn exactly(filter: TokenFilter) -> Bounds {
    Bounds { sure: filter.clone(), possible: filter }
}

fn unknown() -> Bounds {
    Bounds { sure: never(), possible: always() }
}

fn is_always(filter: &TokenFilter) -> bool {
    matches!(filter, TokenFilter::All(parts) if parts.is_empty())
}

fn is_never(filter: &TokenFilter) -> bool {
    matches!(filter, TokenFilter::Any(parts) if parts.is_empty())
}

fn one_of(tokens: Vec<[u8; 16]>) -> TokenFilter {
    TokenFilter::Any(tokens.into_iter().map(TokenFilter::Token).collect())
}

fn not(filter: TokenFilter) -> TokenFilter {
    match filter {
        filter if is_always(&filter) => never(),
        filter if is_never(&filter) => always(),
        TokenFilter::Not(inner) => *inner,
        filter => TokenFilter::Not(Box::new(filter)),
    }
}

fn all_of(mut parts: Vec<TokenFilter>) -> TokenFilter {
    if parts.iter().any(is_never) {
        return never();
    }
    parts.retain(|part| !is_always(part));
    match <[_; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => TokenFilter::All(parts),
    }
}

fn any(mut parts: Vec<TokenFilter>) -> TokenFilter {
    if parts.iter().any(is_always) {
        return always();
    }
    parts.retain(|part| !is_never(part));
    match <[_; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => TokenFilter::Any(parts),
    }
}

/// What bounds "at least `count` of these" from below or above: an engine is not asked to count.
fn at_least(count: usize, parts: Vec<TokenFilter>, sure: bool) -> TokenFilter {
    let always = parts.iter().filter(|part| is_always(part)).count();
    let left = count.saturating_sub(always);
    let parts: Vec<_> = parts.into_iter().filter(|part| !is_always(part) && !is_never(part)).collect();
    match left {
        0 => all_of(Vec::new()),
        left if left > parts.len() => never(),
        left if left == parts.len() || (sure && left > 1) => all_of(parts),
        _ => any(parts),
    }
}
