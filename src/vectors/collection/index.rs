//! Declared fields: what they are, and the tokens of points that were there before.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::MutexGuard;
use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::keys::Live;
use crate::kv::Batch;
use crate::rotation::Mover as _;
use crate::vectors::Mode;
use crate::vectors::blind::{self, Declared, FieldIndexSpec};
use crate::vectors::engine::TokenFilter;

use super::Collection;

/// Points whose tokens are made at a time.
const REWRITTEN: usize = 256;

/// How often the same points are looked at again.
const TRIES: usize = 8;

impl Collection {
    /// The declared fields by path, as they are now.
    pub fn indexes(&self) -> BTreeMap<String, FieldIndexSpec> {
        self.indexes.read().clone()
    }

    /// Whether points carry tokens: in modes that the engine searches.
    pub fn has_tokens(&self) -> bool {
        self.mode() != Mode::Sealed
    }

    /// Waits until nobody else declares fields of it or makes their tokens, and holds others off: who makes tokens by one
    /// declaration must not be done while another replaces it.
    pub(crate) fn alone_with_indexes(&self) -> MutexGuard<'_, ()> {
        self.indexing.lock()
    }

    /// Takes over which fields are declared: what is sealed from now on has tokens by that. What is being sealed may not:
    /// see [`await_sealing`](Self::await_sealing).
    pub(in crate::vectors) fn set_declared(&self, indexes: &BTreeMap<String, FieldIndexSpec>) -> Result<()> {
        let declared = Arc::new(Declared::new(indexes)?);
        self.sealer.reshape(|shaping| shaping.declared = declared);
        *self.indexes.write() = indexes.clone();
        Ok(())
    }

    /// Returns once what was being sealed, by the fields that were declared then, is registered.
    pub(in crate::vectors) fn await_sealing(&self) {
        // Whoever seals has the head until then.
        drop(self.head.lock());
    }

    /// Makes the tokens of every point anew, while others read and write. Returns of how many; `progress` is told now and
    /// then how many there are by now. One that does not open is left as it is.
    pub(crate) fn make_tokens(&self, mut progress: impl FnMut(u64)) -> Result<u64> {
        let (mut made, mut tries) = (0, 0);
        let mut after: Option<Vec<u8>> = None;
        // What was sealed by another declaration is registered; from here on the engine has it too.
        drop(self.settled());
        loop {
            let to = self.context.keyring.active();
            let mover = self.token_maker(to);
            let done = loop {
                // The second time nobody writes meanwhile: the engine then has what is registered.
                let settled = (tries > 0).then(|| self.settled());
                let Some(load) = mover.read(after.as_deref(), REWRITTEN)? else { break true };
                drop(settled);
                let (rows, through) = load.into_parts();
                let sealed =
                    rows.into_par_iter().with_min_len(16).map(|row| mover.seal(row)).collect::<Result<Vec<_>>>()?;
                match mover.write(sealed, Batch::default()) {
                    Ok(tally) if tally.again > 0 && tries == TRIES => {
                        return Err(Error::new(ErrorKind::Unavailable, "the engine changes its mind about points")
                            .with_remedy("try again, and run `strongroom verify` if that does not help"));
                    }
                    // None may be left without its tokens.
                    Ok(tally) if tally.again > 0 => {
                        tries += 1;
                        continue;
                    }
                    Ok(tally) => (made, tries) = (made + tally.records, 0),
                    // The epoch that seals has changed meanwhile: the same again, in that.
                    Err(_) if self.context.keyring.active() != to => break false,
                    Err(e) => return Err(e),
                }
                after = Some(through);
                progress(made);
            };
            if done {
                return Ok(made);
            }
        }
    }

    /// What the engine is asked for `filter`, of points in these epochs.
    pub(super) fn token_filter(&self, live: &Live, filter: &Filter) -> Result<TokenFilter> {
        let keys: Vec<_> = live
            .oldest_first()
            .map(|epoch| self.context.keyring.blinding(epoch, self.id().as_bytes()))
            .collect::<Result<_>>()?;
        let names = self.spec().vectors.keys().chain(self.spec().sparse.keys());
        let vectors: Vec<&str> = names.map(String::as_str).collect();
        let shaping = self.sealer.shaping();
        blind::token_filter(&shaping.declared, &keys, &vectors, filter)
    }
}
