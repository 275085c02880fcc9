//! `plan`: what a command would change, or why it is refused. Pure: no clock, disk or socket.
//!
//! The order of judging is that of [`plan`] and of `tuples`: sizes; whether it is a repeat;
//! the shape of every update; who may write; preconditions and what stands; what a commit has to
//! leave behind. Who has no right to a write learns nothing else about it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::revision::Token;
use crate::rules::RoleView;
use crate::schema::diagnostic::Diagnostic;
use crate::state::{Change, Commit, HeldLock, Remembered, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{Object, RoleRef, Subject, Tuple, TupleFilter};

mod begin;
mod bulk;
mod keys;
mod locks;
mod refusal;
mod roles;
mod schema;
mod tuples;

pub use self::refusal::Refusal;
pub(crate) use self::roles::block_of;

/// A write, as the services hand it to the writer.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What is to be done.
    pub action: Action,
    /// What every write may say beside it.
    pub options: WriteOptions,
    /// Who calls: idempotency keys belong to it. Empty where callers are not told apart.
    pub caller: Arc<str>,
}

/// What a [`Command`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Grants and revokes as one commit.
    Write {
        /// What to change, each tuple named once.
        updates: Vec<Update>,
        /// What must hold before.
        preconditions: Vec<Precondition>,
    },
    /// Revokes all that match.
    RevokeMatching {
        /// At least one field is set.
        filter: TupleFilter,
        /// Refuse where more than this match; 0: no limit.
        limit: u32,
    },
    /// Replaces the schema.
    WriteSchema {
        /// The new schema's text.
        text: Arc<str>,
        /// Refuse where the schema was written since.
        if_revision: Option<Token>,
    },
    /// What an empty store begins with, as one commit: a schema, roles and tuples for it.
    Begin {
        /// The schema's text.
        text: Arc<str>,
        /// Made under it.
        roles: Vec<RoleWanted>,
        /// Granted under it, assignments of roles among them; they are not counted against
        /// [`Limits::updates`].
        updates: Vec<Update>,
    },
    /// Places a lock.
    Lock(LockWanted),
    /// Lifts a lock.
    Unlock {
        /// Its id.
        lock_id: Arc<str>,
    },
    /// Gives a lock a new end.
    RenewLock {
        /// Its id.
        lock_id: Arc<str>,
        /// How long from now; `None`: until unlocked.
        ttl: Option<Duration>,
    },
    /// Makes a role.
    CreateRole(RoleWanted),
    /// Renames a role; allows and disallows permissions.
    UpdateRole(RoleEdit),
    /// Deletes a role with every assignment of it.
    DeleteRole {
        /// Which.
        role: RoleRef,
    },
    /// A part of a deletion that is too large to be done at once: the role includes nothing from
    /// then on, and is held by fewer.
    EmptyRole {
        /// Which.
        role: RoleRef,
        /// How many assignments go at most.
        most: usize,
    },
    /// Gives and takes roles, as one commit.
    Assign {
        /// What to give and take, each once.
        assignments: Vec<Assignment>,
    },
    /// A batch of an import: grants, as a trusted caller makes them but for `requires`.
    Import {
        /// All of them grants; one tuple may come several times.
        updates: Arc<[Update]>,
        /// The ids of the locks that the import brought: they seal nothing against it.
        locks: Arc<[Arc<str>]>,
    },
    /// What an import begins with, as an export has it.
    ImportBegin {
        /// Roles.
        roles: Vec<RoleRecord>,
        /// Locks; they get fencing tokens of this store.
        locks: Vec<HeldLock>,
    },
    /// A part of a revoke by filter that is too large to be done at once.
    RevokePart(RevokePart),
    /// Removes what has expired, at most 10,000 tuples and locks a commit.
    Expire,
}

impl Action {
    /// About how many changes it makes, as far as it says so itself.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Write { updates, .. } | Self::Begin { updates, .. } => updates.len(),
            Self::Import { updates, .. } => updates.len(),
            Self::RevokePart(part) => part.tuples.len(),
            Self::EmptyRole { most, .. } => *most,
            Self::Assign { assignments } => assignments.len(),
            _ => 1,
        }
    }
}

