//! Reading a file that was named on the command line, or standard input.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result};

/// What is in `path`, `-` for standard input: at most `most` bytes of it.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let about = |e: std::io::Error| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("`{}` cannot be read: {e}", path.display())).with_remedy("name another file")
    };
    File::open(path).map_err(about)?.take(most).read_to_end(&mut bytes).map_err(about)?;
    Ok(bytes)
}
