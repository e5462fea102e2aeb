//! The lists that give the fields of a type their numbers.

/// A struct: `message!(Name { 1 = field, … })`. Every field is named: one that is forgotten does not compile.
macro_rules! message {
    ($name:ident { $($number:literal = $field:ident),* $(,)? }) => {
        impl $crate::state::codec::fields::Message for $name {
            fn body_length(&self) -> usize {
                let Self { $($field),* } = self;
                0 $(+ $crate::state::codec::fields::length_of($number, $field))*
            }

            fn put_body(&self, bytes: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::state::codec::fields::put_field($number, $field, bytes);)*
            }

            fn take_body(bytes: &mut ::bytes::Bytes, left: usize) -> Result<Self, $crate::state::DecodeError> {
                Ok($crate::state::codec::numbered::variant!(take_fields [Self] bytes left { $($number = $field),* }))
            }
        }
    };
}

/// An enum, of which exactly one variant is there: `choice!("what it is", Name { 1 = Unit, 2 = One(inner), 3 = Several { 1 = field, … }, … })`.
/// With `or Variant` behind the name, that variant is what a missing field means, and is not written. A variant that is not known is an
/// error that names `what it is`: it must not be taken for another, nor passed over.
macro_rules! choice {
    ($what:literal, $name:ident $(or $default:ident)? {
        $($number:literal = $variant:ident $(($inner:ident))? $({ $($n:literal = $field:ident),* $(,)? })?),* $(,)?
    }) => {
        impl $crate::state::codec::fields::Message for $name {
            $(
                fn missing() -> Option<Self> {
                    Some(Self::$default)
                }

                fn is_missing(&self) -> bool {
                    matches!(self, Self::$default)
                }
            )?

            fn body_length(&self) -> usize {
                match self {
                    $(Self::$default => 0,)?
                    $(Self::$variant $(($inner))? $({ $($field),* })? =>
                        $crate::state::codec::numbered::variant!(length $number $(($inner))? $({ $($n = $field),* })?),)*
                }
            }

            fn put_body(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$default => {})?
                    $(Self::$variant $(($inner))? $({ $($field),* })? =>
                        $crate::state::codec::numbered::variant!(put bytes $number $(($inner))? $({ $($n = $field),* })?),)*
                }
            }

            fn take_body(bytes: &mut ::bytes::Bytes, left: usize) -> Result<Self, $crate::state::DecodeError> {
                let mut found = None;
                $crate::state::codec::fields::each_field(bytes, left, |number, wire, bytes| {
                    match number {
                        $($number => found = Some(
                            $crate::state::codec::numbered::variant!(take $what [Self::$variant] bytes wire $(($inner))? $({ $($n = $field),* })?)
                        ),)*
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                found.ok_or($crate::state::DecodeError::Newer { what: $what })
            }
        }
    };
}

/// An enum without fields: `numbers!("what it is", Name { 1 = Variant, … })`.
macro_rules! numbers {
    ($what:literal, $name:ident { $($number:literal = $variant:ident),* $(,)? }) => {
        impl $crate::state::codec::fields::Field for $name {
            fn length(&self, number: u32) -> usize {
                let value = match self { $(Self::$variant => $number,)* };
                $crate::state::codec::fields::number_length(number, value)
            }

            fn put(&self, number: u32, bytes: &mut Vec<u8>) {
                let value = match self { $(Self::$variant => $number,)* };
                $crate::state::codec::fields::put_number(number, value, bytes);
            }

            fn take(
                place: &mut Option<Self>,
                wire: ::prost::encoding::WireType,
                bytes: &mut ::bytes::Bytes,
            ) -> Result<(), $crate::state::DecodeError> {
                *place = Some(match $crate::state::codec::fields::take_number(wire, bytes)? {
                    $($number => Self::$variant,)*
                    _ => return Err($crate::state::DecodeError::Newer { what: $what }),
                });
                Ok(())
            }
        }
    };
}

/// One variant of a choice: of one field, without any, or with several. And the fields of a struct.
macro_rules! variant {
    (length $number:literal ($inner:ident)) => {
        $crate::state::codec::fields::Field::length($inner, $number)
    };
    (length $number:literal $({ $($n:literal = $field:ident),* })?) => {
        $crate::state::codec::fields::nested_length($number, 0 $($(+ $crate::state::codec::fields::length_of($n, $field))*)?)
    };
    (put $bytes:ident $number:literal ($inner:ident)) => {
        $crate::state::codec::fields::Field::put($inner, $number, $bytes)
    };
    (put $bytes:ident $number:literal $({ $($n:literal = $field:ident),* })?) => {{
        $crate::state::codec::fields::put_head($number, 0 $($(+ $crate::state::codec::fields::length_of($n, $field))*)?, $bytes);
        $($($crate::state::codec::fields::put_field($n, $field, $bytes);)*)?
    }};
    (take $what:literal [$($made:tt)+] $bytes:ident $wire:ident ($inner:ident)) => {{
        let $inner = $crate::state::codec::fields::value($what, $wire, $bytes)?;
        $($made)+($inner)
    }};
    (take $what:literal [$($made:tt)+] $bytes:ident $wire:ident) => {{
        let left = $crate::state::codec::fields::take_head($wire, $bytes)?;
        $crate::state::codec::fields::each_field($bytes, left, |_, _, _| Ok(false))?;
        $($made)+
    }};
    (take $what:literal [$($made:tt)+] $bytes:ident $wire:ident { $($n:literal = $field:ident),* }) => {{
        let left = $crate::state::codec::fields::take_head($wire, $bytes)?;
        $crate::state::codec::numbered::variant!(take_fields [$($made)+] $bytes left { $($n = $field),* })
    }};
    (take_fields [$($made:tt)+] $bytes:ident $left:ident { $($n:literal = $field:ident),* }) => {{
        $(let mut $field = None;)*
        $crate::state::codec::fields::each_field($bytes, $left, |number, wire, bytes| {
            match number {
                $($n => $crate::state::codec::fields::Field::take(&mut $field, wire, bytes)?,)*
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        $($made)+ { $($field: $crate::state::codec::fields::present(stringify!($field), $field)?),* }
    }};
}

pub(crate) use {choice, message, numbers, variant};
