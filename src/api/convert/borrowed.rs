//! Questions as they lie in their messages: no text is copied out of them.
//!
//! Hides that what is asked most is read without the generated decoder, which makes a string of
//! each field. What is out of the ordinary is left to it, and so are all errors.

use std::borrow::Cow;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::questions::Asked;
use super::{Malformed, consistency, questions};
use crate::api::proto;
use crate::revision::Consistency;

/// A batch, and what it says of all its items.
#[derive(Debug, PartialEq)]
pub(crate) struct BatchAsked<'a> {
    items: Vec<Item<'a>>,
    consistency: Option<proto::Consistency>,
    with_dependencies: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Item<'a> {
    subject: &'a str,
    permission: &'a str,
    resource: &'a str,
    context: Option<prost_types::Struct>,
}

impl<'a> BatchAsked<'a> {
    /// Reads a `BatchCheckRequest`; `None` where the generated decoder has to.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let mut batch = Self {
            items: Vec::new(),
            consistency: None,
            with_dependencies: false,
        };
        let mut rest = message;
        while !rest.is_empty() {
            match decode_key(&mut rest).ok()? {
                (1, WireType::LengthDelimited) => batch.items.push(item(contents(&mut rest)?)?),
                (2, WireType::LengthDelimited) if batch.consistency.is_none() => {
                    let contents = contents(&mut rest)?;
                    batch.consistency = Some(proto::Consistency::decode(contents).ok()?);
                }
                (3, WireType::Varint) => {
                    batch.with_dependencies = decode_varint(&mut rest).ok()? != 0;
                }
                (1..=3, _) => return None,
                (tag, wire) => skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?,
            }
        }
        Some(batch)
    }

    /// Which state answers.
    ///
    /// # Errors
    /// Where the consistency is malformed.
    pub(crate) fn at(&self) -> Result<Consistency, Malformed> {
        consistency(self.consistency.clone())
    }

    /// How many items it has.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The questions, each on its own: a malformed one fails alone.
    pub(crate) fn into_items(self) -> impl Iterator<Item = Result<Asked<'a>, Malformed>> {
        let with_dependencies = self.with_dependencies;
        self.items.into_iter().map(move |item| {
            let Item {
                subject,
                permission,
                resource,
                context,
            } = item;
            let texts = [subject, permission, resource].map(Cow::Borrowed);
            questions::item(texts, context, with_dependencies)
        })
    }
}

fn item(message: &[u8]) -> Option<Item<'_>> {
    let mut item = Item::default();
    let mut rest = message;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        match (tag, wire) {
            (1, WireType::LengthDelimited) => item.subject = text(&mut rest)?,
            (2, WireType::LengthDelimited) => item.permission = text(&mut rest)?,
            (3, WireType::LengthDelimited) => item.resource = text(&mut rest)?,
            (4, WireType::LengthDelimited) if item.context.is_none() => {
                let contents = contents(&mut rest)?;
                item.context = Some(prost_types::Struct::decode(contents).ok()?);
            }
            (1..=4, _) => return None,
            _ => skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?,
        }
    }
    Some(item)
}

/// The contents of a field that begins with its length.
fn contents<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (contents, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(contents)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(contents(rest)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// What the generated decoder makes of the same bytes.
    fn as_generated(message: &[u8]) -> Option<proto::BatchCheckRequest> {
        proto::BatchCheckRequest::decode(message).ok()
    }

    fn owned(batch: BatchAsked<'_>) -> proto::BatchCheckRequest {
        let item = |item: Item<'_>| proto::batch_check_request::Item {
            subject: item.subject.to_owned(),
            permission: item.permission.to_owned(),
            resource: item.resource.to_owned(),
            context: item.context,
        };
        proto::BatchCheckRequest {
            items: batch.items.into_iter().map(item).collect(),
            consistency: batch.consistency,
            with_dependencies: batch.with_dependencies,
        }
    }

    fn context() -> impl Strategy<Value = Option<prost_types::Struct>> {
        let number = |number| prost_types::Value {
            kind: Some(prost_types::value::Kind::NumberValue(number)),
        };
        let fields = proptest::collection::btree_map("[a-z]{0,3}", 0_i32..9, 0..3);
        proptest::option::of(fields.prop_map(move |fields| {
            prost_types::Struct {
                fields: (fields.into_iter())
                    .map(|(key, value)| (key, number(value.into())))
                    .collect(),
            }
        }))
    }

    fn request() -> impl Strategy<Value = proto::BatchCheckRequest> {
        let item = ("\\PC{0,9}", "[a-z]{0,5}", "\\PC{0,200}", context()).prop_map(
            |(subject, permission, resource, context)| proto::batch_check_request::Item {
                subject,
                permission,
                resource,
                context,
            },
        );
        let latest = proto::Consistency {
            requirement: Some(proto::consistency::Requirement::AtLeast("7@fd4b2e".into())),
        };
        (
            proptest::collection::vec(item, 0..5),
            proptest::option::of(Just(latest)),
            any::<bool>(),
        )
            .prop_map(
                |(items, consistency, with_dependencies)| proto::BatchCheckRequest {
                    items,
                    consistency,
                    with_dependencies,
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_sent(request in request(), unknown in 5_u32..300) {
            let mut message = request.encode_to_vec();
            prost::encoding::string::encode(unknown, &"new".to_owned(), &mut message);
            let read = BatchAsked::read(&message).map(owned);
            prop_assert_eq!(read, Some(request));
        }

        /// Whatever has become of a message: it is read as the generated decoder reads it, or not.
        #[test]
        fn damaged_messages_are_read_the_same_way(
            request in request(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            end in any::<prop::sample::Index>(),
        ) {
            let mut message = request.encode_to_vec();
            prop_assume!(!message.is_empty());
            for (place, byte) in damage {
                *message.get_mut(place.index(request.encoded_len())).unwrap() = byte;
            }
            message.truncate(end.index(message.len() + 1));
            if let Some(read) = BatchAsked::read(&message) {
                prop_assert_eq!(Some(owned(read)), as_generated(&message));
            }
        }
    }

    #[test]
    fn what_stands_twice_is_left_to_the_generated_decoder_or_counts_last() {
        let twice = |first: proto::BatchCheckRequest, second: proto::BatchCheckRequest| {
            [first.encode_to_vec(), second.encode_to_vec()].concat()
        };
        let latest = |at_least: &str| proto::BatchCheckRequest {
            consistency: Some(proto::Consistency {
                requirement: Some(proto::consistency::Requirement::AtLeast(at_least.into())),
            }),
            ..proto::BatchCheckRequest::default()
        };
        assert_eq!(BatchAsked::read(&twice(latest("1@a"), latest("2@a"))), None);
        let mut message = Vec::new();
        for subject in ["user:a", "user:b"] {
            prost::encoding::string::encode(1, &subject.to_owned(), &mut message);
        }
        assert_eq!(item(&message).unwrap().subject, "user:b");
    }
}
