//! Health, a status a service: for load balancers and probes.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::routes::services;
use crate::engine::Engine;

/// The services that answer from memory, and last `""`, the server as a whole.
const READING: &[&str] = &[services::Check::NAME, services::Watch::NAME, ""];
/// Those that are of little use without the store.
const WRITING: &[&str] = &[
    services::Grant::NAME,
    services::Lock::NAME,
    services::Role::NAME,
    services::Schema::NAME,
];

/// Tells clients which services answer.
#[derive(Clone, Debug)]
pub(super) struct Health(HealthReporter);

impl Health {
    /// Nothing serves yet.
    pub(super) async fn starting() -> Self {
        let health = Self(HealthReporter::new());
        health.stopping().await;
        health
    }

    pub(super) fn reporter(&self) -> HealthReporter {
        self.0.clone()
    }

    /// Reports how `engine` is whenever that changes; watching clients get each report.
    pub(super) async fn follow(&self, engine: &Engine) {
        let mut writable = engine.watch_writable();
        while writable.changed().await.is_ok() {
            self.report(engine).await;
        }
        std::future::pending::<()>().await;
    }

    /// Reports how `engine` is. Checks go on where the store failed.
    pub(super) async fn report(&self, engine: &Engine) {
        let writable = engine.status().writable;
        self.set(WRITING, serving(writable)).await;
        self.set(READING, ServingStatus::Serving).await;
    }

    /// Nothing serves any more.
    pub(super) async fn stopping(&self) {
        self.set(READING, ServingStatus::NotServing).await;
        self.set(WRITING, ServingStatus::NotServing).await;
    }

    async fn set(&self, services: &[&str], status: ServingStatus) {
        for service in services {
            self.0.set_service_status(service, status).await;
        }
    }
}

fn serving(serves: bool) -> ServingStatus {
    match serves {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}
