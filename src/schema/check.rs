//! What can be said only of a whole schema: cycles through negation, arrows that feed each other,
//! rules that reach an exclusion. Hides the graph of which member's value depends on which.

mod graph;

use super::diagnostic::Report;
use super::lexer::Span;
use super::{MemberId, MemberKind, Schema};
use graph::{Edge, Graph, Through};

/// Reports what is wrong with, or odd about, a compiled schema; `spans` says where each member
/// is named.
pub(super) fn check(schema: &Schema, spans: &[Span], report: &mut Report<'_>) {
    let graph = Graph::of(schema);
    let checker = Checker {
        schema,
        spans,
        graph: &graph,
    };
    let strict = graph.components(|edge| edge.through == Through::Same);
    checker.negation(&strict, report);
    let all = graph.components(|_| true);
    checker.negation_through_data(&strict, &all, report);
    checker.feeding(&all, report);
    checker.requires(report);
}

struct Checker<'s> {
    schema: &'s Schema,
    spans: &'s [Span],
    graph: &'s Graph,
}

impl Checker<'_> {
    fn span(&self, member: usize) -> Span {
        self.spans.get(member).copied().unwrap_or_default()
    }

    fn name(&self, member: usize) -> &str {
        let member = self.schema.members.get(member);
        member.map_or("", |member| &member.name)
    }

    /// The edges that stay within a component: each part of some cycle.
    fn inner<'a>(
        &'a self,
        components: &'a [usize],
        used: impl Fn(&Edge) -> bool + 'a,
    ) -> impl Iterator<Item = (usize, &'a Edge)> {
        let edges = self.graph.edges.iter().enumerate();
        edges
            .flat_map(|(from, edges)| edges.iter().map(move |edge| (from, edge)))
            .filter(move |(from, edge)| {
                used(edge) && components.get(*from) == components.get(edge.to)
            })
    }

    /// Negation on one object: no data is needed to close the cycle, so it has no meaning.
    fn negation(&self, strict: &[usize], report: &mut Report<'_>) {
        let mut last = None;
        for (from, edge) in self.inner(strict, |edge| edge.through == Through::Same) {
            if !edge.negative || last.replace(from) == Some(from) {
                continue;
            }
            let name = self.name(from);
            let message = match from == edge.to {
                true => format!("`{name}` depends on its own negation"),
                false => format!(
                    "`{name}` depends on its own negation, by way of `{}`",
                    self.name(edge.to)
                ),
            };
            let error = report.error(self.span(from), "negation-cycle", message);
            error.help = Some(
                "what stands on the right of `-` must not lead back to this permission".into(),
            );
        }
    }

    /// Negation over arrows and subject sets: only some data closes the cycle.
    fn negation_through_data(&self, strict: &[usize], all: &[usize], report: &mut Report<'_>) {
        let mut last = None;
        for (from, edge) in self.inner(all, |edge| edge.negative) {
            let reported = edge.through == Through::Same && strict.get(from) == strict.get(edge.to);
            if reported || last.replace(from) == Some(from) {
                continue;
            }
            let message = format!(
                "`{}` may depend on its own negation, over arrows or subject sets",
                self.name(from)
            );
            report
                .warning(self.span(from), "negation-cycle", message)
                .help = Some(
                "where the data closes such a cycle, a check is an error and never an allow".into(),
            );
        }
    }

    /// `A.r<-p` and `r->p` in one cycle: whoever has it on one child has it on all.
    fn feeding(&self, all: &[usize], report: &mut Report<'_>) {
        let forward: std::collections::HashSet<(usize, MemberId)> = self
            .inner(all, |_| true)
            .filter_map(|(from, edge)| match edge.through {
                Through::Forward(via) => Some((*all.get(from)?, via)),
                _ => None,
            })
            .collect();
        let mut last = None;
        for (from, edge) in self.inner(all, |_| true) {
            let Through::Backward(via) = edge.through else {
                continue;
            };
            let component = all.get(from).copied().unwrap_or(usize::MAX);
            if !forward.contains(&(component, via)) || last.replace(from) == Some(from) {
                continue;
            }
            let relation = self.schema.member(via);
            let kind = self.schema.names.type_name(relation.owner);
            let message = format!(
                "`{}` goes up by `{kind}.{}<-` and comes back down by the same relation",
                self.name(from),
                relation.name
            );
            report.warning(self.span(from), "feeding-arrows", message).help = Some(
                "whoever has it on one object below has it on all of them; if that is not meant, let the forward arrow lead to a permission without the backward one".into(),
            );
        }
    }

    /// `requires` is judged once, when a tuple is granted: what an exclusion takes away later, or
    /// gives back, it does not see.
    fn requires(&self, report: &mut Report<'_>) {
        let excludes = self.graph.reach_exclusion(self.schema);
        for (place, member) in self.schema.members.iter().enumerate() {
            let MemberKind::Relation(relation) = &member.kind else {
                continue;
            };
            let Some(rule) = relation.requires else {
                continue;
            };
            if excludes.get(rule.0 as usize) != Some(&true) {
                continue;
            }
            let message = format!("what `{}` requires reaches a `-`", member.name);
            report
                .warning(self.span(place), "requires-exclusion", message)
                .help = Some(
                "`requires` judges a grant, not what holds later: and it into the permission where access must end with it".into(),
            );
        }
    }
}
