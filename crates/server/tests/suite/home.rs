//! Who is behind which gateway, cross-checked (TR-111 Part 1): USP devices and gateways, played by the test.

use std::time::Duration;

use homefleet_api::{
    Association, AssociationStatus, DevicePatch, Event, LocalIdentity, Role, UnverifiableReason,
};
use homefleet_cwmp::message::Notification;
use homefleet_cwmp::{EventCode, ValueType};
use homefleet_server::config::UnknownCpes;
use homefleet_server::core::{AssociationQuery, Core, CoreConfig, HomeQuery};
use homefleet_server::home::HomeConfig;
use homefleet_server::{Access, RunningServer, Server};
use homefleet_usp::message::{Body, Message, MsgId, Request, Response};
use homefleet_usp::proto::msg;

use crate::common::{CONTROLLER, Lab, Sent, core_config, get_resp, notify, value_change};
use crate::cpe::{self, Cpe, End};
use crate::live::{self, Authority};

const GATEWAY: &str = "os::00D09E-GW1";
const BOX: &str = "os::00D09E-STB1";
const TABLE: &str = "Device.ManagementServer.ManageableDevice.";
const COUNT: &str = "Device.ManagementServer.ManageableDeviceNumberOfEntries";
const SETTLE: Duration = Duration::from_secs(20);

fn config() -> CoreConfig {
    CoreConfig {
        home: HomeConfig {
            settle: SETTLE,
            pause: Duration::ZERO,
            ..HomeConfig::default()
        },
        ..core_config()
    }
}

/// A lab whose devices answer as they are told.
struct Home {
    lab: Lab,
    access: Access,
    number: u32,
    /// Requests to others than the one that was looked for.
    waiting: Vec<Sent>,
}

