//! `CheckService`: questions.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use std::vec::IntoIter;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::convert::questions::Asked;
use super::convert::{Malformed, answers, explanations, lists, questions};
use super::deadline;
use super::proto::batch_check_response::{self as batch, result::Outcome};
use super::proto::list_permissions_response as entries;
use super::proto::{self, check_service_server as server};
use super::status::{Failure, check_failure, reason};
use crate::engine::{Engine, ListRow, ListRows};
use crate::eval::{Answer, CheckError, PermissionEntry, Question};
use crate::revision::Token;
use crate::time::Timestamp;

/// Answers from one engine.
pub struct Checks {
    engine: Engine,
}

impl Checks {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl server::CheckService for Checks {
    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<proto::CheckResponse>, Status> {
        let deadline = deadline(&request);
        let (asked, at) = questions::check(request.into_inner()).map_err(Failure::from)?;
        let question = asked.question().map_err(Failure::from)?;
        let answer = self.engine.check(&question, at, deadline).await;
        let (answer, token) = answer.map_err(Failure::from)?;
        let response = answers::check(answer, Some(token), || self.engine.now());
        Ok(Response::new(response))
    }

    async fn batch_check(
        &self,
        request: Request<proto::BatchCheckRequest>,
    ) -> Result<Response<proto::BatchCheckResponse>, Status> {
        let deadline = deadline(&request);
        let (items, at) = questions::batch(request.into_inner()).map_err(Failure::from)?;
        let items: Vec<_> = items.iter().map(as_question).collect();
        let sound: Vec<_> = items.iter().flatten().copied().collect();
        let answers = self.engine.batch_check(&sound, at, deadline).await;
        let (answers, token) = answers.map_err(Failure::from)?;
        let mut answers = answers.into_iter();
        let results = items
            .into_iter()
            .map(|item| self.result(item, &mut answers));
        Ok(Response::new(proto::BatchCheckResponse {
            results: results.collect(),
            revision: token.to_string(),
        }))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let deadline = deadline(&request);
        let (asked, at) = questions::explain(request.into_inner()).map_err(Failure::from)?;
        let question = asked.question().map_err(Failure::from)?;
        let explained = self.engine.explain(&question, at, deadline).await;
        let (explained, token) = explained.map_err(Failure::from)?;
        let response = explanations::explanation(explained, token, self.engine.now());
        Ok(Response::new(response))
    }

    type ListResourcesStream = ListStream<proto::ListResourcesResponse>;

    async fn list_resources(
        &self,
        request: Request<proto::ListResourcesRequest>,
    ) -> Result<Response<Self::ListResourcesStream>, Status> {
        let deadline = deadline(&request);
        let wanted = lists::resources(request.into_inner()).map_err(Failure::from)?;
        let rows = self.list(wanted, deadline).await?;
        Ok(Response::new(ListStream::new(rows, answers::resource_row)))
    }

    type ListSubjectsStream = ListStream<proto::ListSubjectsResponse>;

    async fn list_subjects(
        &self,
        request: Request<proto::ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        let deadline = deadline(&request);
        let wanted = lists::subjects(request.into_inner()).map_err(Failure::from)?;
        let rows = self.list(wanted, deadline).await?;
        Ok(Response::new(ListStream::new(rows, answers::subject_row)))
    }

    async fn list_permissions(
        &self,
        request: Request<proto::ListPermissionsRequest>,
    ) -> Result<Response<proto::ListPermissionsResponse>, Status> {
        let deadline = deadline(&request);
        let (asked, at) = lists::permissions(request.into_inner()).map_err(Failure::from)?;
        let question = asked.question().map_err(Failure::from)?;
        let entries = self.engine.list_permissions(&question, at, deadline).await;
        let (entries, token) = entries.map_err(Failure::from)?;
        let now = self.engine.now();
        let entries = entries.into_iter().map(|entry| permission(entry, now));
        Ok(Response::new(proto::ListPermissionsResponse {
            entries: entries.collect(),
            revision: token.to_string(),
        }))
    }
}

fn permission(from: PermissionEntry, now: Timestamp) -> entries::Entry {
    let PermissionEntry {
        permission,
        outcome,
    } = from;
    let outcome = match outcome {
        Ok(answer) => entries::entry::Outcome::Response(answers::check(answer, None, || now)),
        Err(error) => entries::entry::Outcome::Error(item_error(&check_failure(&error))),
    };
    entries::Entry {
        permission: permission.to_string(),
        outcome: Some(outcome),
    }
}

fn item_error(failure: &Failure) -> proto::ItemError {
    proto::ItemError {
        reason: failure.reason().to_owned(),
        message: failure.message().to_owned(),
    }
}

/// Rows of a list as a stream of messages; the first has the revision.
pub struct ListStream<T> {
    rows: ListRows,
    chunk: IntoIter<ListRow>,
    revision: Option<Token>,
    encode: fn(ListRow, Option<Token>) -> T,
    ended: bool,
}

impl<T> ListStream<T> {
    fn new(rows: ListRows, encode: fn(ListRow, Option<Token>) -> T) -> Self {
        Self {
            revision: Some(rows.token()),
            rows,
            chunk: Vec::new().into_iter(),
            encode,
            ended: false,
        }
    }
}

impl<T> Stream for ListStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(row) = this.chunk.next() {
                let row = (this.encode)(row, this.revision.take());
                return Poll::Ready(Some(Ok(row)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.rows.poll_next(context)) {
                Some(Ok(chunk)) => this.chunk = chunk.into_iter(),
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(Failure::from(error).into())));
                }
                None => this.ended = true,
            }
        }
    }
}

type Item<'a> = Result<Question<'a>, Malformed>;

fn as_question(item: &Result<Asked, Malformed>) -> Item<'_> {
    item.as_ref().map_err(Malformed::clone)?.question()
}

impl Checks {
    async fn list(
        &self,
        wanted: lists::Wanted,
        deadline: Option<Instant>,
    ) -> Result<ListRows, Status> {
        let lists::Wanted {
            question,
            context,
            at,
            limit,
            cursor,
        } = wanted;
        let cursor = cursor.as_deref();
        let rows = self
            .engine
            .list(question, context, at, limit, cursor, deadline);
        Ok(rows.await.map_err(Failure::from)?)
    }

    /// What becomes of an item: malformed ones were not asked, and take no answer.
    fn result(
        &self,
        item: Item<'_>,
        answers: &mut IntoIter<Result<Answer, CheckError>>,
    ) -> batch::Result {
        let answer = item.map_err(Failure::from).and_then(|_| {
            let missing = || Err(Failure::new(reason::INTERNAL, "the item has no answer"));
            let answer = answers.next();
            answer.map_or_else(missing, |answer| answer.map_err(|e| check_failure(&e)))
        });
        let outcome = match answer {
            Ok(answer) => Outcome::Response(answers::check(answer, None, || self.engine.now())),
            Err(failure) => Outcome::Error(item_error(&failure)),
        };
        batch::Result {
            outcome: Some(outcome),
        }
    }
}
