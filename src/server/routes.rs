//! All services of one engine, with health and reflection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use super::health::Health;
use super::streamed::streamed;
use super::unary::{encoded, is_plain, unary};
use super::{Peer, ServeOptions};
use crate::api::{CameFrom, Deadline, check, grant, lock, proto, role, schema, watch};
use crate::engine::Engine;

/// The six services as they are registered.
pub(super) mod services {
    use crate::api::{check, grant, lock, proto, role, schema, watch};

    pub(crate) type Check = proto::check_service_server::CheckServiceServer<check::Checks>;
    pub(crate) type Grant = proto::grant_service_server::GrantServiceServer<grant::Grants>;
    pub(crate) type Lock = proto::lock_service_server::LockServiceServer<lock::Locks>;
    pub(crate) type Role = proto::role_service_server::RoleServiceServer<role::Roles>;
    pub(crate) type Schema = proto::schema_service_server::SchemaServiceServer<schema::Schemas>;
    pub(crate) type Watch =
        proto::encoded::watch_service_server::WatchServiceServer<watch::Watches>;
}

/// Everything that answers. Our own services are found by their name alone: tonic's router costs
/// as much as a check. So does its way from a body to a message and back, which the questions that
/// are asked most do not go.
pub(super) struct Services {
    checks: Arc<check::Checks>,
    watches: Arc<watch::Watches>,
    max_message_bytes: usize,
    check: services::Check,
    grant: services::Grant,
    lock: services::Lock,
    role: services::Role,
    schema: services::Schema,
    watch: services::Watch,
    others: Routes,
}

/// An answer on its way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Services {
    /// Everything.
    pub(super) fn new(
        engine: &Engine,
        options: &ServeOptions,
        health: &Health,
    ) -> Result<Self, Error> {
        let most = options.max_message_bytes;
        let checks = Arc::new(check::Checks::new(engine.clone()));
        let check = services::Check::from_arc(Arc::clone(&checks));
        let grant = services::Grant::new(grant::Grants::new(engine.clone()));
        let lock = services::Lock::new(lock::Locks::new(engine.clone()));
        let role = services::Role::new(role::Roles::new(engine.clone()));
        let schema = services::Schema::new(schema::Schemas::new(engine.clone()));
        let watches = Arc::new(watch::Watches::new(engine.clone()));
        let watch = services::Watch::from_arc(Arc::clone(&watches));
        Ok(Self {
            checks,
            watches,
            max_message_bytes: most,
            check: check.max_decoding_message_size(most),
            grant: grant.max_decoding_message_size(most),
            lock: lock.max_decoding_message_size(most),
            role: role.max_decoding_message_size(most),
            schema: schema.max_decoding_message_size(most),
            watch: watch.max_decoding_message_size(most),
            others: early(health)?,
        })
    }

    /// Has the service answer that the request's path names.
    pub(super) fn serve(&self, mut request: Request<Body>, peer: Peer) -> Answer {
        let path = request.uri().path();
        let (name, method) = (path.strip_prefix('/'))
            .and_then(|path| path.split_once('/'))
            .unwrap_or_default();
        match (name, method) {
            (services::Check::NAME, "Check") if is_plain(request.headers()) => self.check(request),
            (services::Check::NAME, "BatchCheck") if is_plain(request.headers()) => {
                self.batch_check(request)
            }
            (services::Check::NAME, "ListResources") if is_plain(request.headers()) => {
                self.list_resources(request)
            }
            (services::Check::NAME, "ListSubjects") if is_plain(request.headers()) => {
                self.list_subjects(request)
            }
            (services::Watch::NAME, "AckChanges") if is_plain(request.headers()) => {
                self.acknowledge(request)
            }
            (services::Check::NAME, _) => elsewhere(self.check.clone(), request),
            (services::Grant::NAME, _) => elsewhere(self.grant.clone(), request),
            (services::Lock::NAME, _) => elsewhere(self.lock.clone(), request),
            (services::Role::NAME, _) => elsewhere(self.role.clone(), request),
            (services::Schema::NAME, _) => elsewhere(self.schema.clone(), request),
            (services::Watch::NAME, _) => {
                request.extensions_mut().insert(CameFrom(peer));
                elsewhere(self.watch.clone(), request)
            }
            _ => elsewhere(self.others.clone(), request),
        }
    }

    fn check(&self, request: Request<Body>) -> Answer {
        let (checks, most) = (Arc::clone(&self.checks), self.max_message_bytes);
        Box::pin(async move {
            let deadline = deadline(&request);
            unary(request.into_body(), most, |asked| {
                checks.answer(asked, deadline)
            })
            .await
        })
    }

    /// A thousand sidecars that nobody asks send hundreds of these a second.
    fn acknowledge(&self, request: Request<Body>) -> Answer {
        let (watches, most) = (Arc::clone(&self.watches), self.max_message_bytes);
        Box::pin(async move { unary(request.into_body(), most, |ack| watches.answer(ack)).await })
    }

    fn batch_check(&self, request: Request<Body>) -> Answer {
        let (checks, most) = (Arc::clone(&self.checks), self.max_message_bytes);
        Box::pin(async move {
            let deadline = deadline(&request);
            encoded(request.into_body(), most, |message| {
                checks.answer_batch_encoded(message, deadline)
            })
            .await
        })
    }

    fn list_resources(&self, request: Request<Body>) -> Answer {
        let (checks, most) = (Arc::clone(&self.checks), self.max_message_bytes);
        Box::pin(async move {
            let deadline = deadline(&request);
            streamed(request.into_body(), most, |asked| {
                checks.resources(asked, deadline)
            })
            .await
        })
    }

    fn list_subjects(&self, request: Request<Body>) -> Answer {
        let (checks, most) = (Arc::clone(&self.checks), self.max_message_bytes);
        Box::pin(async move {
            let deadline = deadline(&request);
            streamed(request.into_body(), most, |asked| {
                checks.subjects(asked, deadline)
            })
            .await
        })
    }
}

fn deadline(request: &Request<Body>) -> Option<Instant> {
    request.extensions().get().map(|Deadline(at)| *at)
}

/// Has one of tonic's services answer, in a task of the request's own.
pub(super) fn elsewhere<S>(mut service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    Box::pin(async move {
        tokio::task::yield_now().await;
        let Ok(response) = service.call(request).await;
        response
    })
}

/// What answers before there is an engine.
pub(super) fn early(health: &Health) -> Result<Routes, Error> {
    let health = HealthService::from_health_reporter(health.reporter());
    Ok(Routes::default()
        .add_service(HealthServer::new(health))
        .add_service(described().build_v1()?)
        .add_service(described().build_v1alpha()?)
        .prepare())
}

/// The descriptors of all that is served, and of the details that errors carry.
fn described() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
