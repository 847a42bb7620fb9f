//! Whether a record passes a filter.

use std::hash::Hasher as _;

use serde_json::{Map, Value};
use siphasher::sip::SipHasher24;

use crate::id::RecordId;

use super::{Condition, FieldCondition, Filter, JsonPath, Seen, Slice, TEXT_FIELD};

/// A record as filters see it.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Its id.
    pub id: &'a RecordId,
    /// Its metadata.
    pub metadata: &'a Map<String, Value>,
    /// Its text: where it is not empty, the field `text`, whatever the metadata has under that name.
    pub text: &'a str,
    /// The names of its vectors.
    pub vectors: &'a [&'a str],
}

/// What a filter looks at: a record, or an object in an array of one.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Record(&'a Record<'a>),
    Object(&'a Map<String, Value>),
}

impl Filter {
    /// Whether `record` passes.
    pub fn matches(&self, record: &Record<'_>) -> bool {
        self.holds(Scope::Record(record))
    }

    fn holds(&self, scope: Scope<'_>) -> bool {
        let holds = |condition: &Condition| condition.holds(scope);
        (self.should.is_empty() || self.should.iter().any(holds))
            && self
                .min_should
                .as_ref()
                .is_none_or(|m| m.conditions.iter().filter(|c| holds(c)).take(m.min_count).count() >= m.min_count)
            && self.must.iter().all(holds)
            && !self.must_not.iter().any(holds)
    }
}

impl Condition {
    /// Whether it holds for `record`.
    pub(crate) fn matches(&self, record: &Record<'_>) -> bool {
        self.holds(Scope::Record(record))
    }

    fn holds(&self, scope: Scope<'_>) -> bool {
        match self {
            Condition::Field(field) => field.holds(scope),
            Condition::IsEmpty(key) => !scope.any(key, &mut |value| !value.is_empty()),
            Condition::IsNull(key) => scope.any(key, &mut Seen::is_null),
            Condition::HasId(ids) => scope.record().is_some_and(|r| ids.contains(r.id)),
            Condition::HasVector(name) => scope.record().is_some_and(|r| r.vectors.contains(&name.as_str())),
            Condition::Slice(slice) => scope.record().is_some_and(|r| slice.has(r.id)),
            Condition::Nested { key, filter } => {
                let key = key.clone().each();
                scope.any(&key, &mut |value| match value {
                    Seen::Object(object) => filter.holds(Scope::Object(object)),
                    _ => false,
                })
            }
            Condition::Filter(filter) => filter.holds(scope),
        }
    }
}

impl FieldCondition {
    fn holds(&self, scope: Scope<'_>) -> bool {
        let mut missing = true;
        let found = scope.any(&self.key, &mut |value| {
            missing = false;
            self.check.holds(value)
        });
        if missing { self.check.holds_without_value() } else { found }
    }
}

impl<'a> Scope<'a> {
    fn any(self, key: &JsonPath, see: &mut impl FnMut(Seen<'a>) -> bool) -> bool {
        match self {
            Scope::Record(record) => key.any(|first| record.field(first), see),
            Scope::Object(object) => key.any_in(object, see),
        }
    }

    fn record(self) -> Option<&'a Record<'a>> {
        match self {
            Scope::Record(record) => Some(record),
            Scope::Object(_) => None,
        }
    }
}

impl<'a> Record<'a> {
    /// The top-level field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<Seen<'a>> {
        if name == TEXT_FIELD && !self.text.is_empty() {
            return Some(Seen::Text(self.text));
        }
        self.metadata.get(name).map(Seen::from)
    }
}

impl Slice {
    /// Whether `id` is in it: by SipHash-2-4 with a zero key, as Qdrant promises its clients. That is no secret.
    pub(crate) fn has(self, id: &RecordId) -> bool {
        let mut hasher = SipHasher24::new();
        match id {
            RecordId::Number(n) => hasher.write(&n.to_le_bytes()),
            RecordId::Uuid(u) => hasher.write(u.as_bytes()),
            // Qdrant has no such ids.
            RecordId::Text(t) => hasher.write(t.as_bytes()),
        }
        hasher.finish().checked_rem(u64::from(self.total)) == Some(u64::from(self.index))
    }
}
