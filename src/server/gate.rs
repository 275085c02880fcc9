//! What answers before the engine stands, and what does after.

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::routes::{Answer, Services};
use crate::api::status;

/// The services of an engine that may not stand yet: until then theirs is UNAVAILABLE, while
/// health and reflection answer from the start. Cloned for every request: two counts.
#[derive(Clone)]
pub(super) struct Gate {
    early: Routes,
    all: Arc<OnceLock<Services>>,
}

impl Gate {
    /// A closed gate, behind which only `early` answer.
    pub(super) fn new(early: Routes) -> Self {
        Self {
            early,
            all: Arc::default(),
        }
    }

    /// From now on `all` answer, on connections that are open already, too.
    pub(super) fn open(&self, all: Services) {
        // Opened twice, the first one stays.
        let _ = self.all.set(all);
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's services and its router are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        if let Some(all) = self.all.get() {
            return all.call(request);
        }
        if request.uri().path().starts_with("/portcullis.") {
            return Box::pin(ready(Ok(status::starting().into_http())));
        }
        Box::pin(self.early.call(request))
    }
}
