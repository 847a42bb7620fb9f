//! Streams vectors out of a `.npy` file, row by row.

mod header;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind as Io, Read as _};
use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::{cannot_open, cannot_read, shown_path};
use crate::error::{Error, Result};
use header::Header;

const SAVE: &str = "write the file with `numpy.save(path, numpy.ascontiguousarray(a, dtype='<f4'))`";
const WHOLE: &str = "copy or write the file again, and check that the copy is complete";

/// Hands out the rows of an array of shape (rows, dimensions): f32, f16 or f64 (narrowed), little endian, C order.
pub struct NpyReader {
    input: Box<dyn BufRead + Send>,
    name: Arc<str>,
    element: Element,
    rows: u64,
    dimensions: usize,
    next: u64,
    buffer: Vec<u8>,
}

/// How a number is stored.
#[derive(Debug, Clone, Copy)]
enum Element {
    F16,
    F32,
    F64,
}

impl Element {
    fn parse(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f2" => Self::F16,
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn decode(self, row: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => row.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Self::F32 => row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            #[expect(clippy::cast_possible_truncation, reason = "narrowing is asked for; infinities are refused after")]
            Self::F64 => row.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        }
    }
}

impl NpyReader {
    /// Opens a file and checks that it has the size its header says.
    pub fn open(path: &Path) -> Result<Self> {
        let name = shown_path(path);
        let file = File::open(path).map_err(|e| cannot_open(&name, e))?;
        let metadata = file.metadata().map_err(|e| cannot_open(&name, e))?;
        if metadata.is_dir() {
            return Err(Error::invalid(format!("`{name}` is a directory")).with_remedy("name a `.npy` file"));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Self::new(name, Box::new(BufReader::with_capacity(256 << 10, file)), length)
    }

    /// Reads an array from `input`; `name` is shown in messages, `length` is checked where it is known.
    pub fn from_reader(name: &str, input: impl BufRead + Send + 'static, length: Option<u64>) -> Result<Self> {
        Self::new(shown_path(Path::new(name)), Box::new(input), length)
    }

    fn new(name: Arc<str>, mut input: Box<dyn BufRead + Send>, length: Option<u64>) -> Result<Self> {
        let Header { descr, fortran_order, shape, header_bytes } = header::read(&name, &mut input)?;
        let Some(element) = Element::parse(&descr) else {
            return Err(refused(&name, format_args!("has elements of type `{}`", crate::id::shown(&descr)), SAVE));
        };
        let [rows, dimensions] = *shape.as_slice() else {
            let what = format!("has {} axes, and not two: records and dimensions", shape.len());
            return Err(refused(&name, what, "reshape the array to (records, dimensions) before saving it"));
        };
        if fortran_order && rows > 1 && dimensions > 1 {
            return Err(refused(&name, "is in Fortran order", SAVE));
        }
        let Some(dimensions) = allowed(dimensions) else {
            let what = format!("has {dimensions} dimensions, and not 1 to {}", crate::limits::VECTOR_DIMENSIONS);
            return Err(refused(&name, what, "save an array of shape (records, dimensions)"));
        };
        let reader =
            Self { input, name, element, rows, dimensions, next: 0, buffer: vec![0; dimensions * element.bytes()] };
        match length {
            Some(length) => reader.check_length(length, header_bytes).map(|()| reader),
            None => Ok(reader),
        }
    }

    /// How many rows the header announces.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many numbers a row has.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows were handed out.
    pub fn taken(&self) -> u64 {
        self.next
    }

    /// The file, as shown in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next row, or why it is unusable; `None` after the last.
    ///
    /// The outer error says that the file cannot be read any further.
    pub fn next_row(&mut self) -> Result<Option<Result<Vec<f32>>>> {
        if self.next == self.rows {
            return self.check_end().map(|()| None);
        }
        let row = self.next;
        self.input.read_exact(&mut self.buffer).map_err(|e| match e.kind() {
            Io::UnexpectedEof => {
                refused(&self.name, format_args!("ends inside row {row} of {} (counting from 0)", self.rows), WHOLE)
            }
            _ => cannot_read(format_args!("`{}` row {row}", self.name), e),
        })?;
        self.next += 1;
        let vector = self.element.decode(&self.buffer);
        if vector.iter().all(|x| x.is_finite()) {
            return Ok(Some(Ok(vector)));
        }
        let what = format!("has a NaN or an infinity in row {row} (counting from 0)");
        Ok(Some(Err(refused(&self.name, what, "compute that vector again, or remove its row and its record"))))
    }

    /// Up front: a file that cannot hold what its header announces is refused before anything is stored.
    fn check_length(&self, length: u64, header_bytes: u64) -> Result<()> {
        let row_bytes = self.buffer.len() as u64;
        let needed = self.rows.checked_mul(row_bytes).and_then(|n| n.checked_add(header_bytes));
        if needed == Some(length) {
            return Ok(());
        }
        let data = length.saturating_sub(header_bytes);
        let whole = data.checked_div(row_bytes).unwrap_or(0);
        if needed.is_none_or(|n| n > length) {
            let what = format!("is truncated: it holds {whole} of the {} rows its header announces", self.rows);
            return Err(refused(&self.name, what, WHOLE));
        }
        Err(refused(&self.name, format_args!("goes on after the {} rows its header announces", self.rows), WHOLE))
    }

    fn check_end(&mut self) -> Result<()> {
        let rest = self.input.fill_buf().map_err(|e| cannot_read(format_args!("`{}`", self.name), e))?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(refused(&self.name, format_args!("goes on after the {} rows its header announces", self.rows), WHOLE))
    }
}

fn allowed(dimensions: u64) -> Option<usize> {
    usize::try_from(dimensions).ok().filter(|d| (1..=crate::limits::VECTOR_DIMENSIONS).contains(d))
}

fn refused(name: &str, what: impl std::fmt::Display, remedy: &str) -> Error {
    Error::invalid(format!("`{name}` {what}")).with_remedy(remedy)
}
