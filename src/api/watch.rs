//! `WatchService`: changes and invalidations.

use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::proto::{self, watch_service_server as server};
use super::status::not_implemented;

/// Answers that its methods are not there yet.
#[derive(Default)]
pub struct Watches;

#[tonic::async_trait]
impl server::WatchService for Watches {
    type WatchChangesStream = Empty<Result<proto::WatchChangesResponse, Status>>;

    async fn watch_changes(
        &self,
        _: Request<proto::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        Err(not_implemented("WatchChanges"))
    }

    async fn ack_changes(
        &self,
        _: Request<proto::AckChangesRequest>,
    ) -> Result<Response<proto::AckChangesResponse>, Status> {
        Err(not_implemented("AckChanges"))
    }

    async fn list_watchers(
        &self,
        _: Request<proto::ListWatchersRequest>,
    ) -> Result<Response<proto::ListWatchersResponse>, Status> {
        Err(not_implemented("ListWatchers"))
    }
}
