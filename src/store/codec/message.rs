//! The protobuf messages of a record's body. A number is never given a second meaning.

use crate::state::saved::{SavedLock, SavedRole};

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Record {
    #[prost(fixed64, tag = "1")]
    pub incarnation: u64,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    #[prost(oneof = "Entry", tags = "3, 4, 5, 6")]
    pub entry: Option<Entry>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::store::codec) enum Entry {
    #[prost(message, tag = "3")]
    Genesis(Genesis),
    #[prost(message, tag = "4")]
    Commit(Commit),
    #[prost(message, tag = "5")]
    Checkpoint(Kept),
    #[prost(message, tag = "6")]
    Start(Position),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Genesis {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(fixed64, tag = "2")]
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Position {
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    #[prost(fixed64, tag = "2")]
    pub chain: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Kept {
    #[prost(message, required, tag = "1")]
    pub position: Position,
    #[prost(message, required, tag = "2")]
    pub time: Time,
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// 16 bytes, little-endian.
    #[prost(bytes = "vec", tag = "4")]
    pub digest: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Commit {
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    #[prost(message, required, tag = "2")]
    pub time: Time,
    #[prost(string, optional, tag = "3")]
    pub actor: Option<String>,
    #[prost(string, tag = "4")]
    pub reason: String,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub metadata: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    pub changes: Vec<Change>,
    #[prost(message, optional, tag = "7")]
    pub remembered: Option<Remembered>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Time {
    #[prost(sint64, tag = "1")]
    pub seconds: i64,
    #[prost(uint32, tag = "2")]
    pub nanos: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Change {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::store::codec) enum Kind {
    #[prost(message, tag = "1")]
    Granted(Tuple),
    #[prost(message, tag = "2")]
    Revoked(Tuple),
    #[prost(message, tag = "3")]
    Expired(Tuple),
    #[prost(string, tag = "4")]
    Schema(String),
    #[prost(message, tag = "5")]
    Locked(SavedLock),
    #[prost(message, tag = "6")]
    Unlocked(SavedLock),
    #[prost(message, tag = "7")]
    LockExpired(SavedLock),
    #[prost(message, tag = "8")]
    RoleWritten(SavedRole),
    #[prost(string, tag = "9")]
    RoleDeleted(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Tuple {
    #[prost(string, tag = "1")]
    pub resource: String,
    #[prost(string, tag = "2")]
    pub relation: String,
    #[prost(string, tag = "3")]
    pub subject: String,
    #[prost(message, optional, tag = "4")]
    pub caveat: Option<Caveat>,
    #[prost(message, optional, tag = "5")]
    pub expires_at: Option<Time>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Caveat {
    #[prost(string, tag = "1")]
    pub name: String,
    /// JSON; empty for no parameters.
    #[prost(bytes = "vec", tag = "2")]
    pub context: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store::codec) struct Remembered {
    #[prost(string, tag = "1")]
    pub caller: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(fixed64, tag = "3")]
    pub request_hash: u64,
    #[prost(uint64, tag = "4")]
    pub granted: u64,
    #[prost(uint64, tag = "5")]
    pub revoked: u64,
}
