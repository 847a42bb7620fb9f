//! Declared fields: what they are, and the tokens of points that were there before.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::Result;
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

impl Collection {
    /// The declared fields by path, as they are now.
    pub fn indexes(&self) -> BTreeMap<String, FieldIndexSpec> {
        self.indexes.read().clone()
    }

    /// Whether points carry tokens: in modes that the engine searches.
    pub fn has_tokens(&self) -> bool {
        self.mode() != Mode::Sealed
    }

    /// Takes over which fields are declared: what is sealed from now on has tokens by that.
    pub(in crate::vectors) fn set_declared(&self, indexes: &BTreeMap<String, FieldIndexSpec>) -> Result<()> {
        let declared = Arc::new(Declared::new(indexes)?);
        self.sealer.reshape(|shaping| shaping.declared = declared);
        *self.indexes.write() = indexes.clone();
        // Whoever seals by the fields that were declared before has the head until that is registered.
        drop(self.head.lock());
        Ok(())
    }

    /// Makes the tokens of every point anew, while others read and write. Returns of how many; `progress` is told now and
    /// then how many there are by now. One that does not open is left as it is.
    pub(crate) fn make_tokens(&self, mut progress: impl FnMut(u64)) -> Result<u64> {
        let mut made = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let to = self.context.keyring.active();
            let mover = self.token_maker(to);
            let done = loop {
                let Some(load) = mover.read(after.as_deref(), REWRITTEN)? else { break true };
                let (rows, through) = load.into_parts();
                let sealed =
                    rows.into_par_iter().with_min_len(16).map(|row| mover.seal(row)).collect::<Result<Vec<_>>>()?;
                match mover.write(sealed, Batch::default()) {
                    Ok(tally) => made += tally.records,
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
