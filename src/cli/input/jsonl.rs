//! Streams records out of JSON lines: files or standard input, one bounded line at a time.

mod line;
#[cfg(test)]
mod tests;
mod value;
mod vectors;

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{InputRecord, LineError, Progress, cannot_open, cannot_read, shown_path};
use crate::error::{Error, Result};
use crate::id::{RecordId, shown};
use crate::limits;

const BOM: &[u8] = b"\xEF\xBB\xBF";
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// Reads `{"id": …, "text": …, "metadata": {…}, "vector": […]}`, one object per line. `vector` may be an object of
/// vectors by name, each an array or `{"indices": […], "values": […]}`; sparse ones may be under `sparse` as well.
///
/// Lines end in LF or CRLF; blank lines and a UTF-8 byte order mark are skipped. Only `id` and `text` are required,
/// and no other field is known. An id may occur once in all the inputs of one reader.
pub struct JsonlReader {
    waiting: VecDeque<Source>,
    current: Option<Open>,
    seen: HashSet<RecordId>,
    progress: Progress,
    line_bytes: usize,
    buffer: Vec<u8>,
}

/// An input that is yet to be opened, so that a thousand files do not take a thousand descriptors.
enum Source {
    File(PathBuf),
    Ready(Arc<str>, Box<dyn BufRead + Send>),
}

/// The input being read.
struct Open {
    file: Arc<str>,
    line: u64,
    input: Box<dyn BufRead + Send>,
}

/// What the next line is.
enum Fetched {
    End,
    Line,
    TooLong,
}

impl JsonlReader {
    /// Reads `paths` one after the other; `-` is standard input. A file that is missing is an error at once.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::invalid("no input is named").with_remedy("name one or more files, or `-`"));
        }
        let mut waiting = VecDeque::new();
        let mut total = Some(0_u64);
        let mut stdin_named = false;
        for path in paths {
            if path.as_os_str() == "-" {
                if std::mem::replace(&mut stdin_named, true) {
                    return Err(Error::invalid("`-` is named twice").with_remedy("name standard input once"));
                }
                total = None;
                let input = BufReader::with_capacity(FILE_BUFFER_BYTES, std::io::stdin());
                waiting.push_back(Source::Ready("standard input".into(), Box::new(input)));
                continue;
            }
            let size = regular_size(path)?;
            total = total.zip(size).and_then(|(a, b)| a.checked_add(b));
            waiting.push_back(Source::File(path.clone()));
        }
        Ok(Self::new(waiting, total))
    }

    /// Reads one input that is open already; `name` is shown in messages.
    pub fn from_reader(name: &str, input: impl BufRead + Send + 'static) -> Self {
        Self::new([Source::Ready(shown_path(Path::new(name)), Box::new(input))].into(), None)
    }

    fn new(waiting: VecDeque<Source>, total: Option<u64>) -> Self {
        Self {
            waiting,
            current: None,
            seen: HashSet::new(),
            progress: Progress::new(total),
            line_bytes: limits::INPUT_LINE_BYTES,
            buffer: Vec::new(),
        }
    }

    /// A handle that shows how many bytes were read, and of how many.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The next line that is not blank: a record, or why it is none; `None` after the last.
    ///
    /// The outer error says that an input cannot be read any further.
    pub fn next_record(&mut self) -> Result<Option<Result<InputRecord, LineError>>> {
        loop {
            if self.current.is_none() {
                let Some(source) = self.waiting.pop_front() else { return Ok(None) };
                self.current = Some(open(source)?);
            }
            let Some(open) = &mut self.current else { return Ok(None) };
            let reason = match fetch(open, &mut self.buffer, self.line_bytes, &self.progress)? {
                Fetched::End => {
                    self.current = None;
                    continue;
                }
                Fetched::TooLong => Err(Error::invalid(format!("the line is longer than {} bytes", self.line_bytes))
                    .with_remedy("write one JSON object per line, and split large texts into chunks")),
                Fetched::Line => {
                    let line = content(&self.buffer, open.line);
                    if line.is_empty() {
                        continue;
                    }
                    line::parse(line)
                }
            };
            let (file, line) = (Arc::clone(&open.file), open.line);
            let record = reason.and_then(|parsed| self.unique(parsed));
            return Ok(Some(match record {
                Ok(p) => Ok(InputRecord {
                    file,
                    line,
                    id: p.id,
                    text: p.text,
                    metadata: p.metadata,
                    vectors: p.vectors,
                    sparse: p.sparse,
                    bytes: self.buffer.len(),
                }),
                Err(reason) => Err(LineError::new(&file, line, &reason)),
            }));
        }
    }

    fn unique(&mut self, parsed: line::Parsed) -> Result<line::Parsed> {
        if self.seen.insert(parsed.id.clone()) {
            return Ok(parsed);
        }
        Err(Error::invalid(format!("id `{}` was given on an earlier line", shown(&parsed.id.to_string())))
            .with_remedy("give each record its own id, or remove the line"))
    }
}

/// The size of a regular file; `None` for a pipe or device.
fn regular_size(path: &Path) -> Result<Option<u64>> {
    let name = shown_path(path);
    let metadata = std::fs::metadata(path).map_err(|e| cannot_open(&name, e))?;
    if metadata.is_dir() {
        return Err(Error::invalid(format!("`{name}` is a directory")).with_remedy("name the files in it"));
    }
    Ok(metadata.is_file().then_some(metadata.len()))
}

fn open(source: Source) -> Result<Open> {
    let (file, input) = match source {
        Source::Ready(file, input) => (file, input),
        Source::File(path) => {
            let name = shown_path(&path);
            let file = File::open(&path).map_err(|e| cannot_open(&name, e))?;
            (name, Box::new(BufReader::with_capacity(FILE_BUFFER_BYTES, file)) as Box<dyn BufRead + Send>)
        }
    };
    Ok(Open { file, line: 0, input })
}

/// Reads the next line into `buffer`, at most `limit` bytes of it; the rest of a longer one is skipped.
fn fetch(open: &mut Open, buffer: &mut Vec<u8>, limit: usize, progress: &Progress) -> Result<Fetched> {
    buffer.clear();
    open.line += 1;
    let failed = |e| cannot_read(format_args!("`{}` line {}", open.file, open.line), e);
    // Room for the line end and for one byte more, which shows that the line is too long.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(3);
    let read = open.input.by_ref().take(most).read_until(b'\n', buffer).map_err(failed)?;
    progress.add(read);
    if read == 0 {
        return Ok(Fetched::End);
    }
    if !buffer.ends_with(b"\n") && buffer.len() > limit {
        progress.add(open.input.skip_until(b'\n').map_err(failed)?);
    }
    let too_long = without_end(buffer).len() > limit;
    Ok(if too_long { Fetched::TooLong } else { Fetched::Line })
}

/// The line without its end.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What there is to parse of a line: nothing if it is blank.
fn content(line: &[u8], number: u64) -> &[u8] {
    let line = without_end(line);
    let line = if number == 1 { line.strip_prefix(BOM).unwrap_or(line) } else { line };
    line.trim_ascii()
}
