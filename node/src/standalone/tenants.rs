//! The file of `--tenants`: the fields of a Tenant resource, resolved with the defaults of the REST contract.
//!
//! ```yaml
//! tenants:
//! - name: acme
//!   quota: {storage: 1Gi, keys: 1000000}
//!   limits: {maxKeyLength: 512, maxValueSize: 1Mi, maxMetadataSize: 1Ki}
//!   ttl: {default: 24h, max: 720h}
//!   access: ReadWrite
//! ```

use std::path::{Path, PathBuf};

use kvfleet_api::tenant::{Access, TenantConfig, TenantLimits, bounds};
use serde::Deserialize;

use crate::config::{Scalar, duration, quantity};

/// The uid under which such tenants are stored: a Tenant object of Kubernetes has another, so neither can take the other's name.
const UID: &str = "standalone";

/// A tenants file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TenantsFileError {
    /// It cannot be read.
    #[error("tenants: file {}: cannot be read; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("tenants: file {}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The field and the remedy.
        message: String,
    },
}

/// One tenant of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name in URLs.
    pub name: String,
    /// What to put in force.
    pub config: TenantConfig,
}

impl Wanted {
    /// A tenant of this name with the defaults of the REST contract.
    pub fn with_defaults(name: &str) -> Wanted {
        let config = TenantConfig {
            uid: UID.to_owned(),
            owner: format!("{UID}/{name}"),
            generation: 1,
            cluster_generation: 1,
            credential_generation: 1,
            limits: TenantLimits::default(),
        };
        Wanted {
            name: name.to_owned(),
            config,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tenant {
    name: String,
    #[serde(default)]
    quota: Quota,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    ttl: Ttl,
    #[serde(default)]
    access: Access,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Quota {
    storage: Option<Scalar>,
    keys: Option<Scalar>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    max_key_length: Option<Scalar>,
    max_value_size: Option<Scalar>,
    max_metadata_size: Option<Scalar>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ttl {
    default: Option<Scalar>,
    max: Option<Scalar>,
}

/// The tenants of this file, in its order.
///
/// # Errors
/// When the file cannot be read, has an unknown field, or a value that a Tenant could not have.
pub fn read(path: &Path) -> Result<Vec<Wanted>, TenantsFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| TenantsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|message| TenantsFileError::Invalid {
        path: path.to_owned(),
        message,
    })
}

fn parse(text: &str) -> Result<Vec<Wanted>, String> {
    let file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut wanted: Vec<Wanted> = Vec::with_capacity(file.tenants.len());
    for tenant in file.tenants {
        let name = tenant.name.clone();
        if wanted.iter().any(|other| other.name == name) {
            return Err(format!("tenants: `{name}` is there twice: give each tenant its own name"));
        }
        wanted.push(resolve(tenant).map_err(|problem| format!("tenant `{name}`: {problem}"))?);
    }
    Ok(wanted)
}

fn resolve(tenant: Tenant) -> Result<Wanted, String> {
    let Tenant {
        name,
        quota,
        limits,
        ttl,
        access,
    } = tenant;
    let good = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(good) || name.starts_with('-') || name.ends_with('-') {
        return Err("name: must be a DNS label: lower-case letters, digits and `-`, at most 63 characters".to_owned());
    }
    let Quota { storage, keys } = quota;
    let Limits {
        max_key_length,
        max_value_size,
        max_metadata_size,
    } = limits;
    let Ttl { default, max } = ttl;
    let most = u64::MAX;
    let key_length = size(
        "limits.maxKeyLength",
        max_key_length,
        bounds::KEY_LENGTH_DEFAULT.into(),
        1,
        bounds::KEY_LENGTH_MAX.into(),
    )?;
    let limits = TenantLimits {
        quota_storage: size("quota.storage", storage, bounds::QUOTA_STORAGE_DEFAULT, 0, most)?,
        quota_keys: size("quota.keys", keys, bounds::QUOTA_KEYS_DEFAULT, 0, most)?,
        max_key_length: u32::try_from(key_length).map_err(|_| "limits.maxKeyLength: is too large".to_owned())?,
        max_value_size: size(
            "limits.maxValueSize",
            max_value_size,
            bounds::VALUE_SIZE_DEFAULT,
            0,
            bounds::VALUE_SIZE_MAX,
        )?,
        max_metadata_size: size(
            "limits.maxMetadataSize",
            max_metadata_size,
            bounds::METADATA_SIZE_DEFAULT,
            0,
            bounds::METADATA_SIZE_MAX,
        )?,
        ttl_default_ms: time("ttl.default", default)?,
        ttl_max_ms: time("ttl.max", max)?,
        access,
    };
    if let (Some(default), Some(max)) = (limits.ttl_default_ms, limits.ttl_max_ms)
        && default > max
    {
        return Err("ttl.default: is longer than ttl.max: shorten it, or raise ttl.max".to_owned());
    }
    let mut wanted = Wanted::with_defaults(&name);
    wanted.config.limits = limits;
    Ok(wanted)
}

fn size(field: &str, given: Option<Scalar>, default: u64, least: u64, most: u64) -> Result<u64, String> {
    let Some(Scalar(text)) = given else { return Ok(default) };
    let value = quantity(&text).map_err(|problem| format!("{field}: `{text}` {problem}"))?;
    if value < least || value > most {
        return Err(format!("{field}: `{text}` must be between {least} and {most}"));
    }
    Ok(value)
}

fn time(field: &str, given: Option<Scalar>) -> Result<Option<u64>, String> {
    let Some(Scalar(text)) = given else { return Ok(None) };
    let value = duration(&text).map_err(|problem| format!("{field}: `{text}` {problem}"))?;
    let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if !(bounds::TTL_MIN_MS..=bounds::TTL_MAX_MS).contains(&milliseconds) {
        return Err(format!(
            "{field}: `{text}` must be between 1s and ten years (87600h); leave it out for none"
        ));
    }
    Ok(Some(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_contract() {
        let wanted = parse("tenants: [{name: acme}]").expect("a name is enough");
        assert_eq!(wanted.len(), 1);
        assert_eq!(wanted[0].name, "acme");
        assert_eq!(wanted[0].config.limits, TenantLimits::default());
    }

    #[test]
    fn every_field_is_read() {
        let text = "tenants:\n- name: acme\n  quota: {storage: 4Mi, keys: 100}\n  limits: {maxKeyLength: 32, maxValueSize: 16Ki, maxMetadataSize: 0}\n  \
                    ttl: {default: 24h, max: 720h}\n  access: ReadOnly\n";
        let expected = TenantLimits {
            quota_storage: 4 << 20,
            quota_keys: 100,
            max_key_length: 32,
            max_value_size: 16 << 10,
            max_metadata_size: 0,
            ttl_default_ms: Some(86_400_000),
            ttl_max_ms: Some(2_592_000_000),
            access: Access::ReadOnly,
        };
        assert_eq!(parse(text).expect("good")[0].config.limits, expected);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let cases = [
            ("tenants: [{name: acme, qouta: {}}]", "qouta"),
            ("tenants: [{name: acme, quota: {bytes: 1}}]", "bytes"),
            ("tenants: [{name: Acme}]", "name: must be a DNS label"),
            ("tenants: [{name: a}, {name: a}]", "twice"),
            (
                "tenants: [{name: a, quota: {storage: 1gb}}]",
                "quota.storage: `1gb` is not a quantity",
            ),
            (
                "tenants: [{name: a, limits: {maxValueSize: 9Mi}}]",
                "limits.maxValueSize: `9Mi` must be between",
            ),
            ("tenants: [{name: a, limits: {maxKeyLength: 0}}]", "limits.maxKeyLength"),
            ("tenants: [{name: a, ttl: {default: 1}}]", "ttl.default: `1` is not a duration"),
            ("tenants: [{name: a, ttl: {max: 500ms}}]", "ttl.max: `500ms` must be between"),
            (
                "tenants: [{name: a, ttl: {default: 2h, max: 1h}}]",
                "ttl.default: is longer than ttl.max",
            ),
            ("tenants: [{name: a, access: None}]", "ReadWrite"),
            ("tenant: []", "tenant"),
        ];
        for (text, expected) in cases {
            let message = parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
