//! A log as files: all of it in the tlog-tiles layout, or a tenant's entries with their proofs.

use std::fs;
use std::io::BufWriter;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::log::{CHECKPOINT_FILE, KEY_FILE, Reader};
use super::path::{self, TILE_WIDTH, entries_path, tile_path};
use super::tree::Nodes as _;
use crate::crypto::default_provider;
use crate::error::{Error, ErrorKind, Result};

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// How many entries the checkpoint is of.
    pub size: u64,
    /// How many of them were written.
    pub entries: u64,
    /// How many of them were pruned: of them only hashes are there.
    pub pruned: u64,
}

/// Exports what the newest checkpoint is of into the directory `to`, which must not have anything in it. `progress` hears
/// how many entries are done.
///
/// # Errors
///
/// [`Conflict`](ErrorKind::Conflict) when there is something in `to`, [`NotFound`](ErrorKind::NotFound) when there is no
/// checkpoint yet.
pub fn export(log: &Reader, to: &Path, mut progress: impl FnMut(u64)) -> Result<Exported> {
    let signed = log.checkpoint()?;
    let (size, pruned) = (signed.checkpoint.size, log.pruned()?);
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::new(ErrorKind::Conflict, format!("there is something in `{}` already", to.display()))
            .with_remedy("name a directory that is not there yet: an export never replaces another"));
    }
    fs::create_dir_all(to)?;
    for level in 0_u8.. {
        let hashes = path::hashes_at(level, size);
        if hashes == 0 {
            break;
        }
        for number in 0..hashes.div_ceil(TILE_WIDTH) {
            let width = TILE_WIDTH.min(hashes - number * TILE_WIDTH);
            let mut tile = log.tile(level, number)?;
            tile.truncate(width as usize);
            write(to, &tile_path(level, number, width), tile.as_flattened())?;
        }
    }
    for number in pruned / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
        let (from, end) = (number * TILE_WIDTH, size.min((number + 1) * TILE_WIDTH));
        write(to, &entries_path(number, end - from), &bundle(log, from, end)?)?;
        progress(end);
    }
    write(to, KEY_FILE, format!("{}\n", log.key().text(default_provider())).as_bytes())?;
    // The checkpoint last: where it is, the export is whole.
    write(to, CHECKPOINT_FILE, signed.to_string().as_bytes())?;
    Ok(Exported { size, entries: size.saturating_sub(pruned), pruned })
}

/// The first line of a tenant's view.
#[derive(Serialize)]
struct Head<'a> {
    format: &'static str,
    tenant: &'a str,
    checkpoint: &'a str,
}

/// The other lines.
#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    entry: &'a str,
    proof: Vec<String>,
}

/// Whose an entry is.
#[derive(Deserialize)]
struct Owner<'a> {
    #[serde(borrow, default)]
    tenant: Option<std::borrow::Cow<'a, str>>,
}

/// Whether an entry is of the tenant with this pseudonym.
pub fn is_of(entry: &[u8], tenant: &str) -> bool {
    serde_json::from_slice::<Owner<'_>>(entry).is_ok_and(|owner| owner.tenant.as_deref() == Some(tenant))
}

/// Exports the published entries of the tenant with the pseudonym `tenant` into the new file `to`, each with its proof.
///
/// # Errors
///
/// [`Conflict`](ErrorKind::Conflict) when the file is there already.
pub fn export_view(log: &Reader, tenant: &str, to: &Path, mut progress: impl FnMut(u64)) -> Result<Exported> {
    let signed = log.checkpoint()?;
    let size = signed.checkpoint.size;
    let mut out = BufWriter::new(fs::File::create_new(to).map_err(|e| {
        match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::Conflict, format!("`{}` is there already", to.display()))
                    .with_remedy("name a file that is not there yet: an export never replaces another")
            }
            _ => Error::from(e),
        }
    })?);
    let head = Head { format: "strongroom audit view v1", tenant, checkpoint: &signed.to_string() };
    line(&mut out, &head)?;
    let mut entries = 0;
    for row in log.entries(0, size)? {
        let (index, entry) = row?;
        if is_of(&entry, tenant) {
            let proof = log.inclusion(index, size)?.proof.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect();
            let entry = std::str::from_utf8(&entry).map_err(|_| Error::integrity("an entry of the audit log"))?;
            line(&mut out, &Line { index, entry, proof })?;
            entries += 1;
        }
        progress(index + 1);
    }
    out.into_inner().map_err(|e| Error::from(e.into_error()))?.sync_all()?;
    Ok(Exported { size, entries, pruned: log.pruned()? })
}

fn line(out: &mut impl std::io::Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Length (u16, big-endian) and entry, again and again.
fn bundle(log: &Reader, from: u64, to: u64) -> Result<Vec<u8>> {
    let bad = || Error::integrity("the entries of the audit log");
    let (mut bytes, mut next) = (Vec::new(), from);
    for row in log.entries(from, to)? {
        let (index, entry) = row?;
        let len = u16::try_from(entry.len()).map_err(|_| bad())?;
        if index != next {
            return Err(bad());
        }
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&entry);
        next += 1;
    }
    if next == to { Ok(bytes) } else { Err(bad()) }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, bytes)?)
}
