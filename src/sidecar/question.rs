//! Which requests a cache can answer, and under what key.

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;

use super::entry::{AsKey, Key};
use crate::api::proto;
use crate::api::proto::consistency::Requirement;
use crate::revision::Token;

/// A question that may be in the cache.
#[derive(Clone, Debug)]
pub(super) struct Question {
    credentials: Bytes,
    /// The request without `consistency` and `with_dependencies`.
    asked: Bytes,
    /// What the caller wants at least.
    pub(super) least: Option<Token>,
    /// Whether the caller wants the keys.
    pub(super) with_keys: bool,
}

impl Question {
    /// Reads a request. `None` where only the server can answer: it holds contextual tuples, asks
    /// for one revision or the confirmed newest, is malformed, or says something unknown here.
    pub(super) fn read(message: &Bytes, headers: &HeaderMap) -> Option<Self> {
        let request = proto::CheckRequest::decode(message.clone()).ok()?;
        // A field of a newer version, which may mean anything, is lost in decoding.
        if request.encoded_len() != message.len() {
            return None;
        }
        let proto::CheckRequest {
            subject,
            permission,
            resource,
            context,
            contextual_tuples,
            consistency,
            with_dependencies,
        } = request;
        if !contextual_tuples.is_empty() {
            return None;
        }
        let is_plain = context.is_none() && consistency.is_none() && !with_dependencies;
        let asked = match is_plain {
            true => message.clone(),
            // In one order whatever the client's: that of a map is any.
            false => encoded(subject, permission, resource, context),
        };
        Some(Self {
            credentials: credentials(headers),
            asked,
            least: least(consistency)?,
            with_keys: with_dependencies,
        })
    }

    /// What it is looked for under.
    pub(super) fn as_key(&self) -> AsKey<'_> {
        AsKey(&self.credentials, &self.asked)
    }

    /// What it is kept under; in buffers of its own, since a request's may be much larger.
    pub(super) fn key(&self) -> Key {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Key::new(own(&self.credentials), own(&self.asked))
    }

    /// The encoded request.
    pub(super) fn message(&self) -> &Bytes {
        &self.asked
    }
}

/// What is asked of the revision: the newest (`Some(None)`), or at least one. `None` where a
/// cache can't tell.
#[expect(
    clippy::option_option,
    reason = "no answer, no requirement, a requirement"
)]
pub(super) fn least(consistency: Option<proto::Consistency>) -> Option<Option<Token>> {
    match consistency.and_then(|consistency| consistency.requirement) {
        None => Some(None),
        Some(Requirement::AtLeast(token)) => token.parse().ok().map(Some),
        Some(Requirement::Exactly(_) | Requirement::Full(_)) => None,
    }
}

/// What callers say who they are with.
pub(super) fn credentials(headers: &HeaderMap) -> Bytes {
    let named = headers.get(http::header::AUTHORIZATION);
    named.map_or_else(Bytes::new, |value| Bytes::copy_from_slice(value.as_bytes()))
}

/// A batch that may be in the cache.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Bytes>,
    pub(super) credentials: Bytes,
    pub(super) least: Option<Token>,
    pub(super) with_keys: bool,
}

impl Batch {
    /// As [`Question::read`].
    pub(super) fn read(message: &Bytes, headers: &HeaderMap) -> Option<Self> {
        let request = proto::BatchCheckRequest::decode(message.clone()).ok()?;
        if request.encoded_len() != message.len() {
            return None;
        }
        let proto::BatchCheckRequest {
            items,
            consistency,
            with_dependencies,
        } = request;
        let item = |item: proto::batch_check_request::Item| {
            let proto::batch_check_request::Item {
                subject,
                permission,
                resource,
                context,
            } = item;
            encoded(subject, permission, resource, context)
        };
        Some(Self {
            items: items.into_iter().map(item).collect(),
            credentials: credentials(headers),
            least: least(consistency)?,
            with_keys: with_dependencies,
        })
    }
}

fn encoded(
    subject: String,
    permission: String,
    resource: String,
    context: Option<prost_types::Struct>,
) -> Bytes {
    let question = proto::CheckRequest {
        subject,
        permission,
        resource,
        context,
        ..proto::CheckRequest::default()
    };
    question.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request() -> proto::CheckRequest {
        proto::CheckRequest {
            subject: "user:a".to_owned(),
            permission: "view".to_owned(),
            resource: "doc:1".to_owned(),
            ..proto::CheckRequest::default()
        }
    }

    fn consistency(requirement: Requirement) -> proto::Consistency {
        proto::Consistency {
            requirement: Some(requirement),
        }
    }

    fn read(request: &proto::CheckRequest) -> Option<Question> {
        Question::read(&request.encode_to_vec().into(), &HeaderMap::new())
    }

    #[test]
    fn how_to_answer_is_no_part_of_the_question() {
        let plain = read(&request()).unwrap();
        let token: Token = "7@fd4b2e".parse().unwrap();
        let other = read(&proto::CheckRequest {
            consistency: Some(consistency(Requirement::AtLeast(token.to_string()))),
            with_dependencies: true,
            ..request()
        });
        let other = other.unwrap();
        assert_eq!(plain.key(), other.key());
        assert_eq!((plain.least, plain.with_keys), (None, false));
        assert_eq!((other.least, other.with_keys), (Some(token), true));
        let unset = read(&proto::CheckRequest {
            consistency: Some(proto::Consistency { requirement: None }),
            ..request()
        });
        assert_eq!(unset.unwrap().key(), plain.key());
    }

    #[test]
    fn whoever_asks_and_with_what_is() {
        let plain = read(&request()).unwrap().key();
        let with = |name: &str| {
            let mut context = prost_types::Struct::default();
            context.fields.insert(name.to_owned(), true.into());
            let request = proto::CheckRequest {
                context: Some(context),
                ..request()
            };
            read(&request).unwrap().key()
        };
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer x".parse().unwrap());
        let named = Question::read(&request().encode_to_vec().into(), &headers);
        let keys = [plain, with("a"), with("b"), named.unwrap().key()];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys.iter().take(at).any(|other| other == key), "{at}");
        }
        assert_eq!(with("a"), with("a"));
    }

    #[test]
    fn what_only_the_server_can_answer_is_left_to_it() {
        let full = consistency(Requirement::Full(true));
        let exactly = consistency(Requirement::Exactly("7@fd4b2e".to_owned()));
        let malformed = consistency(Requirement::AtLeast("7".to_owned()));
        for consistency in [full, exactly, malformed] {
            let request = proto::CheckRequest {
                consistency: Some(consistency),
                ..request()
            };
            assert!(read(&request).is_none(), "{request:?}");
        }
        let contextual = proto::CheckRequest {
            contextual_tuples: vec![proto::Tuple::default()],
            ..request()
        };
        assert!(read(&contextual).is_none());
        let mut unknown = request().encode_to_vec();
        unknown.extend_from_slice(&[0xfa, 0x01, 0x01, b'x']);
        assert!(Question::read(&unknown.into(), &HeaderMap::new()).is_none());
        assert!(Question::read(&Bytes::from_static(b"\xff"), &HeaderMap::new()).is_none());
    }
}
