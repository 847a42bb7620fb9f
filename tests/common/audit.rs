//! The audit log of a process, read along.

use std::path::Path;

use strongroom::audit::log::{LOG_DIR, Reader};

/// The entries of the log below `dir`, one a line.
pub fn lines(dir: &Path) -> String {
    let log = Reader::open(&dir.join(LOG_DIR)).unwrap();
    let entry = |row: strongroom::Result<(u64, Box<[u8]>)>| String::from_utf8(row.unwrap().1.into_vec()).unwrap();
    let lines: Vec<_> = log.entries(0, u64::MAX).unwrap().map(entry).collect();
    lines.join("\n")
}