type Rows<'a> = &'a [(&'a str, &'a str, &'a str)];

impl Home {
    async fn new() -> Self {
        Self::with(config()).await
    }

    async fn with(config: CoreConfig) -> Self {
        let lab = Lab::with(config).await;
        let (access, _) = lab.access(Role::Operator).await;
        Self {
            lab,
            access,
            number: 0,
            waiting: Vec::new(),
        }
    }

    /// The next request to this device.
    async fn request_to(&mut self, id: &str) -> (MsgId, Request) {
        let found = self.waiting.iter().position(|sent| sent.endpoint == id);
        let mut sent = match found {
            Some(place) => self.waiting.remove(place),
            None => self.lab.next().await,
        };
        loop {
            if let Body::Request(request) = &sent.message.body {
                if sent.endpoint == id {
                    return (sent.message.id, request.clone());
                }
                self.waiting.push(sent);
            }
            sent = self.lab.next().await;
        }
    }

    /// A device introduces itself; its first reading is not answered yet.
    async fn greet(&mut self, id: &str, oui: &str, class: &str, serial: &str) -> MsgId {
        self.number += 1;
        // What comes later has a later time.
        self.lab.clock.advance(Duration::from_millis(1));
        let request = msg::notify::OnBoardRequest {
            oui: oui.to_owned(),
            product_class: class.to_owned(),
            serial_number: serial.to_owned(),
            agent_supported_protocol_versions: "1.3".to_owned(),
        };
        let request = msg::notify::Notification::OnBoardReq(request);
        let message = notify(&format!("hello-{}", self.number), "", true, request);
        assert!(self.lab.receive(id, message).await);
        let (reading, request) = self.request_to(id).await;
        let Request::Get(get) = request else {
            panic!("{request:?}")
        };
        assert_eq!(
            get.param_paths,
            [
                "Device.DeviceInfo.",
                "Device.LocalAgent.",
                "Device.GatewayInfo.",
                COUNT,
                TABLE
            ]
        );
        reading
    }

    /// The device answers the server's first reading: GatewayInfo and a table, where it has them.
    async fn answer(
        &self,
        id: &str,
        reading: MsgId,
        info: Option<[&str; 3]>,
        rows: Option<Rows<'_>>,
    ) {
        let response = reading_of(true, info, rows);
        self.lab
            .receive(id, Message::response(reading, response))
            .await;
    }

    /// The device answers a later one.
    async fn again(
        &self,
        id: &str,
        reading: MsgId,
        info: Option<[&str; 3]>,
        rows: Option<Rows<'_>>,
    ) {
        let response = reading_of(false, info, rows);
        self.lab
            .receive(id, Message::response(reading, response))
            .await;
    }

    async fn gateway(&mut self, rows: Rows<'_>) {
        let reading = self.greet(GATEWAY, "00D09E", "", "GW1").await;
        self.answer(GATEWAY, reading, None, Some(rows)).await;
        self.subscribed(GATEWAY).await;
    }

    /// A device that names the gateway.
    async fn behind(&mut self, id: &str, class: &str, serial: &str) {
        let reading = self.greet(id, "00D09E", class, serial).await;
        let info = Some(["00D09E", "GW1", ""]);
        self.answer(id, reading, info, None).await;
        self.subscribed(id).await;
    }

    /// Takes the subscriptions that the server adds by itself, each with success.
    async fn subscribed(&mut self, id: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for _ in 0..2 {
            let (add, request) = self.request_to(id).await;
            let Request::Add(request) = request else {
                panic!("{request:?}")
            };
            let value = |name: &str| {
                let mut settings = request.create_objs[0].param_settings.iter();
                let found = settings.find(|setting| setting.param == name);
                found.unwrap().value.clone()
            };
            all.push((value("NotifType"), value("ReferenceList")));
            let response = added("Device.LocalAgent.Subscription.", self.number);
            self.lab.receive(id, Message::response(add, response)).await;
        }
        all
    }

    /// The server reads the gateway's table, and this is in it.
    async fn table_read(&mut self, rows: Rows<'_>) {
        let (reading, request) = self.request_to(GATEWAY).await;
        let Request::Get(get) = request else {
            panic!("{request:?}")
        };
        assert_eq!(get.param_paths, [COUNT, TABLE]);
        self.again(GATEWAY, reading, None, Some(rows)).await;
    }

    /// A device notifies; whatever the server then reads of its gateway is this.
    async fn renamed(&mut self, id: &str, info: [&str; 3]) {
        self.number += 1;
        let path = "Device.GatewayInfo.SerialNumber";
        let message = value_change(&format!("change-{}", self.number), true, path, info[1]);
        assert!(self.lab.receive(id, message).await);
        let (reading, request) = self.request_to(id).await;
        let Request::Get(get) = request else {
            panic!("{request:?}")
        };
        assert_eq!(get.param_paths, ["Device.GatewayInfo."]);
        self.again(id, reading, Some(info), None).await;
    }

    /// Time passes, and is noticed.
    async fn later(&self, by: Duration) {
        self.lab.clock.advance(by);
        self.lab.core.wake();
    }

    fn association(&self, id: &str) -> Association {
        self.access.association(id).unwrap()
    }

    fn status(&self, id: &str) -> AssociationStatus {
        self.association(id).status
    }
}

fn added(table: &str, number: u32) -> Response {
    use msg::add_resp::created_object_result::{OperationStatus, operation_status};
    let success = operation_status::OperationSuccess {
        instantiated_path: format!("{table}{number}."),
        ..Default::default()
    };
    Response::AddResp(msg::AddResp {
        created_obj_results: vec![msg::add_resp::CreatedObjectResult {
            requested_path: table.to_owned(),
            oper_status: Some(OperationStatus {
                oper_status: Some(operation_status::OperStatus::OperSuccess(success)),
            }),
        }],
    })
}

/// An answer with all that is there of what the server reads for homes.
fn reading_of(first: bool, info: Option<[&str; 3]>, rows: Option<Rows<'_>>) -> Response {
    let mut results = Vec::new();
    let mut part = |requested: &str, objects: &[(&str, &[(&str, &str)])]| {
        let Response::GetResp(response) = get_resp(objects, requested) else {
            unreachable!()
        };
        results.extend(response.req_path_results);
    };
    if first {
        part("Device.LocalAgent.", &[]);
    }
    if let Some([oui, serial, class]) = info {
        let values = [
            ("ManufacturerOUI", oui),
            ("SerialNumber", serial),
            ("ProductClass", class),
        ];
        part("Device.GatewayInfo.", &[("Device.GatewayInfo.", &values)]);
    }
    if let Some(rows) = rows {
        let count = rows.len().to_string();
        let number = [("ManageableDeviceNumberOfEntries", count.as_str())];
        part(COUNT, &[("Device.ManagementServer.", &number)]);
        let rows: Vec<_> = rows
            .iter()
            .zip(1..)
            .map(|((oui, class, serial), instance)| {
                let values = [
                    ("ManufacturerOUI", *oui),
                    ("ProductClass", *class),
                    ("SerialNumber", *serial),
                ];
                (format!("{TABLE}{instance}."), values)
            })
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(path, values)| (path.as_str(), values.as_slice()))
            .collect();
        part(TABLE, &rows);
    }
    let mut refuse = |path: &str| {
        results.push(msg::get_resp::RequestedPathResult {
            requested_path: path.to_owned(),
            err_code: 7026,
            err_msg: "invalid path".to_owned(),
            resolved_path_results: Vec::new(),
        });
    };
    if info.is_none() {
        refuse("Device.GatewayInfo.");
    }
    if rows.is_none() {
        refuse(COUNT);
        refuse(TABLE);
    }
    Response::GetResp(msg::GetResp {
        req_path_results: results,
    })
}

#[tokio::test]
async fn a_claim_is_confirmed_once_the_gateway_lists_the_device() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    let mut events = home.access.events(Some(BOX.to_owned())).unwrap();
    home.behind(BOX, "STB", "STB1").await;
    let checking = home.association(BOX);
    assert_eq!(checking.status, AssociationStatus::Checking);
    assert_eq!(checking.gateway.as_deref(), Some(GATEWAY));
    assert_eq!(checking.associated, None);

    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    let confirmed = home.association(BOX);
    assert_eq!(confirmed.status, AssociationStatus::Confirmed);
    assert_eq!(confirmed.associated.as_deref(), Some(GATEWAY));
    assert!(confirmed.checked.is_some());
    assert_eq!(confirmed.history.len(), 1);
    assert_eq!(confirmed.history[0].status, AssociationStatus::Confirmed);

    let told = loop {
        let event = events.next().await.unwrap();
        if let Event::Association { association, .. } = &*event
            && association.status == AssociationStatus::Confirmed
        {
            break association.device.clone();
        }
    };
    assert_eq!(told, BOX);

    let list = home.access.homes(HomeQuery::default()).await.unwrap();
    assert_eq!(list.homes.len(), 1);
    assert_eq!(list.homes[0].gateway.id, GATEWAY);
    assert_eq!(list.homes[0].devices.confirmed, 1);
    assert_eq!(list.homes[0].listed, Some(1));
    assert_eq!(list.claims.confirmed, 1);
    let shown = home.access.home(GATEWAY).unwrap();
    assert_eq!(shown.members.len(), 1);
    assert!(shown.strangers.is_empty());
}

