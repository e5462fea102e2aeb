//! The parts that commands, answers and rows share: a tenant's configuration, the settings, small enumerations.

use kvfleet_api::{
    admin::Settings,
    tenant::{Access, TenantConfig, TenantLimits, TenantState},
};

use super::{DecodeError, Decoder, Encoder};
use crate::state::{Kind, TenantId};

impl Encoder {
    pub(crate) fn tenant_id(&mut self, tenant: TenantId) {
        self.number(tenant.0.into());
    }

    pub(crate) fn kind(&mut self, kind: Kind) {
        self.byte(match kind {
            Kind::String => 1,
            Kind::Json => 2,
            Kind::Bytes => 3,
        });
    }

    /// `Content-Type`: none is an empty text with a flag before it.
    pub(crate) fn content_type(&mut self, content_type: Option<&str>) {
        self.flag(content_type.is_some());
        if let Some(text) = content_type {
            self.text(text);
        }
    }

    pub(crate) fn metadata(&mut self, metadata: &[(String, String)]) {
        self.number(metadata.len() as u64);
        for (name, value) in metadata {
            self.text(name);
            self.text(value);
        }
    }

    pub(crate) fn tenant_state(&mut self, state: TenantState) {
        self.byte(match state {
            TenantState::Active => 1,
            TenantState::Released => 2,
        });
    }

    pub(crate) fn tenant_config(&mut self, config: &TenantConfig) {
        // No `..`: a new field that is forgotten here does not compile.
        let TenantConfig {
            uid,
            owner,
            generation,
            cluster_generation,
            credential_generation,
            limits,
        } = config;
        let TenantLimits {
            quota_storage,
            quota_keys,
            max_key_length,
            max_value_size,
            max_metadata_size,
            ttl_default_ms,
            ttl_max_ms,
            access,
        } = limits;
        self.text(uid);
        self.text(owner);
        self.number(*generation);
        self.number(*cluster_generation);
        self.number(*credential_generation);
        self.number(*quota_storage);
        self.number(*quota_keys);
        self.number((*max_key_length).into());
        self.number(*max_value_size);
        self.number(*max_metadata_size);
        self.optional(*ttl_default_ms);
        self.optional(*ttl_max_ms);
        self.byte(match access {
            Access::ReadWrite => 1,
            Access::ReadOnly => 2,
            Access::Suspended => 3,
        });
    }

    pub(crate) fn settings(&mut self, settings: &Settings) {
        let Settings {
            generation,
            log_level,
            sweep_interval_ms,
            scan_items,
            scan_bytes,
            request_timeout_ms,
            max_request_timeout_ms,
            hold_level,
        } = settings;
        self.number(*generation);
        self.text(log_level);
        self.number(*sweep_interval_ms);
        self.number((*scan_items).into());
        self.number(*scan_bytes);
        self.number(*request_timeout_ms);
        self.number(*max_request_timeout_ms);
        self.flag(*hold_level);
    }
}

impl Decoder {
    pub(crate) fn tenant_id(&mut self) -> Result<TenantId, DecodeError> {
        Ok(TenantId(self.small("tenant")?))
    }

    pub(crate) fn kind(&mut self) -> Result<Kind, DecodeError> {
        match self.byte("kind")? {
            1 => Ok(Kind::String),
            2 => Ok(Kind::Json),
            3 => Ok(Kind::Bytes),
            value => Err(DecodeError::Unknown {
                field: "kind",
                value: value.into(),
            }),
        }
    }

    pub(crate) fn content_type(&mut self) -> Result<Option<String>, DecodeError> {
        if self.flag("contentType")? {
            self.text("contentType").map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn metadata(&mut self) -> Result<Vec<(String, String)>, DecodeError> {
        let count = self.number("metadata")?;
        // Not allocated ahead: the count is not to be trusted before its members are there.
        let mut metadata = Vec::new();
        for _ in 0..count {
            metadata.push((self.text("metadata name")?, self.text("metadata value")?));
        }
        Ok(metadata)
    }

    pub(crate) fn tenant_state(&mut self) -> Result<TenantState, DecodeError> {
        match self.byte("state")? {
            1 => Ok(TenantState::Active),
            2 => Ok(TenantState::Released),
            value => Err(DecodeError::Unknown {
                field: "state",
                value: value.into(),
            }),
        }
    }

    pub(crate) fn tenant_config(&mut self) -> Result<TenantConfig, DecodeError> {
        Ok(TenantConfig {
            uid: self.text("uid")?,
            owner: self.text("owner")?,
            generation: self.number("generation")?,
            cluster_generation: self.number("clusterGeneration")?,
            credential_generation: self.number("credentialGeneration")?,
            limits: TenantLimits {
                quota_storage: self.number("quotaStorage")?,
                quota_keys: self.number("quotaKeys")?,
                max_key_length: self.small("maxKeyLength")?,
                max_value_size: self.number("maxValueSize")?,
                max_metadata_size: self.number("maxMetadataSize")?,
                ttl_default_ms: self.optional("ttlDefaultMs")?,
                ttl_max_ms: self.optional("ttlMaxMs")?,
                access: match self.byte("access")? {
                    1 => Access::ReadWrite,
                    2 => Access::ReadOnly,
                    3 => Access::Suspended,
                    value => {
                        return Err(DecodeError::Unknown {
                            field: "access",
                            value: value.into(),
                        });
                    }
                },
            },
        })
    }

    pub(crate) fn settings(&mut self) -> Result<Settings, DecodeError> {
        Ok(Settings {
            generation: self.number("generation")?,
            log_level: self.text("logLevel")?,
            sweep_interval_ms: self.number("sweepIntervalMs")?,
            scan_items: self.small("scanItems")?,
            scan_bytes: self.number("scanBytes")?,
            request_timeout_ms: self.number("requestTimeoutMs")?,
            max_request_timeout_ms: self.number("maxRequestTimeoutMs")?,
            hold_level: self.flag("holdLevel")?,
        })
    }
}
