//! Roles: what a Controller with less than full access may do, by message (R-SEC.1), and how it gets its role
//! (R-SEC.24, R-SEC.25).

use std::collections::BTreeMap;

use homefleet_agent::{engine::Peer, store::Store};
use homefleet_usp::{
    message::{
        Body, Response, add, create_object, delete, get, get_instances, get_supported_dm, operate,
        set, update_object,
    },
    proto::msg::{
        self as pb, GetSupportedDmResp, add_resp, delete_resp, notify::Notification,
        operate_resp::operation_result::OperationResp,
    },
};

use crate::bench::{Bench, CA, CONTROLLER, FULL_ACCESS, STRANGER, settings};

const ROLES: &str = "Device.LocalAgent.ControllerTrust.Role.";
const TRUST: &str = "Device.LocalAgent.ControllerTrust.";
const GUEST: &str = "Device.LocalAgent.Controller.2.";

/// `Targets`, and the four strings in the order `Param`, `Obj`, `InstantiatedObj`, `CommandEvent`.
type Permission<'a> = (&'a str, [&'a str; 4]);

const ALL: [&str; 4] = ["rwxn"; 4];
const NONE: [&str; 4] = ["----"; 4];

/// A role with these permissions, a later one before an earlier one; its reference.
fn role(bench: &mut Bench, name: &str, permissions: &[Permission<'_>]) -> String {
    let role = bench.add(ROLES, &[("Name", name), ("Enable", "true")]);
    for (order, (targets, [param, object, row, command])) in permissions.iter().enumerate() {
        let order = order.to_string();
        bench.add(
            &format!("{role}Permission."),
            &[
                ("Enable", "true"),
                ("Order", order.as_str()),
                ("Targets", targets),
                ("Param", param),
                ("Obj", object),
                ("InstantiatedObj", row),
                ("CommandEvent", command),
            ],
        );
    }
    role.trim_end_matches('.').to_owned()
}

/// A bench on which the stranger is a Controller with these roles.
fn bench_with(roles: &[&[Permission<'_>]]) -> Bench {
    let mut bench = Bench::new();
    let roles: Vec<String> = roles
        .iter()
        .enumerate()
        .map(|(at, permissions)| role(&mut bench, &format!("role-{at}"), permissions))
        .collect();
    bench.add("Device.X_Test.Item.", &[("Name", "a"), ("Level", "1")]);
    bench.add("Device.X_Test.Item.", &[("Name", "b"), ("Level", "2")]);
    bench.set("Device.X_Test.", "Label", "here");
    enter_guest(&mut bench, &roles.join(","));
    bench
}

fn enter_guest(bench: &mut Bench, roles: &str) {
    bench.add(
        "Device.LocalAgent.Controller.",
        &[
            ("EndpointID", STRANGER),
            ("Enable", "true"),
            ("AssignedRole", roles),
        ],
    );
}

fn response(body: Body) -> Response {
    match body {
        Body::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn error(body: Body) -> (u32, Vec<u32>) {
    match body {
        Body::Error(error) => {
            let codes = error.param_errs.iter().map(|one| one.err_code).collect();
            (error.err_code, codes)
        }
        other => panic!("{other:?}"),
    }
}

/// What the stranger reads at a path, or the error code of it.
fn read(bench: &mut Bench, path: &str) -> Result<BTreeMap<String, String>, u32> {
    let Response::GetResp(answer) = response(bench.ask_as(STRANGER, get([path], 0))) else {
        panic!()
    };
    let result = &answer.req_path_results[0];
    if result.err_code != 0 {
        return Err(result.err_code);
    }
    let objects = result.resolved_path_results.iter();
    Ok(objects
        .flat_map(|object| {
            let path = object.resolved_path.clone();
            let params = object.result_params.iter();
            params.map(move |(name, value)| (format!("{path}{name}"), value.clone()))
        })
        .collect())
}

fn names(values: Result<BTreeMap<String, String>, u32>) -> Vec<String> {
    values.unwrap().into_keys().collect()
}

#[test]
fn r_get_1_what_may_not_be_read_is_not_there() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Label,Device.X_Test.Item.2.", NONE),
    ]]);
    assert_eq!(read(&mut bench, "Device.X_Test.Level").unwrap().len(), 1);
    assert_eq!(read(&mut bench, "Device.X_Test.Label"), Err(7026));
    assert_eq!(read(&mut bench, "Device.DeviceInfo."), Err(7026));
    assert_eq!(read(&mut bench, "Device.LocalAgent."), Err(7026));
    assert_eq!(read(&mut bench, "Device."), Err(7026));
    assert_eq!(read(&mut bench, "Device.X_Test.Item.2."), Err(7026));
    // R-GET.4: in what may be read, parameters and rows that may not are left out.
    let seen = names(read(&mut bench, "Device.X_Test."));
    assert!(seen.contains(&"Device.X_Test.Level".to_owned()));
    assert!(seen.contains(&"Device.X_Test.Item.1.Name".to_owned()));
    assert!(
        !seen
            .iter()
            .any(|path| path.contains("Label") && !path.contains("Item.1."))
    );
    assert!(!seen.iter().any(|path| path.contains("Item.2.")));
}

#[test]
fn rows_that_a_wildcard_finds_need_read_on_the_row_and_named_rows_do_not() {
    let mut bench = bench_with(&[&[("Device.X_Test.", ["r---", "r---", "----", "----"])]]);
    assert_eq!(
        names(read(&mut bench, "Device.X_Test.Item.*.Name")),
        [""; 0]
    );
    assert_eq!(names(read(&mut bench, "Device.X_Test.Item.")), [""; 0]);
    let named = read(&mut bench, "Device.X_Test.Item.1.Name").unwrap();
    assert_eq!(named["Device.X_Test.Item.1.Name"], "a");
}

#[test]
fn a_hidden_value_cannot_be_guessed_by_a_search() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Item.*.Level", NONE),
    ]]);
    for path in [
        "Device.X_Test.Item.[Level==2].Name",
        "Device.X_Test.Item.[Name==\"b\"&&Level>1].",
    ] {
        assert_eq!(names(read(&mut bench, path)), [""; 0], "{path}");
    }
    assert_eq!(
        names(read(&mut bench, "Device.X_Test.Item.[Name==\"b\"].Name")),
        ["Device.X_Test.Item.2.Name"]
    );
    let update = update_object("Device.X_Test.Item.[Level==2].", [("Label", "x", true)]);
    let Response::SetResp(answer) = response(bench.ask_as(STRANGER, set(true, vec![update])))
    else {
        panic!()
    };
    let status = format!("{:?}", answer.updated_obj_results[0].oper_status);
    assert!(
        status.contains("OperSuccess") && !status.contains("Item.2."),
        "{status}"
    );
}

