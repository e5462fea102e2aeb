//! Messages with numbered fields, read and written as the Rust types that they are.
//!
//! In: a list beside the type that gives each field its number ([`message!`], [`choice!`], [`numbers!`]). Out: protobuf's own bytes, by
//! `prost`'s functions. Absent by design: types that mirror others. prost's own derive knows neither an enum whose variants have no or
//! several fields nor a type of a crate that knows no prost, so each type would be there twice, with a way there and a way back.
//!
//! A reader skips fields that it does not know, so a field may be added at any time; what must not be skipped belongs to a feature level
//! (`state::level`). A variant of a choice is never skipped: one that is not known is an error. Fields are written in the order of their
//! numbers and none that has the value which a reader takes when it is missing, so equal values are equal bytes: the digest counts on that.
//! No maps, therefore. A number is never used twice, whatever becomes of its field.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len, skip_field,
};

use super::DecodeError;

/// What can be a field.
pub(crate) trait Field: Sized {
    /// What a reader takes when the field is missing; none when it must be there.
    fn missing() -> Option<Self> {
        None
    }

    /// Whether that is its value, so that it is not written.
    fn is_missing(&self) -> bool {
        false
    }

    /// How many bytes it takes under this number.
    fn length(&self, number: u32) -> usize;

    /// Writes it.
    fn put(&self, number: u32, bytes: &mut Vec<u8>);

    /// Reads it into a place that is empty, or has what came before under the same number.
    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError>;
}

/// What is a field by its own fields.
pub(crate) trait Message: Sized {
    fn missing() -> Option<Self> {
        None
    }

    fn is_missing(&self) -> bool {
        false
    }

    fn body_length(&self) -> usize;

    fn put_body(&self, bytes: &mut Vec<u8>);

    /// Reads until so many bytes are left.
    fn take_body(bytes: &mut Bytes, left: usize) -> Result<Self, DecodeError>;
}

/// The format byte, then the message.
pub(crate) fn encode(format: u8, message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.body_length());
    bytes.put_u8(format);
    message.put_body(&mut bytes);
    Bytes::from(bytes)
}

/// Reads it back. Byte fields share the memory of `bytes`.
///
/// # Errors
/// When there is no byte, when its format is not `format`, or when what follows is no such message.
pub(crate) fn decode<M: Message>(format: u8, what: &'static str, bytes: &Bytes) -> Result<M, DecodeError> {
    M::take_body(&mut behind_format(format, what, bytes)?, 0)
}

/// What stands behind the format byte, if it is this one.
fn behind_format(format: u8, what: &'static str, bytes: &Bytes) -> Result<Bytes, DecodeError> {
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

pub(crate) fn length_of(number: u32, field: &impl Field) -> usize {
    if field.is_missing() { 0 } else { field.length(number) }
}

pub(crate) fn put_field(number: u32, field: &impl Field, bytes: &mut Vec<u8>) {
    if !field.is_missing() {
        field.put(number, bytes);
    }
}

/// The length of bytes that carry theirs before them.
pub(crate) fn nested_length(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

/// What stands before such bytes.
pub(crate) fn put_head(number: u32, length: usize, bytes: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(length as u64, bytes);
}

/// Reads what stands before such bytes: how many are left behind them.
pub(crate) fn take_head(wire: WireType, bytes: &mut Bytes) -> Result<usize, DecodeError> {
    let length = take_length(wire, bytes)?;
    Ok(bytes.len() - length)
}

fn take_length(wire: WireType, bytes: &mut Bytes) -> Result<usize, DecodeError> {
    check_wire_type(WireType::LengthDelimited, wire)?;
    let length = decode_varint(bytes)?;
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(length),
        _ => Err(DecodeError::Truncated { field: "a field" }),
    }
}

/// Hands each field to `take`, which answers whether it knows it, until so many bytes are left.
pub(crate) fn each_field(
    bytes: &mut Bytes,
    left: usize,
    mut take: impl FnMut(u32, WireType, &mut Bytes) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    while bytes.len() > left {
        let (number, wire) = decode_key(bytes)?;
        if !take(number, wire, bytes)? {
            skip_field(wire, number, bytes, DecodeContext::default())?;
        }
    }
    if bytes.len() < left {
        return Err(DecodeError::Truncated { field: "a message" });
    }
    Ok(())
}

pub(crate) fn present<T: Field>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.or_else(T::missing).ok_or(DecodeError::Missing { field })
}

/// A field that is there.
pub(crate) fn value<T: Field>(what: &'static str, wire: WireType, bytes: &mut Bytes) -> Result<T, DecodeError> {
    let mut place = None;
    T::take(&mut place, wire, bytes)?;
    present(what, place)
}

impl<M: Message> Field for M {
    fn missing() -> Option<Self> {
        M::missing()
    }

    fn is_missing(&self) -> bool {
        M::is_missing(self)
    }

    fn length(&self, number: u32) -> usize {
        nested_length(number, self.body_length())
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        put_head(number, self.body_length(), bytes);
        self.put_body(bytes);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        let left = take_head(wire, bytes)?;
        *place = Some(M::take_body(bytes, left)?);
        Ok(())
    }
}

impl<M: Message> Message for Box<M> {
    fn body_length(&self) -> usize {
        M::body_length(self)
    }

    fn put_body(&self, bytes: &mut Vec<u8>) {
        M::put_body(self, bytes);
    }

    fn take_body(bytes: &mut Bytes, left: usize) -> Result<Self, DecodeError> {
        M::take_body(bytes, left).map(Box::new)
    }
}

