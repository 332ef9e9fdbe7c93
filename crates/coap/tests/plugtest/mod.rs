//! The resources of the ETSI CoAP plugtests, as an application for any endpoint.
//!
//! It does no I/O: the suite of `homefleet-coap` drives it in virtual time, that of `homefleet-net` on real sockets. Hand it every event of
//! its endpoint, and call [`Plugtest::handle_timeout`] when [`Plugtest::poll_timeout`] says so.
#![allow(dead_code)] // each suite uses its part

use std::time::{Duration, Instant};

use homefleet_coap::link::{self, Link};
use homefleet_coap::{
    Code, Config, Endpoint, Event, ExchangeId, ObservationId, Options, Request, Response,
    content_format, number,
};

/// What a resource is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) format: u16,
    pub(crate) body: Vec<u8>,
}

impl State {
    fn text(body: impl Into<Vec<u8>>) -> State {
        State {
            format: content_format::TEXT_PLAIN,
            body: body.into(),
        }
    }

    fn of(request: &Request) -> State {
        State {
            format: request.options.content_format().unwrap_or(0),
            body: request.payload.clone(),
        }
    }

    fn content(&self) -> Response {
        Response::content(self.format, self.body.clone())
    }
}

/// The plugtest server.
pub(crate) struct Plugtest {
    /// How often the observable resources change by themselves.
    pub(crate) period: Option<Duration>,
    /// How long `/separate` takes.
    pub(crate) delay: Duration,
    /// Every request that was handed over, with its whole body.
    pub(crate) received: Vec<Request>,
    pub(crate) large_update: State,
    /// What was made by POST to `/large-create`.
    pub(crate) created: Vec<State>,
    /// What `/validate` is, and how often it was written.
    pub(crate) validate: (State, u8),
    pub(crate) create1: Option<State>,
    /// `/obs`; `None` once it is deleted.
    pub(crate) obs: Option<State>,
    observers: Vec<(ObservationId, String)>,
    ticks: u32,
    next_tick: Option<Instant>,
    delayed: Vec<(Instant, ExchangeId)>,
}

/// A text of about `len` bytes in numbered lines, so that a gap shows.
pub(crate) fn large(len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = 0;
    while text.len() < len {
        line += 1;
        text.extend_from_slice(format!("{line:04} every line has its own number\n").as_bytes());
    }
    text
}

impl Plugtest {
    pub(crate) fn new() -> Plugtest {
        Plugtest {
            period: None,
            delay: Duration::from_secs(2),
            received: Vec::new(),
            large_update: State::text(large(1500)),
            created: Vec::new(),
            validate: (State::text("first"), 0),
            create1: None,
            obs: Some(State::text("tick 0")),
            observers: Vec::new(),
            ticks: 0,
            next_tick: None,
            delayed: Vec::new(),
        }
    }

    /// What its endpoint is to be: it deals with conditional requests, all of its notifications are Confirmable, and addresses count as
    /// verified (the plugtest list is older than RFC 9175).
    pub(crate) fn config() -> Config {
        Config {
            amplification: 0,
            understood: vec![number::ACCEPT, number::IF_MATCH, number::IF_NONE_MATCH],
            notify_con_every: 1,
            ..Config::default()
        }
    }

    /// What `/.well-known/core` lists.
    pub(crate) fn links() -> Vec<Link> {
        let typed = |target: &str, rt: &str, interface: &str| {
            Link::new(target)
                .attribute("rt", rt)
                .attribute("if", interface)
        };
        vec![
            Link::new("/test").attribute("title", "Default test resource"),
            Link::new("/separate"),
            Link::new("/seg1/seg2/seg3"),
            Link::new("/query"),
            Link::new("/large").attribute("sz", large(LARGE).len().to_string()),
            Link::new("/large-update"),
            Link::new("/large-create"),
            Link::new("/large-post"),
            Link::new("/obs").attribute("rt", "observe").flag("obs"),
            Link::new("/obs-non").attribute("rt", "observe").flag("obs"),
            Link::new("/obs-large").flag("obs"),
            Link::new("/multi-format").attribute("ct", "0 41"),
            Link::new("/validate"),
            Link::new("/create1"),
            Link::new("/location-query"),
            typed("/link1", "Type1 Type2", "If1"),
            typed("/link2", "Type2 Type3", "If2"),
            typed("/link3", "Type1 Type3", "foo"),
            Link::new("/link4").attribute("rt", ""),
            Link::new("/path").attribute("ct", "40"),
        ]
    }

    fn sub_links() -> Vec<Link> {
        ["/path/sub1", "/path/sub2", "/path/sub3"]
            .map(Link::new)
            .to_vec()
    }

    /// How many observers are served.
    pub(crate) fn observers(&self) -> usize {
        self.observers.len()
    }

