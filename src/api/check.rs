//! `CheckService`: questions.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use std::vec::IntoIter;

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::convert::borrowed::BatchAsked;
use super::convert::questions::Asked;
use super::convert::{Malformed, answers, explanations, lists, questions};
use super::frames::BatchResponse;
use super::proto::batch_check_response::{self as batch, result::Outcome};
use super::proto::list_permissions_response as entries;
use super::proto::{self, check_service_server as server};
use super::status::{Failure, check_failure};
use super::{deadline, frames};
use crate::engine::{Batch, Engine, ListRequest, ListRow, ListRows, Pack};
use crate::eval::{Answer, PermissionEntry, Question};
use crate::revision::Token;
use crate::time::Timestamp;

/// So many items of a batch are looked up side by side.
const AHEAD: usize = 16;

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
        let (mut items, at) = questions::batch(request).map_err(Failure::from)?;
        let batch = self.engine.batch(items.len(), at, deadline).await;
        let mut batch = batch.map_err(Failure::from)?;
        let mut results = Vec::with_capacity(items.len());
        while let Some(more) = self.results(&mut batch, &mut items).await? {
            results.extend(more);
        }
        Ok(proto::BatchCheckResponse {
            results,
            revision: batch.token().to_string(),
        })
    }

    /// The same from message to body: no text is copied out of the one, and each answer is written
    /// to the other as it comes.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn answer_batch_encoded(
        &self,
        message: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        let Some(asked) = BatchAsked::read(&message) else {
            let request = frames::decoded(message)?;
            let response = self.answer_batch(request, deadline).await?;
            return Ok(frames::framed(&response));
        };
        let at = asked.at().map_err(Failure::from)?;
        let batch = self.engine.batch(asked.len(), at, deadline).await;
        let mut batch = batch.map_err(Failure::from)?;
        let mut response = BatchResponse::of(asked.len());
        let mut items = asked.into_items();
        while let Some(results) = self.results(&mut batch, &mut items).await? {
            for result in results {
                response.push(&result);
            }
        }
        Ok(response.end(batch.token()))
    }

    /// Lists the resources on which a subject has a permission.
    ///
    /// # Errors
    /// As the one map of errors has them; the stream may end with one, too.
    pub async fn resources(
        &self,
        request: proto::ListResourcesRequest,
        deadline: Option<Instant>,
    ) -> Result<EncodedRows, Status> {
        let wanted = lists::resources(request);
        let rows = self.list(wanted, encoded_resources, deadline).await?;
        Ok(EncodedRows(rows))
    }

    /// Lists the subjects that have a permission on a resource.
    ///
    /// # Errors
    /// As the one map of errors has them; the stream may end with one, too.
    pub async fn subjects(
        &self,
        request: proto::ListSubjectsRequest,
        deadline: Option<Instant>,
    ) -> Result<EncodedRows, Status> {
        let wanted = lists::subjects(request);
        let rows = self.list(wanted, encoded_subjects, deadline).await?;
        Ok(EncodedRows(rows))
    }

    async fn list<T: Send + 'static>(
        &self,
        wanted: Result<ListRequest, Malformed>,
        pack: Pack<T>,
        deadline: Option<Instant>,
    ) -> Result<ListRows<T>, Status> {
        let wanted = wanted.map_err(Failure::from)?;
        let rows = self.engine.list_packed(wanted, pack, deadline).await;
        Ok(rows.map_err(Failure::from)?)
    }

    /// What becomes of the next items; `None` behind the last. A malformed one is not asked, and
    /// fails alone.
    async fn results(
        &self,
        batch: &mut Batch<'_>,
        items: &mut impl Iterator<Item = Result<Asked<'_>, Malformed>>,
    ) -> Result<Option<Vec<batch::Result>>, Failure> {
        let items: Vec<_> = items.take(AHEAD).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let asked: Vec<Result<Question<'_>, Malformed>> = items.iter().map(question).collect();
        let questions: Vec<Question<'_>> = asked.iter().flatten().copied().collect();
        let answers = batch.check_all(&questions).await.map_err(Failure::from)?;
        let mut answers = answers.into_iter();
        let answer = |question: Result<Question<'_>, Malformed>| match question {
            Ok(_) => Some((answers.next()?).map_err(|error| check_failure(&error))),
            Err(malformed) => Some(Err(malformed.into())),
        };
        let answers = asked.into_iter().filter_map(answer);
        Ok(Some(answers.map(|answer| self.result(answer)).collect()))
    }

    fn result(&self, answer: Result<Answer, Failure>) -> batch::Result {
        let outcome = match answer {
            Ok(answer) => Outcome::Response(answers::check(answer, None, || self.engine.now())),
            Err(failure) => Outcome::Error(item_error(&failure)),
        };
        batch::Result {
            outcome: Some(outcome),
        }
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
        let wanted = lists::resources(request.into_inner());
        let rows = self.list(wanted, resources, deadline).await?;
        Ok(Response::new(ListStream::new(rows)))
    }

    type ListSubjectsStream = ListStream<proto::ListSubjectsResponse>;

    async fn list_subjects(
        &self,
        request: Request<proto::ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        let deadline = deadline(&request);
        let wanted = lists::subjects(request.into_inner());
        let rows = self.list(wanted, subjects, deadline).await?;
        Ok(Response::new(ListStream::new(rows)))
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

/// The question of an item.
fn question<'a>(item: &'a Result<Asked<'_>, Malformed>) -> Result<Question<'a>, Malformed> {
    item.as_ref().map_err(Malformed::clone)?.question()
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

/// Rows of a list as a stream of messages.
pub struct ListStream<T> {
    rows: ListRows<Vec<T>>,
    chunk: IntoIter<T>,
}

impl<T> ListStream<T> {
    fn new(rows: ListRows<Vec<T>>) -> Self {
        Self {
            rows,
            chunk: Vec::new().into_iter(),
        }
    }
}

impl<T: Unpin> Stream for ListStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(row) = this.chunk.next() {
                return Poll::Ready(Some(Ok(row)));
            }
            match ready!(this.rows.poll_next(context)) {
                Some(Ok(chunk)) => this.chunk = chunk.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(Failure::from(error).into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Rows of a list as they lie in the body of the answer.
pub struct EncodedRows(ListRows<Bytes>);

impl Stream for EncodedRows {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let rows = ready!(self.get_mut().0.poll_next(context));
        Poll::Ready(rows.map(|rows| rows.map_err(|error| Failure::from(error).into())))
    }
}

fn resources(rows: Vec<ListRow>, mut at: Option<Token>) -> Vec<proto::ListResourcesResponse> {
    let rows = rows.into_iter();
    rows.map(|row| answers::resource_row(row, at.take()))
        .collect()
}

fn subjects(rows: Vec<ListRow>, mut at: Option<Token>) -> Vec<proto::ListSubjectsResponse> {
    let rows = rows.into_iter();
    rows.map(|row| answers::subject_row(row, at.take()))
        .collect()
}

fn encoded_resources(rows: Vec<ListRow>, mut at: Option<Token>) -> Bytes {
    let rows = rows.into_iter();
    frames::rows(rows.map(|row| answers::resource_row(row, at.take())))
}

fn encoded_subjects(rows: Vec<ListRow>, mut at: Option<Token>) -> Bytes {
    let rows = rows.into_iter();
    frames::rows(rows.map(|row| answers::subject_row(row, at.take())))
}