/// Written whenever there is one, be it 0 or empty.
impl<T: Field> Field for Option<T> {
    fn missing() -> Option<Self> {
        Some(None)
    }

    fn is_missing(&self) -> bool {
        self.is_none()
    }

    fn length(&self, number: u32) -> usize {
        self.as_ref().map_or(0, |value| value.length(number))
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(number, bytes);
        }
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        *place = Some(Some(value("a field", wire, bytes)?));
        Ok(())
    }
}

/// One field after the other under the same number.
impl<T: Field> Field for Vec<T> {
    fn missing() -> Option<Self> {
        Some(Vec::new())
    }

    fn is_missing(&self) -> bool {
        self.is_empty()
    }

    fn length(&self, number: u32) -> usize {
        self.iter().map(|item| item.length(number)).sum()
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        for item in self {
            item.put(number, bytes);
        }
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        let item = value("an item", wire, bytes)?;
        match place {
            Some(items) => items.push(item),
            // Most lists have one.
            None => *place = Some(vec![item]),
        }
        Ok(())
    }
}

pub(crate) fn number_length(number: u32, value: u64) -> usize {
    key_len(number) + encoded_len_varint(value)
}

pub(crate) fn put_number(number: u32, value: u64, bytes: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, bytes);
    encode_varint(value, bytes);
}

pub(crate) fn take_number(wire: WireType, bytes: &mut Bytes) -> Result<u64, DecodeError> {
    check_wire_type(WireType::Varint, wire)?;
    Ok(decode_varint(bytes)?)
}

macro_rules! unsigned {
    ($($name:ty),*) => { $(
        impl Field for $name {
            fn missing() -> Option<Self> {
                Some(Self::default())
            }

            fn is_missing(&self) -> bool {
                *self == Self::default()
            }

            fn length(&self, number: u32) -> usize {
                number_length(number, u64::from(*self))
            }

            fn put(&self, number: u32, bytes: &mut Vec<u8>) {
                put_number(number, u64::from(*self), bytes);
            }

            fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
                let value = take_number(wire, bytes)?;
                let read = Self::try_from(value).map_err(|_| DecodeError::Unknown { field: stringify!($name), value })?;
                *place = Some(read);
                Ok(())
            }
        }
    )* };
}

unsigned!(u32, u64);

impl Field for bool {
    fn missing() -> Option<Self> {
        Some(false)
    }

    fn is_missing(&self) -> bool {
        !self
    }

    fn length(&self, number: u32) -> usize {
        number_length(number, 1)
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        put_number(number, u64::from(*self), bytes);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        *place = Some(take_number(wire, bytes)? != 0);
        Ok(())
    }
}

impl Field for String {
    fn missing() -> Option<Self> {
        Some(String::new())
    }

    fn is_missing(&self) -> bool {
        self.is_empty()
    }

    fn length(&self, number: u32) -> usize {
        nested_length(number, self.len())
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        put_head(number, self.len(), bytes);
        bytes.put_slice(self.as_bytes());
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        let length = take_length(wire, bytes)?;
        let text = bytes.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        *place = Some(text.ok_or(DecodeError::NotText { field: "a text" })?.to_owned());
        bytes.advance(length);
        Ok(())
    }
}

/// Sixteen bytes.
impl Field for u128 {
    fn length(&self, number: u32) -> usize {
        nested_length(number, 16)
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        put_head(number, 16, bytes);
        bytes.put_u128(*self);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        match take_length(wire, bytes)? {
            16 => *place = Some(bytes.get_u128()),
            length => {
                return Err(DecodeError::Unknown {
                    field: "length of a hash",
                    value: length as u64,
                });
            }
        }
        Ok(())
    }
}

impl Field for Bytes {
    fn missing() -> Option<Self> {
        Some(Bytes::new())
    }

    fn is_missing(&self) -> bool {
        self.is_empty()
    }

    fn length(&self, number: u32) -> usize {
        nested_length(number, self.len())
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        put_head(number, self.len(), bytes);
        bytes.put_slice(self);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        let length = take_length(wire, bytes)?;
        *place = Some(bytes.split_to(length));
        Ok(())
    }
}

/// A message of one field: a row that is a number, or a list.
impl<A: Field> Message for (A,) {
    fn body_length(&self) -> usize {
        length_of(1, &self.0)
    }

    fn put_body(&self, bytes: &mut Vec<u8>) {
        put_field(1, &self.0, bytes);
    }

    fn take_body(bytes: &mut Bytes, left: usize) -> Result<Self, DecodeError> {
        let mut only = None;
        each_field(bytes, left, |number, wire, bytes| {
            if number == 1 {
                A::take(&mut only, wire, bytes)?;
            }
            Ok(number == 1)
        })?;
        Ok((present("value", only)?,))
    }
}

/// A message of two fields.
impl<A: Field, B: Field> Message for (A, B) {
    fn body_length(&self) -> usize {
        length_of(1, &self.0) + length_of(2, &self.1)
    }

    fn put_body(&self, bytes: &mut Vec<u8>) {
        put_field(1, &self.0, bytes);
        put_field(2, &self.1, bytes);
    }

    fn take_body(bytes: &mut Bytes, left: usize) -> Result<Self, DecodeError> {
        let (mut first, mut second) = (None, None);
        each_field(bytes, left, |number, wire, bytes| {
            match number {
                1 => A::take(&mut first, wire, bytes)?,
                2 => B::take(&mut second, wire, bytes)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((present("first", first)?, present("second", second)?))
    }
}
