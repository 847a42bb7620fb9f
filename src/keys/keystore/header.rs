//! `keystore.json`: which custody holds the private keys, how to open it, and the master key it wraps.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::custody::{Custody, CustodyKind};
use super::file::{FileCustody, KdfCost};
use super::pkcs11::{Pkcs11Custody, TokenConfig, WrappedCustody};
use super::records::read_bounded;
use crate::crypto::Provider;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Passphrase;
use crate::limits;
use crate::secret::Secret;

/// The file that makes a directory a keystore.
pub const HEADER_FILE: &str = "keystore.json";
const VERSION: u8 = 2;
const MASTER_AAD: &[u8] = b"strongroom keystore master v2";
const SALT_LEN: usize = 32;

/// What opens a keystore.
pub enum Unlock {
    /// The passphrase of a `file` keystore, and what deriving a key from it costs when the keystore is made.
    Passphrase(Passphrase, KdfCost),
    /// A token that does everything itself, and its user PIN.
    Token(TokenConfig, Passphrase),
    /// A token that wraps seeds, and its user PIN.
    WrappingToken(TokenConfig, Passphrase),
}

impl Unlock {
    fn kind(&self) -> CustodyKind {
        match self {
            Unlock::Passphrase(..) => CustodyKind::File,
            Unlock::Token(..) => CustodyKind::Pkcs11,
            Unlock::WrappingToken(..) => CustodyKind::Pkcs11Wrapped,
        }
    }

    fn custody(self, provider: &'static dyn Provider, kdf: Option<&Kdf>) -> Result<Box<dyn Custody>> {
        Ok(match self {
            Unlock::Passphrase(passphrase, _) => {
                let kdf = kdf.ok_or_else(damaged)?;
                let salt = BASE64.decode(&kdf.salt).map_err(|_| damaged())?;
                Box::new(FileCustody::open(provider, &passphrase, kdf.cost, &salt)?)
            }
            Unlock::Token(token, pin) => Box::new(Pkcs11Custody::open(token, pin, provider)?),
            Unlock::WrappingToken(token, pin) => Box::new(WrappedCustody::open(token, pin, provider)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u8,
    custody: CustodyKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<Kdf>,
    master: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    algorithm: String,
    cost: KdfCost,
    salt: String,
}

const ARGON2ID: &str = "argon2id";

/// Makes a master key and the header that keeps it wrapped.
pub(super) fn create(
    dir: &Path,
    provider: &'static dyn Provider,
    unlock: Unlock,
) -> Result<(Box<dyn Custody>, Secret<32>)> {
    if dir.join(HEADER_FILE).try_exists()? {
        return Err(Error::new(ErrorKind::Conflict, "there is a keystore already")
            .with_remedy("use it, or choose another directory"));
    }
    let master = Secret::<32>::random()?;
    let custody = write(dir, provider, unlock, &master)?;
    Ok((custody, master))
}

/// Opens the header's master key.
pub(super) fn open(
    dir: &Path,
    provider: &'static dyn Provider,
    unlock: Unlock,
) -> Result<(Box<dyn Custody>, Secret<32>)> {
    let header = read(dir)?;
    if header.custody != unlock.kind() {
        return Err(Error::invalid(format!("this is a `{}` keystore, not a `{}` one", header.custody, unlock.kind()))
            .with_remedy(format!("set `keystore = \"{}\"` in the configuration", header.custody)));
    }
    let mut custody = unlock.custody(provider, header.kdf.as_ref())?;
    let wrapped = BASE64.decode(&header.master).map_err(|_| damaged())?;
    let master = custody.unwrap(&aad(header.custody), &wrapped).map_err(|e| match e.kind() {
        ErrorKind::Integrity | ErrorKind::NotFound => refused(header.custody).with_source(e),
        // A token that is away says nothing about the header.
        _ => e,
    })?;
    let master = Secret::try_fill(|bytes| {
        bytes.copy_from_slice(master.expose_secret().get(..32).ok_or_else(damaged)?);
        Ok::<_, Error>(())
    })?;
    custody.end_wrapping();
    Ok((custody, master))
}

/// Wraps `master` anew, so that from now on `unlock` opens the keystore and nothing else does.
pub(super) fn write(
    dir: &Path,
    provider: &'static dyn Provider,
    unlock: Unlock,
    master: &Secret<32>,
) -> Result<Box<dyn Custody>> {
    let kind = unlock.kind();
    let kdf = match &unlock {
        Unlock::Passphrase(_, cost) => {
            cost.check()?;
            let salt = Secret::<SALT_LEN>::random()?;
            Some(Kdf { algorithm: ARGON2ID.into(), cost: *cost, salt: BASE64.encode(salt.expose_secret()) })
        }
        Unlock::Token(..) | Unlock::WrappingToken(..) => None,
    };
    let mut custody = unlock.custody(provider, kdf.as_ref())?;
    let wrapped = custody.wrap(&aad(kind), master.expose_secret())?;
    let header = Header { version: VERSION, custody: kind, kdf, master: BASE64.encode(wrapped) };
    let json = serde_json::to_vec_pretty(&header).map_err(|e| Error::internal("encoding").with_source(e))?;
    disk::replace(&dir.join(HEADER_FILE), &json)?;
    custody.end_wrapping();
    Ok(custody)
}

/// The cost that opening the keystore in `dir` has.
pub(super) fn cost(dir: &Path) -> Result<KdfCost> {
    let kdf = read(dir)?.kdf.ok_or_else(|| {
        Error::invalid("this keystore has no passphrase").with_remedy("change the PIN with the token's own tools")
    })?;
    Ok(kdf.cost)
}

/// Where the private keys of the keystore in `dir` are.
pub(super) fn kind(dir: &Path) -> Result<CustodyKind> {
    read(dir).map(|header| header.custody)
}

/// Refuses a directory without a keystore, before anything is made in it.
pub(super) fn exists(dir: &Path) -> Result<()> {
    if dir.join(HEADER_FILE).try_exists()? {
        return Ok(());
    }
    Err(Error::not_found("there is no keystore here")
        .with_remedy("run `strongroom init` first, or name the right directory with `--dir`"))
}

fn read(dir: &Path) -> Result<Header> {
    let json = read_bounded(&dir.join(HEADER_FILE), limits::KEYSTORE_HEADER_BYTES)?;
    let header: Header = serde_json::from_slice(&json).map_err(|e| damaged().with_source(e))?;
    let good_kdf = header.kdf.as_ref().is_none_or(|kdf| kdf.algorithm == ARGON2ID && kdf.cost.check().is_ok());
    if header.version != VERSION || !good_kdf || header.kdf.is_some() != (header.custody == CustodyKind::File) {
        return Err(damaged());
    }
    Ok(header)
}

/// The custody is part of it: a header cannot be made to say another.
fn aad(kind: CustodyKind) -> Vec<u8> {
    [MASTER_AAD, b" ", kind.as_str().as_bytes()].concat()
}

fn refused(kind: CustodyKind) -> Error {
    match kind {
        CustodyKind::File => Error::new(ErrorKind::Denied, "the passphrase does not open the keystore")
            .with_remedy("check the passphrase; if it is right, `keystore.json` was changed: restore it"),
        CustodyKind::Pkcs11 | CustodyKind::Pkcs11Wrapped => {
            Error::new(ErrorKind::Denied, "the token does not open the keystore")
                .with_remedy("check that it is the token that the keystore was made with")
        }
    }
}

fn damaged() -> Error {
    Error::integrity("the keystore header")
}