#[test]
fn a_reference_that_may_not_be_read_leads_nowhere() {
    let mut bench = bench_with(&[&[
        ("Device.", ["r---", "r---", "r---", "----"]),
        ("Device.LocalAgent.Subscription.*.Recipient", NONE),
    ]]);
    let path = "Device.LocalAgent.Subscription.1.Recipient+.EndpointID";
    assert_eq!(read(&mut bench, path), Err(7026));
    let path = "Device.LocalAgent.Subscription.[Recipient+.EndpointID==\"proto::controller\"].ID";
    assert_eq!(names(read(&mut bench, path)), [""; 0]);
    let path = "Device.LocalAgent.Controller.1.AssignedRole+.Name";
    let values = read(&mut bench, path).unwrap();
    assert_eq!(values.into_values().collect::<Vec<_>>(), ["Full access"]);
}

#[test]
fn r_gin_0_r_gin_1_hidden_rows_and_keys_are_left_out() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Item.*.Name", NONE),
        ("Device.X_Test.Item.2.", NONE),
    ]]);
    let request = get_instances(["Device.X_Test.Item.", "Device.X_Test.Item.2."], false);
    let Response::GetInstancesResp(answer) = response(bench.ask_as(STRANGER, request)) else {
        panic!()
    };
    let rows = &answer.req_path_results[0].curr_insts;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].instantiated_obj_path, "Device.X_Test.Item.1.");
    let keys: Vec<&String> = rows[0].unique_keys.keys().collect();
    assert_eq!(keys, ["Alias"]);
    assert_eq!(answer.req_path_results[1].err_code, 7016);
}

