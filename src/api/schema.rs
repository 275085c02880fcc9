//! `SchemaService`: the schema is read and replaced.

use tonic::{Request, Response, Status};

use super::convert::{answers, reads, writes};
use super::deadline;
use super::grant::write;
use super::proto::{self, schema_service_server as server};
use super::status::{Failure, Shape};
use crate::engine::Engine;

/// The schema of one engine.
pub struct Schemas {
    engine: Engine,
}

impl Schemas {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl server::SchemaService for Schemas {
    async fn write_schema(
        &self,
        request: Request<proto::WriteSchemaRequest>,
    ) -> Result<Response<proto::WriteSchemaResponse>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        // A refusal prints lines of the text, which the command takes along.
        let text = request.schema.clone();
        let (command, shape) = (writes::schema(request), Shape::Schema(&text));
        let written = write(&self.engine, "WriteSchema", command, deadline, shape).await?;
        Ok(Response::new(answers::schema_written(written)))
    }

    async fn read_schema(
        &self,
        request: Request<proto::ReadSchemaRequest>,
    ) -> Result<Response<proto::ReadSchemaResponse>, Status> {
        let deadline = deadline(&request);
        let at = reads::schema(request.into_inner()).map_err(Failure::from)?;
        let view = self.engine.schema(at, deadline).await;
        Ok(Response::new(answers::schema(view.map_err(Failure::from)?)))
    }
}
