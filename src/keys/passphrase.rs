//! The passphrase of the file keystore and the places it may come from. Never a command-line argument: those are
//! visible in the process list.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::secret::SecretBytes;

/// The environment variable that may hold the passphrase.
pub const PASSPHRASE_ENV: &str = "STRONGROOM_PASSPHRASE";
/// The environment variable that may name a file with the passphrase.
pub const PASSPHRASE_FILE_ENV: &str = "STRONGROOM_PASSPHRASE_FILE";
/// The systemd credential (`LoadCredential=`) that may hold the passphrase.
pub const CREDENTIAL_NAME: &str = "strongroom-passphrase";

/// A passphrase, erased when dropped.
pub struct Passphrase(SecretBytes);

impl Passphrase {
    /// Takes over `bytes`. Empty and overlong ones are refused.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let bytes = SecretBytes::new(bytes);
        if bytes.is_empty() || bytes.len() > limits::PASSPHRASE_BYTES {
            return Err(Error::invalid("the passphrase is empty or too long")
                .with_remedy(format!("use 1 to {} bytes", limits::PASSPHRASE_BYTES)));
        }
        Ok(Self(bytes))
    }

    /// From the first of: `file`, the environment (`STRONGROOM_PASSPHRASE`, then `STRONGROOM_PASSPHRASE_FILE`), the
    /// systemd credential `strongroom-passphrase`, and the terminal, where `confirm` asks twice.
    pub fn find(file: Option<&Path>, confirm: bool) -> Result<Self> {
        if let Some(file) = file {
            return Self::from_file(file);
        }
        if let Some(value) = std::env::var_os(PASSPHRASE_ENV) {
            return Self::new(value.into_encoded_bytes());
        }
        if let Some(file) = std::env::var_os(PASSPHRASE_FILE_ENV) {
            return Self::from_file(Path::new(&file));
        }
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join(CREDENTIAL_NAME));
        match credential {
            Some(file) if file.exists() => Self::from_file(&file),
            _ => Self::ask(confirm),
        }
    }

    /// The content of `file` without the line end that editors add.
    pub fn from_file(file: &Path) -> Result<Self> {
        let mut bytes = std::fs::read(file).map_err(|e| {
            Error::new(ErrorKind::Denied, format!("the passphrase file `{}` cannot be read", file.display()))
                .with_source(e)
                .with_remedy("check its name and permissions")
        })?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Self::new(bytes)
    }

    /// A new one from the terminal, asked for twice.
    pub fn ask_new() -> Result<Self> {
        Self::ask(true)
    }

    /// One that exists, from the terminal.
    pub fn ask_known() -> Result<Self> {
        Self::ask(false)
    }

    fn ask(confirm: bool) -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Err(Error::new(ErrorKind::Denied, "no passphrase was given").with_remedy(format!(
                "set {PASSPHRASE_ENV} or {PASSPHRASE_FILE_ENV}, use `--passphrase-file`, or run on a terminal"
            )));
        }
        let prompt = |text: &str| rpassword::prompt_password(text).map(String::into_bytes).map_err(Error::from);
        let first = Self::new(prompt("Passphrase: ")?)?;
        if confirm {
            let second = Self::new(prompt("Again: ")?)?;
            let same = subtle::ConstantTimeEq::ct_eq(first.expose_secret(), second.expose_secret());
            if !bool::from(same) {
                return Err(Error::new(ErrorKind::Denied, "the two passphrases differ"));
            }
        }
        Ok(first)
    }

    /// The bytes, for the key derivation.
    pub fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }
}