fn supported(bench: &mut Bench, path: &str) -> GetSupportedDmResp {
    let request = get_supported_dm([path], false);
    match response(bench.ask_as(STRANGER, request)) {
        Response::GetSupportedDmResp(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r_gsp_0_what_may_not_be_read_is_not_supported() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "r---"]),
        (
            "Device.X_Test.Label,Device.X_Test.Item.*.Name,Device.X_Test.Slow(),Device.X_Test.Row.",
            NONE,
        ),
    ]]);
    let answer = supported(&mut bench, "Device.X_Test.");
    let text = format!("{answer:?}");
    assert!(text.contains("\"Level\"") && text.contains("Echo()") && text.contains("Alarm!"));
    let objects: Vec<&str> = answer.req_obj_results[0]
        .supported_objs
        .iter()
        .map(|object| object.supported_obj_path.as_str())
        .collect();
    assert_eq!(
        objects,
        [
            "Device.X_Test.",
            "Device.X_Test.Item.{i}.",
            "Device.X_Test.Item.{i}.Stats."
        ]
    );
    let item = &answer.req_obj_results[0].supported_objs[1];
    assert!(
        item.supported_params
            .iter()
            .all(|param| param.param_name != "Name")
    );
    assert_eq!(item.unique_key_sets.len(), 1, "Alias alone");
    assert!(!text.contains("Slow()"));
    for hidden in [
        "Device.",
        "Device.DeviceInfo.",
        "Device.X_Test.Label",
        "Device.X_Test.Slow()",
        "Device.X_Test.Row.{i}.",
    ] {
        let answer = supported(&mut bench, hidden);
        assert_eq!(answer.req_obj_results[0].err_code, 7026, "{hidden}");
    }
}

#[test]
fn r_sec_1_a_set_needs_write_on_each_parameter() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Level", ["rw--", "----", "----", "----"]),
        ("Device.X_Test.Password", ["-w--", "----", "----", "----"]),
    ]]);
    let update = |param, required| update_object("Device.X_Test.", [(param, "3", required)]);
    let denied = error(bench.ask_as(STRANGER, set(false, vec![update("Label", true)])));
    assert_eq!(denied, (7021, vec![7006]));
    // A parameter that does not exist is refused the same: nothing is told by it.
    let denied = error(bench.ask_as(STRANGER, set(false, vec![update("Nothing", true)])));
    assert_eq!(denied, (7021, vec![7006]));
    assert_eq!(bench.value("Device.X_Test.Label"), "here");
    let both = update_object(
        "Device.X_Test.",
        [
            ("Label", "x", false),
            ("Level", "4", true),
            ("Password", "p", true),
        ],
    );
    let answer = response(bench.ask_as(STRANGER, set(false, vec![both])));
    let text = format!("{answer:?}");
    assert!(text.contains("7006"), "{text}");
    // R-SET.3: what may be written and not read is not returned.
    assert!(
        text.contains("\"Level\": \"4\"") && !text.contains("\"Password\""),
        "{text}"
    );
    assert_eq!(bench.value("Device.X_Test.Label"), "here");
    assert_eq!(bench.value("Device.X_Test.Level"), "4");
}

#[test]
fn r_sec_1_an_add_needs_write_on_the_table_and_on_each_parameter() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.Item.", ["rw--", "rw--", "r---", "----"]),
        (
            "Device.X_Test.Item.*.Level",
            ["r---", "----", "----", "----"],
        ),
        (
            "Device.X_Test.Item.*.Alias",
            ["-w--", "----", "----", "----"],
        ),
    ]]);
    let item = |name, params: &[(&str, &str, bool)]| {
        let mut all = vec![("Name", name, true)];
        all.extend(params);
        add(false, vec![create_object("Device.X_Test.Item.", all)])
    };
    let denied = error(bench.ask_as(STRANGER, item("c", &[("Level", "9", true)])));
    assert_eq!(denied, (7021, vec![7006]));
    // TR-369: an optional parameter without permission is left at its default.
    let answer = response(bench.ask_as(STRANGER, item("d", &[("Level", "9", false)])));
    let Response::AddResp(pb::AddResp {
        created_obj_results,
    }) = answer
    else {
        panic!()
    };
    use add_resp::created_object_result::operation_status::OperStatus;
    let status = created_obj_results[0]
        .oper_status
        .clone()
        .unwrap()
        .oper_status;
    let Some(OperStatus::OperSuccess(made)) = status else {
        panic!()
    };
    assert_eq!(made.param_errs[0].err_code, 7006);
    // R-ADD.6: the Alias may not be read.
    assert_eq!(made.unique_keys.keys().collect::<Vec<_>>(), ["Name"]);
    assert_eq!(
        bench.value(&format!("{}Level", made.instantiated_path)),
        "5"
    );
    let elsewhere = create_object(
        "Device.LocalAgent.Controller.",
        [("EndpointID", "self::x", true)],
    );
    assert_eq!(
        error(bench.ask_as(STRANGER, add(false, vec![elsewhere]))).0,
        7006
    );
}

