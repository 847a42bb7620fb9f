//! Files that a process is run by while it runs: read whole, and again when they have changed.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::default_provider;
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;

/// A whole file: a key may be in it.
pub(super) fn read(path: &Path) -> Result<SecretBytes> {
    let about = |e: std::io::Error| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("`{}` cannot be read: {e}", path.display())).with_source(e)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(about)?;
    let read = file.take(limits::SERVICE_FILE_BYTES + 1).read_to_end(&mut bytes);
    let bytes = SecretBytes::new(bytes);
    read.map_err(about)?;
    if bytes.len() as u64 > limits::SERVICE_FILE_BYTES {
        return Err(Error::invalid(format!("`{}` is too long", path.display())).with_remedy(format!(
            "a file of services or certificates has at most {} bytes",
            limits::SERVICE_FILE_BYTES
        )));
    }
    Ok(bytes)
}

/// Something made of files. When they change it is made anew; while they are no good it stays as it was.
pub(super) struct Followed<T> {
    made: Arc<T>,
    /// What the files were when they were last looked at, for good or bad; `None` before.
    seen: Option<Option<[u8; 32]>>,
}

impl<T> Followed<T> {
    pub(super) fn new(made: T) -> Self {
        Self { made: Arc::new(made), seen: None }
    }

    pub(super) fn made(&self) -> &Arc<T> {
        &self.made
    }

    /// Looks at `files`, and has `make` make it anew if they are not what they were.
    ///
    /// # Errors
    ///
    /// That of `make`, once for one state of the files.
    pub(super) fn look(&mut self, files: &[PathBuf], make: impl FnOnce(&T) -> Result<T>) -> Result<bool> {
        // Before they are read to make something of: what is written in between is a change for the next look.
        let seen = Some(fingerprint(files));
        if self.seen == seen {
            return Ok(false);
        }
        self.seen = seen;
        self.made = Arc::new(make(&self.made)?);
        Ok(true)
    }
}

/// SHA-256 over all that is in `files`, if they can be read. Times and sizes would miss a change within one tick.
fn fingerprint(files: &[PathBuf]) -> Option<[u8; 32]> {
    let provider = default_provider();
    let digest = |path: &PathBuf| Some(provider.sha256(&[read(path).ok()?.expose_secret()]));
    let digests: Vec<[u8; 32]> = files.iter().map(digest).collect::<Option<_>>()?;
    Some(provider.sha256(&digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a change that is missed, one that is taken for new at every look, and a bad file that is used.
    #[test]
    fn what_is_followed_is_made_anew_when_its_files_change_and_never_of_bad_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        let files = [file.clone()];
        let make = |_: &u32| -> Result<u32> {
            let text = String::from_utf8(read(&file)?.expose_secret().to_vec()).unwrap();
            text.parse().map_err(|_| Error::invalid("no number"))
        };
        std::fs::write(&file, "1").unwrap();
        let mut followed = Followed::new(0);
        for (text, looked, made) in
            [("1", Ok(true), 1), ("1", Ok(false), 1), ("2", Ok(true), 2), ("x", Err(()), 2), ("x", Ok(false), 2)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(followed.look(&files, make).map_err(drop), looked, "{text}");
            assert_eq!(**followed.made(), made, "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(followed.look(&files, make).is_err());
        assert!(!followed.look(&files, make).unwrap());
        std::fs::write(&file, "2").unwrap();
        assert!(followed.look(&files, make).unwrap());
        std::fs::write(&file, vec![b'1'; usize::try_from(limits::SERVICE_FILE_BYTES).unwrap() + 1]).unwrap();
        assert!(followed.look(&files, make).unwrap_err().to_string().contains("too long"));
    }
}
