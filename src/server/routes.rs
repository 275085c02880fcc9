//! All services of one engine, with health and reflection.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use super::ServeOptions;
use super::health::Health;
use crate::api::{check, grant, lock, proto, role, schema, watch};
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
/// as much as a check.
pub(super) struct Services {
    check: services::Check,
    grant: services::Grant,
    lock: services::Lock,
    role: services::Role,
    schema: services::Schema,
    watch: services::Watch,
    others: Routes,
}

/// An answer on its way.
pub(super) type Answer = BoxFuture<Response<Body>, Infallible>;

impl Services {
    /// Everything.
    pub(super) fn new(
        engine: &Engine,
        options: &ServeOptions,
        health: &Health,
    ) -> Result<Self, Error> {
        let most = options.max_message_bytes;
        let check = services::Check::new(check::Checks::new(engine.clone()));
        let grant = services::Grant::new(grant::Grants::new(engine.clone()));
        let lock = services::Lock::new(lock::Locks::new(engine.clone()));
        let role = services::Role::new(role::Roles::new(engine.clone()));
        let schema = services::Schema::new(schema::Schemas::new(engine.clone()));
        let watch = services::Watch::new(watch::Watches::new(engine.clone()));
        Ok(Self {
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
    pub(super) fn call(&self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match name.map_or("", |(name, _)| name) {
            services::Check::NAME => self.check.clone().call(request),
            services::Grant::NAME => self.grant.clone().call(request),
            services::Lock::NAME => self.lock.clone().call(request),
            services::Role::NAME => self.role.clone().call(request),
            services::Schema::NAME => self.schema.clone().call(request),
            services::Watch::NAME => self.watch.clone().call(request),
            _ => Box::pin(self.others.clone().call(request)),
        }
    }
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