#[test]
fn r_sec_1_a_delete_needs_write_on_the_row() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.Item.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Item.2.", ["----", "----", "-w--", "----"]),
    ]]);
    let denied = error(bench.ask_as(STRANGER, delete(false, ["Device.X_Test.Item.1."])));
    assert_eq!(denied, (7006, vec![7006]));
    let paths = ["Device.X_Test.Item.1.", "Device.X_Test.Item.2."];
    let denied = error(bench.ask_as(STRANGER, delete(false, paths)));
    assert_eq!(denied.0, 7006);
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "2");
    let Response::DeleteResp(answer) = response(bench.ask_as(STRANGER, delete(true, paths))) else {
        panic!()
    };
    use delete_resp::deleted_object_result::operation_status::OperStatus;
    let statuses: Vec<OperStatus> = answer
        .deleted_obj_results
        .into_iter()
        .map(|result| result.oper_status.unwrap().oper_status.unwrap())
        .collect();
    assert!(matches!(&statuses[0], OperStatus::OperFailure(failure) if failure.err_code == 7006));
    // R-DEL.2: it may not be read, so it is not named.
    assert!(
        matches!(&statuses[1], OperStatus::OperSuccess(success) if success.affected_paths.is_empty())
    );
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
}

/// The outcome of a partial Delete of every item: rows deleted and rows that stayed, as far as they are told.
fn delete_items(bench: &mut Bench) -> (Vec<String>, Vec<(String, u32)>) {
    let request = delete(true, ["Device.X_Test.Item.*."]);
    let Response::DeleteResp(answer) = response(bench.ask_as(STRANGER, request)) else {
        panic!()
    };
    use delete_resp::deleted_object_result::operation_status::OperStatus;
    match answer.deleted_obj_results[0]
        .oper_status
        .clone()
        .unwrap()
        .oper_status
        .unwrap()
    {
        OperStatus::OperSuccess(success) => {
            let stayed = success.unaffected_path_errs.into_iter();
            let stayed = stayed.map(|one| (one.unaffected_path, one.err_code));
            (success.affected_paths, stayed.collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn r_del_3_rows_of_a_search_that_stay_are_told() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.Item.", ["r---", "r---", "r---", "----"]),
        ("Device.X_Test.Item.2.", ["----", "----", "rw--", "----"]),
    ]]);
    let stayed = vec![("Device.X_Test.Item.1.".to_owned(), 7006)];
    let gone = vec!["Device.X_Test.Item.2.".to_owned()];
    assert_eq!(delete_items(&mut bench), (gone, stayed));
}

#[test]
fn r_del_4_rows_that_stay_and_may_not_be_read_are_not_named() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.Item.1.", ["r---", "r---", "----", "----"]),
        ("Device.X_Test.Item.2.", ["r---", "r---", "rw--", "----"]),
    ]]);
    let gone = vec!["Device.X_Test.Item.2.".to_owned()];
    assert_eq!(delete_items(&mut bench), (gone, Vec::new()));
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
}

