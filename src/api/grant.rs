//! `GrantService`: relationship tuples.

use std::time::Instant;

use tonic::{Request, Response, Status, Streaming};

use super::bulk;
use super::convert::bulk::ExportWanted;
use super::convert::{self, Malformed, answers, reads, writes};
use super::deadline;
use super::outbox::{Outbox, Outgoing, Over};
use super::proto::{self, grant_service_server as server};
use super::status::{Failure, Shape, write_failure, write_refused};
use crate::engine::{Engine, TupleRows, Written};
use crate::plan::Command;

/// How many rows are fetched at a time, and how many wait for a slow client.
const ROWS: usize = 64;

/// Writes to and reads from one engine.
pub struct Grants {
    engine: Engine,
}

impl Grants {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

/// Has `engine` write what a request came to, and logs what is refused.
pub(super) async fn write(
    engine: &Engine,
    method: &'static str,
    command: Result<Command, Malformed>,
    deadline: Option<Instant>,
    shape: Shape<'_>,
) -> Result<Written, Status> {
    let command = command.map_err(|malformed| write_refused(malformed.into(), method, ""))?;
    let actor = command.options.actor.clone();
    let written = engine.write(command, deadline).await;
    written.map_err(|error| {
        let actor = actor.as_ref().map(ToString::to_string);
        let failure = write_failure(error, shape);
        write_refused(failure, method, actor.as_deref().unwrap_or_default())
    })
}

#[tonic::async_trait]
impl server::GrantService for Grants {
    async fn grant(
        &self,
        request: Request<proto::GrantRequest>,
    ) -> Result<Response<proto::GrantResponse>, Status> {
        let deadline = deadline(&request);
        let command = writes::grant(request.into_inner());
        let shape = Shape::Tuples;
        let written = write(&self.engine, "Grant", command, deadline, shape).await?;
        Ok(Response::new(answers::granted(written)))
    }

    async fn revoke(
        &self,
        request: Request<proto::RevokeRequest>,
    ) -> Result<Response<proto::RevokeResponse>, Status> {
        let deadline = deadline(&request);
        let command = writes::revoke(request.into_inner());
        let shape = Shape::Tuples;
        let written = write(&self.engine, "Revoke", command, deadline, shape).await?;
        Ok(Response::new(answers::revoked(written)))
    }

    async fn write(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::WriteResponse>, Status> {
        let deadline = deadline(&request);
        let command = writes::write(request.into_inner());
        let shape = Shape::Updates;
        let written = write(&self.engine, "Write", command, deadline, shape).await?;
        Ok(Response::new(answers::written(written)))
    }

    type ReadTuplesStream = Outgoing<proto::ReadTuplesResponse>;

    async fn read_tuples(
        &self,
        request: Request<proto::ReadTuplesRequest>,
    ) -> Result<Response<Self::ReadTuplesStream>, Status> {
        let deadline = deadline(&request);
        let wanted = reads::tuples(request.into_inner()).map_err(Failure::from)?;
        let reads::TuplesWanted {
            filter,
            at,
            limit,
            cursor,
        } = wanted;
        let turn = self.engine.stream_turn().map_err(Failure::from)?;
        let rows = (self.engine)
            .read_tuples(filter, at, limit, cursor.as_deref(), deadline)
            .await
            .map_err(Failure::from)?;
        let sent = Outgoing::of(turn, ROWS, deadline, |out| send_rows(rows, out));
        Ok(Response::new(sent))
    }

    type ImportStream = Outgoing<proto::ImportResponse>;

    async fn import(
        &self,
        request: Request<Streaming<proto::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let deadline = deadline(&request);
        let turn = self.engine.stream_turn().map_err(Failure::from)?;
        let answers = bulk::import(&self.engine, request.into_inner(), deadline);
        Ok(Response::new(Outgoing::filled(answers, turn)))
    }

    type ExportStream = Outgoing<proto::ExportResponse>;

    async fn export(
        &self,
        request: Request<proto::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let deadline = deadline(&request);
        let ExportWanted { filter, at } =
            convert::bulk::export(request.into_inner()).map_err(Failure::from)?;
        let turn = self.engine.stream_turn().map_err(Failure::from)?;
        let export = (self.engine.export(filter, at, deadline).await).map_err(Failure::from)?;
        Ok(Response::new(bulk::export(export, turn, deadline)))
    }
}

/// Sends all rows; ends early where the client has gone.
async fn send_rows(
    mut rows: TupleRows,
    out: Outbox<proto::ReadTuplesResponse>,
) -> Result<(), Over> {
    let token = rows.token();
    loop {
        let batch = rows.next(ROWS).await.map_err(Failure::from)?;
        if batch.is_empty() {
            return Ok(());
        }
        for row in batch {
            out.send(answers::tuple_row(row, token)).await?;
        }
    }
}