/// Tuples that a revoke by filter found, on a state on which right and `limit` were judged.
#[derive(Clone, Debug, PartialEq)]
pub struct RevokePart {
    /// What they match.
    pub filter: TupleFilter,
    /// The limit of the whole.
    pub limit: u32,
    /// Those that no longer stand are left out.
    pub tuples: Vec<Tuple>,
    /// How many the parts before this one revoked.
    pub before: u64,
    /// Whether it is the last: the idempotency key goes with it, so that a repeat after a crash in
    /// between does the rest.
    pub last: bool,
}

/// A lock to place.
#[derive(Clone, Debug, PartialEq)]
pub struct LockWanted {
    /// Where.
    pub resource: Object,
    /// A `lock` of the resource's type.
    pub mode: Arc<str>,
    /// Whom it does not touch, beside the mode's `except`.
    pub exempt: Vec<Subject>,
    /// How long from now; `None`: until unlocked.
    pub ttl: Option<Duration>,
    /// The caller's own id; `None`: one is made.
    pub lock_id: Option<Arc<str>>,
}

/// A role to make.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleWanted {
    /// Whose.
    pub owner: Object,
    /// What it is called among those of its owner.
    pub key: Arc<str>,
    /// A name for people; empty: the key.
    pub title: Arc<str>,
    /// What it includes, such as `application.deploy`.
    pub permissions: Vec<Arc<str>>,
}

/// What to change of a role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleEdit {
    /// Which.
    pub role: RoleRef,
    /// A new name for people.
    pub title: Option<Arc<str>>,
    /// Permissions to include.
    pub allow: Vec<Arc<str>>,
    /// Permissions to include no longer.
    pub disallow: Vec<Arc<str>>,
}

/// A role that is given to a subject on a resource, or taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Whether it is given or taken, and whether it has to stand before.
    pub operation: Operation,
    /// Which role.
    pub role: RoleRef,
    /// To or from whom.
    pub subject: Subject,
    /// Where.
    pub resource: Object,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// It ends when the subject's assignment of this role there would have.
    pub ends_with: Option<RoleRef>,
}

/// One change of one tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What to do with it.
    pub operation: Operation,
    /// The tuple; for `Revoke` and `Delete` its caveat and expiry are not looked at.
    pub tuple: Tuple,
}

/// What an [`Update`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Adds or replaces.
    Grant,
    /// Adds; refused where it stands.
    Create,
    /// Removes, whether it stands or not.
    Revoke,
    /// Removes; refused where it does not stand.
    Delete,
}

/// What must hold before a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Precondition {
    /// Which tuples; at least one field is set.
    pub filter: TupleFilter,
    /// Whether some tuple must match, or none.
    pub must_match: bool,
}

/// What every write may say beside what it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOptions {
    /// On whose behalf.
    pub actor: Option<Subject>,
    /// Kept in the log.
    pub reason: String,
    /// A repeat answers with the first one's answer.
    pub idempotency_key: Option<Arc<str>>,
    /// Do not answer before every leased cache has applied it, or this long has passed.
    pub wait_for_watchers: Option<Duration>,
    /// Judge it and answer, but commit nothing.
    pub dry_run: bool,
    /// Echoed to watchers.
    pub metadata: Option<Arc<Map<String, Value>>>,
}

