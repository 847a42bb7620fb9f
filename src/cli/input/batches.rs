//! Joins lines and vectors into batches of complete records, in the order of the input.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Embedder, InputRecord, InputVectors, JsonlReader, LineError, NpyReader};
use crate::error::{Error, Result};
use crate::limits;

/// Where vectors come from.
pub enum VectorSource {
    /// Every line has its own, dense or sparse.
    Lines,
    /// Row by row from a `.npy` file: the first row belongs to the first line that is not blank, good or bad.
    Npy(NpyReader),
    /// From an embeddings endpoint, for the lines that have none.
    Embed(Embedder),
}

/// Some records that are ready to be stored, and the lines among them that are not.
#[derive(Default)]
pub struct Batch {
    /// Complete records: none of their vectors is missing.
    pub records: Vec<InputRecord>,
    /// Lines to be skipped and reported.
    pub rejected: Vec<LineError>,
}

/// Batches of up to so many lines and [`limits::INPUT_BATCH_BYTES`].
///
/// Without `keep_going` the first bad line is the last thing that is handed out, in a batch with the records before
/// it. An error of the iterator itself ends it: an input, the `.npy` file or the endpoint failed.
pub struct Batches {
    lines: JsonlReader,
    vectors: VectorSource,
    most: usize,
    keep_going: bool,
    /// Whether records may be without vectors.
    optional: bool,
    /// A record that did not fit into the batch before.
    held: Option<InputRecord>,
    done: bool,
}

impl Batches {
    /// Batches of at most `records` lines (1 to [`limits::WRITE_RECORDS`]).
    pub fn new(lines: JsonlReader, vectors: VectorSource, records: usize, keep_going: bool) -> Self {
        let most = records.clamp(1, limits::WRITE_RECORDS);
        Self { lines, vectors, most, keep_going, optional: false, held: None, done: false }
    }

    /// The same, where records may be without vectors if `optional`: their collection has no dense ones.
    #[must_use]
    pub fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    fn next_batch(&mut self) -> Result<Batch> {
        let mut batch = self.collect()?;
        if let VectorSource::Embed(embedder) = &mut self.vectors
            && let Some(first) = embed(embedder, &mut batch)?
            && !self.keep_going
        {
            // What comes after the first bad line is as if it had not been read.
            batch.records.truncate(first);
            batch.rejected.truncate(1);
            self.done = true;
            self.held = None;
        }
        Ok(batch)
    }

    /// Lines up to the bounds of a batch.
    fn collect(&mut self) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut bytes = 0_usize;
        while batch.records.len() + batch.rejected.len() < self.most {
            let line = match self.held.take() {
                Some(record) => Ok(record),
                None => match self.next_line()? {
                    Some(line) => line,
                    None => {
                        self.done = true;
                        break;
                    }
                },
            };
            match line {
                Ok(record) => {
                    bytes = bytes.saturating_add(record.bytes);
                    if bytes > limits::INPUT_BATCH_BYTES && !batch.records.is_empty() {
                        self.held = Some(record);
                        break;
                    }
                    batch.records.push(record);
                }
                Err(error) => {
                    batch.rejected.push(error);
                    if !self.keep_going {
                        self.done = true;
                        break;
                    }
                }
            }
        }
        Ok(batch)
    }

    /// The next line with the vector that is at hand for it.
    fn next_line(&mut self) -> Result<Option<Result<InputRecord, LineError>>> {
        let line = self.lines.next_record()?;
        let row = match (&mut self.vectors, &line) {
            (VectorSource::Npy(npy), Some(_)) => Some(npy.next_row()?.ok_or_else(|| {
                Error::invalid(format!("`{}` holds {} rows, and the input has more records", npy.name(), npy.rows()))
                    .with_remedy("give exactly one row per record, in the same order; nothing past that row was read")
            })?),
            (VectorSource::Npy(npy), None) => {
                exhausted(npy)?;
                None
            }
            _ => None,
        };
        let Some(line) = line else { return Ok(None) };
        Ok(Some(line.and_then(|record| match (&self.vectors, row) {
            (VectorSource::Npy(_), Some(row)) => attach(record, row),
            (VectorSource::Lines, _) if !self.optional && has_no_vector(&record) => Err(rejected(
                &record,
                "`vector` is missing",
                "give every record a `vector`, or name a `.npy` file or an embeddings endpoint to take it from",
            )),
            (VectorSource::Embed(_), _) if record.vectors == InputVectors::Missing && record.text.trim().is_empty() => {
                Err(rejected(
                    &record,
                    "`text` is empty, so it has no embedding",
                    "give the record a text or a `vector`",
                ))
            }
            _ => Ok(record),
        })))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done && self.held.is_none() {
            return None;
        }
        match self.next_batch() {
            Ok(batch) if batch.records.is_empty() && batch.rejected.is_empty() => None,
            Ok(batch) => Some(Ok(batch)),
            Err(e) => {
                self.done = true;
                self.held = None;
                Some(Err(e))
            }
        }
    }
}

fn has_no_vector(record: &InputRecord) -> bool {
    record.vectors == InputVectors::Missing && record.sparse.is_empty()
}

fn rejected(record: &InputRecord, why: &str, remedy: &str) -> LineError {
    LineError::new(&record.file, record.line, &Error::invalid(why).with_remedy(remedy))
}

fn attach(mut record: InputRecord, row: Result<Vec<f32>>) -> Result<InputRecord, LineError> {
    if record.vectors != InputVectors::Missing {
        let why = "`vector` is given here and in the `.npy` file";
        return Err(rejected(&record, why, "give vectors in one place: in the lines or in the `.npy` file"));
    }
    let vector = row.map_err(|e| LineError::new(&record.file, record.line, &e))?;
    record.bytes = record.bytes.saturating_add(vector.len().saturating_mul(4));
    record.vectors = InputVectors::Single(vector);
    Ok(record)
}

/// After the last line there must be no row left.
fn exhausted(npy: &mut NpyReader) -> Result<()> {
    let (taken, rows) = (npy.taken(), npy.rows());
    if taken == rows {
        return npy.next_row().map(drop);
    }
    Err(Error::invalid(format!("`{}` holds {rows} rows, and the input has {taken} records", npy.name()))
        .with_remedy("give exactly one row per record, in the same order"))
}

/// Embeds the records of a batch that have no vector. Those whose text is refused move to the rejected lines; the
/// index of the first of them is returned.
fn embed(embedder: &mut Embedder, batch: &mut Batch) -> Result<Option<usize>> {
    let missing = |r: &&InputRecord| r.vectors == InputVectors::Missing;
    let texts: Vec<&str> = batch.records.iter().filter(missing).map(|r| r.text.as_str()).collect();
    let mut vectors: VecDeque<Result<Vec<f32>>> = embedder.embed(&texts)?.into();
    let mut first = None;
    let mut complete = Vec::with_capacity(batch.records.len());
    let mut refused = Vec::new();
    for mut record in std::mem::take(&mut batch.records) {
        if record.vectors == InputVectors::Missing {
            match vectors.pop_front() {
                Some(Ok(vector)) => record.vectors = InputVectors::Single(vector),
                Some(Err(e)) => {
                    first.get_or_insert(complete.len());
                    refused.push(LineError::new(&record.file, record.line, &e));
                    continue;
                }
                None => return Err(Error::internal("an embedding was lost")),
            }
        }
        complete.push(record);
    }
    batch.records = complete;
    // Refused by the endpoint: these lines came before a line that ended the batch.
    refused.append(&mut batch.rejected);
    batch.rejected = refused;
    Ok(first)
}
