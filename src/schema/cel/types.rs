//! The types that the checker of conditions gives to expressions.

use std::fmt;

use crate::schema::CaveatType;

/// What an expression's values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Known at run time only: checked then.
    Any,
    /// The elements of `[]`: fits wherever an element does.
    Nothing,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    IpAddress,
    /// What `type()` answers.
    Meta,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
}

impl Type {
    pub(super) fn list(element: Self) -> Self {
        Self::List(Box::new(element))
    }

    pub(super) fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new(key), Box::new(value))
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether a value of this type may stand where one of `other` is wanted, or be compared with it.
    pub(super) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Nothing, _) | (_, Self::Any | Self::Nothing) => true,
            (Self::List(a), Self::List(b)) => a.fits(b),
            (Self::Map(a, b), Self::Map(c, d)) => a.fits(c) && b.fits(d),
            (a, b) => a == b,
        }
    }

    /// As [`Type::fits`], and numbers with numbers of another type, whose values compare.
    pub(super) fn compares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.compares(b),
            (Self::Map(a, b), Self::Map(c, d)) => a.compares(c) && b.compares(d),
            // `x == null` asks whether an `any` holds nothing: for all others it is a mistake.
            (a, b) => a.fits(b) || (a.is_number() && b.is_number()),
        }
    }

    /// The type of what is one or the other.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, b) => b,
            (a, Self::Nothing) => a,
            (Self::List(a), Self::List(b)) => Self::list(a.join(*b)),
            (Self::Map(a, b), Self::Map(c, d)) => Self::map(a.join(*c), b.join(*d)),
            (a, b) if a == b => a,
            _ => Self::Any,
        }
    }
}

impl From<&CaveatType> for Type {
    fn from(declared: &CaveatType) -> Self {
        match declared {
            CaveatType::Any => Self::Any,
            CaveatType::Bool => Self::Bool,
            CaveatType::Int | CaveatType::Uint => Self::Int,
            CaveatType::Double => Self::Double,
            CaveatType::String => Self::String,
            CaveatType::Bytes => Self::Bytes,
            CaveatType::Duration => Self::Duration,
            CaveatType::Timestamp => Self::Timestamp,
            CaveatType::IpAddress => Self::IpAddress,
            CaveatType::List(element) => Self::list(Self::from(&**element)),
            CaveatType::Map(value) => Self::map(Self::String, Self::from(&**value)),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any | Self::Nothing => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::IpAddress => f.write_str("ipaddress"),
            Self::Meta => f.write_str("type"),
            Self::List(element) => write!(f, "list<{element}>"),
            Self::Map(key, value) if **key == Self::String => write!(f, "map<{value}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
        }
    }
}
