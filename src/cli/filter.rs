//! Filters on the command line, and `chunks`: what passes one.

use clap::Args;
use serde_json::json;

use super::output::{Output, one_line};
use super::{Global, TenantArg};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::RecordId;
use crate::limits;

/// Which chunks.
#[derive(Args)]
pub(super) struct FilterArg {
    /// Only chunks that pass this filter: JSON as Qdrant's REST interface has it, or @FILE with it
    #[arg(long, value_name = "JSON|@FILE")]
    filter: Option<String>,
}

impl FilterArg {
    /// The filter, if one was given.
    pub(super) fn read(&self) -> Result<Option<Filter>> {
        let Some(given) = &self.filter else { return Ok(None) };
        let filter = match given.strip_prefix('@') {
            Some(file) => Filter::from_json(&super::file::read(file.as_ref(), limits::FILTER_BYTES as u64 + 1)?),
            None => Filter::from_json(given.as_bytes()),
        };
        filter.map(Some).map_err(|e| match e.remedy() {
            Some(_) => e,
            None => e.with_remedy(r#"write it as in {"must": [{"key": "city", "match": {"value": "Berlin"}}]}"#),
        })
    }
}

#[derive(Args)]
pub(super) struct ChunksArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    #[command(flatten)]
    filter: FilterArg,
    /// Go on after the chunk with this id
    #[arg(long, value_name = "ID")]
    after: Option<RecordId>,
    /// How many at most
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: usize,
    /// Only say how many there are
    #[arg(long, conflicts_with_all = ["after", "limit", "full"])]
    count: bool,
    /// Print whole texts
    #[arg(long)]
    full: bool,
}

pub(super) async fn chunks(global: &Global, args: ChunksArgs, output: &Output) -> Result<()> {
    let filter = args.filter.read()?;
    if args.count {
        let count = global
            .with_tenant(&args.tenant, async |tenant| {
                let collection = tenant.collection(&args.collection)?;
                match filter {
                    Some(filter) => collection.count_filtered(filter).await,
                    None => collection.count().await,
                }
            })
            .await?;
        return output.answer(&json!({ "count": count }), |_| format!("{count}"));
    }
    let (chunks, more) = global
        .with_tenant(&args.tenant, async |tenant| {
            let collection = tenant.collection(&args.collection)?;
            match filter {
                Some(filter) => collection.scroll_filtered(args.after, args.limit, filter).await,
                None => collection.scroll(args.after, args.limit).await,
            }
        })
        .await?;
    output.answer(&chunks, |chunks| {
        let width = if args.full { usize::MAX } else { 120 };
        chunks.iter().map(|chunk| format!("{}  {}\n", chunk.id, one_line(&chunk.text, width))).collect()
    })?;
    if more && let Some(last) = chunks.last() {
        output.remark(&format!("there are more: go on with `--after {}`", last.id));
    }
    Ok(())
}

/// What `delete` is told to delete.
#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    /// Ids: numbers, UUIDs or text
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    ids: Vec<RecordId>,
    #[command(flatten)]
    filter: FilterArg,
}

pub(super) async fn delete(global: &Global, args: DeleteArgs, output: &Output) -> Result<()> {
    let filter = args.filter.read()?;
    if filter.as_ref().is_some_and(Filter::is_empty) {
        return Err(Error::invalid("an empty filter would delete every chunk")
            .with_remedy("drop the collection if that is what you want"));
    }
    let deleted = global
        .with_tenant(&args.tenant, async |tenant| {
            let collection = tenant.collection(&args.collection)?;
            match filter {
                Some(filter) => collection.delete_filtered(filter).await,
                None => collection.delete(args.ids).await,
            }
        })
        .await?;
    output.answer(&json!({ "deleted": deleted }), |_| format!("deleted {deleted}"))
}
