//! The bytes of commands, answers and rows.
//!
//! Commands, answers, tenants and settings are messages with numbered fields; the numbers stand beside the types ([`numbered`]). The other
//! rows are written by hand: numbers are LEB128 varints, texts and bytes carry their length before them. Everything that stands alone (a
//! proposal, a response, a row) starts with a format byte. Golden tests hold the bytes: a log written by one version is replayed by the next.
//! Absent by design: serde. A field that is renamed or reordered in a Rust type must not move a byte on disk.

mod configuration;
pub mod entry;
pub(crate) mod fields;
pub(crate) mod message;
pub(crate) mod numbered;

use bytes::{Bytes, BytesMut};

use super::Kind;

/// The format byte of messages with numbered fields. A log or a row of format 1 is refused; an entry that holds many proposals has 3.
pub const FORMAT: u8 = 2;
/// That of rows which are written by hand, and the newest that is read.
const BY_HAND: u8 = 1;

/// Why bytes could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fields need.
    #[error("the bytes end inside `{field}`")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// More bytes than the fields need.
    #[error("{count} bytes are left over")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// Written by a newer program.
    #[error("format {found} is newer than {BY_HAND}: upgrade this member")]
    NewerFormat {
        /// What was found.
        found: u8,
    },
    /// A value that no version has written.
    #[error("`{field}` has no meaning {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// Another format than the one that is expected here.
    #[error("{what} of format {found}, and this program reads {known}: start with an empty data directory, or the version that wrote it")]
    OtherFormat {
        /// What was read.
        what: &'static str,
        /// What was found.
        found: u8,
        /// What this program reads.
        known: u8,
    },
    /// A choice of which this program knows none that is there. To pass over it would be to do something else than what others do.
    #[error("a {what} of a newer program: upgrade this member")]
    Newer {
        /// What was read.
        what: &'static str,
    },
    /// A field that must be there.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// No message.
    #[error("the bytes are no message: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// No message.
    #[error("{what} cannot be read: {reason}")]
    NoMessage {
        /// What was read.
        what: &'static str,
        /// The reader's reason.
        reason: prost::DecodeError,
    },
    /// A text that is not UTF-8.
    #[error("`{field}` is not utf-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
}

/// Appends fields.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: BytesMut,
}

impl Encoder {
    /// Starts with the format byte; `capacity` is a guess at the length.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut encoder = Encoder {
            bytes: BytesMut::with_capacity(capacity),
        };
        encoder.byte(BY_HAND);
        encoder
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.bytes.extend_from_slice(&[value]);
    }

    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// None is 0, a number is itself plus one; the largest number cannot be told from none and is written as the one below it.
    pub(crate) fn optional(&mut self, value: Option<u64>) {
        self.number(value.map_or(0, |value| value.saturating_add(1)));
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.blob(value.as_bytes());
    }

    pub(crate) fn blob(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Bytes without a length: only as the last field.
    pub(crate) fn rest(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
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

    pub(crate) fn kind(&mut self, kind: Kind) {
        self.byte(match kind {
            Kind::String => 1,
            Kind::Json => 2,
            Kind::Bytes => 3,
        });
    }

    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Takes fields off. Byte fields share the memory of what they are read from.
#[derive(Debug)]
pub(crate) struct Decoder {
    bytes: Bytes,
}

impl Decoder {
    /// Checks the format byte.
    pub(crate) fn new(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder { bytes: bytes.clone() };
        match decoder.byte("format")? {
            BY_HAND => Ok(decoder),
            0 => Err(DecodeError::Unknown { field: "format", value: 0 }),
            found => Err(DecodeError::NewerFormat { found }),
        }
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let first = *self.bytes.first().ok_or(DecodeError::Truncated { field })?;
        let _ = self.bytes.split_to(1);
        Ok(first)
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Unknown { field, value: u64::MAX })
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

    pub(crate) fn optional(&mut self, field: &'static str) -> Result<Option<u64>, DecodeError> {
        Ok(self.number(field)?.checked_sub(1))
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Unknown {
                field,
                value: value.into(),
            }),
        }
    }

    pub(crate) fn blob(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.number(field)?).map_err(|_| DecodeError::Truncated { field })?;
        if length > self.bytes.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.bytes.split_to(length))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.blob(field)?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| DecodeError::NotText { field })
    }

    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(DecodeError::LeftOver { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut encoder = Encoder::new(16);
            encoder.number(value);
            let mut decoder = Decoder::new(&encoder.finish()).unwrap();
            assert_eq!(decoder.number("n").unwrap(), value);
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn hostile_lengths_are_errors() {
        let endless = Bytes::from(vec![0xff; 32]);
        assert!(matches!(
            Decoder { bytes: endless.clone() }.number("n"),
            Err(DecodeError::Unknown { field: "n", .. })
        ));
        let long = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]);
        assert_eq!(Decoder { bytes: long }.blob("b"), Err(DecodeError::Truncated { field: "b" }));
        assert!(matches!(
            Decoder::new(&Bytes::from_static(&[2])),
            Err(DecodeError::NewerFormat { found: 2 })
        ));
        assert!(matches!(Decoder::new(&Bytes::new()), Err(DecodeError::Truncated { .. })));
    }
}
