//! What a Record comes to: the Endpoint's resource, and how it is found.

use std::sync::Arc;

use homefleet_coap::link::{self, Link};
use homefleet_coap::{Code, Request, Response, Uri, content_format};
use homefleet_usp::mtp::coap as binding;
use tokio::sync::mpsc;

use super::{Counters, count};
use crate::coap::{Incoming, Service};
use crate::mtp::{Event, Origin, Route, proves};

/// Resource discovery (RFC 6690 §4).
const WELL_KNOWN_CORE: &str = ".well-known/core";

/// The Endpoint's resource and `/.well-known/core`.
pub(super) struct Resource {
    pub(super) path: String,
    pub(super) link: Link,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) counters: Arc<Counters>,
}

impl Service for Resource {
    fn handle(&mut self, incoming: Incoming<'_>) -> Option<Response> {
        let path = incoming.request.options.path();
        Some(if path == WELL_KNOWN_CORE {
            self.discovery(&incoming.request)
        } else if path == self.path && !incoming.to_group {
            self.record(&incoming)
        } else {
            count(&self.counters.not_found);
            Response::new(Code::NOT_FOUND)
        })
    }
}

impl Resource {
    fn discovery(&self, request: &Request) -> Response {
        if request.code != Code::GET {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        let links = link::core(
            std::slice::from_ref(&self.link),
            request.options.uri_queries(),
        );
        Response::content(content_format::LINK_FORMAT, links)
    }

    fn record(&self, incoming: &Incoming<'_>) -> Response {
        let request = &incoming.request;
        let queries: Vec<&str> = request.options.uri_queries().collect();
        let accepted = binding::accept(
            binding::Inbound {
                method: request.code.byte(),
                content_format: request.options.content_format(),
                queries: &queries,
                payload: &request.payload,
            },
            incoming.identity.is_some(),
        );
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(rejection) => {
                count(&self.counters.rejected);
                self.erroneous(incoming, &rejection);
                return Response::new(Code::from_byte(rejection.code))
                    .diagnostic(&rejection.reason.to_string());
            }
        };
        let from_id = accepted.record.from_id();
        if !proves(incoming.identity.map(AsRef::as_ref), from_id) {
            count(&self.counters.identity_mismatch);
            return Response::new(Code::FORBIDDEN)
                .diagnostic("from_id is not the Endpoint ID of the certificate");
        }
        let Some(uri) = way_back(incoming, &accepted.reply_to) else {
            count(&self.counters.rejected);
            return Response::new(Code::BAD_REQUEST).diagnostic("reply-to is no way back");
        };
        let event = Event::Record {
            record: Box::new(accepted.record),
            origin: origin(incoming, uri),
        };
        match self.events.try_send(event) {
            Ok(()) => {
                count(&self.counters.records_in);
                Response::new(Code::CHANGED)
            }
            Err(_) => {
                count(&self.counters.queue_full);
                Response::new(Code::SERVICE_UNAVAILABLE).max_age(5)
            }
        }
    }

    /// What is no Record is answered 4.00 here (R-COAP.13), and perhaps by an Error Message besides (R-MTP.5).
    fn erroneous(&self, incoming: &Incoming<'_>, rejection: &binding::Rejection) {
        let binding::Reason::Record(error) = &rejection.reason else {
            return;
        };
        let uri = rejection.reply_to.as_deref();
        let uri = uri.and_then(|uri| way_back(incoming, uri));
        let (Some(uri), Some(from_id)) = (uri, error.from_id()) else {
            return;
        };
        if !proves(incoming.identity.map(AsRef::as_ref), from_id) {
            count(&self.counters.identity_mismatch);
            return;
        }
        let event = Event::Erroneous {
            error: error.clone(),
            origin: origin(incoming, uri),
        };
        if self.events.try_send(event).is_err() {
            count(&self.counters.queue_full);
        }
    }
}

/// The URI that an answer goes to, never weaker than the request.
fn way_back(incoming: &Incoming<'_>, reply_to: &str) -> Option<Uri> {
    let uri: Uri = reply_to.parse().ok()?;
    (incoming.identity.is_none() || uri.scheme.is_secure()).then_some(uri)
}

fn origin(incoming: &Incoming<'_>, reply_to: Uri) -> Origin {
    Origin {
        channel: None,
        identity: incoming.identity.cloned(),
        reply_to: Some(Route::Coap(reply_to)),
    }
}