    /// Loses all observers without a word, as a restart does.
    pub(crate) fn forget_observers(&mut self) {
        self.observers.clear();
    }

    /// Deals with an event of its endpoint.
    pub(crate) fn event(&mut self, now: Instant, endpoint: &mut Endpoint, event: &Event) {
        match event {
            Event::Request {
                exchange, request, ..
            } => self.request(now, endpoint, *exchange, request),
            Event::ObserverGone { id } => self.observers.retain(|(other, _)| other != id),
            _ => {}
        }
    }

    fn request(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        exchange: ExchangeId,
        request: &Request,
    ) {
        self.received.push(request.clone());
        let path = request.options.path();
        if path == "separate" {
            self.delayed.push((now + self.delay, exchange));
            return;
        }
        let before = self.obs.clone();
        let response = self.answer(&path, request);
        let observes = request.options.observe() == Some(0) && path.starts_with("obs");
        if observes
            && response.code.is_success()
            && let Ok(id) = endpoint.accept_observer(exchange)
        {
            self.observers.retain(|(other, _)| *other != id);
            self.observers.push((id, path));
            if self.next_tick.is_none() {
                self.next_tick = self.period.map(|period| now + period);
            }
        }
        // An exchange may be gone by now; there is nobody to tell then.
        let _gone = endpoint.respond(now, exchange, response);
        if self.obs != before {
            self.obs_changed(now, endpoint, before);
        }
    }

    /// Observers of `/obs` get its new state; another format or its end is the last they hear (RFC 7641 §4.2).
    fn obs_changed(&mut self, now: Instant, endpoint: &mut Endpoint, before: Option<State>) {
        let response = match &self.obs {
            None => Response::new(Code::NOT_FOUND),
            Some(state) if before.is_some_and(|old| old.format != state.format) => {
                Response::new(Code::NOT_ACCEPTABLE)
            }
            Some(state) => state.content(),
        };
        self.notify(now, endpoint, "obs", &response);
    }

    fn notify(&mut self, now: Instant, endpoint: &mut Endpoint, path: &str, response: &Response) {
        self.observers.retain(|(id, other)| {
            let sent = other != path || endpoint.notify(now, *id, response.clone()).is_ok();
            sent && (other != path || response.code.is_success())
        });
    }

