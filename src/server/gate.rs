//! What answers before the engine stands, and what does after.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::api::status;

/// The services of an engine that may not stand yet: until then theirs is UNAVAILABLE, while
/// health and reflection answer from the start.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// Health and reflection alone, then everything.
    routes: Routes,
    is_open: bool,
    all: Arc<OnceLock<Routes>>,
}

impl Gate {
    /// A closed gate, behind which only `early` answer.
    pub(super) fn new(early: Routes) -> Self {
        Self {
            routes: early,
            is_open: false,
            all: Arc::default(),
        }
    }

    /// From now on `all` answer, on connections that are open already, too.
    pub(super) fn open(&self, all: Routes) {
        // Opened twice, the first one stays.
        let _ = self.all.set(all);
    }

    fn look(&mut self) {
        if !self.is_open
            && let Some(all) = self.all.get()
        {
            self.routes = all.clone();
            self.is_open = true;
        }
    }
}

type Routed = <Routes as Service<Request<Body>>>::Future;

/// An answer of the services on its way; `None` while the gate is closed.
pub(super) struct Answer(Option<Routed>);

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            None => Poll::Ready(Ok(status::starting().into_http())),
            Some(routed) => Pin::new(routed).poll(context),
        }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.look();
        if !self.is_open && request.uri().path().starts_with("/portcullis.") {
            return Answer(None);
        }
        Answer(Some(self.routes.call(request)))
    }
}
