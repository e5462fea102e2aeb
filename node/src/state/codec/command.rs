//! The bytes of a proposal: what a log entry holds, and what a follower forwards.

use bytes::Bytes;

use super::{DecodeError, Decoder, Encoder};
use crate::state::{Bound, Command, Condition, Level, Proposal, PutMode, Ttl};

impl Proposal {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Bytes {
        let mut encoder = Encoder::new(64 + self.command.payload());
        encoder.number(self.stamp_ms);
        encoder.command(&self.command);
        encoder.finish()
    }

    /// Reads them back; the value shares the memory of `bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer format.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes)?;
        let proposal = Proposal {
            stamp_ms: decoder.number("stampMs")?,
            command: decoder.command()?,
        };
        decoder.finish()?;
        Ok(proposal)
    }
}

impl Command {
    /// Roughly how many bytes its variable fields have.
    fn payload(&self) -> usize {
        match self {
            Command::Put { key, value, .. } => key.len() + value.len(),
            Command::Delete { key, .. } => key.len(),
            Command::SweepTenant { keys, .. } => keys.iter().map(|key| key.len() + 2).sum(),
            _ => 128,
        }
    }
}

impl Encoder {
    fn command(&mut self, command: &Command) {
        match command {
            Command::Put {
                tenant,
                key,
                value,
                kind,
                content_type,
                metadata,
                ttl,
                condition,
                mode,
            } => {
                self.byte(1);
                self.tenant_id(*tenant);
                self.text(key);
                self.kind(*kind);
                self.content_type(content_type.as_deref());
                self.metadata(metadata);
                self.ttl(*ttl);
                self.condition(*condition);
                self.byte(match mode {
                    PutMode::Upsert => 1,
                });
                self.blob(value);
            }
            Command::Delete { tenant, key, condition } => {
                self.byte(2);
                self.tenant_id(*tenant);
                self.text(key);
                self.condition(*condition);
            }
            Command::Sweep { limit } => {
                self.byte(3);
                self.bound(*limit);
            }
            Command::Reap { limit } => {
                self.byte(4);
                self.bound(*limit);
            }
            Command::PutTenant { name, config } => {
                self.byte(5);
                self.text(name);
                self.tenant_config(config);
            }
            Command::ReleaseTenant { name, uid } => {
                self.byte(6);
                self.text(name);
                self.text(uid);
            }
            Command::DeleteTenant { name, uid } => {
                self.byte(7);
                self.text(name);
                self.text(uid);
            }
            Command::PutSettings(settings) => {
                self.byte(8);
                self.settings(settings);
            }
            Command::SpendToken {
                token,
                member,
                expires_at_ms,
            } => {
                self.byte(9);
                self.number(*token);
                self.number(*member);
                self.number(*expires_at_ms);
            }
            Command::SweepTenant { tenant, keys, bytes } => {
                self.byte(10);
                self.tenant_id(*tenant);
                self.number(keys.len() as u64);
                for key in keys {
                    self.text(key);
                }
                self.number(*bytes);
            }
            Command::RaiseLevel { level } => {
                self.byte(11);
                self.number(level.0.into());
            }
        }
    }

    fn bound(&mut self, Bound { rows, bytes }: Bound) {
        self.number(rows.into());
        self.number(bytes);
    }

    fn ttl(&mut self, ttl: Ttl) {
        match ttl {
            Ttl::Default => self.byte(1),
            Ttl::Never => self.byte(2),
            Ttl::For(milliseconds) => {
                self.byte(3);
                self.number(milliseconds);
            }
            Ttl::Until(moment) => {
                self.byte(4);
                self.number(moment);
            }
        }
    }

    fn condition(&mut self, condition: Condition) {
        match condition {
            Condition::None => self.byte(1),
            Condition::Present => self.byte(2),
            Condition::Absent => self.byte(3),
            Condition::Revision(revision) => {
                self.byte(4);
                self.number(revision);
            }
        }
    }
}

impl Decoder {
    fn command(&mut self) -> Result<Command, DecodeError> {
        Ok(match self.byte("command")? {
            1 => {
                let tenant = self.tenant_id()?;
                let key = self.text("key")?;
                let kind = self.kind()?;
                let content_type = self.content_type()?;
                let metadata = self.metadata()?;
                let ttl = self.ttl()?;
                let condition = self.condition()?;
                let mode = match self.byte("mode")? {
                    1 => PutMode::Upsert,
                    value => {
                        return Err(DecodeError::Unknown {
                            field: "mode",
                            value: value.into(),
                        });
                    }
                };
                Command::Put {
                    tenant,
                    key,
                    value: self.blob("value")?,
                    kind,
                    content_type,
                    metadata,
                    ttl,
                    condition,
                    mode,
                }
            }
            2 => Command::Delete {
                tenant: self.tenant_id()?,
                key: self.text("key")?,
                condition: self.condition()?,
            },
            3 => Command::Sweep { limit: self.bound()? },
            4 => Command::Reap { limit: self.bound()? },
            5 => Command::PutTenant {
                name: self.text("name")?,
                config: self.tenant_config()?,
            },
            6 => Command::ReleaseTenant {
                name: self.text("name")?,
                uid: self.text("uid")?,
            },
            7 => Command::DeleteTenant {
                name: self.text("name")?,
                uid: self.text("uid")?,
            },
            8 => Command::PutSettings(self.settings()?),
            9 => Command::SpendToken {
                token: self.number("token")?,
                member: self.number("member")?,
                expires_at_ms: self.number("expiresAtMs")?,
            },
            10 => Command::SweepTenant {
                tenant: self.tenant_id()?,
                // Collected one by one: a number that is too large ends at the end of the bytes.
                keys: (0..self.number("keys")?).map(|_| self.text("key")).collect::<Result<_, _>>()?,
                bytes: self.number("bytes")?,
            },
            11 => Command::RaiseLevel {
                level: Level(self.small("level")?),
            },
            value => {
                return Err(DecodeError::Unknown {
                    field: "command",
                    value: value.into(),
                });
            }
        })
    }

    fn bound(&mut self) -> Result<Bound, DecodeError> {
        Ok(Bound {
            rows: self.small("rows")?,
            bytes: self.number("bytes")?,
        })
    }

    fn ttl(&mut self) -> Result<Ttl, DecodeError> {
        Ok(match self.byte("ttl")? {
            1 => Ttl::Default,
            2 => Ttl::Never,
            3 => Ttl::For(self.number("ttl")?),
            4 => Ttl::Until(self.number("ttl")?),
            value => {
                return Err(DecodeError::Unknown {
                    field: "ttl",
                    value: value.into(),
                });
            }
        })
    }

    fn condition(&mut self) -> Result<Condition, DecodeError> {
        Ok(match self.byte("condition")? {
            1 => Condition::None,
            2 => Condition::Present,
            3 => Condition::Absent,
            4 => Condition::Revision(self.number("condition")?),
            value => {
                return Err(DecodeError::Unknown {
                    field: "condition",
                    value: value.into(),
                });
            }
        })
    }
}
