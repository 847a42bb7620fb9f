//! A tenant's view: its own entries, each with a proof, in one file of JSON lines.
//!
//! It shows that every entry in it is in the log. That none is left out it cannot show: see `manual::audit`.

use std::io::{BufRead, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::finding::{Attack, Failure, Finding};
use super::hash;
use super::note::{PublicKey, Signed};
use super::proofs::inclusion;
use crate::error::{Error, Result};
use crate::limits;

/// What stands in a view's first line.
const FORMAT: &str = "strongroom audit view v1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    tenant: String,
    checkpoint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    entry: String,
    proof: Vec<String>,
}

/// Whose an entry is.
#[derive(Deserialize)]
struct Owner {
    tenant: Option<String>,
}

/// What a sound view is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewReport {
    /// The log's name.
    pub origin: String,
    /// The tenant's pseudonym.
    pub tenant: String,
    /// How many entries the log has.
    pub size: u64,
    /// How many of them are the tenant's, and in the view.
    pub entries: u64,
}

/// Verifies a view: that each of its entries is the tenant's, and in the log as `key` signed it. `tenant` is the pseudonym
/// that the view must be of.
///
/// # Errors
///
/// [`Failure::Found`] with what is wrong with it, [`Failure::Unread`] when it cannot be read.
pub fn view(from: impl BufRead, key: &PublicKey, tenant: Option<&str>) -> Result<ViewReport, Failure> {
    let mut lines = Lines { from, number: 0 };
    let head: Head = lines.next()?.ok_or_else(|| malformed(1))?;
    if head.format != FORMAT {
        return Err(malformed(1).into());
    }
    let signed = Signed::verify(&head.checkpoint, key)?;
    if let Some(tenant) = tenant
        && tenant != head.tenant
    {
        let what = format!("the view is of the tenant `{}`, not of `{tenant}`", crate::id::shown(&head.tenant));
        return Err(Finding::new(Attack::ForeignEntry, what).into());
    }
    let mut report =
        ViewReport { origin: signed.origin().to_owned(), tenant: head.tenant, size: signed.size(), entries: 0 };
    let mut next = 0;
    while let Some(line) = lines.next::<Line>()? {
        let index = line.index;
        if index < next {
            let what = format!("entry {index} stands behind entry {}", next - 1);
            return Err(Finding::new(Attack::Reordered, what).into());
        }
        next = index.saturating_add(1);
        let proof: Option<Vec<_>> = line.proof.iter().map(|part| STANDARD.decode(part).ok()).collect();
        let proof = proof.ok_or_else(|| malformed(lines.number))?;
        let leaf = hash::entry(line.entry.as_bytes());
        inclusion(index, signed.size(), signed.root(), &leaf, &proof).map_err(|_| {
            Finding::new(Attack::ChangedEntry, format!("entry {index} is not what was logged: its proof does not fit"))
        })?;
        let owner: Owner = serde_json::from_str(&line.entry).map_err(|_| malformed(lines.number))?;
        if owner.tenant.as_ref() != Some(&report.tenant) {
            let what = format!("entry {index} belongs to another tenant, or to none");
            return Err(Finding::new(Attack::ForeignEntry, what).into());
        }
        report.entries += 1;
    }
    Ok(report)
}

struct Lines<R> {
    from: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let mut line = Vec::new();
        let most = limits::AUDIT_VIEW_LINE_BYTES as u64;
        (&mut self.from).take(most).read_until(b'\n', &mut line).map_err(Error::from)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(serde_json::from_slice(&line).map_err(|_| malformed(self.number))?))
    }
}

fn malformed(line: u64) -> Finding {
    Finding::new(Attack::Malformed, format!("line {line} of the view is not of the form that it must have"))
}
