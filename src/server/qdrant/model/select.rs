//! Which parts of a point are wanted.

use serde::Deserialize;

/// Which of a point's vectors are wanted.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum WithVector {
    All(bool),
    Named(Vec<String>),
}

/// Which of its payload is wanted.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum WithPayload {
    All(bool),
    Fields(Vec<String>),
    Include(Include),
    Exclude(Exclude),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Include {
    pub(in super::super) include: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Exclude {
    pub(in super::super) exclude: Vec<String>,
}

/// What of a point is wanted.
#[derive(Clone)]
pub(in super::super) struct Wanted {
    pub(in super::super) payload: WithPayload,
    pub(in super::super) vector: WithVector,
}

impl Wanted {
    /// What was asked for, or whether the payload is wanted when nothing was.
    pub(in super::super) fn new(
        payload: Option<WithPayload>,
        vector: Option<WithVector>,
        payload_unless_asked: bool,
    ) -> Self {
        Self {
            payload: payload.unwrap_or(WithPayload::All(payload_unless_asked)),
            vector: vector.unwrap_or(WithVector::All(false)),
        }
    }

    pub(in super::super) fn everything() -> Self {
        Self { payload: WithPayload::All(true), vector: WithVector::All(true) }
    }

    pub(in super::super) fn ids_alone() -> Self {
        Self { payload: WithPayload::All(false), vector: WithVector::All(false) }
    }

    /// Whether nothing but the id is.
    pub(in super::super) fn is_id_alone(&self) -> bool {
        matches!(self.payload, WithPayload::All(false)) && matches!(self.vector, WithVector::All(false))
    }
}
