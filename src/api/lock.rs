//! `LockService`: locks on resources.

use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::proto::{self, lock_service_server as server};
use super::status::not_implemented;

/// Answers that its methods are not there yet.
#[derive(Default)]
pub struct Locks;

#[tonic::async_trait]
impl server::LockService for Locks {
    async fn lock(
        &self,
        _: Request<proto::LockRequest>,
    ) -> Result<Response<proto::LockResponse>, Status> {
        Err(not_implemented("Lock"))
    }

    async fn unlock(
        &self,
        _: Request<proto::UnlockRequest>,
    ) -> Result<Response<proto::UnlockResponse>, Status> {
        Err(not_implemented("Unlock"))
    }

    async fn renew_lock(
        &self,
        _: Request<proto::RenewLockRequest>,
    ) -> Result<Response<proto::RenewLockResponse>, Status> {
        Err(not_implemented("RenewLock"))
    }

    type ListLocksStream = Empty<Result<proto::ListLocksResponse, Status>>;

    async fn list_locks(
        &self,
        _: Request<proto::ListLocksRequest>,
    ) -> Result<Response<Self::ListLocksStream>, Status> {
        Err(not_implemented("ListLocks"))
    }
}