#[test]
fn r_sec_1_a_command_needs_execute() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "r---"]),
        (
            "Device.X_Test.Item.2.Touch()",
            ["----", "----", "----", "--x-"],
        ),
    ]]);
    let call = |command: &str| operate(command, "key", true, Default::default());
    assert_eq!(
        error(bench.ask_as(STRANGER, call("Device.X_Test.Nothing()"))).0,
        7006
    );
    assert_eq!(
        error(bench.ask_as(STRANGER, call("Device.Reboot()"))).0,
        7006
    );
    assert_eq!(bench.system.lock().unwrap().reboots, 0);
    let answer = response(bench.ask_as(STRANGER, call("Device.X_Test.Item.*.Touch()")));
    let Response::OperateResp(answer) = answer else {
        panic!()
    };
    let outcomes: Vec<bool> = answer
        .operation_results
        .iter()
        .map(|result| match result.operation_resp.as_ref().unwrap() {
            OperationResp::CmdFailure(failure) => {
                assert_eq!(failure.err_code, 7006);
                false
            }
            _ => true,
        })
        .collect();
    assert_eq!(outcomes, [false, true]);
    let operated = bench.system.lock().unwrap().operated.len();
    assert_eq!(operated, 1, "the one that is permitted");
}

/// The stranger is reached, and told nothing yet.
fn reachable(bench: &mut Bench) {
    let mtps = format!("{GUEST}MTP.");
    let mtp = bench.add(&mtps, &[("Enable", "true"), ("Protocol", "CoAP")]);
    bench.set(&format!("{mtp}CoAP."), "Host", "192.0.2.9");
    bench.notifications.clear();
}

/// A subscription of the stranger, made by the stranger.
fn subscribe(bench: &mut Bench, kind: &str, reference: &str) {
    let params = [
        ("ID", kind, true),
        ("NotifType", kind, true),
        ("ReferenceList", reference, true),
        ("Enable", "true", true),
    ];
    let create = create_object("Device.LocalAgent.Subscription.", params);
    response(bench.ask_as(STRANGER, add(false, vec![create])));
}

const SUBSCRIBER: Permission<'_> = (
    "Device.LocalAgent.Subscription.",
    ["rw--", "rw--", "rw--", "----"],
);

