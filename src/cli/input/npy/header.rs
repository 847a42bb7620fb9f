//! Reads the header of a `.npy` file, versions 1 to 3: a Python dictionary of three known entries.
//!
//! ```text
//! 93 'NUMPY' | major minor | length (u16, from version 2 on u32, little endian) | {'descr': '<f4', …}
//! ```
//!
//! Only what `numpy.save` writes for plain arrays is understood. The grammar is small and does not nest, so hostile
//! headers can neither exhaust the stack nor overflow anything.

use std::io::{BufRead, ErrorKind as Io, Read as _};

use super::{SAVE, WHOLE, refused};
use crate::error::{Error, Result};
use crate::limits;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MOST_AXES: usize = 32;

/// What the header says.
#[derive(Debug)]
pub(super) struct Header {
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<u64>,
    /// Where the data starts.
    pub header_bytes: u64,
}

/// Reads up to the first byte of data.
pub(super) fn read(name: &str, input: &mut Box<dyn BufRead + Send>) -> Result<Header> {
    let mut fill = |bytes: &mut [u8], what: &str| {
        input.read_exact(bytes).map_err(|e| match e.kind() {
            Io::UnexpectedEof => refused(name, what, WHOLE),
            _ => super::cannot_read(format_args!("`{name}`"), e),
        })
    };
    let mut magic = [0; 8];
    fill(&mut magic, "is not a `.npy` file")?;
    let [start @ .., major, minor] = magic;
    if &start != MAGIC {
        return Err(refused(name, "is not a `.npy` file", SAVE));
    }
    let truncated = "ends inside its header";
    let (length, before) = match (major, minor) {
        (1, 0) => {
            let mut length = [0; 2];
            fill(&mut length, truncated)?;
            (u32::from(u16::from_le_bytes(length)), 10)
        }
        (2 | 3, 0) => {
            let mut length = [0; 4];
            fill(&mut length, truncated)?;
            (u32::from_le_bytes(length), 12)
        }
        _ => return Err(refused(name, format_args!("is of format version {major}.{minor}"), SAVE)),
    };
    let size = usize::try_from(length).ok().filter(|n| *n <= limits::NPY_HEADER_BYTES).ok_or_else(|| {
        refused(name, format_args!("has a header of {length} bytes, more than {}", limits::NPY_HEADER_BYTES), SAVE)
    })?;
    let mut text = vec![0; size];
    fill(&mut text, truncated)?;
    let not_understood = || -> Error { refused(name, "has a header that is not a plain array's", SAVE) };
    let text = std::str::from_utf8(&text).map_err(|_| not_understood())?;
    let mut header = Cursor(text).header().ok_or_else(not_understood)?;
    header.header_bytes = u64::from(length) + before;
    Ok(header)
}

/// What is left of the header's text.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn header(&mut self) -> Option<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.accept('}') {
            let key = self.quoted()?;
            self.expect(':')?;
            let fresh = match key {
                "descr" => descr.replace(self.descr()?.to_owned()).is_none(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        self.0.trim().is_empty().then_some(())?;
        Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape?, header_bytes: 0 })
    }

    /// A type string, or the list of a structured type as it stands, to be named in the error.
    fn descr(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        if !text.starts_with('[') {
            return self.quoted();
        }
        let list = text.get(..text.find("]")? + 1)?;
        self.0 = text.get(list.len()..)?;
        Some(list)
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            shape.push(self.number()?);
            if shape.len() > MOST_AXES {
                return None;
            }
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Some(shape)
    }

    fn number(&mut self) -> Option<u64> {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        digits.parse().ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        let text = self.0.trim_start();
        let (value, rest) = match text.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("False")?),
        };
        self.0 = rest;
        Some(value)
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inner, rest) = text.get(1..)?.split_once(quote)?;
        self.0 = rest;
        (!inner.contains('\\')).then_some(inner)
    }

    fn accept(&mut self, c: char) -> bool {
        match self.0.trim_start().strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.accept(c).then_some(())
    }
}