#[tokio::test]
async fn who_is_listed_and_has_said_nothing_is_asked() {
    let mut home = Home::new().await;
    // It was read before DHCP told it anything, and subscribed to after that.
    let reading = home.greet(BOX, "00D09E", "STB", "STB1").await;
    home.answer(BOX, reading, Some(["", "", ""]), None).await;
    home.subscribed(BOX).await;
    let rows = [("00D09E", "STB", "STB1")];
    home.gateway(&rows).await;
    let (reading, request) = home.request_to(BOX).await;
    let Request::Get(get) = request else {
        panic!("{request:?}")
    };
    assert_eq!(get.param_paths, ["Device.GatewayInfo."]);
    let info = Some(["00D09E", "GW1", ""]);
    home.again(BOX, reading, info, None).await;
    assert_eq!(home.status(BOX), AssociationStatus::Confirmed);
}

#[tokio::test]
async fn devices_are_asked_to_tell_of_their_gateway_and_gateways_of_their_devices() {
    let mut home = Home::new().await;
    let reading = home.greet(GATEWAY, "00D09E", "", "GW1").await;
    home.answer(GATEWAY, reading, None, Some(&[])).await;
    let wanted = home.subscribed(GATEWAY).await;
    assert_eq!(wanted[1], ("ValueChange".to_owned(), COUNT.to_owned()));
    let reading = home.greet(BOX, "00D09E", "STB", "STB1").await;
    home.answer(BOX, reading, Some(["", "", ""]), None).await;
    let wanted = home.subscribed(BOX).await;
    assert_eq!(
        wanted[1],
        ("ValueChange".to_owned(), "Device.GatewayInfo.".to_owned())
    );
    assert!(home.access.association(BOX).is_err(), "it names none");
}

