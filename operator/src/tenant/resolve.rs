//! What a Tenant's members shall enforce: its own fields, where they are missing the cluster's defaults, where those are missing the
//! built-in ones.
//!
//! In: the Tenant's spec and the cluster's tenancy. Out: the limits, or the first field that is above a ceiling. A default above its ceiling
//! counts as the ceiling; what a Tenant asks for itself does not. Absent: anything but arithmetic.

use kvfleet_api::tenant::{Access, TenantLimits, bounds};
use kvfleet_crds::{TenantSpec, cluster::Tenancy, conditions::Reason, duration::Duration, quantity::Quantity, tenant};

use super::validate::Rejection;

/// A value as a number and as a person wrote it.
#[derive(Clone, Debug)]
struct Value {
    number: u64,
    text: String,
}

/// One field at its three places.
struct Field {
    /// Its path, the same in `spec`, `tenancy.defaults` and `tenancy.ceilings`.
    path: &'static str,
    own: Option<Value>,
    default: Option<Value>,
    ceiling: Option<Value>,
}

/// The limits of a Tenant.
///
/// # Errors
/// [`Reason::EXCEEDS_CEILING`] with the field and the ceiling; [`Reason::INVALID_SPEC`] for a text that the schema should have refused.
pub fn resolve(spec: &TenantSpec, tenancy: &Tenancy) -> Result<TenantLimits, Rejection> {
    let (defaults, ceilings) = (&tenancy.defaults, &tenancy.ceilings);
    let size = |path: &'static str, own: &Option<Quantity>, default: &Option<Quantity>, ceiling: &Option<Quantity>, built_in: u64| {
        Field {
            path,
            own: quantity(path, own)?,
            default: quantity(path, default)?,
            ceiling: quantity(path, ceiling)?,
        }
        .resolve(built_in)
    };
    let count = |path: &'static str, own: Option<u64>, default: Option<u64>, ceiling: Option<u64>, built_in: u64| {
        Field {
            path,
            own: own.map(number),
            default: default.map(number),
            ceiling: ceiling.map(number),
        }
        .resolve(built_in)
    };
    let key_length = count(
        "limits.maxKeyLength",
        spec.limits.max_key_length.map(u64::from),
        defaults.limits.max_key_length.map(u64::from),
        ceilings.limits.max_key_length.map(u64::from),
        bounds::KEY_LENGTH_DEFAULT.into(),
    )?;
    let (ttl_default_ms, ttl_max_ms) = ttl(spec, tenancy)?;
    Ok(TenantLimits {
        quota_storage: size(
            "quota.storage",
            &spec.quota.storage,
            &defaults.quota.storage,
            &ceilings.quota.storage,
            bounds::QUOTA_STORAGE_DEFAULT,
        )?,
        quota_keys: count(
            "quota.keys",
            spec.quota.keys,
            defaults.quota.keys,
            ceilings.quota.keys,
            bounds::QUOTA_KEYS_DEFAULT,
        )?,
        max_key_length: u32::try_from(key_length).unwrap_or(u32::MAX),
        max_value_size: size(
            "limits.maxValueSize",
            &spec.limits.max_value_size,
            &defaults.limits.max_value_size,
            &ceilings.limits.max_value_size,
            bounds::VALUE_SIZE_DEFAULT,
        )?,
        max_metadata_size: size(
            "limits.maxMetadataSize",
            &spec.limits.max_metadata_size,
            &defaults.limits.max_metadata_size,
            &ceilings.limits.max_metadata_size,
            bounds::METADATA_SIZE_DEFAULT,
        )?,
        ttl_default_ms,
        ttl_max_ms,
        access: match spec.access {
            tenant::Access::ReadWrite => Access::ReadWrite,
            tenant::Access::ReadOnly => Access::ReadOnly,
            tenant::Access::Suspended => Access::Suspended,
        },
    })
}

