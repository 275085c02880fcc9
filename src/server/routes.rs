//! All services of one engine, with health and reflection.

use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::{Builder, Error};

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
    pub(crate) type Watch = proto::watch_service_server::WatchServiceServer<watch::Watches>;
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

/// Everything.
pub(super) fn all(
    engine: &Engine,
    options: &ServeOptions,
    health: &Health,
) -> Result<Routes, Error> {
    let most = options.max_message_bytes;
    let check = services::Check::new(check::Checks::new(engine.clone()));
    let grant = services::Grant::new(grant::Grants::new(engine.clone()));
    let schema = services::Schema::new(schema::Schemas::new(engine.clone()));
    Ok(early(health)?
        .add_service(check.max_decoding_message_size(most))
        .add_service(grant.max_decoding_message_size(most))
        .add_service(schema.max_decoding_message_size(most))
        .add_service(services::Lock::new(lock::Locks).max_decoding_message_size(most))
        .add_service(services::Role::new(role::Roles).max_decoding_message_size(most))
        .add_service(services::Watch::new(watch::Watches).max_decoding_message_size(most))
        .prepare())
}

/// The descriptors of all that is served, and of the details that errors carry.
fn described() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