#[tokio::test]
async fn a_device_that_does_not_answer_path_by_path_is_read_all_the_same() {
    let mut home = Home::new().await;
    let reading = home.greet(BOX, "00D09E", "STB", "STB1").await;
    let error = Message::error(
        reading,
        homefleet_usp::ErrorCode(7026),
        "no such path".to_owned(),
    );
    home.lab.receive(BOX, error).await;
    let (_, request) = home.request_to(BOX).await;
    let Request::Get(get) = request else {
        panic!("{request:?}")
    };
    assert_eq!(
        get.param_paths,
        ["Device.DeviceInfo.", "Device.LocalAgent."]
    );
}

#[tokio::test]
async fn a_device_that_the_gateway_does_not_list_is_refuted_after_it_had_time_to() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "OTHER")]).await;
    let early = home.association(BOX);
    assert_eq!(early.status, AssociationStatus::Checking, "{early:?}");
    home.later(SETTLE).await;
    home.table_read(&[("00D09E", "STB", "OTHER")]).await;
    let refuted = home.association(BOX);
    assert_eq!(refuted.status, AssociationStatus::Refuted);
    assert_eq!(refuted.associated, None);
    assert!(refuted.differences.is_empty());
    assert_eq!(
        refuted.detail,
        "the gateway lists 1 device, and not 00D09E-STB-STB1"
    );
    // A gateway that was slower still is believed when it tells.
    let change = value_change("count-1", true, COUNT, "2");
    home.lab.receive(GATEWAY, change).await;
    home.table_read(&[("00D09E", "STB", "OTHER"), ("00d09e", "STB", "STB1")])
        .await;
    assert_eq!(home.status(BOX), AssociationStatus::Confirmed);
}

#[tokio::test]
async fn a_device_listed_within_its_time_is_never_called_refuted() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[]).await;
    home.later(SETTLE).await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    let confirmed = home.association(BOX);
    assert_eq!(confirmed.status, AssociationStatus::Confirmed);
    let all: Vec<_> = confirmed.history.iter().map(|was| was.status).collect();
    assert_eq!(all, [AssociationStatus::Confirmed]);
}

#[tokio::test]
async fn every_element_has_to_match_and_the_one_that_does_not_is_told() {
    for (row, element) in [
        (("00D09E", "DVR", "STB1"), "ProductClass"),
        (("00D09F", "STB", "STB1"), "ManufacturerOUI"),
    ] {
        let mut home = Home::new().await;
        home.gateway(&[]).await;
        home.behind(BOX, "STB", "STB1").await;
        home.table_read(&[row]).await;
        home.later(SETTLE).await;
        home.table_read(&[row]).await;
        let refuted = home.association(BOX);
        assert_eq!(refuted.status, AssociationStatus::Refuted, "{element}");
        assert_eq!(refuted.differences.len(), 1);
        assert_eq!(refuted.differences[0].element, element);
    }
}

#[tokio::test]
async fn a_table_read_before_the_device_said_so_proves_nothing() {
    let mut home = Home::new().await;
    home.gateway(&[("00D09E", "STB", "STB1")]).await;
    home.later(Duration::from_secs(1)).await;
    home.behind(BOX, "STB", "STB1").await;
    assert_eq!(home.status(BOX), AssociationStatus::Checking);
    home.table_read(&[]).await;
    assert_eq!(home.status(BOX), AssociationStatus::Checking);
    home.later(SETTLE).await;
    home.table_read(&[]).await;
    assert_eq!(home.status(BOX), AssociationStatus::Refuted);
}

