//! Bytes that stand alone: a format byte, then a message with numbered fields.
//!
//! A reader skips fields that it does not know, so a field may be added at any time; what must not be skipped belongs to a feature level
//! (`state::level`). Fields are written in the order of their numbers and none that has its default value, so equal messages are equal
//! bytes: the digest counts on that. No maps, therefore. Byte fields share the memory of what they are read from.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::DecodeError;

/// The format byte, then the message.
pub(crate) fn encode(format: u8, message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(format);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Reads it back.
///
/// # Errors
/// When there is no byte, when its format is not `format`, or when what follows is no message.
pub(crate) fn decode<M: Message + Default>(format: u8, what: &'static str, bytes: &Bytes) -> Result<M, DecodeError> {
    M::decode(behind_format(format, what, bytes)?).map_err(|reason| DecodeError::NoMessage { what, reason })
}

/// What stands behind the format byte, if it is this one.
pub(super) fn behind_format(format: u8, what: &'static str, bytes: &Bytes) -> Result<Bytes, DecodeError> {
    match bytes.first().copied() {
        None => Err(DecodeError::Truncated { field: what }),
        Some(found) if found == format => Ok(bytes.slice(1..)),
        Some(found) => Err(DecodeError::OtherFormat {
            what,
            found,
            known: format,
        }),
    }
}
