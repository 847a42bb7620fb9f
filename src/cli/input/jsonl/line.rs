//! Parses one JSON line into the parts of a record, with reasons that never repeat a value.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::super::InputVectors;
use super::value::{Budget, IdSeed, MetadataSeed, too_large};
use super::vectors::{GivenVectors, SparseSeed, VectorsSeed, given_twice, too_many};
use crate::error::{Error, Result};
use crate::id::{Name, RecordId, shown};
use crate::limits;
use crate::vectors::SparseVector;

/// A record without its place.
pub(super) struct Parsed {
    pub id: RecordId,
    pub text: String,
    pub metadata: Map<String, Value>,
    pub vectors: InputVectors,
    pub sparse: BTreeMap<Name, SparseVector>,
}

/// Parses a line without its end. The error says why, but not where.
pub(super) fn parse(line: &[u8]) -> Result<Parsed> {
    let line = std::str::from_utf8(line).map_err(|e| {
        Error::invalid(format!("byte {} is not UTF-8", e.valid_up_to() + 1))
            .with_remedy("save the input as UTF-8, for example with `iconv -f latin1 -t utf-8`")
    })?;
    if !line.starts_with('{') {
        return Err(Error::invalid("the line is not a JSON object")
            .with_remedy("write one JSON object per line; `jq -c '.[]' array.json` makes lines out of a JSON array"));
    }
    let mut fields = Fields::new();
    let mut json = serde_json::Deserializer::from_str(line);
    let parsed = json.deserialize_map(&mut fields).and_then(|()| json.end());
    match parsed {
        Ok(()) => fields.finish(),
        Err(e) => Err(fields.reason(line, &e)),
    }
}

/// The known fields.
#[derive(Clone, Copy, PartialEq)]
enum Field {
    Id,
    Text,
    Metadata,
    Vector,
    Sparse,
}

impl Field {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "text" => Self::Text,
            "metadata" => Self::Metadata,
            "vector" => Self::Vector,
            "sparse" => Self::Sparse,
            _ => return None,
        })
    }

    fn must_be(self) -> &'static str {
        match self {
            Self::Id => "`id` must be an unsigned number, a UUID or a text of 1 to 512 bytes",
            Self::Text => "`text` must be a string",
            Self::Metadata => "`metadata` must be an object",
            Self::Vector => {
                "`vector` must be an array of numbers, or an object by vector name of such arrays or of `indices` and \
                 `values`"
            }
            Self::Sparse => "`sparse` must be an object by vector name of `indices` and `values`",
        }
    }
}

/// What was read of a line so far.
struct Fields {
    id: Option<RecordId>,
    text: Option<String>,
    metadata: Option<Map<String, Value>>,
    vectors: Option<GivenVectors>,
    sparse: Option<BTreeMap<Name, SparseVector>>,
    /// The field whose value is being read.
    current: Option<Field>,
    budget: Budget,
}

impl Fields {
    fn new() -> Self {
        let budget = Budget::default();
        Self { id: None, text: None, metadata: None, vectors: None, sparse: None, current: None, budget }
    }

    fn has(&self, field: Field) -> bool {
        match field {
            Field::Id => self.id.is_some(),
            Field::Text => self.text.is_some(),
            Field::Metadata => self.metadata.is_some(),
            Field::Vector => self.vectors.is_some(),
            Field::Sparse => self.sparse.is_some(),
        }
    }

    fn finish(self) -> Result<Parsed> {
        let id = self.id.ok_or_else(|| {
            Error::invalid("`id` is missing").with_remedy(
                "give every record an `id`: an unsigned number, a UUID or any text unique in the collection",
            )
        })?;
        let text = self.text.ok_or_else(|| {
            Error::invalid("`text` is missing").with_remedy("give every record its `text`, as a string")
        })?;
        let metadata = self.metadata.unwrap_or_default();
        // JSON takes at most sixteen times what was charged, so only large payloads are measured exactly.
        if self.budget.used > limits::PAYLOAD_BYTES / 16
            && json_bytes(&text).saturating_add(json_bytes(&metadata)) > limits::PAYLOAD_BYTES
        {
            return Err(too_large());
        }
        let GivenVectors { dense: vectors, mut sparse } = self.vectors.unwrap_or_default();
        for (name, vector) in self.sparse.unwrap_or_default() {
            let dense = matches!(&vectors, InputVectors::Named(named) if named.contains_key(&name));
            if dense || sparse.contains_key(&name) {
                return Err(given_twice(name.as_str()));
            }
            sparse.insert(name, vector);
        }
        if sparse.len() > limits::NAMED_VECTORS {
            return Err(too_many());
        }
        Ok(Parsed { id, text, metadata, vectors, sparse })
    }

    /// Why the line was not understood. Messages of `serde_json` about values repeat them, so they are not used.
    fn reason(self, line: &str, e: &serde_json::Error) -> Error {
        if let Some(refused) = self.budget.refused {
            return refused;
        }
        if let (serde_json::error::Category::Data, Some(field)) = (e.classify(), self.current) {
            return Error::invalid(field.must_be()).with_remedy("correct the field, or leave the line out");
        }
        let column = e.column();
        let near = |back: usize| line.as_bytes().get(column.saturating_sub(back)..).unwrap_or_default();
        let not_a_number = [0, 1, 2].iter().any(|b| near(*b).starts_with(b"NaN") || near(*b).starts_with(b"Infinity"));
        if not_a_number {
            return Error::invalid(format!("column {column} holds NaN or Infinity, which JSON does not have"))
                .with_remedy("remove the record, or compute its numbers again");
        }
        let message = e.to_string();
        let why = message.split(" at line ").next().unwrap_or_default();
        Error::invalid(format!("the line is not valid JSON: {why} at column {column}"))
            .with_remedy("write one complete JSON object per line; `jq -c . input` shows the first broken one")
    }
}

impl<'de> Visitor<'de> for &mut Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let Some(field) = Field::parse(&name) else {
                let error = Error::invalid(format!("field `{}` is not known", shown(&name)));
                return Err(self.budget.refuse(error.with_remedy(format!(
                    "put it under `metadata`, as in {{\"metadata\": {{\"{}\": …}}}}",
                    shown(&name)
                ))));
            };
            if self.has(field) {
                let error = Error::invalid(format!("field `{name}` is given twice"));
                return Err(self.budget.refuse(error.with_remedy("keep one of them")));
            }
            self.current = Some(field);
            match field {
                Field::Id => self.id = Some(map.next_value_seed(IdSeed)?),
                Field::Text => {
                    let text: String = map.next_value()?;
                    self.budget.charge(text.len())?;
                    self.text = Some(text);
                }
                Field::Metadata => self.metadata = Some(map.next_value_seed(MetadataSeed(&mut self.budget))?),
                Field::Vector => self.vectors = Some(map.next_value_seed(VectorsSeed(&mut self.budget))?),
                Field::Sparse => self.sparse = Some(map.next_value_seed(SparseSeed(&mut self.budget))?),
            }
            self.current = None;
        }
        Ok(())
    }
}

/// Bytes of a value as JSON, without building it.
fn json_bytes(value: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}