    /// When to call [`Plugtest::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.iter().map(|(at, _)| *at);
        delayed.chain(self.next_tick).min()
    }

    /// Answers what is due, and changes the observable resources.
    pub(crate) fn handle_timeout(&mut self, now: Instant, endpoint: &mut Endpoint) {
        for (at, exchange) in std::mem::take(&mut self.delayed) {
            if at <= now {
                let response = State::text("That took some time").content();
                let _gone = endpoint.respond(now, exchange, response);
            } else {
                self.delayed.push((at, exchange));
            }
        }
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = match self.period {
                Some(period) if !self.observers.is_empty() => Some(now + period),
                _ => None,
            };
            self.tick(now, endpoint);
        }
    }

    /// The observable resources change.
    pub(crate) fn tick(&mut self, now: Instant, endpoint: &mut Endpoint) {
        self.ticks += 1;
        let text = format!("tick {}", self.ticks);
        if let Some(obs) = &mut self.obs {
            obs.body = text.clone().into_bytes();
            let content = obs.content();
            self.notify(now, endpoint, "obs", &content);
        }
        let non = State::text(text).content();
        self.notify(now, endpoint, "obs-non", &non);
        let large = self.obs_large().content();
        self.notify(now, endpoint, "obs-large", &large);
    }

    fn obs_large(&self) -> State {
        let mut text = large(LARGE);
        text.extend_from_slice(format!("tick {}", self.ticks).as_bytes());
        State::text(text)
    }

    fn answer(&mut self, path: &str, request: &Request) -> Response {
        let segments: Vec<&str> = path.split('/').collect();
        match (segments.as_slice(), request.code) {
            ([".well-known", "core"], Code::GET) => listing(&Plugtest::links(), &request.options),
            (["test"], Code::GET) => State::text("Hello from the plugtest").content(),
            (["test"], Code::PUT) => Response::new(Code::CHANGED),
            (["test"], Code::DELETE) => Response::new(Code::DELETED),
            (["test"], Code::POST) => ["location1", "location2", "location3"]
                .iter()
                .fold(Response::new(Code::CREATED), |response, segment| {
                    response.option(number::LOCATION_PATH, segment.as_bytes())
                }),
            (["location-query"], Code::POST) => Response::new(Code::CREATED)
                .option(number::LOCATION_QUERY, b"first=1")
                .option(number::LOCATION_QUERY, b"second=2"),
            (["seg1", "seg2", "seg3"], Code::GET) => State::text("three segments").content(),
            (["query"], Code::GET) => {
                let arguments: Vec<&str> = request.options.uri_queries().collect();
                State::text(arguments.join("\n")).content()
            }
            (["multi-format"], Code::GET) => match request.options.accept().unwrap_or(0) {
                content_format::TEXT_PLAIN => State::text("plain").content(),
                content_format::XML => {
                    Response::content(content_format::XML, "<format>xml</format>")
                }
                _ => Response::new(Code::NOT_ACCEPTABLE),
            },
            (["validate"], _) => self.validate(request),
            (["create1"], _) => self.create1(request),
            (["large"], Code::GET) => State::text(large(LARGE)).content(),
            (["large-update"], Code::GET) => self.large_update.content(),
            (["large-update"], Code::PUT) => {
                self.large_update = State::of(request);
                Response::new(Code::CHANGED)
            }
            (["large-create"], Code::POST) => {
                self.created.push(State::of(request));
                Response::new(Code::CREATED)
                    .option(number::LOCATION_PATH, b"large-create")
                    .option(
                        number::LOCATION_PATH,
                        self.created.len().to_string().as_bytes(),
                    )
            }
            (["large-create", which], Code::GET) => {
                let at = which.parse::<usize>().unwrap_or(0).wrapping_sub(1);
                self.created
                    .get(at)
                    .map_or(Response::new(Code::NOT_FOUND), State::content)
            }
            (["large-post"], Code::POST) => {
                let mut response = State::of(request);
                response.body.make_ascii_uppercase();
                Response {
                    code: Code::CHANGED,
                    ..response.content()
                }
            }
            (["obs"], Code::GET) => match &self.obs {
                Some(state) => state.content(),
                None => Response::new(Code::NOT_FOUND),
            },
            (["obs"], Code::PUT) => {
                self.obs = Some(State::of(request));
                Response::new(Code::CHANGED)
            }
            (["obs"], Code::DELETE) => {
                self.obs = None;
                Response::new(Code::DELETED)
            }
            (["obs-non"], Code::GET) => State::text(format!("tick {}", self.ticks)).content(),
            (["obs-large"], Code::GET) => self.obs_large().content(),
            (["link1" | "link2" | "link3" | "link4"], Code::GET) => State::text(path).content(),
            (["path"], Code::GET) => listing(&Plugtest::sub_links(), &request.options),
            (["path", "sub1" | "sub2" | "sub3"], Code::GET) => {
                State::text(format!("/{path}")).content()
            }
            _ if Plugtest::links()
                .iter()
                .any(|link| link.target == format!("/{path}")) =>
            {
                Response::new(Code::METHOD_NOT_ALLOWED)
            }
            _ => Response::new(Code::NOT_FOUND),
        }
    }

    /// Validation by ETag, and writing only what is still the same (RFC 7252 §5.10.6, §5.10.8.1).
    fn validate(&mut self, request: &Request) -> Response {
        let etag = [0xe7, self.validate.1];
        match request.code {
            Code::GET if request.options.all(number::ETAG).any(|known| known == etag) => {
                Response::new(Code::VALID).etag(&etag)
            }
            Code::GET => self.validate.0.content().etag(&etag),
            Code::PUT => {
                let mut wanted = request.options.all(number::IF_MATCH).peekable();
                if wanted.peek().is_some() && !wanted.any(|tag| tag.is_empty() || tag == etag) {
                    return Response::new(Code::PRECONDITION_FAILED);
                }
                self.validate = (State::of(request), self.validate.1.wrapping_add(1));
                Response::new(Code::CHANGED)
            }
            _ => Response::new(Code::METHOD_NOT_ALLOWED),
        }
    }

    /// Made only where nothing is yet (RFC 7252 §5.10.8.2).
    fn create1(&mut self, request: &Request) -> Response {
        match (request.code, &self.create1) {
            (Code::PUT, Some(_)) if request.options.contains(number::IF_NONE_MATCH) => {
                Response::new(Code::PRECONDITION_FAILED)
            }
            (Code::PUT, before) => {
                let code = if before.is_some() {
                    Code::CHANGED
                } else {
                    Code::CREATED
                };
                self.create1 = Some(State::of(request));
                Response::new(code)
            }
            (Code::GET, Some(state)) => state.content(),
            (Code::DELETE, _) => {
                self.create1 = None;
                Response::new(Code::DELETED)
            }
            (_, None) => Response::new(Code::NOT_FOUND),
            _ => Response::new(Code::METHOD_NOT_ALLOWED),
        }
    }
}

/// Length of `/large`: two full blocks of 1024 bytes, and a part of a third.
const LARGE: usize = 2100;

fn listing(links: &[Link], options: &Options) -> Response {
    let text = link::core(links, options.uri_queries());
    Response::content(content_format::LINK_FORMAT, text)
}
