//! Whether an object lies below another one, by the tuples that forward arrows walk.

use hashbrown::HashMap;

use crate::index::NodeId;
use crate::schema::program::KindSet;

use super::super::value::Value;
use super::{Machine, TooMuchWork};

impl Machine<'_> {
    /// Whether a chain of tuples of `walked` relations leads from `node` to `outer`, as far as
    /// their caveats say: upwards, since things have few parents, and again from a node whose
    /// value has risen.
    pub(in crate::eval) fn leads_to(
        &mut self,
        node: NodeId,
        outer: NodeId,
        walked: &KindSet,
    ) -> Result<Value, TooMuchWork> {
        let (schema, index) = (self.ground.schema, self.ground.index);
        let mut values: HashMap<NodeId, Value> = HashMap::from_iter([(node, Value::Allowed)]);
        let mut open = vec![node];
        let mut lies = Value::Denied;
        while let Some(node) = open.pop() {
            let so_far = values.get(&node).copied().unwrap_or(Value::Denied);
            let kind = index.kind_of(node);
            for group in index.all_subject_groups(node) {
                let member = schema.member_id(kind, group.relation);
                if !member.is_some_and(|member| walked.has(member)) {
                    continue;
                }
                for edge in group.iter() {
                    self.spend(1)?;
                    let tuple = self.tuple(edge.restriction)?;
                    let through = self.causes.and(so_far, tuple);
                    if edge.node == outer {
                        lies = self.causes.or(lies, through);
                        if lies == Value::Allowed {
                            return Ok(lies);
                        }
                    }
                    let before = values.get(&edge.node).copied().unwrap_or(Value::Denied);
                    let after = self.causes.or(before, through);
                    if after != before {
                        values.insert(edge.node, after);
                        open.push(edge.node);
                    }
                }
            }
        }
        Ok(lies)
    }
}
