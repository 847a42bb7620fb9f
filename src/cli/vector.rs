//! A query vector on the command line: written out, from a file, or made from a text by an embeddings endpoint.

use std::path::PathBuf;

use clap::Args;

use super::input::{Embedder, NpyReader};
use super::output::Output;
use crate::error::{Error, Result};

/// Where an embedding comes from.
#[derive(Args)]
pub(super) struct VectorArgs {
    /// The vector as a JSON array, or @FILE with one
    #[arg(long, value_name = "JSON|@FILE")]
    vector: Option<String>,
    /// A `.npy` file to take the vector from (see --row)
    #[arg(long, value_name = "FILE", conflicts_with = "vector")]
    npy: Option<PathBuf>,
    /// Which row of the `.npy` file, counted from 0
    #[arg(long, default_value_t = 0, requires = "npy")]
    row: u64,
    #[command(flatten)]
    embed: EmbedArgs,
}

/// An OpenAI-compatible embeddings endpoint. Its key comes from STRONGROOM_EMBED_API_KEY or OPENAI_API_KEY.
#[derive(Args)]
pub(super) struct EmbedArgs {
    /// The endpoint, as in http://localhost:8080/v1/embeddings
    #[arg(long, env = "STRONGROOM_EMBED_URL", value_name = "URL", requires = "embed_model")]
    embed_url: Option<String>,
    /// The model to ask for
    #[arg(long, env = "STRONGROOM_EMBED_MODEL", value_name = "MODEL")]
    embed_model: Option<String>,
}

impl EmbedArgs {
    /// The endpoint, if one was named.
    pub(super) fn embedder(&self, output: &Output) -> Result<Option<Embedder>> {
        let Some(url) = &self.embed_url else { return Ok(None) };
        let embedder = Embedder::from_env(url, self.embed_model.as_deref().unwrap_or_default())?;
        if embedder.sends_in_clear() {
            output.remark("warning: texts go to the embeddings endpoint unencrypted: use https");
        }
        Ok(Some(embedder))
    }
}

impl VectorArgs {
    /// Whether a vector was written out or named.
    pub(super) fn is_given(&self) -> bool {
        self.vector.is_some() || self.npy.is_some()
    }

    /// The vector that was given, or the embedding of `text`; `None` when there is neither a vector nor an endpoint.
    pub(super) async fn resolve(self, text: Option<&str>, output: &Output) -> Result<Option<Vec<f32>>> {
        if let Some(vector) = &self.vector {
            let json = match vector.strip_prefix('@') {
                Some(file) => std::fs::read_to_string(file).map_err(|e| {
                    let e = Error::from(e);
                    Error::new(e.kind(), format!("`{}` cannot be read: {e}", crate::id::shown(file)))
                        .with_remedy("give a file with a JSON array of numbers")
                })?,
                None => vector.clone(),
            };
            let vector = serde_json::from_str(&json).map_err(|e| {
                Error::invalid("the vector is not a JSON array of numbers")
                    .with_source(e)
                    .with_remedy("write it as in [0.1, -0.2, 0.3]")
            })?;
            return Ok(Some(vector));
        }
        if let Some(npy) = &self.npy {
            return nth_row(NpyReader::open(npy)?, self.row).map(Some);
        }
        let (Some(text), Some(mut embedder)) = (text.map(str::to_owned), self.embed.embedder(output)?) else {
            return Ok(None);
        };
        let embed = move || embedder.embed(&[&text])?.pop().ok_or_else(|| Error::internal("no embedding came back"))?;
        let embedded = tokio::task::spawn_blocking(embed).await;
        embedded.map_err(|e| Error::internal("embedding failed").with_source(e))?.map(Some)
    }
}

fn nth_row(mut npy: NpyReader, row: u64) -> Result<Vec<f32>> {
    let rows = npy.rows();
    if row >= rows {
        return Err(Error::invalid(format!("`{}` has no row {row}", npy.name()))
            .with_remedy(format!("it has {rows}, counted from 0")));
    }
    for _ in 0..row {
        npy.next_row()?;
    }
    npy.next_row()?.ok_or_else(|| Error::invalid("the file ended early"))?
}