/// The default and the longest life. None means for ever, which is above every ceiling.
fn ttl(spec: &TenantSpec, tenancy: &Tenancy) -> Result<(Option<u64>, Option<u64>), Rejection> {
    let field = |path: &'static str, of: fn(&tenant::TenantTtl) -> &Option<Duration>| {
        Ok::<_, Rejection>(Field {
            path,
            own: duration(path, of(&spec.ttl))?,
            default: duration(path, of(&tenancy.defaults.ttl))?,
            ceiling: duration(path, of(&tenancy.ceilings.ttl))?,
        })
    };
    let longest = field("ttl.max", |ttl| &ttl.max)?;
    let default = field("ttl.default", |ttl| &ttl.default)?;
    let max_ms = longest.resolve_open()?;
    let default_ms = default.resolve_open()?;
    match (default_ms, max_ms, &default.own) {
        // The schema has compared the two where the Tenant gives both; here the longest life is the cluster's.
        (Some(default_ms), Some(max_ms), Some(own)) if default_ms > max_ms => Err(Rejection {
            reason: Reason::EXCEEDS_CEILING,
            message: format!(
                "ttl.default is {}, and the cluster lets records of this Tenant live for at most {max_ms}ms (tenancy.ceilings.ttl.max or \
                 tenancy.defaults.ttl.max): lower ttl.default, or set ttl.max as far as the ceiling allows",
                own.text
            ),
        }),
        (Some(default_ms), Some(max_ms), _) => Ok((Some(default_ms.min(max_ms)), Some(max_ms))),
        (default_ms, max_ms, _) => Ok((default_ms, max_ms)),
    }
}

impl Field {
    /// With a built-in default.
    fn resolve(&self, built_in: u64) -> Result<u64, Rejection> {
        let ceiling = self.ceiling.as_ref().map_or(u64::MAX, |ceiling| ceiling.number);
        match self.own()? {
            Some(own) => Ok(own),
            None => Ok(self.default.as_ref().map_or(built_in, |default| default.number).min(ceiling)),
        }
    }

    /// Without a built-in default: nothing set means no bound.
    fn resolve_open(&self) -> Result<Option<u64>, Rejection> {
        let number = |value: &Option<Value>| value.as_ref().map(|value| value.number);
        match (self.own()?, number(&self.default), number(&self.ceiling)) {
            (Some(own), _, _) => Ok(Some(own)),
            (None, Some(default), Some(ceiling)) => Ok(Some(default.min(ceiling))),
            (None, default, ceiling) => Ok(default.or(ceiling)),
        }
    }

    fn own(&self) -> Result<Option<u64>, Rejection> {
        match (&self.own, &self.ceiling) {
            (Some(own), Some(ceiling)) if own.number > ceiling.number => Err(Rejection {
                reason: Reason::EXCEEDS_CEILING,
                message: format!(
                    "{path} is {}, and the cluster allows at most {} (tenancy.ceilings.{path}): lower {path}, or ask whoever runs the \
                     cluster to raise the ceiling",
                    own.text,
                    ceiling.text,
                    path = self.path
                ),
            }),
            (own, _) => Ok(own.as_ref().map(|own| own.number)),
        }
    }
}

fn number(number: u64) -> Value {
    Value {
        number,
        text: number.to_string(),
    }
}

fn quantity(path: &'static str, quantity: &Option<Quantity>) -> Result<Option<Value>, Rejection> {
    let Some(quantity) = quantity else { return Ok(None) };
    let number = quantity.bytes().map_err(|error| invalid(path, &error))?;
    Ok(Some(Value {
        number,
        text: quantity.as_str().to_owned(),
    }))
}

fn duration(path: &'static str, duration: &Option<Duration>) -> Result<Option<Value>, Rejection> {
    let Some(duration) = duration else { return Ok(None) };
    let length = duration.get().map_err(|error| invalid(path, &error))?;
    let number = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if !(bounds::TTL_MIN_MS..=bounds::TTL_MAX_MS).contains(&number) {
        return Err(invalid(path, &"it must be between 1s and 87600h"));
    }
    Ok(Some(Value {
        number,
        text: duration.as_str().to_owned(),
    }))
}

