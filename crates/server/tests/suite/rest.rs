//! The REST API, over real HTTP, against a server whose device the test plays.

use std::net::SocketAddr;

use homefleet_api::{
    CreatedToken, Device, DevicePage, Problem, ProblemCode, Role, Task, TaskState,
};
use homefleet_server::core::DeviceLimits;
use homefleet_server::http::{AppState, router};
use homefleet_usp::message::{Message, Response};
use homefleet_usp::proto::msg;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{DEVICE, Lab, core_config, get_resp, notify, value_change};

const BODY_LIMIT: usize = 4096;
/// The device's Endpoint ID as it stands in a URL.
const PATH: &str = "/api/v1/devices/os%3A%3A00D09E-1";

pub(crate) struct Api {
    pub(crate) lab: Lab,
    pub(crate) addr: SocketAddr,
    pub(crate) operator: String,
    pub(crate) viewer: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    fn problem(&self) -> (u16, ProblemCode, String) {
        let problem: Problem = self.json();
        (self.status, problem.error.code, problem.error.message)
    }
}

pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    // A server that refuses a body early may close before reading all of it.
    drop(stream.read_to_end(&mut bytes).await);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(Lab::new().await).await
    }

    async fn with(mut lab: Lab) -> Self {
        lab.onboard().await;
        let state = AppState {
            core: lab.core.clone(),
            login: Default::default(),
            public_metrics: false,
            secure_cookies: false,
            network: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(state, BODY_LIMIT)).await });
        let (_, operator) = lab.access(Role::Operator).await;
        let (_, viewer) = lab.access(Role::Viewer).await;
        Self {
            lab,
            addr,
            operator,
            viewer,
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &str,
        body: &str,
    ) -> Answer {
        let bearer = token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let length = if method == "GET" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{bearer}{headers}{length}\r\n{body}",
            self.addr
        );
        exchange(self.addr, request.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Some(&self.viewer), "", "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(
            "POST",
            path,
            Some(&self.operator),
            "Content-Type: application/json\r\n",
            body,
        )
        .await
    }
}

fn read_up_time() -> String {
    json!({"operation": {"type": "get", "paths": ["Device.DeviceInfo.UpTime"]}}).to_string()
}

#[tokio::test]
async fn devices_are_listed_and_shown() {
    let api = Api::new().await;
    let page: DevicePage = api.get("/api/v1/devices?search=gate&limit=10").await.json();
    assert_eq!(page.devices.len(), 1);
    assert_eq!(page.devices[0].id, DEVICE);
    let device: Device = api.get(PATH).await.json();
    assert_eq!(device.summary.model_name.as_deref(), Some("Gate"));
    let none: DevicePage = api.get("/api/v1/devices?search=nothing").await.json();
    assert!(none.devices.is_empty());
    let values: Value = api
        .get(&format!("{PATH}/parameters?path=Device.DeviceInfo."))
        .await
        .json();
    assert_eq!(
        values["parameters"][0]["path"],
        "Device.DeviceInfo.ModelName"
    );
    assert_eq!(values["parameters"][0]["value"], "Gate");
}

#[tokio::test]
async fn a_task_is_accepted_with_202_and_held_until_its_result() {
    let mut api = Api::new().await;
    let accepted = api.post(&format!("{PATH}/tasks"), &read_up_time()).await;
    assert_eq!(accepted.status, 202);
    let task: Task = accepted.json();
    assert!(
        accepted.head.contains(&format!(
            "location: /api/v1/tasks/{}",
            task.id.to_lowercase()
        )),
        "{}",
        accepted.head
    );
    let (id, _) = api.lab.next_request().await;
    let response = get_resp(
        &[("Device.DeviceInfo.", &[("UpTime", "7")])],
        "Device.DeviceInfo.UpTime",
    );
    let path = format!("/api/v1/tasks/{}?wait=20", task.id);
    let (shown, _) = tokio::join!(
        api.get(&path),
        api.lab.receive(DEVICE, Message::response(id, response))
    );
    let done: Task = shown.json();
    assert_eq!((shown.status, done.state), (200, TaskState::Done));
    let list: Value = api
        .get("/api/v1/tasks?device=os::00D09E-1&state=done")
        .await
        .json();
    assert_eq!(list["tasks"][0]["id"], json!(task.id));
}

