//! `collection index create|list|drop`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::Output;
use super::{Global, TenantArg};
use crate::error::{Error, Result};
use crate::store::Collection;
use crate::vectors::Mode;
use crate::vectors::blind::{FieldIndexSpec, IndexKind};

#[derive(Subcommand)]
pub(super) enum IndexCommand {
    /// Declare a field, so that the engine can filter by it
    Create(CreateArgs),
    /// List the declared fields of a collection
    List {
        #[command(flatten)]
        tenant: TenantArg,
        /// The collection
        collection: String,
    },
    /// Declare a field no more
    Drop {
        #[command(flatten)]
        tenant: TenantArg,
        /// The collection
        collection: String,
        /// The field
        field: String,
    },
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    /// The field: keys with dots between them, `[]` after an array of objects
    field: String,
    /// What values it has: keyword, integer, float, bool, datetime or uuid
    #[arg(long = "type", value_name = "TYPE")]
    kind: IndexKind,
    /// Of a keyword field: let filters ask for texts that start so
    #[arg(long)]
    prefix: bool,
    /// Of an integer field: do not let filters ask for ranges
    #[arg(long)]
    no_range: bool,
}

pub(super) async fn run(global: &Global, command: IndexCommand, output: &Output) -> Result<()> {
    match command {
        IndexCommand::Create(args) => {
            let mut index = FieldIndexSpec::new(args.kind);
            (index.prefix, index.range) = (args.prefix, !args.no_range);
            let (made, mode) = global
                .with_tenant(&args.tenant, async |tenant| {
                    let collection = tenant.collection(&args.collection)?;
                    let made = collection.create_index(&args.field, index).await?;
                    Ok((made, collection.mode()))
                })
                .await?;
            if mode != Mode::Sealed {
                output.remark(
                    "note: the engine sees which chunks have equal values in a declared field, and which numbers and \
                     dates are close",
                );
            }
            let answer = json!({ "field": args.field, "index": index, "chunks": made });
            output.answer(&answer, |_| format!("declared {}, tokens of {made} chunks were made", args.field))
        }
        IndexCommand::List { tenant, collection } => {
            let listed = global.with_tenant(&tenant, async |tenant| Ok(list(&tenant.collection(&collection)?))).await?;
            output.answer(&listed, |listed| listed.as_object().into_iter().flatten().map(describe).collect())
        }
        IndexCommand::Drop { tenant, collection, field } => {
            let dropped = global
                .with_tenant(&tenant, async |tenant| tenant.collection(&collection)?.drop_index(&field).await)
                .await?;
            if !dropped {
                return Err(Error::not_found(format!("field `{}` is not declared", crate::id::shown(&field)))
                    .with_remedy("`strongroom collection index list` shows which fields are"));
            }
            output.answer(&json!({ "dropped": field }), |_| format!("dropped {field}"))
        }
    }
}

/// The declared fields of a collection.
pub(super) fn list(collection: &Collection) -> Value {
    serde_json::to_value(collection.indexes()).unwrap_or_default()
}

fn describe((field, index): (&String, &Value)) -> String {
    let flag = |name: &str, text| if index[name] == true { text } else { "" };
    let range = if index["range"] == false { ", no ranges" } else { "" };
    let (prefix, building) = (flag("prefix", ", prefixes"), flag("building", ", being made"));
    let dropping = flag("dropping", ", being dropped");
    format!("{field}: {}{prefix}{range}{building}{dropping}\n", index["type"].as_str().unwrap_or_default())
}
