//! Declaring the fields that an engine filters by.

use std::collections::BTreeMap;

use crate::audit::{CollectionChange, What};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::JsonPath;
use crate::id::Name;
use crate::vectors::blind::FieldIndexSpec;

use super::{Collection, blocking};

impl Collection {
    /// The declared fields by path, as they are now.
    pub fn indexes(&self) -> BTreeMap<String, FieldIndexSpec> {
        self.inner.indexes()
    }

    /// Declares `field`, so that the engine can filter by it, and makes the tokens of all chunks that are there, of which
    /// it returns how many. Others read and write meanwhile; filters may ask for the field once this returns. What was
    /// interrupted is begun again by the same call. In `sealed` mode there are no tokens to make.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when the field is declared in another way.
    pub async fn create_index(&self, field: &str, index: FieldIndexSpec) -> Result<u64> {
        let field = field.parse::<JsonPath>()?.to_string();
        let own = self.clone();
        blocking(move || {
            let _alone = own.inner.alone_with_indexes();
            let ready = FieldIndexSpec { building: false, dropping: false, ..index };
            let making = FieldIndexSpec { building: own.inner.has_tokens(), ..ready };
            // What was being dropped is not declared any more.
            match own.inner.indexes().get(&field).filter(|there| !there.dropping) {
                Some(there) if *there == ready => return Ok(0),
                Some(there) if FieldIndexSpec { building: false, ..*there } != ready => {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("field `{field}` is declared as `{}`", there.kind),
                    )
                    .with_remedy("drop that index first with `strongroom collection index drop`"));
                }
                Some(_) => {}
                None => own.declare(&field, Some(making))?,
            }
            if !own.inner.has_tokens() {
                return Ok(0);
            }
            if !making.building {
                // The mode was changed meanwhile.
                own.declare(&field, Some(FieldIndexSpec { building: true, ..index }))?;
            }
            let made = own.inner.make_tokens(|_| {})?;
            own.tenant.catalog.declare(&own.inner_name()?, &field, Some(ready))?;
            Ok(made)
        })
        .await
    }

    /// Declares `field` no more, and removes its tokens. Returns whether it was declared. What was interrupted is begun
    /// again by the same call.
    pub async fn drop_index(&self, field: &str) -> Result<bool> {
        let field = field.parse::<JsonPath>()?.to_string();
        let own = self.clone();
        blocking(move || {
            let _alone = own.inner.alone_with_indexes();
            let Some(there) = own.inner.indexes().get(&field).copied() else { return Ok(false) };
            if !own.inner.has_tokens() {
                own.declare(&field, None)?;
                return Ok(true);
            }
            own.declare(&field, Some(FieldIndexSpec { dropping: true, ..there }))?;
            own.inner.make_tokens(|_| {})?;
            own.tenant.catalog.declare(&own.inner_name()?, &field, None)?;
            Ok(true)
        })
        .await
    }

    /// Describes the collection anew, and writes that down.
    fn declare(&self, field: &str, index: Option<FieldIndexSpec>) -> Result<()> {
        let change = || What::CollectionChanged { change: CollectionChange::Indexed, place: self.place(), mode: None };
        let name = self.inner_name()?;
        self.desk.change(change(), || self.tenant.catalog.declare(&name, field, index), |_| change())
    }

    fn inner_name(&self) -> Result<Name> {
        self.inner.name().parse()
    }
}
