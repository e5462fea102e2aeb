//! JSON bodies, read strictly: an unknown member, a wrong type and a missing member are refused with a pointer to their place.

use axum::body::Bytes;
use kvfleet_api::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use crate::problem::{Failure, trace_id};

/// The longest body of an admin call, bytes: a tenant's configuration is under 2 KiB.
pub(super) const LIMIT: usize = 64 << 10;

/// The body as a `T`.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let refuse = |message: String, pointer: String| {
        let mut problem = Problem::new(
            Code::InvalidBody,
            format!("the body is not what this call takes: {message}"),
            trace_id(),
        );
        problem.pointer = Some(pointer);
        Failure::from(problem)
    };
    let value =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refuse(error.inner().to_string(), pointer(error.path())))?;
    deserializer.end().map_err(|error| refuse(error.to_string(), String::new()))?;
    Ok(value)
}

/// A JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let segments = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvfleet_api::tenant::{TenantConfig, TenantLimits};

    fn config() -> serde_json::Value {
        let limits = TenantLimits::default();
        let config = TenantConfig {
            uid: "u".into(),
            owner: "apps/acme".into(),
            generation: 1,
            cluster_generation: 1,
            credential_generation: 1,
            limits,
        };
        serde_json::to_value(config).expect("serialises")
    }

    fn refused(value: &serde_json::Value) -> (String, String) {
        let body = Bytes::from(value.to_string());
        let Failure(problem) = parse::<TenantConfig>(&body).expect_err("it is not acceptable");
        (problem.pointer.unwrap_or_default(), problem.detail)
    }

    /// covers row 44
    #[test]
    fn the_place_of_a_bad_member_is_named() {
        parse::<TenantConfig>(&Bytes::from(config().to_string())).expect("the whole configuration");

        let mut value = config();
        value["limits"]["quotaStorage"] = "1Gi".into();
        assert_eq!(refused(&value).0, "/limits/quotaStorage");

        let mut value = config();
        value["limits"]["quota"] = 1.into();
        let (pointer, detail) = refused(&value);
        assert_eq!(pointer, "/limits/quota");
        assert!(detail.contains("unknown field `quota`"), "{detail}");

        let mut value = config();
        value.as_object_mut().expect("an object").remove("uid");
        let (_, detail) = refused(&value);
        assert!(detail.contains("missing field `uid`"), "{detail}");
    }

    #[test]
    fn nothing_may_follow_the_body() {
        let body = Bytes::from(format!("{}x", config()));
        assert!(parse::<TenantConfig>(&body).is_err());
    }
}
