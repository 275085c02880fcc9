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
use super::status::{Failure, check_failure};
use crate::engine::{Batch, Engine, ListRow, ListRows};
use crate::eval::PermissionEntry;
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

    /// Answers one question.
    ///
    /// # Errors
    /// As the one map of errors has them.
    pub async fn answer(
        &self,
        request: proto::CheckRequest,
        deadline: Option<Instant>,
    ) -> Result<proto::CheckResponse, Status> {
        let (asked, at) = questions::check(request).map_err(Failure::from)?;
        let question = asked.question().map_err(Failure::from)?;
        let answer = self.engine.check(&question, at, deadline).await;
        let (answer, token) = answer.map_err(Failure::from)?;
        Ok(answers::check(answer, Some(token), || self.engine.now()))
    }

    /// Answers a batch, in the order of its items.
    ///
    /// # Errors
    /// As the one map of errors has them; an item that has no answer fails alone.
    pub async fn answer_batch(
        &self,
        request: proto::BatchCheckRequest,
        deadline: Option<Instant>,
    ) -> Result<proto::BatchCheckResponse, Status> {
        let (items, at) = questions::batch(request).map_err(Failure::from)?;
        let batch = self.engine.batch(items.len(), at, deadline).await;
        let mut batch = batch.map_err(Failure::from)?;
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            results.push(self.result(&mut batch, item).await?);
        }
        Ok(proto::BatchCheckResponse {
            results,
            revision: batch.token().to_string(),
        })
    }

    /// What becomes of an item: a malformed one is not asked, and fails alone.
    async fn result(
        &self,
        batch: &mut Batch<'_>,
        item: Result<Asked, Malformed>,
    ) -> Result<batch::Result, Failure> {
        let answer = match item.as_ref().map(Asked::question) {
            Ok(Ok(question)) => {
                let answer = batch.check(&question).await.map_err(Failure::from)?;
                answer.map_err(|error| check_failure(&error))
            }
            Ok(Err(malformed)) => Err(malformed.into()),
            Err(malformed) => Err(malformed.clone().into()),
        };
        let outcome = match answer {
            Ok(answer) => Outcome::Response(answers::check(answer, None, || self.engine.now())),
            Err(failure) => Outcome::Error(item_error(&failure)),
        };
        Ok(batch::Result {
            outcome: Some(outcome),
        })
    }
}

#[tonic::async_trait]
impl server::CheckService for Checks {
    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<proto::CheckResponse>, Status> {
        let deadline = deadline(&request);
        let response = self.answer(request.into_inner(), deadline).await?;
        Ok(Response::new(response))
    }

    async fn batch_check(
        &self,
        request: Request<proto::BatchCheckRequest>,
    ) -> Result<Response<proto::BatchCheckResponse>, Status> {
        let deadline = deadline(&request);
        let response = self.answer_batch(request.into_inner(), deadline).await?;
        Ok(Response::new(response))
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
}