#[test]
fn r_sec_1_a_notification_needs_notify_on_what_it_tells() {
    let mut bench = bench_with(&[&[
        ("Device.X_Test.", ["r---", "r---", "r---", "r---"]),
        SUBSCRIBER,
        ("Device.X_Test.Level", ["r--n", "----", "----", "----"]),
        ("Device.X_Test.Item.", ["r---", "r--n", "r---", "r---"]),
        ("Device.X_Test.Item.2.", ["r---", "r--n", "r--n", "r---"]),
        ("Device.X_Test.Item.*.Alias", NONE),
        ("Device.X_Test.Slow()", ["----", "----", "----", "---n"]),
    ]]);
    reachable(&mut bench);
    subscribe(&mut bench, "ValueChange", "Device.X_Test.");
    subscribe(&mut bench, "ObjectCreation", "Device.X_Test.Item.");
    subscribe(&mut bench, "ObjectDeletion", "Device.X_Test.Item.");
    subscribe(&mut bench, "OperationComplete", "Device.X_Test.");
    bench.notifications.clear();
    bench.set("Device.X_Test.", "Label", "secret");
    assert!(bench.told().is_empty());
    bench.set("Device.X_Test.", "Level", "7");
    assert_eq!(
        bench.changes(),
        [("Device.X_Test.Level".to_owned(), "7".to_owned())]
    );
    bench.add("Device.X_Test.Item.", &[("Name", "c")]);
    let told = bench.told();
    let [Notification::ObjCreation(creation)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(creation.unique_keys.keys().collect::<Vec<_>>(), ["Name"]);
    bench.ask(delete(false, ["Device.X_Test.Item.1."]));
    assert!(bench.told().is_empty());
    bench.ask(delete(false, ["Device.X_Test.Item.2."]));
    let told = bench.told();
    assert!(
        matches!(told.as_slice(), [Notification::ObjDeletion(gone)] if gone.obj_path == "Device.X_Test.Item.2."),
        "{told:?}"
    );
    bench.ask(operate(
        "Device.X_Test.Slow()",
        "slow",
        true,
        Default::default(),
    ));
    let (request, _) = bench.running.remove(0);
    bench
        .engine
        .handle_completed(bench.now, &request, Ok(BTreeMap::new()));
    bench.drain();
    let told = bench.told();
    assert!(
        matches!(told.as_slice(), [Notification::OperComplete(_)]),
        "{told:?}"
    );
}

#[test]
fn an_event_needs_notify_and_boot_parameters_need_read() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Bench::started(settings(), Store::open(directory.path()).unwrap());
    let boots = |bench: &mut Bench| -> Vec<String> {
        let sent = std::mem::take(&mut bench.notifications);
        sent.iter()
            .filter(|sent| sent.to == STRANGER)
            .filter_map(|sent| match &sent.notify().notification {
                Some(Notification::Event(event)) => Some(event.params["ParameterMap"].clone()),
                _ => None,
            })
            .collect()
    };
    let mut bench = open();
    bench.answer_notifications();
    let granted = role(
        &mut bench,
        "guest",
        &[
            ("Device.X_Test.Level", ["r---", "----", "----", "----"]),
            ("Device.Boot!", ["----", "----", "----", "---n"]),
        ],
    );
    enter_guest(&mut bench, &granted);
    reachable(&mut bench);
    for name in ["Device.X_Test.Level", "Device.X_Test.Label"] {
        bench.add(
            &format!("{GUEST}BootParameter."),
            &[("Enable", "true"), ("ParameterName", name)],
        );
    }
    let subscription = bench.subscribe("Event", "Device.Boot!", &[("Persistent", "true")]);
    drop(bench);
    // The subscription becomes the stranger's.
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    let query = "UPDATE tree SET value = 'Device.LocalAgent.Controller.2' WHERE path = ?1";
    assert_eq!(
        db.execute(query, [format!("{subscription}Recipient")])
            .unwrap(),
        1
    );
    drop(db);
    let mut bench = open();
    assert_eq!(boots(&mut bench), [r#"{"Device.X_Test.Level":"5"}"#]);
    bench.set(&format!("{granted}.Permission.2."), "CommandEvent", "r-x-");
    drop(bench);
    assert!(boots(&mut open()).is_empty());
}

#[test]
fn what_several_roles_permit_adds_up_and_orders_decide_within_each() {
    let reads = ["r---", "r---", "r---", "r---"];
    let mut bench = bench_with(&[
        &[("Device.X_Test.", ALL), ("Device.X_Test.Label", NONE)],
        &[("Device.X_Test.", NONE), ("Device.X_Test.Label", reads)],
    ]);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    let update = |param| {
        set(
            false,
            vec![update_object("Device.X_Test.", [(param, "1", true)])],
        )
    };
    assert!(matches!(
        bench.ask_as(STRANGER, update("Label")),
        Body::Error(_)
    ));
    assert!(matches!(
        bench.ask_as(STRANGER, update("Level")),
        Body::Response(_)
    ));
}

#[test]
fn a_disabled_role_or_permission_permits_nothing() {
    let mut bench = bench_with(&[&[("Device.X_Test.", ALL)]]);
    let role = format!("{ROLES}3.");
    for object in [format!("{role}Permission.1."), role] {
        assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
        bench.set(&object, "Enable", "false");
        assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 0))).0, 7006);
        bench.set(&object, "Enable", "true");
    }
}

#[test]
fn a_target_can_be_a_search_that_is_looked_at_anew() {
    let mut bench = bench_with(&[&[(
        "Device.X_Test.Item.[Level==2].",
        ["r---", "r---", "r---", "----"],
    )]]);
    assert_eq!(read(&mut bench, "Device.X_Test.Item.1.Name"), Err(7026));
    assert!(read(&mut bench, "Device.X_Test.Item.2.Name").is_ok());
    bench.set("Device.X_Test.Item.2.", "Level", "3");
    assert_eq!(read(&mut bench, "Device.X_Test.Item.2.Name"), Err(7026));
}

#[test]
fn a_permission_has_a_form() {
    let mut bench = bench_with(&[&[("Device.X_Test.", ALL)]]);
    let permission = format!("{ROLES}3.Permission.1.");
    for (param, value) in [
        ("Param", "rw"),
        ("Obj", "xxxx"),
        ("InstantiatedObj", "nxwr"),
        ("CommandEvent", "rwxnr"),
        ("Targets", "not a path"),
    ] {
        let update = update_object(&permission, [(param, value, true)]);
        let (code, codes) = bench.ask_error(set(false, vec![update]));
        let codes: Vec<u32> = codes.iter().map(|one| one.err_code).collect();
        assert_eq!((code, codes), (7021, vec![7012]), "{param}");
    }
    // The specification's own form of the whole data model.
    bench.set(&permission, "Targets", "Device");
    assert!(
        read(&mut bench, "Device.DeviceInfo.").is_err(),
        "not on this bench"
    );
    assert!(read(&mut bench, "Device.LocalAgent.UpTime").is_ok());
}