#[tokio::test]
async fn an_unknown_gateway_is_told_and_checked_when_it_comes() {
    let mut home = Home::new().await;
    home.behind(BOX, "STB", "STB1").await;
    let unknown = home.association(BOX);
    assert_eq!(unknown.status, AssociationStatus::Unverifiable);
    assert_eq!(unknown.reason, Some(UnverifiableReason::UnknownGateway));
    assert_eq!(unknown.gateway, None);
    let reading = home.greet(GATEWAY, "00D09E", "", "GW1").await;
    assert_eq!(home.status(BOX), AssociationStatus::Checking);
    let rows: Rows<'_> = &[("00D09E", "STB", "STB1")];
    home.answer(GATEWAY, reading, None, Some(rows)).await;
    assert_eq!(home.status(BOX), AssociationStatus::Confirmed);
}

#[tokio::test]
async fn a_gateway_without_a_table_is_told() {
    let mut home = Home::new().await;
    let reading = home.greet(GATEWAY, "00D09E", "", "GW1").await;
    home.answer(GATEWAY, reading, None, None).await;
    // It has nothing of this to subscribe to.
    let (add, _) = home.request_to(GATEWAY).await;
    let response = added("Device.LocalAgent.Subscription.", 1);
    home.lab
        .receive(GATEWAY, Message::response(add, response))
        .await;
    home.behind(BOX, "STB", "STB1").await;
    let (reading, _) = home.request_to(GATEWAY).await;
    home.again(GATEWAY, reading, None, None).await;
    let none = home.association(BOX);
    assert_eq!(none.reason, Some(UnverifiableReason::NoTable), "{none:?}");
    let shown = home.access.home(GATEWAY).unwrap();
    assert_eq!(shown.summary.listed, None);
    let problem = shown.summary.problem.unwrap();
    assert!(
        problem.starts_with("the gateway keeps no table of devices: "),
        "{problem}"
    );
}

#[tokio::test]
async fn a_gateway_out_of_reach_is_told_and_asked_when_it_is_heard() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    let reading = home.greet(BOX, "00D09E", "STB", "STB1").await;
    let mut events = home.access.events(Some(BOX.to_owned())).unwrap();
    home.lab.dead.lock().unwrap().push("coaps:".to_owned());
    let info = Some(["00D09E", "GW1", ""]);
    home.answer(BOX, reading, info, None).await;
    loop {
        let event = events.next().await.unwrap();
        if let Event::Association { association, .. } = &*event
            && association.reason == Some(UnverifiableReason::GatewayUnreachable)
        {
            break;
        }
    }
    home.lab.dead.lock().unwrap().clear();
    home.later(Duration::from_secs(1)).await;
    let hello = value_change("hello", false, "Device.DeviceInfo.UpTime", "1");
    home.lab.receive(GATEWAY, hello).await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    assert_eq!(home.status(BOX), AssociationStatus::Confirmed);
}

#[tokio::test]
async fn a_device_that_moves_keeps_its_gateway_until_the_other_lists_it() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    home.later(Duration::from_secs(1)).await;
    home.renamed(BOX, ["00D09E", "GW9", ""]).await;
    let elsewhere = home.association(BOX);
    assert_eq!(elsewhere.status, AssociationStatus::Unverifiable);
    assert_eq!(elsewhere.associated.as_deref(), Some(GATEWAY));
    // Its old gateway lists it no longer: that is over, too.
    let change = value_change("count-1", true, COUNT, "0");
    home.lab.receive(GATEWAY, change).await;
    home.table_read(&[]).await;
    assert_eq!(home.association(BOX).associated, None);
}

#[tokio::test]
async fn who_left_is_not_called_a_liar_until_it_speaks_again() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    home.later(Duration::from_secs(60)).await;
    let change = value_change("count-1", true, COUNT, "0");
    home.lab.receive(GATEWAY, change).await;
    home.table_read(&[]).await;
    let left = home.association(BOX);
    assert_eq!(left.status, AssociationStatus::Left);
    assert_eq!(left.associated, None);

    home.later(SETTLE + Duration::from_secs(1)).await;
    let speaks = value_change("up", false, "Device.DeviceInfo.SoftwareVersion", "2");
    home.lab.receive(BOX, speaks).await;
    assert_eq!(home.status(BOX), AssociationStatus::Checking);
    home.table_read(&[]).await;
    home.later(SETTLE).await;
    home.table_read(&[]).await;
    assert_eq!(home.status(BOX), AssociationStatus::Refuted);
}