/// How large a command may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Updates of one write, and changes of one commit of a revoke by filter.
    pub updates: usize,
    /// Preconditions of one write.
    pub preconditions: usize,
    /// Bytes of a schema's text.
    pub schema_bytes: usize,
    /// Bytes of the context of one tuple's caveat, as JSON.
    pub context_bytes: usize,
    /// Bytes of `reason`.
    pub reason_bytes: usize,
    /// Bytes of `metadata`, as JSON.
    pub metadata_bytes: usize,
    /// Bytes of an idempotency key.
    pub key_bytes: usize,
    /// Idempotency keys that are remembered for one caller.
    pub keys_a_caller: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            updates: 10_000,
            preconditions: 10_000,
            schema_bytes: 1 << 20,
            context_bytes: 64 << 10,
            reason_bytes: 4 << 10,
            metadata_bytes: 64 << 10,
            key_bytes: 1_024,
            keys_a_caller: crate::state::remembered::KEPT_A_CALLER,
        }
    }
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To be appended in order, all or none; none where nothing changes.
    pub commits: Vec<Commit>,
    /// What the caller is told once they are durable.
    pub answer: Written,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What holds the result: its own commit, or the newest where nothing changed.
    pub token: Token,
    /// How many tuples its updates granted, those that stood just so before included.
    pub granted: u64,
    /// How many tuples it removed.
    pub revoked: u64,
    /// Whether all was so before, and nothing had to be changed.
    pub unchanged: bool,
    /// What a new schema changed, one line each: `added permission application.deploy`.
    pub changes: Vec<String>,
    /// What is odd about a new schema.
    pub warnings: Vec<Diagnostic>,
    /// The lock that was placed, renewed or lifted.
    pub lock: Option<Arc<HeldLock>>,
    /// The role that was made or edited.
    pub role: Option<RoleView>,
    /// Set where `wait_for_watchers` was.
    pub propagation: Option<Propagation>,
}

/// Which caches have applied a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Every leased cache has applied it, or its lease has run out.
    pub complete: bool,
    /// The ids of watchers that had not when the wait ended.
    pub laggards: Vec<String>,
}

/// What a command would change, before it is cut into commits.
#[derive(Debug, Default)]
struct Effect {
    /// Each inner list is one commit.
    changes: Vec<Vec<Change>>,
    granted: u64,
    revoked: u64,
    schema_changes: Vec<String>,
    warnings: Vec<Diagnostic>,
    lock: Option<Arc<HeldLock>>,
    role: Option<RoleView>,
}

impl Effect {
    fn of_lock(changes: Vec<Change>, lock: &Arc<HeldLock>) -> Self {
        Self {
            changes: vec![changes],
            lock: Some(Arc::clone(lock)),
            ..Self::default()
        }
    }
}

/// What `command` would change in `state` at the instant `now`, or why it is refused.
///
/// # Errors
/// The first thing that stands against it.
pub fn plan(
    state: &State,
    command: &Command,
    now: Timestamp,
    limits: &Limits,
) -> Result<Plan, Refusal> {
    sizes(&command.options, limits)?;
    let hash = keys::request_hash(command);
    if let Some(answer) = keys::repeat(state, command, hash, now)? {
        return Ok(Plan {
            commits: Vec::new(),
            answer,
        });
    }
    let actor = command.options.actor.as_ref();
    let effect = match &command.action {
        Action::Write {
            updates,
            preconditions,
        } => tuples::write(state, updates, preconditions, actor, now, limits)?,
        Action::RevokeMatching { filter, limit } => {
            tuples::revoke_matching(state, filter, *limit, actor, now, limits)?
        }
        Action::WriteSchema { text, if_revision } => {
            schema::write(state, text, *if_revision, now, limits)?
        }
        Action::Begin {
            text,
            roles,
            updates,
        } => begin::begin(state, text, roles, updates, now, limits)?,
        Action::Lock(wanted) => locks::lock(state, wanted, &command.options, now)?,
        Action::Unlock { lock_id } => locks::unlock(state, lock_id, &command.options, now)?,
        Action::RenewLock { lock_id, ttl } => {
            locks::renew(state, lock_id, *ttl, &command.options, now)?
        }
        Action::CreateRole(wanted) => roles::create(state, wanted, &command.options, now)?,
        Action::UpdateRole(edit) => roles::update(state, edit, &command.options, now)?,
        Action::DeleteRole { role } => roles::delete(state, role, &command.options, now)?,
        Action::EmptyRole { role, most } => {
            roles::empty(state, role, *most, &command.options, now)?
        }
        Action::Assign { assignments } => roles::assign(state, assignments, &command.options, now)?,
        Action::Import { updates, locks } => bulk::import(state, updates, locks, now, limits)?,
        Action::ImportBegin { roles, locks } => bulk::begin_import(state, roles, locks, now)?,
        Action::RevokePart(part) => bulk::revoke_part(state, part, actor, now)?,
        Action::Expire => tuples::expire(state, now, limits),
    };
    let key = keys::to_remember(state, command, hash, &effect, now, limits)?;
    Ok(into_plan(state, command, effect, key, now))
}

