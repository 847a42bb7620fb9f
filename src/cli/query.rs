//! What `search` asks besides the nearest to a vector: words, sparse vectors, and both kinds together.

use clap::Args;

use super::output::Output;
use super::vector::VectorArgs;
use crate::error::{Error, Result};
use crate::vectors::{Query, QueryRequest, SparseVector};

/// Least number of candidates of each list that `--hybrid` fuses.
const CANDIDATES: usize = 50;

#[derive(Args)]
pub(super) struct QueryArgs {
    /// Search for the words of this text in the chunks' texts (BM25)
    #[arg(long = "text", value_name = "TEXT", id = "words", conflicts_with = "sparse")]
    words: Option<String>,
    /// Search by a vector and by words, and fuse what both find by rank
    #[arg(long, conflicts_with = "sparse")]
    hybrid: bool,
    /// Search by a sparse vector, as in {"indices": [3, 17], "values": [0.5, 0.25]}
    #[arg(long, value_name = "JSON")]
    sparse: Option<String>,
}

impl QueryArgs {
    /// Whether none of these was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_none() && !self.hybrid && self.sparse.is_none()
    }

    /// The query for `limit` results. `text` is what was given to be made into a vector.
    pub(super) async fn resolve(
        self,
        vector: VectorArgs,
        text: Option<&str>,
        limit: usize,
        using: Option<String>,
        output: &Output,
    ) -> Result<QueryRequest> {
        let given = vector.is_given() || text.is_some();
        let words = self.words.as_deref();
        if !self.hybrid && given {
            return Err(Error::invalid("a vector is given, or a text for one, besides what to search for")
                .with_remedy("add `--hybrid` to search by both `--text` and a vector, or leave one out"));
        }
        if let Some(json) = &self.sparse {
            let vector: SparseVector = serde_json::from_str(json).map_err(|e| {
                Error::invalid("the sparse vector cannot be used")
                    .with_source(e)
                    .with_remedy("write it as in {\"indices\": [3, 17], \"values\": [0.5, 0.25]}, each index once")
            })?;
            return Ok(QueryRequest { using, ..QueryRequest::new(vector, limit) });
        }
        if !self.hybrid {
            return Ok(QueryRequest::new(Query::Text(words.unwrap_or_default().to_owned()), limit));
        }
        let words = words.or(text).ok_or_else(|| {
            Error::invalid("there are no words to search for").with_remedy("give a text, or `--text`")
        })?;
        let vector = vector.resolve(text.or(Some(words)), output).await?.ok_or_else(|| {
            Error::invalid("there is no vector to search by").with_remedy(
                "give `--vector`, `--npy` with `--row`, or `--embed-url` and `--embed-model` to make one of the text",
            )
        })?;
        let mut request = QueryRequest::hybrid(vector, words, limit.max(CANDIDATES), limit);
        if let Some(nearest) = request.prefetch.first_mut() {
            nearest.using = using;
        }
        Ok(request)
    }
}