#[tokio::test]
async fn who_names_no_gateway_any_more_has_left() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    home.renamed(BOX, ["", "", ""]).await;
    let left = home.association(BOX);
    assert_eq!((left.status, left.claim), (AssociationStatus::Left, None));
    assert_eq!(left.associated, None);
    let shown = home.access.home(GATEWAY).unwrap();
    assert!(shown.members.is_empty());
    // The gateway lists it still.
    assert_eq!(shown.strangers.len(), 1);
    assert_eq!(shown.strangers[0].device.as_deref(), Some(BOX));
}

#[tokio::test]
async fn a_stranger_in_the_table_is_shown() {
    let mut home = Home::new().await;
    home.gateway(&[("0011AA", "", "FRIDGE")]).await;
    let shown = home.access.home(GATEWAY).unwrap();
    let identity = LocalIdentity {
        oui: "0011AA".to_owned(),
        serial_number: "FRIDGE".to_owned(),
        product_class: String::new(),
    };
    assert_eq!(shown.strangers[0].identity, identity);
    assert_eq!(shown.strangers[0].device, None);
}

#[tokio::test]
async fn a_forged_identity_does_not_stand_against_the_endpoint_id() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    // The certificate says STB9; it calls itself by the serial number of another's.
    let reading = home.greet("os::00D09E-STB9", "00D09E", "STB", "STB1").await;
    let info = Some(["00D09E", "GW1", ""]);
    home.answer("os::00D09E-STB9", reading, info, None).await;
    let forged = home.association("os::00D09E-STB9");
    assert_eq!(forged.status, AssociationStatus::Unverifiable);
    assert_eq!(forged.reason, Some(UnverifiableReason::DeviceUnidentified));
}

#[tokio::test]
async fn who_only_says_that_it_is_the_gateway_does_not_take_its_place() {
    let mut home = Home::new().await;
    // Its Endpoint ID says nothing of who it is; first alone, then beside another like it, then beside the true one.
    let reading = home.greet("proto::one", "00D09E", "", "GW1").await;
    home.answer("proto::one", reading, None, None).await;
    let reading = home.greet("proto::two", "00D09E", "", "GW1").await;
    home.answer("proto::two", reading, None, None).await;
    home.behind(BOX, "STB", "STB1").await;
    let ambiguous = home.association(BOX);
    assert_eq!(ambiguous.reason, Some(UnverifiableReason::AmbiguousGateway));
    let rows: Rows<'_> = &[("00D09E", "STB", "STB1")];
    let reading = home.greet(GATEWAY, "00D09E", "", "GW1").await;
    home.answer(GATEWAY, reading, None, Some(rows)).await;
    let confirmed = home.association(BOX);
    assert_eq!(confirmed.status, AssociationStatus::Confirmed);
    assert_eq!(confirmed.gateway.as_deref(), Some(GATEWAY));
}

#[tokio::test]
async fn nobody_is_believed_for_whom_nobody_stands() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    let request = msg::notify::Notification::OnBoardReq(msg::notify::OnBoardRequest {
        oui: "00D09E".to_owned(),
        product_class: "STB".to_owned(),
        serial_number: "STB1".to_owned(),
        agent_supported_protocol_versions: "1.3".to_owned(),
    });
    let hello = notify("plain", "", true, request);
    let plain = |message: Message| {
        homefleet_usp::Record::no_session(
            CONTROLLER.parse().unwrap(),
            BOX.parse().unwrap(),
            message.encode(),
        )
    };
    assert!(home.lab.receive_record(plain(hello), false).await);
    let (reading, _) = home.request_to(BOX).await;
    let answer = Message::response(reading, reading_of(true, Some(["00D09E", "GW1", ""]), None));
    home.lab.receive_record(plain(answer), false).await;
    let found = home.association(BOX);
    assert_eq!(found.reason, Some(UnverifiableReason::Unauthenticated));
}

#[tokio::test]
async fn what_is_no_identity_is_told_as_malformed() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    let long = "x".repeat(65);
    for info in [
        ["00D09", "GW1", ""],
        ["00D09X", "GW1", ""],
        ["00D09E", "", "IGD"],
        ["00D09E", &long, ""],
    ] {
        home.renamed(BOX, info).await;
        let found = home.association(BOX);
        assert_eq!(
            found.reason,
            Some(UnverifiableReason::MalformedClaim),
            "{info:?}"
        );
    }
}

