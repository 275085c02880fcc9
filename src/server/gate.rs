//! What answers before the engine stands, and what does after.

use std::future::ready;
use std::sync::{Arc, OnceLock};

use http::Request;
use tonic::body::Body;
use tonic::service::Routes;

use super::routes::{Answer, Services, elsewhere};
use super::{Peer, Serve};
use crate::api::status;

/// The services of an engine that may not stand yet: until then theirs is UNAVAILABLE, while
/// health and reflection answer from the start.
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

impl Serve for Gate {
    type Answer = Answer;

    fn serve(&self, request: Request<Body>, peer: Peer) -> Answer {
        if let Some(all) = self.all.get() {
            return all.serve(request, peer);
        }
        if request.uri().path().starts_with("/portcullis.") {
            return Box::pin(ready(status::starting().into_http()));
        }
        elsewhere(self.early.clone(), request)
    }
}