#[test]
fn the_role_that_may_do_everything_stays_as_it_is() {
    let mut bench = Bench::new();
    let full = format!("{FULL_ACCESS}.");
    for (object, param, value) in [
        (full.clone(), "Enable", "false"),
        (format!("{full}Permission.1."), "Param", "----"),
    ] {
        let update = update_object(&object, [(param, value, true)]);
        assert_eq!(bench.ask_error(set(false, vec![update])).0, 7021);
    }
    for row in [
        full.clone(),
        format!("{full}Permission.1."),
        format!("{ROLES}2."),
    ] {
        assert_eq!(bench.ask_error(delete(false, [row])).0, 7024);
    }
    let create = create_object(format!("{full}Permission."), [("Order", "9", true)]);
    assert_eq!(bench.ask_error(add(false, vec![create])).0, 7017);
    // What the untrusted may do is the operator's to say.
    bench.add(&format!("{ROLES}2.Permission."), &[("Order", "1")]);
}

#[test]
fn r_sec_24_a_controller_without_a_role_gets_the_untrusted_one() {
    let mut bench = Bench::new();
    enter_guest(&mut bench, "");
    assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
    let untrusted = bench.value(&format!("{TRUST}UntrustedRole"));
    assert_eq!(untrusted, format!("{ROLES}2"));
    assert_eq!(bench.value(&format!("{GUEST}AssignedRole")), untrusted);
    // What this role permits counts.
    bench.add(
        &format!("{untrusted}.Permission."),
        &[
            ("Enable", "true"),
            ("Targets", "Device.X_Test.Level"),
            ("Param", "r---"),
        ],
    );
    assert!(read(&mut bench, "Device.X_Test.Level").is_ok());
    // R-SEC.7: another Controller changes it.
    bench.set(GUEST, "AssignedRole", FULL_ACCESS);
    assert!(read(&mut bench, "Device.LocalAgent.").is_ok());
}

#[test]
fn the_banned_role_permits_nothing_whatever_else_there_is() {
    let mut bench = bench_with(&[&[("Device.", ALL)]]);
    let banned = role(&mut bench, "banned", &[("Device.", ALL)]);
    bench.set(TRUST, "BannedRole", &banned);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    bench.set(GUEST, "AssignedRole", &format!("{FULL_ACCESS},{banned}"));
    assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
}

#[test]
fn r_sec_25_a_ca_gives_its_role_to_those_it_vouches_for() {
    // Another CA, so that the Controller that changes things stays in.
    let mut settings = settings();
    let mut other = settings.certificates[0].clone();
    (other.serial, other.sha256, other.der) = ("0B".into(), [9; 32], b"the other CA".to_vec());
    settings.certificates.push(other);
    let mut bench = Bench::started(settings, Store::in_memory().unwrap());
    let guest = role(&mut bench, "by-ca", &[("Device.X_Test.", ["r---"; 4])]);
    enter_guest(&mut bench, "");
    let credential = format!("{TRUST}Credential.1.");
    assert_eq!(
        bench.value(&format!("{credential}Credential")),
        "Device.LocalAgent.Certificate.1"
    );
    assert_eq!(
        bench.value(&format!("{credential}AllowedUses")),
        "MTP-and-USP"
    );
    bench.set(&credential, "Role", &guest);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    assert_eq!(bench.value(&format!("{GUEST}InheritedRole")), guest);
    assert_eq!(bench.value(&format!("{GUEST}AssignedRole")), "");
    // Vouched for by another one, it has nothing from this one.
    bench.peer = Peer {
        anchor: Some([1; 32]),
        ..bench.peer.clone()
    };
    assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
    bench.peer = Peer {
        anchor: Some(CA),
        ..bench.peer.clone()
    };
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    let vouched = bench.peer.clone();
    let own = Peer {
        anchor: Some([9; 32]),
        ..bench.peer.clone()
    };
    for (param, value) in [("AllowedUses", "MTP-only"), ("Enable", "false")] {
        bench.peer = own.clone();
        let before = bench.value(&format!("{credential}{param}"));
        bench.set(&credential, param, value);
        bench.peer = vouched.clone();
        assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
        bench.peer = own.clone();
        bench.set(&credential, param, &before);
    }
}

