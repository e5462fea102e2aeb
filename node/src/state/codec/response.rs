//! The bytes of an answer: it crosses the peer port when a follower has forwarded the command.

use bytes::Bytes;
use kvfleet_api::{admin::SettingsStatus, tenant::TenantStatus, usage::Used};

use super::{DecodeError, Decoder, Encoder};
use crate::state::{Level, Refusal, Response};

impl Response {
    /// The bytes that go over the peer port.
    pub fn encode(&self) -> Bytes {
        let mut encoder = Encoder::new(32);
        encoder.response(self);
        encoder.finish()
    }

    /// Reads them back.
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer format.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes)?;
        let response = decoder.response()?;
        decoder.finish()?;
        Ok(response)
    }
}

impl Encoder {
    fn response(&mut self, response: &Response) {
        match response {
            Response::None => self.byte(1),
            Response::Refused(refusal) => {
                self.byte(2);
                self.refusal(refusal);
            }
            Response::Put {
                revision,
                created,
                expires_at_ms,
            } => {
                self.byte(3);
                self.number(*revision);
                self.flag(*created);
                self.optional(*expires_at_ms);
            }
            Response::Deleted { revision } => {
                self.byte(4);
                self.optional(*revision);
            }
            Response::Swept { removed, more } => {
                self.byte(5);
                self.number((*removed).into());
                self.flag(*more);
            }
            Response::Tenant(status) => {
                self.byte(6);
                let TenantStatus {
                    name,
                    id,
                    state,
                    revision,
                    config,
                    credential_issued_at,
                    usage,
                } = status.as_ref();
                let Used { storage, keys } = usage;
                self.text(name);
                self.number((*id).into());
                self.tenant_state(*state);
                self.number(*revision);
                self.tenant_config(config);
                self.number(*credential_issued_at);
                self.number(*storage);
                self.number(*keys);
            }
            Response::TenantGone { existed } => {
                self.byte(7);
                self.flag(*existed);
            }
            Response::Settings(status) => {
                self.byte(8);
                self.number(status.revision);
                self.settings(&status.settings);
            }
            Response::TokenSpent { member } => {
                self.byte(9);
                self.number(*member);
            }
            Response::Level(level) => {
                self.byte(10);
                self.number(level.0.into());
            }
        }
    }

    fn refusal(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::TenantUnknown => self.byte(1),
            Refusal::TenantSuspended => self.byte(2),
            Refusal::TenantReadOnly => self.byte(3),
            Refusal::KeyTooLong { limit } => {
                self.byte(4);
                self.number((*limit).into());
            }
            Refusal::ValueTooLarge { limit } => {
                self.byte(5);
                self.number(*limit);
            }
            Refusal::MetadataTooLarge { limit } => {
                self.byte(6);
                self.number(*limit);
            }
            Refusal::StorageQuotaExceeded {
                limit,
                used,
                wanted,
                expired_waiting,
            } => {
                self.byte(7);
                self.number(*limit);
                self.number(*used);
                self.number(*wanted);
                self.flag(*expired_waiting);
            }
            Refusal::KeyCountExceeded { limit, expired_waiting } => {
                self.byte(8);
                self.number(*limit);
                self.flag(*expired_waiting);
            }
            Refusal::TtlAboveMaximum { limit_ms } => {
                self.byte(9);
                self.number(*limit_ms);
            }
            Refusal::TtlTooShort => self.byte(10),
            Refusal::PreconditionFailed { current } => {
                self.byte(11);
                self.number(*current);
            }
            Refusal::TenantNameTaken { owner } => {
                self.byte(12);
                self.text(owner);
            }
            Refusal::StaleGeneration { field, stored } => {
                self.byte(13);
                self.text(field);
                self.number(*stored);
            }
            Refusal::UidMismatch => self.byte(14),
            Refusal::LevelSkipped { level } => {
                self.byte(15);
                self.number(level.0.into());
            }
        }
    }
}

impl Decoder {
    fn response(&mut self) -> Result<Response, DecodeError> {
        Ok(match self.byte("response")? {
            1 => Response::None,
            2 => Response::Refused(self.refusal()?),
            3 => Response::Put {
                revision: self.number("revision")?,
                created: self.flag("created")?,
                expires_at_ms: self.optional("expiresAtMs")?,
            },
            4 => Response::Deleted {
                revision: self.optional("revision")?,
            },
            5 => Response::Swept {
                removed: self.small("removed")?,
                more: self.flag("more")?,
            },
            6 => Response::Tenant(Box::new(TenantStatus {
                name: self.text("name")?,
                id: self.small("id")?,
                state: self.tenant_state()?,
                revision: self.number("revision")?,
                config: self.tenant_config()?,
                credential_issued_at: self.number("credentialIssuedAt")?,
                usage: Used {
                    storage: self.number("storage")?,
                    keys: self.number("keys")?,
                },
            })),
            7 => Response::TenantGone {
                existed: self.flag("existed")?,
            },
            8 => Response::Settings(Box::new(SettingsStatus {
                revision: self.number("revision")?,
                settings: self.settings()?,
            })),
            9 => Response::TokenSpent {
                member: self.number("member")?,
            },
            10 => Response::Level(Level(self.small("level")?)),
            value => {
                return Err(DecodeError::Unknown {
                    field: "response",
                    value: value.into(),
                });
            }
        })
    }

    fn refusal(&mut self) -> Result<Refusal, DecodeError> {
        Ok(match self.byte("refusal")? {
            1 => Refusal::TenantUnknown,
            2 => Refusal::TenantSuspended,
            3 => Refusal::TenantReadOnly,
            4 => Refusal::KeyTooLong {
                limit: self.small("limit")?,
            },
            5 => Refusal::ValueTooLarge {
                limit: self.number("limit")?,
            },
            6 => Refusal::MetadataTooLarge {
                limit: self.number("limit")?,
            },
            7 => Refusal::StorageQuotaExceeded {
                limit: self.number("limit")?,
                used: self.number("used")?,
                wanted: self.number("wanted")?,
                expired_waiting: self.flag("expiredWaiting")?,
            },
            8 => Refusal::KeyCountExceeded {
                limit: self.number("limit")?,
                expired_waiting: self.flag("expiredWaiting")?,
            },
            9 => Refusal::TtlAboveMaximum {
                limit_ms: self.number("limitMs")?,
            },
            10 => Refusal::TtlTooShort,
            11 => Refusal::PreconditionFailed {
                current: self.number("current")?,
            },
            12 => Refusal::TenantNameTaken {
                owner: self.text("owner")?,
            },
            13 => Refusal::StaleGeneration {
                field: self.text("field")?,
                stored: self.number("stored")?,
            },
            14 => Refusal::UidMismatch,
            15 => Refusal::LevelSkipped {
                level: Level(self.small("level")?),
            },
            value => {
                return Err(DecodeError::Unknown {
                    field: "refusal",
                    value: value.into(),
                });
            }
        })
    }
}
