//! The audit log as a file of JSON lines that only ever grows.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use parking_lot::Mutex;

use super::{AuditSink, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The file in the keystore's directory.
pub const JOURNAL_FILE: &str = "audit.jsonl";

/// An append-only file of one event a line.
pub struct Journal {
    file: Mutex<Tail>,
}

struct Tail {
    file: File,
    /// Where the next line goes.
    end: u64,
    /// Whether there may be something behind that, of a line that was not acknowledged.
    dirty: bool,
}

impl Journal {
    /// Opens the journal in `dir`, or begins one. What a crash left of a last line is cut off: its event was never
    /// acknowledged.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(JOURNAL_FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let end = end_of_lines(&mut file)?;
        file.set_len(end)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self { file: Mutex::new(Tail { file, end, dirty: false }) })
    }
}

impl AuditSink for Journal {
    fn record(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event).map_err(|e| Error::internal("encoding").with_source(e))?;
        line.push(b'\n');
        if line.len() > limits::AUDIT_LINE_BYTES {
            return Err(Error::internal("an audit event is too long"));
        }
        self.file.lock().append(&line, event.durable()).map_err(unwritten)
    }
}

impl Tail {
    fn append(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        if self.dirty {
            self.file.set_len(self.end)?;
        }
        self.dirty = true;
        self.file.write_all_at(line, self.end)?;
        if durable {
            self.file.sync_data()?;
        }
        self.end += line.len() as u64;
        self.dirty = false;
        Ok(())
    }
}

/// The position after the last whole line.
fn end_of_lines(file: &mut File) -> Result<u64> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(limits::AUDIT_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut last = Vec::new();
    file.read_to_end(&mut last)?;
    match last.iter().rposition(|b| *b == b'\n') {
        Some(at) => Ok(from + at as u64 + 1),
        None if from == 0 => Ok(0),
        None => Err(Error::integrity("the audit journal")),
    }
}

fn unwritten(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the audit journal cannot be written")
        .with_remedy("what was asked for is not revealed; free space or mend the disk, then ask again")
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::audit::{Outcome, Reason, What};
    use crate::keys::kms::{Operation, Role};

    fn event(at_ms: u64) -> Event {
        Event {
            v: crate::audit::EVENT_VERSION,
            at_ms,
            service: "store-1".into(),
            role: Some(Role::Store),
            operation: Some(Operation::DeriveDek),
            tenant: Some("00".repeat(16)),
            what: What::Refused { reason: Reason::Scope },
            outcome: Outcome::Refused,
        }
    }

    /// Guards against a crash in the middle of a line that makes all later lines unreadable.
    #[test]
    fn a_torn_last_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL_FILE);
        for torn in [&b""[..], b"{", b"{\"at_ms\":17,\"servi"] {
            drop(std::fs::remove_file(&path));
            Journal::open(dir.path()).unwrap().record(&event(1)).unwrap();
            OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
            let journal = Journal::open(dir.path()).unwrap();
            journal.record(&event(2)).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let times: Vec<_> =
                text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["at_ms"].clone()).collect();
            assert_eq!(times, [1, 2]);
        }
    }

    /// Guards against the rest of a line that was not acknowledged, behind a shorter one that was.
    #[test]
    fn what_was_not_acknowledged_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        {
            let mut tail = journal.file.lock();
            tail.file.write_all(format!("{}\n", "x".repeat(1000)).as_bytes()).unwrap();
            tail.dirty = true;
        }
        journal.record(&event(1)).unwrap();
        let text = std::fs::read_to_string(dir.path().join(JOURNAL_FILE)).unwrap();
        assert!(text.lines().count() == 1 && text.contains("\"at_ms\":1,"), "{text}");
    }

    #[test]
    fn a_file_without_lines_is_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(JOURNAL_FILE), vec![b'x'; 2 * limits::AUDIT_LINE_BYTES]).unwrap();
        assert_eq!(Journal::open(dir.path()).err().unwrap().kind(), ErrorKind::Integrity);
    }

    #[test]
    fn a_line_is_the_documented_one() {
        let line = serde_json::to_string(&event(7)).unwrap();
        let expected = "{\"v\":1,\"at_ms\":7,\"service\":\"store-1\",\"role\":\"store\",\"operation\":\"derive-dek\",\"tenant\":\"0000";
        assert!(line.starts_with(expected), "{line}");
        assert!(line.ends_with("\"type\":\"refused\",\"reason\":\"scope\",\"outcome\":\"refused\"}"), "{line}");
    }
}
