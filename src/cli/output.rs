//! How answers, progress and errors look: text for people, JSON for machines.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, ErrorKind, Result};

/// Where a command writes.
pub(super) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether answers are for machines.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One answer: `value` as a line of JSON, or what `text` makes of it.
    pub(super) fn answer<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let line = if self.json {
            serde_json::to_string(value).map_err(|e| Error::internal("encoding an answer").with_source(e))?
        } else {
            text(value)
        };
        // Something like an empty list has nothing to say to people.
        if line.is_empty() { Ok(()) } else { self.raw(format!("{}\n", line.trim_end_matches('\n')).as_bytes()) }
    }

    /// Bytes as they are.
    pub(super) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// A remark for people, on stderr.
    pub(super) fn remark(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// An error with its remedy, on stderr.
    pub(super) fn error(&self, e: &Error) {
        let mut stderr = std::io::stderr().lock();
        if self.json {
            let error = json!({ "kind": e.kind().as_str(), "message": e.to_string(), "remedy": remedy(e) });
            let _ = writeln!(stderr, "{}", json!({ "error": error }));
            return;
        }
        let _ = writeln!(stderr, "error: {e}");
        let mut source = std::error::Error::source(e);
        while let Some(cause) = source {
            let _ = writeln!(stderr, "  because: {cause}");
            source = cause.source();
        }
        let _ = writeln!(stderr, "  help: {}", remedy(e));
    }

    /// A bar that counts to `total`, or a spinner without one; nothing unless on a terminal.
    pub(super) fn progress(&self, total: Option<u64>, template: &str) -> ProgressBar {
        if self.quiet || self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// What to do about `e`: its own remedy, or what its kind says.
fn remedy(e: &Error) -> &str {
    e.remedy().unwrap_or(match e.kind() {
        ErrorKind::Internal => "run the command again with `-vv` and report what it says",
        ErrorKind::InvalidInput => "`strongroom help` and the command's `--help` say what is possible",
        ErrorKind::NotFound => "check the name; `strongroom status` shows what there is",
        ErrorKind::Conflict => "it is there already: use it, or choose another name",
        ErrorKind::Denied => "check the passphrase",
        ErrorKind::Busy | ErrorKind::Unavailable => "try again later",
        ErrorKind::Integrity => "run `strongroom verify`; if it reports damage, restore from a backup",
        ErrorKind::StorageFull => "free some space and run the command again",
        ErrorKind::Partial => "mend what was named above and run the command again",
    })
}

/// A time as people read it; an hour of the UTC day is enough.
pub(super) fn time(unix_ms: u64) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(unix_ms))
}

/// `text` cut to one line of at most `width` characters.
pub(super) fn one_line(text: &str, width: usize) -> String {
    // Stored text must not be able to command a terminal.
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().map(shown).collect();
    if flat.chars().count() <= width {
        return flat;
    }
    flat.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A number of bytes as people read it.
pub(super) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