#[tokio::test]
async fn many_claims_at_once_are_few_readings() {
    let mut config = config();
    config.home.pause = Duration::from_secs(5);
    let mut home = Home::with(config).await;
    home.gateway(&[]).await;
    let serials: Vec<_> = (0..20).map(|number| format!("S{number}")).collect();
    let rows: Vec<_> = serials
        .iter()
        .map(|serial| ("00D09E", "STB", serial.as_str()))
        .collect();
    for serial in &serials {
        let id = format!("os::00D09E-{serial}");
        let reading = home.greet(&id, "00D09E", "STB", serial).await;
        home.answer(&id, reading, Some(["00D09E", "GW1", ""]), None)
            .await;
    }
    // The first reading was on its way when the others came; one more, after the pause, is enough for all of them.
    let mut readings = 0;
    while home.status("os::00D09E-S19") != AssociationStatus::Confirmed {
        home.table_read(&rows).await;
        readings += 1;
        home.later(Duration::from_secs(5)).await;
    }
    assert!(readings <= 2, "{readings}");
    assert_eq!(home.status("os::00D09E-S0"), AssociationStatus::Confirmed);
    let list = home
        .access
        .associations(AssociationQuery {
            status: Some(AssociationStatus::Confirmed),
            limit: 7,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(list.associations.len(), 7);
    let rest = home
        .access
        .associations(AssociationQuery {
            status: Some(AssociationStatus::Confirmed),
            after: list.next,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!((rest.associations.len(), rest.next), (13, None));
}

#[tokio::test]
async fn what_was_found_survives_a_restart() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    let (_, secret) = home.lab.access(Role::Viewer).await;
    let store = std::sync::Arc::clone(&home.lab.store);
    let core = Core::open(config(), home.lab.clock.clock(), store)
        .await
        .unwrap();
    let access = core.authenticate(&secret).await.unwrap();
    assert_eq!(access.association(BOX).unwrap(), home.association(BOX));
    let (after, before) = (access.home(GATEWAY), home.access.home(GATEWAY));
    let (after, before) = (after.unwrap().summary, before.unwrap().summary);
    assert_eq!(
        (after.listed, after.checked, after.devices),
        (before.listed, before.checked, before.devices)
    );
}

#[tokio::test]
async fn a_gateway_that_is_forgotten_confirms_nobody() {
    let mut home = Home::new().await;
    home.gateway(&[]).await;
    home.behind(BOX, "STB", "STB1").await;
    home.table_read(&[("00D09E", "STB", "STB1")]).await;
    home.access.remove_device(GATEWAY).await.unwrap();
    let found = home.association(BOX);
    assert_eq!(found.reason, Some(UnverifiableReason::UnknownGateway));
    assert_eq!(found.associated, None);
    assert!(home.access.home(GATEWAY).is_err());
    home.access.remove_device(BOX).await.unwrap();
    assert!(home.access.association(BOX).is_err());
    let list = home.access.homes(HomeQuery::default()).await.unwrap();
    assert_eq!((list.homes.len(), list.claims), (0, Default::default()));
}

const CPE_GATEWAY: &str = "cwmp:00D09E-IGD-GW1";

/// An ACS, with a gateway and a set-top box that names it.
async fn cpes(lists: &str) -> (RunningServer, Access, Cpe, Cpe, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let mut config = live::config(directory.path(), &authority, &authority);
    config.acs.listen = Some(([127, 0, 0, 1], 0).into());
    config.acs.unknown = UnknownCpes::Admit;
    (config.home.settle, config.home.pause) = (0, 0);
    let server = Server::start(config).await.unwrap();
    let access = live::access(&server, Role::Operator).await;
    let mut gateway = Cpe::new(server.acs_addr().unwrap());
    gateway.serial = "GW1".to_owned();
    let mut device = Cpe::new(server.acs_addr().unwrap());
    let put = |cpe: &mut Cpe, name: &str, value: &str| {
        let entry = (ValueType::String, value.to_owned());
        cpe.model.insert(format!("Device.{name}"), entry);
    };
    let row = "ManagementServer.ManageableDevice.7.";
    put(
        &mut gateway,
        "ManagementServer.ManageableDeviceNumberOfEntries",
        "1",
    );
    put(&mut gateway, &format!("{row}ManufacturerOUI"), "00D09E");
    put(&mut gateway, &format!("{row}ProductClass"), "IGD");
    put(&mut gateway, &format!("{row}SerialNumber"), lists);
    put(&mut device, "GatewayInfo.ManufacturerOUI", "00D09E");
    put(&mut device, "GatewayInfo.ProductClass", "IGD");
    put(&mut device, "GatewayInfo.SerialNumber", "GW1");
    (server, access, gateway, device, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr069_devices_are_cross_checked_alike() {
    let (server, access, mut gateway, mut device, _directory) = cpes(cpe::SERIAL).await;
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.reason, Some(UnverifiableReason::UnknownGateway));
    for element in ["ManufacturerOUI", "SerialNumber", "ProductClass"] {
        let set = &device.attributes[&format!("Device.GatewayInfo.{element}")];
        assert_eq!(set.notification, Notification::Active);
    }
    // Its first session tells its table.
    assert_eq!(gateway.session(EventCode::Bootstrap).await, End::Done);
    let number = "Device.ManagementServer.ManageableDeviceNumberOfEntries";
    let set = &gateway.attributes[number];
    assert_eq!(set.notification, Notification::Active);
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.status, AssociationStatus::Confirmed, "{found:?}");
    assert_eq!(found.gateway.as_deref(), Some(CPE_GATEWAY));
    // What it is to tell about is set once.
    gateway.attributes.clear();
    assert_eq!(gateway.session(EventCode::Periodic).await, End::Done);
    assert!(gateway.attributes.is_empty());

    // The gateway lost it, and says so in the Inform of its next session, which is that in which it is read.
    let row = "Device.ManagementServer.ManageableDevice.7.";
    gateway.model.retain(|name, _| !name.starts_with(row));
    gateway.set(
        "Device.ManagementServer.ManageableDeviceNumberOfEntries",
        "0",
    );
    access.check_home(CPE_GATEWAY).await.unwrap();
    assert_eq!(gateway.session(EventCode::Periodic).await, End::Done);
    let left = access.association(cpe::ID).unwrap();
    assert_eq!(left.status, AssociationStatus::Left, "{left:?}");
    assert_eq!(access.home(CPE_GATEWAY).unwrap().summary.listed, Some(0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tr069_device_that_lies_is_refuted() {
    let (server, access, mut gateway, mut device, _directory) = cpes("ANOTHER").await;
    assert_eq!(gateway.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    // The gateway has no address for Connection Requests: it is read when it comes.
    assert_eq!(gateway.session(EventCode::Periodic).await, End::Done);
    let refuted = access.association(cpe::ID).unwrap();
    assert_eq!(refuted.status, AssociationStatus::Refuted, "{refuted:?}");
    let shown = access.home(CPE_GATEWAY).unwrap();
    assert_eq!(shown.summary.devices.refuted, 1);
    assert_eq!(shown.strangers.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_in_quarantine_confirms_nobody() {
    let (server, access, mut gateway, mut device, _directory) = cpes(cpe::SERIAL).await;
    assert_eq!(gateway.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(gateway.session(EventCode::Periodic).await, End::Done);
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.status, AssociationStatus::Confirmed, "{found:?}");
    let admitted = |admitted| DevicePatch {
        admitted: Some(admitted),
        ..Default::default()
    };
    access
        .patch_device(CPE_GATEWAY, admitted(false))
        .await
        .unwrap();
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.reason, Some(UnverifiableReason::GatewayQuarantined));
    access
        .patch_device(CPE_GATEWAY, admitted(true))
        .await
        .unwrap();
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.status, AssociationStatus::Confirmed);
    access.patch_device(cpe::ID, admitted(false)).await.unwrap();
    let found = access.association(cpe::ID).unwrap();
    assert_eq!(found.reason, Some(UnverifiableReason::DeviceQuarantined));
    server.stop().await;
}
