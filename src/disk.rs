//! Directories held by one process at a time and readable by their owner only; a data directory is never filled to the
//! last byte either.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::error::{Error, ErrorKind, Result};

pub(crate) const LOCK_FILE: &str = "strongroom.lock";
/// What the names of files begin with that are not whole.
pub(crate) const UNFINISHED: &str = ".unfinished-";
/// How long one look at the free space is believed, in milliseconds.
const ROOM_FOR_MS: u64 = 200;

/// How often, and after what time, is looked who holds the lock.
const HOLDER_LOOKS: u32 = 5;
const HOLDER_WAIT: Duration = Duration::from_millis(20);

/// A directory that this process holds.
pub struct DirLock {
    _lock: File,
}

impl DirLock {
    /// Creates `path` if need be and locks it. A directory held by another process is [`Busy`](ErrorKind::Busy).
    pub fn hold(path: &Path, what: &str) -> Result<Self> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        let mut lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = holder(&mut lock).map_or_else(|| "another process".into(), |pid| format!("process {pid}"));
            return Err(Error::new(ErrorKind::Busy, format!("the {what} is in use by {holder}"))
                .with_remedy(format!("stop it or wait for it to end; two processes cannot share a {what}")));
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}

/// A data directory that this process holds.
pub struct DataDir {
    path: PathBuf,
    min_free_bytes: u64,
    room: Room,
    _lock: DirLock,
}

/// The room on a disk, looked at now and then.
pub struct Room {
    path: PathBuf,
    min_free_bytes: u64,
    since: Instant,
    /// Milliseconds after `since` until which there is known to be room.
    room_until: AtomicU64,
}

impl Room {
    /// The disk of `path`, of which `min_free_bytes` are to stay free.
    pub fn new(path: &Path, min_free_bytes: u64) -> Self {
        Self { path: path.to_owned(), min_free_bytes, since: Instant::now(), room_until: AtomicU64::new(0) }
    }

    /// The bytes that are free, when they are fewer than have to stay free after `extra` more are written.
    pub fn lacking(&self, extra: u64) -> Result<Option<u64>> {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if extra == 0 && now < self.room_until.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let free = free_bytes(&self.path)?;
        if free < self.min_free_bytes.saturating_add(extra) {
            return Ok(Some(free));
        }
        self.room_until.store(now + ROOM_FOR_MS, Ordering::Relaxed);
        Ok(None)
    }
}

impl DataDir {
    /// Creates `path` if need be and locks it. A directory held by another process is [`Busy`](ErrorKind::Busy).
    pub fn hold(path: &Path, min_free_bytes: u64) -> Result<Self> {
        let lock = DirLock::hold(path, "data directory")?;
        Ok(Self { path: path.to_owned(), min_free_bytes, room: Room::new(path, min_free_bytes), _lock: lock })
    }

    /// A directory below it, created if need be.
    pub fn subdir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Refuses with [`StorageFull`](ErrorKind::StorageFull) when less than the configured reserve is free.
    ///
    /// The engine maps its files into memory, where a full disk ends the process: so writing stops before that.
    /// `extra` is what the work ahead is going to take, in bytes.
    pub fn ensure_room(&self, extra: u64) -> Result<()> {
        let Some(free) = self.room.lacking(extra)? else { return Ok(()) };
        Err(Error::new(
            ErrorKind::StorageFull,
            format!("only {} MiB are free on the disk of the data directory", free >> 20),
        )
        .with_remedy(format!(
            "free some space; writing stops below {} MiB (`min_free_mib`), reading and deleting go on",
            self.min_free_bytes >> 20
        )))
    }
}

/// The bytes that are free on the disk of `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let stat = statvfs(path).map_err(std::io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes a directory for its owner alone.
pub fn make_private_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o700))?)
}

/// Writes `bytes` to `path`, for its owner alone, so that a crash leaves either the old file or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_all(&[(path, bytes)])
}

/// The same for several files, one right after the other, in this order.
pub fn replace_all(files: &[(&Path, &[u8])]) -> Result<()> {
    let unfinished: Vec<_> = files.iter().map(|(path, bytes)| unfinished(path, bytes)).collect::<Result<_>>()?;
    for ((path, _), (_, file)) in files.iter().zip(unfinished) {
        file.persist(path).map_err(|e| Error::from(e.error))?;
    }
    let dirs: BTreeSet<_> = files.iter().filter_map(|(path, _)| path.parent()).collect();
    dirs.into_iter().try_for_each(|dir| Ok(File::open(dir)?.sync_all()?))
}

/// As [`replace`] where there is no file yet.
///
/// # Errors
///
/// [`Conflict`](ErrorKind::Conflict) when there is one: it stays as it is.
pub fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let (dir, file) = unfinished(path, bytes)?;
    file.persist_noclobber(path).map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Conflict, format!("`{}` is there", path.display())),
        _ => Error::from(e.error),
    })?;
    Ok(File::open(dir)?.sync_all()?)
}

/// `bytes` on disk, beside `path`: gone again unless it is given that name.
pub(crate) fn unfinished<'a>(path: &'a Path, bytes: &[u8]) -> Result<(&'a Path, tempfile::NamedTempFile)> {
    let dir = path.parent().ok_or_else(|| Error::internal("a file without a directory"))?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok((dir, file))
}

/// Who holds the lock, as it wrote into it. One that has only just got it may not have written yet.
fn holder(lock: &mut File) -> Option<u32> {
    for _ in 0..HOLDER_LOOKS {
        let mut text = String::new();
        lock.rewind().ok()?;
        lock.read_to_string(&mut text).ok()?;
        if let Ok(pid) = text.trim().parse() {
            return Some(pid);
        }
        std::thread::sleep(HOLDER_WAIT);
    }
    None
}
