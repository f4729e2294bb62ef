//! Why a verb was not done: the kind, a sentence, what to do.

use crate::record::RecordError;
use interlock_api::{Problem, ProblemKind, Version};
use interlock_host::{HostError, SpecError};

/// A verb that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

impl Refusal {
    pub(crate) fn new(kind: ProblemKind, error: impl ToString) -> Self {
        Self(Problem { format_version: Version, kind, error: error.to_string(), hints: Vec::new(), device: None })
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    pub(crate) fn device(mut self, device: impl Into<String>) -> Self {
        self.0.device = Some(device.into());
        self
    }
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        let kind = match &error {
            HostError::Spec(SpecError::Duplicate(_)) => ProblemKind::Already,
            HostError::Spec(_) | HostError::Setting(_) => ProblemKind::BadRequest,
            HostError::NoSuchController(_) | HostError::NotUnfenced(_) | HostError::NoSuchNamespace { .. } => {
                ProblemKind::NotFound
            }
            HostError::Connect { .. } => ProblemKind::Target,
            HostError::NotFenced { .. } => ProblemKind::Timeout,
            _ => ProblemKind::Internal,
        };
        Self::new(kind, error)
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        Self::new(ProblemKind::Internal, error)
    }
}

/// The one of these words that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.into_iter().map(|other| (strsim::jaro_winkler(word, other), other));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.75).then_some(best.1)
}

/// What serde says of an unknown field names all that are known: the nearest of them.
pub(crate) fn meant(error: &str) -> Option<String> {
    let (_, rest) = error.split_once("unknown field `").or_else(|| error.split_once("unknown variant `"))?;
    let (word, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    nearest(word, known).map(|known| format!("did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_api::{ConnectRequest, SetRequest};

    #[test]
    fn a_misspelt_field_is_named_with_the_one_that_was_meant() {
        let error = serde_json::from_str::<ConnectRequest>(r#"{"traddr":"x","subnqn":"y","ctrl_los_tmo_s":1}"#);
        let error = error.expect_err("unknown").to_string();
        assert_eq!(meant(&error).as_deref(), Some("did you mean `ctrl_loss_tmo_s`?"), "{error}");
        let error =
            serde_json::from_str::<SetRequest>(r#"{"iopolicy":"round-robbin"}"#).expect_err("unknown").to_string();
        assert_eq!(meant(&error).as_deref(), Some("did you mean `round-robin`?"), "{error}");
        let error = serde_json::from_str::<SetRequest>(r#"{"zzz":1}"#).expect_err("unknown").to_string();
        assert_eq!(meant(&error), None, "{error}");
    }
}