fn invalid(path: &str, problem: &dyn std::fmt::Display) -> Rejection {
    Rejection {
        reason: Reason::INVALID_SPEC,
        message: format!("{path} of the Tenant, or of the cluster's tenancy: {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> TenantSpec {
        serde_yaml::from_str(&format!("{{clusterRef: {{name: prod}}, {yaml}}}")).unwrap()
    }

    fn tenancy(yaml: &str) -> Tenancy {
        serde_yaml::from_str(&format!("{{{yaml}}}")).unwrap()
    }

    #[test]
    fn nothing_set_gives_the_built_in_limits() {
        assert_eq!(resolve(&spec(""), &tenancy("")).unwrap(), TenantLimits::default());
    }

    #[test]
    fn own_fields_come_before_defaults_and_defaults_before_the_built_in_ones() {
        let limits = resolve(
            &spec("quota: {storage: 2Gi}, limits: {maxKeyLength: 32}, ttl: {max: 2h}, access: ReadOnly"),
            &tenancy(
                "defaults: {quota: {storage: 5Gi, keys: 7}, limits: {maxKeyLength: 64, maxValueSize: 16Ki}, ttl: {default: 24h, max: 48h}}",
            ),
        )
        .unwrap();
        assert_eq!(
            limits,
            TenantLimits {
                quota_storage: 2 << 30,
                quota_keys: 7,
                max_key_length: 32,
                max_value_size: 16 << 10,
                // The default of the cluster is longer than the longest life that the Tenant allows.
                ttl_default_ms: Some(2 * 3_600_000),
                ttl_max_ms: Some(2 * 3_600_000),
                access: Access::ReadOnly,
                ..TenantLimits::default()
            }
        );
    }

    #[test]
    fn a_default_above_its_ceiling_counts_as_the_ceiling() {
        let limits = resolve(
            &spec(""),
            &tenancy(
                "defaults: {quota: {keys: 100}, ttl: {max: 48h}}, \
                 ceilings: {quota: {keys: 10, storage: 1Mi}, limits: {maxKeyLength: 16, maxValueSize: 1Ki, maxMetadataSize: 0}, ttl: {default: 1h, max: 24h}}",
            ),
        )
        .unwrap();
        assert_eq!(
            limits,
            TenantLimits {
                quota_storage: 1 << 20,
                quota_keys: 10,
                max_key_length: 16,
                max_value_size: 1 << 10,
                max_metadata_size: 0,
                ttl_default_ms: Some(3_600_000),
                ttl_max_ms: Some(24 * 3_600_000),
                access: Access::ReadWrite,
            }
        );
    }

    #[test]
    fn what_a_tenant_asks_for_above_a_ceiling_is_refused_by_name() {
        for (own, ceilings, field, ceiling) in [
            (
                "quota: {storage: 2Gi}",
                "quota: {storage: 1Gi}",
                "quota.storage is 2Gi",
                "at most 1Gi",
            ),
            ("quota: {keys: 2}", "quota: {keys: 1}", "quota.keys is 2", "at most 1 "),
            (
                "limits: {maxKeyLength: 33}",
                "limits: {maxKeyLength: 32}",
                "limits.maxKeyLength is 33",
                "at most 32",
            ),
            (
                "limits: {maxValueSize: 17Ki}",
                "limits: {maxValueSize: 16Ki}",
                "limits.maxValueSize is 17Ki",
                "at most 16Ki",
            ),
            (
                "limits: {maxMetadataSize: 2Ki}",
                "limits: {maxMetadataSize: 1Ki}",
                "limits.maxMetadataSize is 2Ki",
                "at most 1Ki",
            ),
            ("ttl: {default: 2h}", "ttl: {default: 1h}", "ttl.default is 2h", "at most 1h"),
            ("ttl: {max: 2h}", "ttl: {max: 1h}", "ttl.max is 2h", "at most 1h"),
            ("ttl: {default: 2h}", "ttl: {max: 1h}", "ttl.default is 2h", "at most 3600000ms"),
        ] {
            let rejection = resolve(&spec(own), &tenancy(&format!("ceilings: {{{ceilings}}}"))).expect_err(own);
            assert_eq!(rejection.reason, Reason::EXCEEDS_CEILING, "{own}");
            assert!(rejection.message.starts_with(field), "{}", rejection.message);
            assert!(rejection.message.contains(ceiling), "{}", rejection.message);
        }
    }

    #[test]
    fn exactly_the_ceiling_is_allowed() {
        let limits = resolve(
            &spec("quota: {storage: 1024Mi}, ttl: {default: 60m, max: 1h}"),
            &tenancy("ceilings: {quota: {storage: 1Gi}, ttl: {max: 1h}}"),
        )
        .unwrap();
        assert_eq!((limits.quota_storage, limits.ttl_max_ms), (1 << 30, Some(3_600_000)));
    }
}
