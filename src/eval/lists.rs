//! What lists have in common: rows, and the place behind each.

use std::sync::Arc;

use crate::index::{Index, NodeId};

use super::{CheckError, Decision};

/// One row of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `type:id`, `type:id#relation` or `type:*`.
    pub item: String,
    /// Of a wildcard: subjects that do not have what all others have.
    pub except: Vec<String>,
    /// Allowed or conditional.
    pub decision: Decision,
    /// The parameters that a conditional row lacks, sorted.
    pub missing_context: Vec<Arc<str>>,
}

/// What became of a step of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The next row.
    Row(Row),
    /// A candidate was denied.
    Nothing,
    /// Neither: the place has not moved.
    Busy,
    /// There are no more.
    End,
}

/// A place in a list, good for any later state of the index that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    node: NodeId,
    hash: u64,
}

impl Place {
    pub(super) fn of(index: &Index, node: NodeId) -> Self {
        let hash = index.hash_of(node);
        Self { node, hash }
    }

    pub(super) fn node(self) -> NodeId {
        self.node
    }

    /// Whether it is a place in lists of this index: numbers of nodes are those of one process.
    pub fn is_of(self, index: &Index) -> bool {
        index.hash_of(self.node) == self.hash
    }

    /// Its bytes, for cursors.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (left, right) = bytes.split_at_mut(4);
        left.copy_from_slice(&self.node.0.to_be_bytes());
        right.copy_from_slice(&self.hash.to_be_bytes());
        bytes
    }

    /// The inverse of [`Place::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let (mut node, mut hash) = ([0; 4], [0; 8]);
        let (left, right) = bytes.split_at(4);
        node.copy_from_slice(left);
        hash.copy_from_slice(right);
        Self {
            node: NodeId(u32::from_be_bytes(node)),
            hash: u64::from_be_bytes(hash),
        }
    }
}

/// An error, with the row that it keeps from being judged.
pub(super) fn at(item: String, error: CheckError) -> CheckError {
    CheckError::Listed {
        item,
        error: Box::new(error),
    }
}
