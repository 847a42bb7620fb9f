//! A small authority for TLS certificates: for tests, and for deployments that have no other.
//!
//! ```text
//! DIR/ca.pem               the authorities that are believed: what services and clients are given
//!    /authorities/N.pem    an authority's certificate; the one with the highest N issues
//!    /authorities/N.key    its private key
//!    /issued/NAME.pem      a certificate
//!    /issued/NAME.key      its private key
//! ```
//! Everything is for its owner alone. Nothing that is there is ever written over, but by [`renew`](Pki::renew).
//!
//! All signatures are ECDSA over P-384. They need not outlast a quantum computer: they say who is there now, and cannot be
//! forged for a connection of the past, whose contents the key exchange protects.

mod authority;
mod issued;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::disk::{self, DirLock};
use crate::error::{Error, ErrorKind, Result};
use crate::id::shown;
use crate::limits;
use authority::Authority;

pub use authority::AuthorityView;
pub use issued::{Issued, Request};

/// The file with the certificates of all authorities that are believed.
pub const CA_FILE: &str = "ca.pem";

/// A directory of authorities and what they issued.
pub struct Pki {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    _lock: DirLock,
}

impl Pki {
    /// Makes one in `dir`, with its first authority.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one.
    pub fn init(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        if dir.join(CA_FILE).exists() {
            return Err(Error::new(ErrorKind::Conflict, format!("there is an authority in `{}`", dir.display()))
                .with_remedy(
                    "name another directory; `strongroom pki rotate-ca` makes a new authority beside the old",
                ));
        }
        let pki = Self::hold(dir, clock)?;
        disk::make_private_dir(&pki.authorities())?;
        disk::make_private_dir(&pki.issued())?;
        pki.rotate()?;
        Ok(pki)
    }

