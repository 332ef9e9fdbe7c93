//! What a request comes to: CMP's resources, files besides, and how they are found.

use std::sync::Arc;
use std::time::Instant;

use homefleet_coap::link::{self, Link};
use homefleet_coap::{Code, Response, content_format, number};
use homefleet_trust::PeerIdentity;

use super::announcing::Announcing;
use super::limits::Limits;
use super::{Counters, answer, count};
use crate::cmp::service::{Media, Request, Scheme, Service};
use crate::cmp::target::Target;
use crate::coap::{Incoming, Responder};

/// Resource discovery (RFC 6690 §4).
const WELL_KNOWN_CORE: [&str; 2] = [".well-known", "core"];

/// Everything that is served. Lives in the endpoint's task, so whatever takes time is done elsewhere.
pub(super) struct Resource {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Arc<Counters>,
    pub(super) max_message: usize,
    pub(super) accept_octet_stream: bool,
    pub(super) announcing: Announcing,
}

impl crate::coap::Service for Resource {
    fn handle(&mut self, incoming: Incoming<'_>) -> Option<Response> {
        let options = &incoming.request.options;
        let path = options.uri_path();
        let outcome = if path == WELL_KNOWN_CORE {
            Err(self.discovery(&incoming))
        } else if incoming.to_group {
            // PKIMessages have no multicast destination (RFC 9482 §2.5), and nothing else here is for many.
            Err(self.reject(Code::NOT_FOUND, ""))
        } else if let Some(label) = Target::parse_announcements(&path) {
            Err(self.announcements(&incoming, label.as_deref()))
        } else {
            match Target::parse(&path) {
                Ok(target) => self.message(incoming, target),
                Err(_) => self.file(incoming, &path.join("/")),
            }
        };
        outcome.err()
    }
}

/// Answered later, or at once.
type Outcome = Result<(), Response>;

impl Resource {
    fn reject(&self, code: Code, why: &str) -> Response {
        count(&self.counters.rejected);
        let response = Response::new(code);
        if why.is_empty() {
            response
        } else {
            response.diagnostic(why)
        }
    }

    /// A PKIMessage, as RFC 9482 §2.3 wants it, goes to the service.
    fn message(&self, incoming: Incoming<'_>, target: Target) -> Outcome {
        let request = &incoming.request;
        let options = &request.options;
        if request.code != Code::POST {
            return Err(self.reject(Code::METHOD_NOT_ALLOWED, "CMP messages come by POST"));
        }
        if options.contains(number::URI_QUERY) {
            return Err(self.reject(Code::NOT_FOUND, "there is no query here"));
        }
        if !request.confirmable {
            return Err(self.reject(
                Code::BAD_REQUEST,
                "CMP requests are Confirmable (RFC 9482 2.3)",
            ));
        }
        let format = match options.content_format() {
            Some(content_format::PKIXCMP) => content_format::PKIXCMP,
            Some(content_format::OCTET_STREAM) if self.accept_octet_stream => {
                content_format::OCTET_STREAM
            }
            _ => {
                return Err(self.reject(
                    Code::UNSUPPORTED_CONTENT_FORMAT,
                    "CMP messages have content-format 259",
                ));
            }
        };
        let format = match options.accept() {
            None => format,
            Some(content_format::PKIXCMP) => content_format::PKIXCMP,
            Some(accept) if accept == format => format,
            Some(_) => return Err(self.reject(Code::NOT_ACCEPTABLE, "")),
        };
        if request.payload.is_empty() {
            return Err(self.reject(Code::BAD_REQUEST, "there is no message"));
        }
        if request.payload.len() > self.max_message {
            let limit = u32::try_from(self.max_message).unwrap_or(u32::MAX);
            let mut response = self.reject(Code::REQUEST_ENTITY_TOO_LARGE, "");
            response.options.set_size1(limit);
            return Err(response);
        }
        let from = incoming.from;
        let identity = incoming.identity;
        let message = Request {
            target,
            from,
            scheme: scheme(identity),
            host: options
                .uri_host()
                .map(str::to_owned)
                .or_else(|| incoming.server_name.clone()),
            identity: identity.filter(|peer| peer.is_verified()).cloned(),
            message: incoming.request.payload.clone(),
        };
        let service = self.service.clone();
        let identified = message.identity.is_some();
        self.begin(&incoming, move || async move {
            answer::response(service.answer(message).await, format)
        })?;
        count(&self.counters.messages);
        if identified {
            count(&self.counters.identified);
        }
        Ok(())
    }

