//! Moving records: reading, sealing and writing overlap, and how far it came is written together with what was moved.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Batch;
use crate::limits;

/// What moves one kind of records.
pub(crate) trait Mover: Sync {
    /// A record as it is stored.
    type Row: Send;
    /// A record as it will be stored.
    type Sealed: Send;

    /// The records after the key `after`, in the order of their keys, `rows` of them at most; `None` after the last.
    fn read(&self, after: Option<&[u8]>, rows: usize) -> Result<Option<Load<Self::Row>>>;

    /// Opens a record and seals it anew. One that does not open is no error: it is counted when it is written.
    fn seal(&self, row: Self::Row) -> Result<Self::Sealed>;

    /// Writes those records that are still as they were read, together with `beside`, all or nothing. What somebody
    /// else has written since is left as it is.
    fn write(&self, load: Vec<Self::Sealed>, beside: Batch) -> Result<Tally>;
}

/// Records that are moved at a time.
pub(crate) struct Load<R> {
    rows: Vec<R>,
    most: usize,
    /// The key of the last one.
    through: Vec<u8>,
    bytes: usize,
}

impl<R> Load<R> {
    /// An empty load for `most` records.
    pub(crate) fn new(most: usize) -> Self {
        Self { rows: Vec::with_capacity(most), most, through: Vec::new(), bytes: 0 }
    }

    /// Adds the record under the key `through`, of about `bytes` bytes.
    pub(crate) fn push(&mut self, row: R, through: Vec<u8>, bytes: usize) {
        self.rows.push(row);
        self.bytes += bytes;
        self.through = through;
    }

    /// Says that there is nothing more to move up to the key `through`.
    pub(crate) fn reach(&mut self, through: Vec<u8>) {
        self.through = through;
    }

    /// Whether more may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.rows.len() < self.most && self.bytes < limits::ROTATION_BYTES
    }

    /// The records, and the key of the last one.
    pub(crate) fn into_parts(self) -> (Vec<R>, Vec<u8>) {
        (self.rows, self.through)
    }

    /// The load, unless it is empty.
    pub(crate) fn if_any(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }
}

/// What became of records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Moved to the new epoch.
    pub(crate) records: u64,
    /// Their sealed bytes.
    pub(crate) bytes: u64,
    /// Written or deleted by somebody else meanwhile, or expired.
    pub(crate) passed: u64,
    /// Those of them that are as they were, and to be looked at again: what they were sealed by has changed, or the engine
    /// had not been given them yet.
    pub(crate) again: u64,
    /// Did not open.
    pub(crate) damaged: u64,
}

impl Tally {
    /// Counts one record that was moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

/// How [`run`] goes about it.
pub(crate) struct Drive<'a> {
    /// The threads that open and seal.
    pub(crate) pool: &'a rayon::ThreadPool,
    /// Has the calling thread give way to others. The one that writes does not: others wait for what it holds.
    pub(crate) give_way: &'a (dyn Fn() + Sync),
    /// The key after which to begin.
    pub(crate) after: Option<Vec<u8>>,
    /// How many records the next load has at most.
    pub(crate) rows: &'a (dyn Fn() -> usize + Sync),
    /// Waits until the next load, of so many records and bytes, may be written.
    pub(crate) before: &'a (dyn Fn(usize, usize) -> Result<()> + Sync),
    /// The row that notes that everything up to a key is done, after a tally.
    pub(crate) note: &'a (dyn Fn(&[u8]) -> Result<Batch> + Sync),
    /// Told what was written.
    pub(crate) done: &'a (dyn Fn(Tally, &[u8]) + Sync),
}

/// Loads between two stages.
const QUEUED: usize = 2;

type Sent<T> = SyncSender<(T, Vec<u8>, usize)>;
type Received<T> = Receiver<(T, Vec<u8>, usize)>;

/// Moves everything that `mover` reads. It ends at the first error, with everything before it written.
pub(crate) fn run<M: Mover>(mover: &M, drive: Drive<'_>) -> Result<()> {
    let (read, rows) = sync_channel(QUEUED);
    let (sealed, ready) = sync_channel(QUEUED);
    let Drive { pool, give_way, after, rows: most, before, note, done } = drive;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            give_way();
            read_all(mover, after, most, &read)
        });
        let sealer = scope.spawn(move || {
            give_way();
            seal_all(mover, pool, &rows, &sealed)
        });
        let written = write_all(mover, ready, before, note, done);
        // A stage that finds nobody to hand on to has ended without an error of its own.
        let sealed = sealer.join().map_err(|_| panicked())?;
        let read = reader.join().map_err(|_| panicked())?;
        written.and(sealed).and(read)
    })
}

fn read_all<M: Mover>(
    mover: &M,
    mut after: Option<Vec<u8>>,
    most: &(dyn Fn() -> usize + Sync),
    to: &Sent<Vec<M::Row>>,
) -> Result<()> {
    while let Some(load) = mover.read(after.as_deref(), most())? {
        after = Some(load.through.clone());
        if to.send((load.rows, load.through, load.bytes)).is_err() {
            break;
        }
    }
    Ok(())
}

fn seal_all<M: Mover>(
    mover: &M,
    pool: &rayon::ThreadPool,
    from: &Received<Vec<M::Row>>,
    to: &Sent<Vec<M::Sealed>>,
) -> Result<()> {
    while let Ok((rows, through, bytes)) = from.recv() {
        let seal = || rows.into_par_iter().with_min_len(16).map(|row| mover.seal(row)).collect::<Result<Vec<_>>>();
        if to.send((pool.install(seal)?, through, bytes)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Takes the receiver, so that the stages before end when this one does.
fn write_all<M: Mover>(
    mover: &M,
    from: Received<Vec<M::Sealed>>,
    before: &(dyn Fn(usize, usize) -> Result<()> + Sync),
    note: &(dyn Fn(&[u8]) -> Result<Batch> + Sync),
    done: &(dyn Fn(Tally, &[u8]) + Sync),
) -> Result<()> {
    for (load, through, bytes) in from {
        before(load.len(), bytes)?;
        let tally = mover.write(load, note(&through)?)?;
        done(tally, &through);
    }
    Ok(())
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "a stage of the rotation ended unexpectedly")
}
