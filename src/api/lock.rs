//! `LockService`: locks on resources.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::convert::locks;
use super::deadline;
use super::grant::write;
use super::proto::{self, lock_service_server as server};
use super::status::{Failure, Shape};
use crate::engine::Engine;

/// The locks of one engine.
pub struct Locks {
    engine: Engine,
}

impl Locks {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl server::LockService for Locks {
    async fn lock(
        &self,
        request: Request<proto::LockRequest>,
    ) -> Result<Response<proto::LockResponse>, Status> {
        let deadline = deadline(&request);
        let command = locks::lock(request.into_inner());
        let written = write(&self.engine, "Lock", command, deadline, Shape::Updates).await?;
        Ok(Response::new(locks::locked(written)))
    }

    async fn unlock(
        &self,
        request: Request<proto::UnlockRequest>,
    ) -> Result<Response<proto::UnlockResponse>, Status> {
        let deadline = deadline(&request);
        let command = locks::unlock(request.into_inner());
        let written = write(&self.engine, "Unlock", command, deadline, Shape::Updates).await?;
        Ok(Response::new(locks::unlocked(written)))
    }

    async fn renew_lock(
        &self,
        request: Request<proto::RenewLockRequest>,
    ) -> Result<Response<proto::RenewLockResponse>, Status> {
        let deadline = deadline(&request);
        let command = locks::renew(request.into_inner());
        let written = write(&self.engine, "RenewLock", command, deadline, Shape::Updates).await?;
        Ok(Response::new(locks::renewed(written)))
    }

    type ListLocksStream =
        Pin<Box<dyn Stream<Item = Result<proto::ListLocksResponse, Status>> + Send>>;

    async fn list_locks(
        &self,
        request: Request<proto::ListLocksRequest>,
    ) -> Result<Response<Self::ListLocksStream>, Status> {
        let deadline = deadline(&request);
        let wanted = locks::list(request.into_inner()).map_err(Failure::from)?;
        let (resource, inherited, at) = wanted;
        let listed = self
            .engine
            .list_locks(resource.as_ref(), inherited, at, deadline);
        let (held, token) = listed.await.map_err(Failure::from)?;
        let rows = held
            .into_iter()
            .map(move |lock| Ok(locks::row(&lock, token)));
        Ok(Response::new(Box::pin(tokio_stream::iter(rows))))
    }
}