    /// What is announced, now and, where that is asked for, from now on (RFC 9482 §2.6).
    fn announcements(&mut self, incoming: &Incoming<'_>, label: Option<&str>) -> Response {
        let options = &incoming.request.options;
        let host = options.uri_host().or(incoming.server_name.as_deref());
        let Some(bulletin) = self.service.bulletin(label, host) else {
            return self.reject(Code::NOT_FOUND, "");
        };
        if incoming.request.code != Code::GET {
            return self.reject(Code::METHOD_NOT_ALLOWED, "announcements are read by GET");
        }
        let accept = options.accept();
        if accept.is_some_and(|accept| accept != content_format::PKIXCMP) {
            return self.reject(Code::NOT_ACCEPTABLE, "");
        }
        let secure = incoming.identity.is_some();
        match self.limits.take(Instant::now(), incoming.from, secure) {
            Ok(_) => {}
            Err(over) => {
                count(&self.counters.over_limit);
                return answer::over(over);
            }
        }
        count(&self.counters.announcements);
        self.announcing.serve(incoming, &bulletin)
    }

    /// A CRL, a certificate, or a question about one.
    fn file(&self, incoming: Incoming<'_>, path: &str) -> Outcome {
        let files = self.service.files();
        let Some((path, media)) = files.into_iter().find(|(known, _)| known == path) else {
            return Err(self.reject(Code::NOT_FOUND, ""));
        };
        let request = &incoming.request;
        let options = request.options.clone();
        if options
            .accept()
            .is_some_and(|accept| accept != media.content_format())
        {
            return Err(self.reject(Code::NOT_ACCEPTABLE, ""));
        }
        let service = self.service.clone();
        let counters = self.counters.clone();
        match (media, request.code) {
            (Media::Ocsp, method @ (Code::POST | Code::FETCH)) => {
                let ours = Media::Ocsp.content_format();
                if options
                    .content_format()
                    .is_some_and(|format| format != ours)
                {
                    return Err(self.reject(Code::UNSUPPORTED_CONTENT_FORMAT, ""));
                }
                let question = request.payload.clone();
                self.begin(&incoming, move || async move {
                    count(&counters.files);
                    answer::ocsp(service.ocsp(question).await, method)
                })
            }
            (Media::Ocsp, _) => Err(self.reject(
                Code::METHOD_NOT_ALLOWED,
                "OCSP requests come by POST or FETCH",
            )),
            (_, Code::GET) => self.begin(&incoming, move || async move {
                count(&counters.files);
                answer::file(service.file(&path).await, &options)
            }),
            _ => Err(self.reject(Code::METHOD_NOT_ALLOWED, "")),
        }
    }

    /// Has a request answered outside of this task. CoAP sends the response with the acknowledgement when it is there soon, separately
    /// when not (RFC 9482 §2.3).
    fn begin<F>(&self, incoming: &Incoming<'_>, work: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let secure = incoming.identity.is_some();
        let place = self.limits.take(Instant::now(), incoming.from, secure);
        let place = place.map_err(|over| {
            count(&self.counters.over_limit);
            answer::over(over)
        })?;
        let responder: Responder = incoming.later();
        let work = work();
        tokio::spawn(async move {
            let response = work.await;
            drop(place);
            responder.respond(response).await;
        });
        Ok(())
    }

    /// RFC 9482 §2.2: each link to CMP has `ct=259`.
    fn discovery(&self, incoming: &Incoming<'_>) -> Response {
        let request = &incoming.request;
        if request.code != Code::GET {
            return self.reject(Code::METHOD_NOT_ALLOWED, "");
        }
        let accept = request.options.accept();
        if accept.is_some_and(|accept| accept != content_format::LINK_FORMAT) {
            return self.reject(Code::NOT_ACCEPTABLE, "");
        }
        count(&self.counters.discoveries);
        let links = link::core(&self.links(), request.options.uri_queries());
        if links.is_empty() && incoming.to_group {
            // Whoever asks many wants to hear from those that have what it looks for.
            return Response::new(Code::NOT_FOUND);
        }
        Response::content(content_format::LINK_FORMAT, links)
    }

    fn links(&self) -> Vec<Link> {
        let labels = self.service.labels().into_iter().map(Some);
        let bare = self.service.is_bare().then_some(None);
        let targets = bare.into_iter().chain(labels).flat_map(|label| {
            let observed = self.service.bulletin(label.as_deref(), None).map(|_| {
                let path = Target::announcements(label.as_deref());
                let link = Link::new(crate::cmp::url::path_text(&path));
                let link = link.attribute("ct", content_format::PKIXCMP.to_string());
                link.flag("obs")
            });
            let target = Target {
                label,
                operation: None,
            };
            let path = crate::cmp::url::path_text(&target.segments(true));
            let link = Link::new(path).attribute("ct", content_format::PKIXCMP.to_string());
            std::iter::once(link).chain(observed)
        });
        let files = self.service.files();
        let files = files.iter().map(|(path, media)| {
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            Link::new(crate::cmp::url::path_text(&segments))
                .attribute("ct", media.content_format().to_string())
        });
        targets.chain(files).collect()
    }
}

/// Behind DTLS everybody is somebody, if nobody in particular.
fn scheme(identity: Option<&Arc<PeerIdentity>>) -> Scheme {
    if identity.is_some() {
        Scheme::Coaps
    } else {
        Scheme::Coap
    }
}
