//! A command in JSON for a person. In: a decoded command. Out: its fields under the names of the REST interface. Absent: a way back; what
//! is printed is not read again.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kvfleet_api::{admin::Settings, tenant::TenantConfig};
use serde::Serialize;

use crate::state::{Bound, Check, Command, Condition, Delete, Kind, Operation, Put, TenantId, Ttl, Write};

/// A command.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Readable {
    Write {
        tenant: u32,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        checks: Vec<ReadableCheck>,
        operations: Vec<ReadableOperation>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        all_or_nothing: bool,
    },
    Sweep {
        rows: u32,
        bytes: u64,
    },
    Reap {
        rows: u32,
        bytes: u64,
    },
    SweepTenant {
        tenant: u32,
        keys: Vec<String>,
        bytes: u64,
    },
    PutTenant {
        name: String,
        config: Box<TenantConfig>,
    },
    ReleaseTenant {
        name: String,
        uid: String,
    },
    DeleteTenant {
        name: String,
        uid: String,
    },
    PutSettings {
        settings: Settings,
    },
    /// Numbers of 64 bits go as text, as in `GET /admin/members`.
    SpendToken {
        token: String,
        member: String,
        expires_at_ms: u64,
    },
}

#[derive(Serialize)]
pub(super) struct ReadableCheck {
    key: String,
    condition: ReadableCondition,
}

/// One operation of a write.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum ReadableOperation {
    Put {
        key: String,
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// Pairs, not an object: the order is part of the command.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        metadata: Vec<(String, String)>,
        ttl: ReadableTtl,
        condition: ReadableCondition,
        value_bytes: usize,
        #[serde(flatten)]
        value: Option<Value>,
    },
    Delete {
        key: String,
        condition: ReadableCondition,
    },
}

#[derive(Serialize)]
pub(super) enum Value {
    #[serde(rename = "value")]
    Text(String),
    #[serde(rename = "valueBase64")]
    Base64(String),
}

impl Value {
    fn of(bytes: &Bytes) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Base64(STANDARD.encode(bytes)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ReadableTtl {
    Default,
    Never,
    Ms(u64),
    UntilMs(u64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ReadableCondition {
    None,
    Present,
    Absent,
    Revision(u64),
}

impl From<Ttl> for ReadableTtl {
    fn from(ttl: Ttl) -> Self {
        match ttl {
            Ttl::Default => ReadableTtl::Default,
            Ttl::Never => ReadableTtl::Never,
            Ttl::For(milliseconds) => ReadableTtl::Ms(milliseconds),
            Ttl::Until(moment) => ReadableTtl::UntilMs(moment),
        }
    }
}

impl From<Condition> for ReadableCondition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::None => ReadableCondition::None,
            Condition::Present => ReadableCondition::Present,
            Condition::Absent => ReadableCondition::Absent,
            Condition::Revision(revision) => ReadableCondition::Revision(revision),
        }
    }
}

impl From<Check> for ReadableCheck {
    fn from(Check { key, condition }: Check) -> Self {
        ReadableCheck {
            key,
            condition: condition.into(),
        }
    }
}

impl ReadableOperation {
    fn of(operation: Operation, values: bool) -> ReadableOperation {
        match operation {
            Operation::Put(Put {
                key,
                value,
                kind,
                content_type,
                metadata,
                ttl,
                condition,
            }) => ReadableOperation::Put {
                key,
                kind: match kind {
                    Kind::String => "string",
                    Kind::Json => "json",
                    Kind::Bytes => "bytes",
                },
                content_type,
                metadata,
                ttl: ttl.into(),
                condition: condition.into(),
                value_bytes: value.len(),
                value: values.then(|| Value::of(&value)),
            },
            Operation::Delete(Delete { key, condition }) => ReadableOperation::Delete {
                key,
                condition: condition.into(),
            },
        }
    }
}

impl Readable {
    /// With the value itself only if `values`: otherwise a log can be shown without showing what tenants keep.
    pub(super) fn of(command: Command, values: bool) -> Readable {
        match command {
            Command::Write(Write {
                tenant: TenantId(tenant),
                checks,
                operations,
                all_or_nothing,
            }) => Readable::Write {
                tenant,
                checks: checks.into_iter().map(ReadableCheck::from).collect(),
                operations: operations
                    .into_iter()
                    .map(|operation| ReadableOperation::of(operation, values))
                    .collect(),
                all_or_nothing,
            },
            Command::Sweep {
                limit: Bound { rows, bytes },
            } => Readable::Sweep { rows, bytes },
            Command::Reap {
                limit: Bound { rows, bytes },
            } => Readable::Reap { rows, bytes },
            Command::SweepTenant {
                tenant: TenantId(tenant),
                keys,
                bytes,
            } => Readable::SweepTenant { tenant, keys, bytes },
            Command::PutTenant { name, config } => Readable::PutTenant {
                name,
                config: Box::new(config),
            },
            Command::ReleaseTenant { name, uid } => Readable::ReleaseTenant { name, uid },
            Command::DeleteTenant { name, uid } => Readable::DeleteTenant { name, uid },
            Command::PutSettings(settings) => Readable::PutSettings { settings },
            Command::SpendToken {
                token,
                member,
                expires_at_ms,
            } => Readable::SpendToken {
                token: token.to_string(),
                member: member.to_string(),
                expires_at_ms,
            },
        }
    }
}