#[test]
fn r_sec_21_an_inherited_role_ends_with_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Bench::started(settings(), Store::open(directory.path()).unwrap());
    let mut bench = open();
    let guest = role(&mut bench, "by-ca", &[("Device.X_Test.", ["r---"; 4])]);
    enter_guest(&mut bench, "");
    bench.set(&format!("{TRUST}Credential.1."), "Role", &guest);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    drop(bench);
    let mut bench = open();
    let inherited = format!("{GUEST}InheritedRole");
    assert_eq!(bench.value(&inherited), "");
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    assert_eq!(bench.value(&inherited), guest);
}

#[test]
fn a_role_that_the_ca_gives_no_more_is_told_nothing_more() {
    let mut bench = Bench::new();
    let guest = role(&mut bench, "by-ca", &[("Device.", ALL)]);
    enter_guest(&mut bench, "");
    bench.set(&format!("{TRUST}Credential.1."), "Role", &guest);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    reachable(&mut bench);
    subscribe(&mut bench, "ValueChange", "Device.X_Test.Label");
    let mut told = |label: &str| {
        bench.notifications.clear();
        bench.set("Device.X_Test.", "Label", label);
        bench.notifications.len()
    };
    assert_eq!(told("one"), 1);
    bench.set(&format!("{TRUST}Credential.1."), "Role", "");
    assert_eq!(bench.value(&format!("{GUEST}InheritedRole")), "");
    bench.notifications.clear();
    bench.set("Device.X_Test.", "Label", "two");
    assert_eq!(bench.notifications.len(), 0);
}

#[test]
fn who_is_banned_is_not_told_again_what_it_has_not_answered() {
    let mut bench = bench_with(&[&[("Device.", ALL)]]);
    let own = bench.value(&format!("{GUEST}AssignedRole"));
    let banned = role(&mut bench, "banned", &[]);
    bench.set(TRUST, "BannedRole", &banned);
    reachable(&mut bench);
    subscribe(&mut bench, "ValueChange", "Device.X_Test.Label");
    bench.set("Device.LocalAgent.Subscription.2.", "NotifRetry", "true");
    bench.set("Device.X_Test.", "Label", "news");
    let mut again = |roles: &str, seconds| {
        bench.set(GUEST, "AssignedRole", roles);
        bench.notifications.clear();
        bench.pass(std::time::Duration::from_secs(seconds));
        bench.notifications.len()
    };
    assert_ne!(again(&own, 60), 0);
    assert_eq!(again(&format!("{own},{banned}"), 600), 0);
    // The pauses have grown meanwhile.
    assert_ne!(again(&own, 6000), 0);
}

#[test]
fn a_role_that_is_deleted_permits_nothing_more() {
    let mut bench = bench_with(&[&[("Device.X_Test.", ALL)]]);
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    bench.ask(delete(false, [format!("{ROLES}3.")]));
    assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
}

#[test]
fn the_controller_of_the_configuration_has_full_access() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.value("Device.LocalAgent.Controller.1.AssignedRole"),
        FULL_ACCESS
    );
    assert_eq!(bench.value(&format!("{FULL_ACCESS}.Name")), "Full access");
    let answer = bench.ask_as(CONTROLLER, get(["Device."], 0));
    assert!(matches!(answer, Body::Response(_)));
}

#[test]
fn state_from_before_roles_gives_every_controller_full_access_once() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Bench::started(settings(), Store::open(directory.path()).unwrap());
    let mut bench = open();
    enter_guest(&mut bench, "");
    drop(bench);
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    db.execute(
        "DELETE FROM tree WHERE path LIKE '%ControllerTrust%' OR path LIKE '%AssignedRole'",
        [],
    )
    .unwrap();
    db.execute("DELETE FROM fact WHERE key = 'roles'", [])
        .unwrap();
    drop(db);
    let mut bench = open();
    assert!(read(&mut bench, "Device.X_Test.Label").is_ok());
    bench.set(GUEST, "AssignedRole", "");
    drop(bench);
    let mut bench = open();
    assert_eq!(error(bench.ask_as(STRANGER, get(["Device."], 1))).0, 7006);
}
