//! Which requests a cache can answer, and under what key.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;

use super::entry::{AsKey, Key};
use crate::api::proto;
use crate::api::proto::consistency::Requirement;
use crate::revision::Token;

/// A question that may be in the cache.
#[derive(Clone, Debug)]
pub(super) struct Question {
    credentials: Option<HeaderValue>,
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
        if is_plain(message) {
            return Some(Self {
                credentials: credentials(headers),
                asked: message.clone(),
                least: None,
                with_keys: false,
            });
        }
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
        Some(Self {
            credentials: credentials(headers),
            // In one order whatever the client's: that of a map is any.
            asked: encoded(subject, permission, resource, context),
            least: least(consistency)?,
            with_keys: with_dependencies,
        })
    }

    /// A question of a batch, without what the batch says of all.
    pub(super) fn of_batch(batch: &Batch, asked: Bytes) -> Self {
        Self {
            credentials: batch.credentials.clone(),
            asked,
            least: None,
            with_keys: false,
        }
    }

    /// What it is looked for under.
    pub(super) fn as_key(&self) -> AsKey<'_> {
        as_key(self.credentials.as_ref(), &self.asked)
    }

    /// What it is kept under; in buffers of its own, since a request's may be much larger.
    pub(super) fn key(&self) -> Key {
        key(self.credentials.as_ref(), &self.asked)
    }

    /// What the caller says who it is with.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }

    /// The encoded request.
    pub(super) fn message(&self) -> &Bytes {
        &self.asked
    }
}

/// Whether a message is subject, permission and resource and nothing else, encoded as all encoders
/// do it: then it is its own key, and need not be taken apart. Others may be as plain; they are
/// taken apart.
fn is_plain(message: &[u8]) -> bool {
    let mut rest = message;
    for field in 1..=3_u8 {
        // A tag with the wire type of a length, and a length of one byte.
        let &[tag, length, ref after @ ..] = rest else {
            return false;
        };
        if tag != field << 3 | 2 || length == 0 || length > 127 {
            return false;
        }
        let Some((text, after)) = after.split_at_checked(usize::from(length)) else {
            return false;
        };
        if std::str::from_utf8(text).is_err() {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn as_key<'a>(credentials: Option<&'a HeaderValue>, asked: &'a [u8]) -> AsKey<'a> {
    AsKey(credentials.map_or(&[], HeaderValue::as_bytes), asked)
}

fn key(credentials: Option<&HeaderValue>, asked: &[u8]) -> Key {
    let AsKey(credentials, asked) = as_key(credentials, asked);
    let own = Bytes::copy_from_slice;
    Key::new(own(credentials), own(asked))
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
fn credentials(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(http::header::AUTHORIZATION).cloned()
}

/// A batch that may be in the cache.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Bytes>,
    credentials: Option<HeaderValue>,
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

    /// What an item is looked for under.
    pub(super) fn as_key<'a>(&'a self, item: &'a Bytes) -> AsKey<'a> {
        as_key(self.credentials.as_ref(), item)
    }

    /// What an item is kept under.
    pub(super) fn key(&self, item: &Bytes) -> Key {
        key(self.credentials.as_ref(), item)
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