/// What is known of a command that is done in parts, before anything is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// The answer: nothing is to be done.
    Done(Written),
    /// So many changes, and nothing stands against them.
    Changes(u64),
}

/// Judges a command as [`plan`] does; a revoke by filter without making its changes, where nothing
/// but their number can stand against it.
///
/// # Errors
/// The first thing that stands against it.
pub fn judge(
    state: &State,
    command: &Command,
    now: Timestamp,
    limits: &Limits,
) -> Result<Judged, Refusal> {
    sizes(&command.options, limits)?;
    let hash = keys::request_hash(command);
    if let Some(answer) = keys::repeat(state, command, hash, now)? {
        return Ok(Judged::Done(answer));
    }
    let actor = command.options.actor.as_ref();
    let counted = match &command.action {
        Action::RevokeMatching { filter, limit } => {
            tuples::count_matching(state, filter, *limit, actor, now)?
        }
        _ => None,
    };
    let Some(revoked) = counted.filter(|count| *count > 0) else {
        let Plan { commits, answer } = plan(state, command, now, limits)?;
        let changes = commits.iter().map(|commit| commit.changes.len() as u64);
        return Ok(match commits.is_empty() {
            true => Judged::Done(answer),
            false => Judged::Changes(changes.sum()),
        });
    };
    let effect = Effect {
        revoked,
        ..Effect::default()
    };
    let key = keys::to_remember(state, command, hash, &effect, now, limits)?;
    if !command.options.dry_run {
        return Ok(Judged::Changes(revoked));
    }
    let answer = into_plan(state, command, effect, key, now).answer;
    Ok(Judged::Done(Written {
        unchanged: false,
        ..answer
    }))
}

/// Numbers the commits and says what they come to.
fn into_plan(
    state: &State,
    command: &Command,
    effect: Effect,
    mut key: Option<Remembered>,
    now: Timestamp,
) -> Plan {
    let mut parts = effect.changes;
    parts.retain(|changes| !changes.is_empty());
    let unchanged = parts.is_empty();
    if parts.is_empty() && key.is_some() {
        parts.push(Vec::new());
    }
    if command.options.dry_run {
        parts.clear();
    }
    let mut revision = state.revision;
    let last = parts.len();
    let mut commits = Vec::with_capacity(last);
    for (changes, place) in parts.into_iter().zip(1..) {
        revision = revision.next();
        commits.push(Commit {
            revision,
            time: now.max(state.time),
            actor: command.options.actor.clone(),
            reason: command.options.reason.clone(),
            metadata: command.options.metadata.clone(),
            changes,
            // With the last part: a repeat after a crash in between does the rest.
            remembered: if place == last { key.take() } else { None },
        });
    }
    let answer = Written {
        token: Token {
            revision,
            epoch: state.epoch,
        },
        granted: effect.granted,
        revoked: effect.revoked,
        unchanged,
        changes: effect.schema_changes,
        warnings: effect.warnings,
        lock: effect.lock,
        role: effect.role,
        propagation: None,
    };
    Plan { commits, answer }
}

fn sizes(options: &WriteOptions, limits: &Limits) -> Result<(), Refusal> {
    at_most("options.reason", options.reason.len(), limits.reason_bytes)?;
    let key = options.idempotency_key.as_ref().map_or(0, |key| key.len());
    at_most("options.idempotency_key", key, limits.key_bytes)?;
    let metadata = options.metadata.as_ref().map_or(0, |map| json_bytes(map));
    at_most("options.metadata", metadata, limits.metadata_bytes)
}

fn at_most(what: &str, size: usize, limit: usize) -> Result<(), Refusal> {
    match size <= limit {
        true => Ok(()),
        false => Err(Refusal::TooLarge {
            what: what.to_owned(),
            size,
            limit,
        }),
    }
}

fn json_bytes(map: &Map<String, Value>) -> usize {
    serde_json::to_vec(map).map_or(usize::MAX, |json| json.len())
}