#[tokio::test]
async fn every_request_needs_a_token() {
    let api = Api::new().await;
    for path in [
        "/api/v1/devices",
        PATH,
        "/api/v1/tasks",
        "/api/v1/events",
        "/api/v1/tokens",
        "/api/v1/audit",
        "/api/v1/info",
        "/metrics",
    ] {
        let refused = api.send("GET", path, None, "", "").await;
        assert_eq!(refused.problem().1, ProblemCode::Unauthorized, "{path}");
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{path}");
    }
    for path in [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(
            api.send("GET", path, None, "", "").await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let api = Api::new().await;
    let mut wrong = api.viewer.clone();
    wrong.replace_range(
        wrong.len() - 1..,
        if wrong.ends_with('A') { "B" } else { "A" },
    );
    for token in [wrong.as_str(), "", "hf_", "x"] {
        assert_eq!(
            api.send("GET", "/api/v1/devices", Some(token), "", "")
                .await
                .status,
            401,
            "{token}"
        );
    }
    let basic = api
        .send(
            "GET",
            "/api/v1/devices",
            None,
            "Authorization: Basic YTpi\r\n",
            "",
        )
        .await;
    assert_eq!(basic.status, 401);
}

#[tokio::test]
async fn a_viewer_cannot_write() {
    let mut api = Api::new().await;
    let json = "Content-Type: application/json\r\n";
    let token = Some(api.viewer.as_str());
    let writes = [
        ("POST", format!("{PATH}/tasks"), read_up_time()),
        ("DELETE", PATH.to_owned(), String::new()),
        ("PATCH", PATH.to_owned(), "{\"label\":\"x\"}".to_owned()),
        ("DELETE", "/api/v1/tasks/x".to_owned(), String::new()),
        (
            "POST",
            "/api/v1/tokens".to_owned(),
            "{\"name\":\"x\",\"role\":\"admin\"}".to_owned(),
        ),
    ];
    for (method, path, body) in &writes {
        let refused = api.send(method, path, token, json, body).await;
        assert_eq!(
            (refused.status, refused.problem().1),
            (403, ProblemCode::Forbidden),
            "{method} {path}"
        );
    }
    assert!(api.lab.pending().is_empty());
    // An operator makes no tokens either, and each refusal is in the audit log.
    let refused = api
        .post("/api/v1/tokens", "{\"name\":\"x\",\"role\":\"admin\"}")
        .await;
    assert_eq!(refused.status, 403);
    let (admin, _) = api.lab.access(Role::Admin).await;
    let log = admin.audit(None, 0).await.unwrap().entries;
    assert_eq!(
        log.iter().filter(|entry| !entry.allowed).count(),
        writes.len() + 1
    );
}

#[tokio::test]
async fn an_administrator_makes_and_revokes_tokens() {
    let api = Api::new().await;
    let (_, admin) = api.lab.access(Role::Admin).await;
    let json = "Content-Type: application/json\r\n";
    let made = api
        .send(
            "POST",
            "/api/v1/tokens",
            Some(&admin),
            json,
            "{\"name\":\"ci\",\"role\":\"viewer\"}",
        )
        .await;
    assert_eq!(made.status, 201);
    let made: CreatedToken = made.json();
    assert_eq!(
        api.send("GET", "/api/v1/devices", Some(&made.secret), "", "")
            .await
            .status,
        200
    );
    let list = api
        .send("GET", "/api/v1/tokens", Some(&admin), "", "")
        .await;
    assert!(list.body.contains(&made.token.id) && !list.body.contains(&made.secret));
    let path = format!("/api/v1/tokens/{}", made.token.id);
    assert_eq!(
        api.send("DELETE", &path, Some(&admin), "", "").await.status,
        204
    );
    assert_eq!(
        api.send("GET", "/api/v1/devices", Some(&made.secret), "", "")
            .await
            .status,
        401
    );
    assert_eq!(
        api.send("DELETE", &path, Some(&admin), "", "").await.status,
        404
    );
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let api = Api::new().await;
    let big =
        json!({"operation": {"type": "get", "paths": ["Device.".repeat(BODY_LIMIT)]}}).to_string();
    let refused = api.post(&format!("{PATH}/tasks"), &big).await;
    assert_eq!(
        (refused.status, refused.problem().1),
        (413, ProblemCode::TooLarge)
    );
}

#[tokio::test]
async fn malformed_json_is_refused_with_line_and_column() {
    let api = Api::new().await;
    let path = format!("{PATH}/tasks");
    let refused = api
        .post(&path, "{\n  \"operation\": {\"type\": \"get\",\n}")
        .await;
    let problem: Problem = refused.json();
    assert_eq!(
        (refused.status, problem.error.code),
        (400, ProblemCode::BadRequest)
    );
    assert_eq!(
        (problem.error.line, problem.error.column),
        (Some(3), Some(1)),
        "{problem:?}"
    );
    let unknown = api
        .post(
            &path,
            "{\"operation\":{\"type\":\"get\",\"paths\":[\"Device.\"]},\"expires\":5}",
        )
        .await;
    assert!(
        unknown.problem().2.contains("unknown field `expires`"),
        "{}",
        unknown.body
    );
    let wrong = api
        .post(&path, "{\"operation\":{\"type\":\"explode\"}}")
        .await;
    assert!(
        wrong.problem().2.contains("unknown variant `explode`"),
        "{}",
        wrong.body
    );
    let unmarked = api
        .send(
            "POST",
            &path,
            Some(&api.operator),
            "Content-Type: text/plain\r\n",
            &read_up_time(),
        )
        .await;
    assert_eq!(unmarked.status, 415);
}

#[tokio::test]
async fn an_operation_that_makes_no_sense_is_refused_before_it_is_queued() {
    let mut api = Api::new().await;
    let operations = [
        json!({"type": "get", "paths": []}),
        json!({"type": "get", "paths": ["Device.Reboot()"]}),
        json!({"type": "get", "paths": ["no path"]}),
        json!({"type": "delete", "paths": ["Device.A.B"]}),
        json!({"type": "operate", "command": "Device.Reboot"}),
        json!({"type": "set", "objects": [{"path": "Device.A.", "params": []}]}),
        json!({"type": "add", "objects": [{"path": "Device.A"}]}),
    ];
    for operation in operations {
        let refused = api
            .post(
                &format!("{PATH}/tasks"),
                &json!({"operation": operation}).to_string(),
            )
            .await;
        assert_eq!(
            (refused.status, refused.problem().1),
            (400, ProblemCode::BadRequest),
            "{operation}"
        );
    }
    let lifetime =
        json!({"operation": {"type": "get", "paths": ["Device."]}, "expires_in": 0}).to_string();
    assert_eq!(
        api.post(&format!("{PATH}/tasks"), &lifetime).await.status,
        400
    );
    assert!(api.lab.pending().is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let api = Api::new().await;
    for path in [
        "/api/v1/nothing",
        "/api/v1/devices/os%3A%3Anobody",
        "/api/v1/devices/os%3A%3Anobody/parameters",
        "/api/v1/tasks/none",
    ] {
        let refused = api.get(path).await;
        assert_eq!(
            (refused.status, refused.problem().1),
            (404, ProblemCode::NotFound),
            "{path}"
        );
    }
    let refused = api
        .post("/api/v1/devices/os%3A%3Anobody/tasks", &read_up_time())
        .await;
    assert_eq!(refused.status, 404);
    let refused = api.send("PUT", PATH, Some(&api.operator), "", "").await;
    assert_eq!(
        (refused.status, refused.problem().1),
        (405, ProblemCode::MethodNotAllowed)
    );
    for query in ["limit=0x", "limit=100000", "colour=red"] {
        assert_eq!(
            api.get(&format!("/api/v1/devices?{query}")).await.status,
            400,
            "{query}"
        );
    }
    assert_eq!(api.get("/api/v1/tasks?state=lost").await.status, 400);
    assert_eq!(api.get("/api/v1/tasks/x?wait=61").await.status, 400);
}

#[tokio::test]
async fn a_queued_task_can_be_cancelled_and_a_sent_one_not() {
    let mut api = Api::new().await;
    let first: Task = api
        .post(&format!("{PATH}/tasks"), &read_up_time())
        .await
        .json();
    api.lab.next_request().await;
    let second: Task = api
        .post(&format!("{PATH}/tasks"), &read_up_time())
        .await
        .json();
    let delete = |id: &str| format!("/api/v1/tasks/{id}");
    let cancelled = api
        .send("DELETE", &delete(&second.id), Some(&api.operator), "", "")
        .await;
    assert_eq!(
        (cancelled.status, cancelled.json::<Task>().state),
        (200, TaskState::Cancelled)
    );
    for id in [&first.id, &second.id] {
        let refused = api
            .send("DELETE", &delete(id), Some(&api.operator), "", "")
            .await;
        assert_eq!(
            (refused.status, refused.problem().1),
            (409, ProblemCode::Conflict)
        );
    }
}

#[tokio::test]
async fn a_device_is_labelled_and_removed() {
    let api = Api::new().await;
    let json = "Content-Type: application/json\r\n";
    let labelled = api
        .send(
            "PATCH",
            PATH,
            Some(&api.operator),
            json,
            "{\"label\":\" Kitchen \"}",
        )
        .await;
    assert_eq!(
        labelled.json::<Device>().summary.label.as_deref(),
        Some("Kitchen")
    );
    assert_eq!(
        api.send("DELETE", PATH, Some(&api.operator), "", "")
            .await
            .status,
        204
    );
    assert_eq!(api.get(PATH).await.status, 404);
}

#[tokio::test]
async fn the_live_stream_tells_what_happens() {
    let api = Api::new().await;
    let mut stream = TcpStream::connect(api.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/events?device=os::00D09E-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        api.viewer
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let mut told = false;
    while !(text.contains("event: notification") && text.contains("event: parameter")) {
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(20), stream.read(&mut buffer))
                .await
                .unwrap()
                .unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if !told && text.contains("\r\n\r\n") {
            assert!(text.contains("text/event-stream"), "{text}");
            told = true;
            api.lab
                .receive(
                    DEVICE,
                    crate::common::value_change("e", false, "Device.A", "on"),
                )
                .await;
        }
    }
    assert!(text.contains("\"value\":\"on\""), "{text}");
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let api = Api::new().await;
    for path in ["/api/v1/devices", "/healthz", "/login", "/nothing"] {
        let head = api.get(path).await.head;
        for header in [
            "content-security-policy: default-src 'self'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
    }
    assert!(
        api.get("/api/v1/devices")
            .await
            .head
            .contains("cache-control: no-store")
    );
}

#[tokio::test]
async fn a_session_cookie_writes_from_the_same_origin_only() {
    let api = Api::new().await;
    let session = api.lab.core.open_session(&api.operator).await.unwrap();
    let cookie =
        format!("Cookie: homefleet_session={session}\r\nContent-Type: application/json\r\n");
    assert_eq!(
        api.send("GET", "/api/v1/devices", None, &cookie, "")
            .await
            .status,
        200
    );
    let path = format!("{PATH}/tasks");
    for site in [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: http://evil.example\r\n",
    ] {
        let refused = api
            .send(
                "POST",
                &path,
                None,
                &format!("{cookie}{site}"),
                &read_up_time(),
            )
            .await;
        assert_eq!(refused.status, 403, "{site}");
    }
    let own = format!("{cookie}Sec-Fetch-Site: same-origin\r\n");
    assert_eq!(
        api.send("POST", &path, None, &own, &read_up_time())
            .await
            .status,
        202
    );
    api.lab.core.close_session(&session);
    assert_eq!(
        api.send("GET", "/api/v1/devices", None, &cookie, "")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let api = Api::new().await;
    let text = api.get("/metrics").await;
    assert_eq!(text.status, 200);
    assert!(text.body.contains("homefleet_devices 1"), "{}", text.body);
    assert!(
        text.body
            .contains("homefleet_usp_records_total{outcome=\"notify\"} 1"),
        "{}",
        text.body
    );
    assert!(text.body.trim_end().ends_with("# EOF"));
}

#[tokio::test]
async fn metrics_count_what_a_device_was_refused() {
    let mut config = core_config();
    config.limits = DeviceLimits {
        answers: 0,
        readings_per_hour: 1,
        text_length: 6,
    };
    let api = Api::with(Lab::with(config).await).await;
    let boot = msg::notify::Event {
        obj_path: "Device.".to_owned(),
        event_name: "Boot!".to_owned(),
        params: [].into(),
    };
    let boot = msg::notify::Notification::Event(boot);
    api.lab.receive(DEVICE, notify("2", "b", false, boot)).await;
    let long = "x".repeat(64 * 1024 + 1);
    api.lab
        .receive(DEVICE, value_change("3", false, "Device.A", &long))
        .await;
    let text = api.get("/metrics").await.body;
    for line in [
        "homefleet_answers_dropped_total 1",
        "homefleet_notifications_forgotten_total 0",
        "homefleet_readings_dropped_total 1",
        // The product class: `Gateway`.
        "homefleet_refused_texts_total 1",
        "homefleet_refused_values_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn the_openapi_document_names_every_path() {
    let api = Api::new().await;
    let document: Value = api.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/api/v1/devices",
        "/api/v1/devices/{id}",
        "/api/v1/devices/{id}/parameters",
        "/api/v1/devices/{id}/tasks",
        "/api/v1/tasks",
        "/api/v1/tasks/{id}",
        "/api/v1/events",
        "/api/v1/info",
        "/api/v1/tokens",
        "/api/v1/tokens/{id}",
        "/api/v1/audit",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_disturb_nobody() {
    let api = Api::new().await;
    exchange(api.addr, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    exchange(api.addr, &[0xff; 2000]).await;
    exchange(api.addr, b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n").await;
    assert_eq!(api.get("/api/v1/devices").await.status, 200);
}

#[tokio::test]
async fn a_set_that_every_object_refuses_fails_the_task() {
    let mut api = Api::new().await;
    let body = json!({"operation": {"type": "set", "allow_partial": true, "objects": [
        {"path": "Device.Time.", "params": [{"name": "Enable", "value": "perhaps"}]}]}});
    let task: Task = api
        .post(&format!("{PATH}/tasks"), &body.to_string())
        .await
        .json();
    let (id, _) = api.lab.next_request().await;
    use msg::set_resp::updated_object_result::{OperationStatus, operation_status};
    let failure = operation_status::OperationFailure {
        err_code: 7021,
        err_msg: String::new(),
        updated_inst_failures: vec![msg::set_resp::UpdatedInstanceFailure {
            affected_path: "Device.Time.".to_owned(),
            param_errs: vec![msg::set_resp::ParameterError {
                param: "Enable".to_owned(),
                err_code: 7011,
                err_msg: String::new(),
            }],
        }],
    };
    let response = Response::SetResp(msg::SetResp {
        updated_obj_results: vec![msg::set_resp::UpdatedObjectResult {
            requested_path: "Device.Time.".to_owned(),
            oper_status: Some(OperationStatus {
                oper_status: Some(operation_status::OperStatus::OperFailure(failure)),
            }),
        }],
    });
    api.lab
        .receive(DEVICE, Message::response(id, response))
        .await;
    let failed: Task = api
        .get(&format!("/api/v1/tasks/{}?wait=20", task.id))
        .await
        .json();
    assert_eq!(failed.state, TaskState::Failed);
    let error = failed.error.unwrap();
    assert_eq!(error.usp_code, Some(7021));
    let detail = error
        .param_errors
        .iter()
        .find(|error| error.path == "Device.Time.Enable")
        .unwrap();
    assert_eq!(
        (detail.code, detail.message.as_str()),
        (7011, "Invalid type")
    );
}