    /// Opens the one in `dir`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none, [`Busy`](ErrorKind::Busy) while it is in use.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        if !dir.join(CA_FILE).exists() {
            return Err(Error::not_found(format!("there is no authority in `{}`", dir.display()))
                .with_remedy("run `strongroom pki init` first, or name the right directory"));
        }
        Self::hold(dir, clock)
    }

    fn hold(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let lock = DirLock::hold(dir, "directory of authorities")?;
        Ok(Self { dir: dir.to_owned(), clock, _lock: lock })
    }

    /// Issues a certificate and its key.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one of that name.
    pub fn issue(&self, request: &Request) -> Result<Issued> {
        request.check()?;
        if self.path(&request.name, "pem").exists() {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a certificate `{}`", request.name))
                .with_remedy("`strongroom pki renew` replaces it; or choose another name"));
        }
        if self.names()?.len() >= limits::SERVICES {
            return Err(Error::invalid(format!("there are {} certificates already", limits::SERVICES)));
        }
        let (certificate, key) = self.newest()?.issue(request, self.clock.now_ms())?;
        // A key without a certificate is of no use to anybody, and is written over by the next attempt.
        disk::replace(&self.path(&request.name, "key"), key.expose_secret())?;
        disk::create(&self.path(&request.name, "pem"), certificate.as_bytes())?;
        self.show(&request.name)
    }

    /// Replaces a certificate by one with the same names and uses and a new key, valid for `days`, or for as long as the
    /// one before. The file of the key changes first: who follows both goes on with the old until both are new.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when there is none of that name.
    pub fn renew(&self, name: &str, days: Option<u32>) -> Result<Issued> {
        let before = self.show(name)?;
        let request = Request { days: days.unwrap_or(before.days), ..before.request() };
        request.check()?;
        let (certificate, key) = self.newest()?.issue(&request, self.clock.now_ms())?;
        let (key_file, file) = (self.path(name, "key"), self.path(name, "pem"));
        disk::replace_all(&[(&key_file, key.expose_secret()), (&file, certificate.as_bytes())])?;
        self.show(name)
    }

    /// What was issued, by name.
    pub fn list(&self) -> Result<Vec<Issued>> {
        self.names()?.iter().map(|name| self.show(name)).collect()
    }

    /// The authorities, oldest first: the last one issues.
    pub fn list_authorities(&self) -> Result<Vec<AuthorityView>> {
        self.numbers()?.into_iter().map(|number| AuthorityView::load(&self.authorities(), number)).collect()
    }

    /// Makes a new authority, which issues from now on. The old ones are believed until they are
    /// [retired](Self::retire).
    pub fn rotate(&self) -> Result<AuthorityView> {
        let numbers = self.numbers()?;
        if numbers.len() >= limits::PKI_AUTHORITIES {
            return Err(Error::new(ErrorKind::Conflict, format!("there are {} authorities", numbers.len()))
                .with_remedy("`strongroom pki retire-ca` ends the old ones"));
        }
        let number = numbers.last().map_or(Some(1), |last| last.checked_add(1));
        let number = number.ok_or_else(|| Error::invalid("there have been too many authorities"))?;
        let view = Authority::make(&self.authorities(), number, self.clock.now_ms())?;
        self.publish()?;
        Ok(view)
    }

    /// Ends all authorities but the newest: their keys are removed, and nobody who follows [`CA_FILE`] believes them any
    /// more. Returns those that were ended.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) while a certificate that is valid was issued by one of them.
    pub fn retire(&self) -> Result<Vec<AuthorityView>> {
        let mut old = self.list_authorities()?;
        let Some(newest) = old.pop() else { return Ok(old) };
        let now_ms = self.clock.now_ms();
        let of_old = |issued: &Issued| issued.issuer != newest.subject && issued.not_after_ms > now_ms;
        let left: Vec<String> = self.list()?.into_iter().filter(of_old).map(|issued| issued.name).collect();
        if !left.is_empty() {
            let (first, more) = (left.iter().take(5).cloned().collect::<Vec<_>>().join(" "), left.len());
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{more} certificates are of old authorities: {first}"),
            )
            .with_remedy("run `strongroom pki renew` for them first, and wait until all use the new ones"));
        }
        for view in &old {
            for end in ["key", "pem"] {
                fs::remove_file(self.authorities().join(format!("{}.{end}", view.number)))?;
            }
        }
        self.publish()?;
        Ok(old)
    }

    /// Where the certificates of those who are believed are.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join(CA_FILE)
    }

    /// Writes the file of those who are believed.
    fn publish(&self) -> Result<()> {
        let mut all = String::new();
        for number in self.numbers()? {
            all += &fs::read_to_string(self.authorities().join(format!("{number}.pem")))?;
        }
        disk::replace(&self.ca_file(), all.as_bytes())
    }

    fn newest(&self) -> Result<Authority> {
        let number = self.numbers()?.pop().ok_or_else(|| Error::not_found("there is no authority"))?;
        Authority::load(&self.authorities(), number)
    }

    fn show(&self, name: &str) -> Result<Issued> {
        issued::check_name(name)?;
        let path = self.path(name, "pem");
        if !path.exists() {
            return Err(Error::not_found(format!("there is no certificate `{}`", shown(name)))
                .with_remedy("`strongroom pki list` shows those that there are"));
        }
        Issued::load(name, path, self.path(name, "key"))
    }

    /// The authorities that are whole, in order: a certificate is written after its key.
    fn numbers(&self) -> Result<Vec<u32>> {
        let mut numbers: Vec<u32> = stems(&self.authorities())?.iter().filter_map(|stem| stem.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = stems(&self.issued())?;
        names.sort_unstable();
        Ok(names)
    }

    fn authorities(&self) -> PathBuf {
        self.dir.join("authorities")
    }

    fn issued(&self) -> PathBuf {
        self.dir.join("issued")
    }

    fn path(&self, name: &str, end: &str) -> PathBuf {
        self.issued().join(format!("{name}.{end}"))
    }
}

/// The names of the certificates in `dir`.
fn stems(dir: &Path) -> Result<Vec<String>> {
    let mut stems = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        stems.extend(name.strip_suffix(".pem").filter(|stem| !stem.starts_with('.')).map(str::to_owned));
    }
    Ok(stems)
}
