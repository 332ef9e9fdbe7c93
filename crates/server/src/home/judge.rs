//! The cross-check itself (TR-111 Part 1 §1.2.3): what a device says of its gateway against what the gateway lists. It changes nothing.

use std::time::Duration;

use homefleet_api::{
    AssociationStatus, GatewayClaim, IdentityDifference, LocalIdentity, UnverifiableReason,
};

use super::Table;
use crate::clock::Millis;
use crate::device::Registry;
use crate::store::DeviceRecord;
use crate::store::home::AssociationRecord;

/// Longest OUI, and longest serial number and product class (TR-111 Part 1 §1.2.6).
const OUI: usize = 6;
const TEXT: usize = 64;
/// Length from which an instance-id may have been cut, in characters (R-ARC.3: 50; a percent-encoded one goes as a whole).
const FULL: usize = 48;

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) status: AssociationStatus,
    pub(super) gateway: Option<String>,
    pub(super) reason: Option<UnverifiableReason>,
    pub(super) detail: String,
    pub(super) differences: Vec<IdentityDifference>,
    /// The gateway's table is to be read, now or then.
    pub(super) read: Option<Millis>,
}

impl Judgement {
    fn new(status: AssociationStatus, gateway: Option<&DeviceRecord>, detail: String) -> Self {
        Self {
            status,
            gateway: gateway.map(|gateway| gateway.id.clone()),
            reason: None,
            detail,
            differences: Vec::new(),
            read: None,
        }
    }

    fn unverifiable(
        reason: UnverifiableReason,
        gateway: Option<&DeviceRecord>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(AssociationStatus::Unverifiable, gateway, detail.into())
        }
    }
}

/// Judges what a device says. `table` finds what is known of a gateway's table; a gateway has `settle` to list who just came.
pub(super) fn judge<'t>(
    now: Millis,
    registry: &Registry,
    record: &AssociationRecord,
    settle: Duration,
    table: impl Fn(&str) -> Option<&'t Table>,
) -> Judgement {
    use UnverifiableReason as Reason;
    let Some(claim) = &record.claim else {
        let detail = "it names no gateway any more".to_owned();
        return Judgement::new(AssociationStatus::Left, None, detail);
    };
    let Some(device) = registry.device(&record.device) else {
        let detail = "the device is not registered";
        return Judgement::unverifiable(Reason::DeviceUnidentified, None, detail);
    };
    if let Err(detail) = check_claim(claim) {
        return Judgement::unverifiable(Reason::MalformedClaim, None, detail);
    }
    let gateway = match find(registry, claim) {
        Ok(gateway) => gateway,
        Err((reason, detail)) => return Judgement::unverifiable(reason, None, detail),
    };
    let own = match identity(device) {
        Ok(own) => own,
        Err((reason, detail)) => {
            return Judgement::unverifiable(reason, Some(gateway), format!("the device {detail}"));
        }
    };
    if let Err((reason, detail)) = identity(gateway) {
        let reason = match reason {
            Reason::DeviceQuarantined => Reason::GatewayQuarantined,
            other => other,
        };
        return Judgement::unverifiable(reason, Some(gateway), format!("the gateway {detail}"));
    }
    let table = table(&gateway.id);
    let read = table.and_then(|table| table.record.read);
    let Some((table, read)) = table.zip(read.filter(|read| *read >= record.claimed)) else {
        // What went wrong since the device said so.
        let problem = table.and_then(|table| table.problem.as_ref());
        if let Some(problem) = problem.filter(|problem| problem.time >= record.claimed) {
            return Judgement::unverifiable(problem.reason, Some(gateway), &problem.text);
        }
        let detail = "the gateway is being asked".to_owned();
        return Judgement {
            read: Some(now),
            ..Judgement::new(AssociationStatus::Checking, Some(gateway), detail)
        };
    };
    let rows = &table.record.rows;
    if rows.values().any(|row| same(row, &own)) {
        let detail = "the gateway lists it with every element of its identity".to_owned();
        return Judgement::new(AssociationStatus::Confirmed, Some(gateway), detail);
    }
    if record.associated.as_deref() == Some(&gateway.id) || record.status == AssociationStatus::Left
    {
        let detail = "the gateway lists it no longer".to_owned();
        return Judgement::new(AssociationStatus::Left, Some(gateway), detail);
    }
    let settled = record.claimed.plus(settle);
    if read < settled {
        let detail = "the gateway does not list it yet, and is asked again".to_owned();
        return Judgement {
            read: Some(settled),
            ..Judgement::new(AssociationStatus::Checking, Some(gateway), detail)
        };
    }
    let closest = rows
        .values()
        .find(|row| row.serial_number == own.serial_number);
    let differences = closest.map_or_else(Vec::new, |row| differences(&own, row));
    let detail = if differences.is_empty() {
        let lists = match rows.len() {
            0 => "no device".to_owned(),
            1 => "1 device".to_owned(),
            more => format!("{more} devices"),
        };
        format!("the gateway lists {lists}, and not {own}")
    } else {
        let said = differences.iter().map(|found| {
            let (element, ours, theirs) = (&found.element, &found.device, &found.gateway);
            format!("{element} `{ours}` as `{theirs}`")
        });
        let said: Vec<_> = said.collect();
        format!("the gateway lists its {}", said.join(", "))
    };
    Judgement {
        differences,
        ..Judgement::new(AssociationStatus::Refuted, Some(gateway), detail)
    }
}

/// Whether it can be a gateway's identity.
fn check_claim(claim: &GatewayClaim) -> Result<(), &'static str> {
    let LocalIdentity {
        oui,
        serial_number,
        product_class,
    } = &claim.identity;
    if oui.is_empty() && serial_number.is_empty() && claim.endpoint_id.is_some() {
        return Ok(());
    }
    if oui.len() != OUI || !oui.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("the OUI it tells is not six hexadecimal digits");
    }
    if serial_number.is_empty() {
        return Err("it tells no serial number of its gateway");
    }
    if serial_number.len() > TEXT || product_class.len() > TEXT {
        return Err("it tells a serial number or product class of more than 64 characters");
    }
    Ok(())
}

/// The one registered device that a claim means.
fn find<'r>(
    registry: &'r Registry,
    claim: &GatewayClaim,
) -> Result<&'r DeviceRecord, (UnverifiableReason, String)> {
    use UnverifiableReason as Reason;
    let wanted = &claim.identity;
    if wanted.serial_number.is_empty() {
        let id = claim.endpoint_id.as_deref().unwrap_or_default();
        let unknown = || (Reason::UnknownGateway, format!("no device is called {id}"));
        return registry.device(id).ok_or_else(unknown);
    }
    let all = registry
        .named(&wanted.oui, &wanted.serial_number)
        .filter(|device| {
            device.product_class.as_deref().unwrap_or_default() == wanted.product_class
        })
        .filter(|device| claim.endpoint_id.as_ref().is_none_or(|id| *id == device.id));
    let all: Vec<&DeviceRecord> = all.collect();
    // One whose name contradicts what it says is none of them; one whose name proves it goes before those who only say so.
    let rank = |device: &DeviceRecord| match proof(device) {
        Proof::Contradicted => 0,
        Proof::Said => 1,
        Proof::Named => 2,
    };
    let best = all.iter().map(|device| rank(device)).max().unwrap_or(0);
    let mut best_of = all.iter().filter(|device| rank(device) == best);
    match (best, best_of.next(), best_of.next()) {
        (0, ..) | (_, None, _) => Err((
            Reason::UnknownGateway,
            format!("no device is known as {wanted}"),
        )),
        // A gateway that speaks both protocols is in the registry twice: either tells its table.
        (2, Some(first), Some(second)) if first.cwmp.is_some() != second.cwmp.is_some() => {
            Ok(if first.cwmp.is_some() { second } else { first })
        }
        (_, Some(only), None) => Ok(only),
        _ => Err((
            Reason::AmbiguousGateway,
            format!("several devices say that they are {wanted}"),
        )),
    }
}

/// How a device's name in the registry stands to what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The name says another OUI or serial number.
    Contradicted,
    /// The name says nothing of it.
    Said,
    /// The name says the same.
    Named,
}

/// Endpoint IDs of the schemes `os` and `ops`, and the names of CWMP devices, hold OUI and serial number (TR-369, R-ARC).
fn proof(device: &DeviceRecord) -> Proof {
    if device.cwmp.is_some() {
        // The ACS names them by what they say in each Inform.
        return Proof::Named;
    }
    let (Some(oui), Some(serial)) = (&device.oui, &device.serial_number) else {
        return Proof::Said;
    };
    let (instance, said) = if let Some(instance) = device.id.strip_prefix("os::") {
        (instance, format!("{oui}-{serial}"))
    } else if let Some(instance) = device.id.strip_prefix("ops::") {
        let class = device.product_class.as_deref().unwrap_or_default();
        (instance, format!("{oui}-{class}-{serial}"))
    } else {
        return Proof::Said;
    };
    let named = decoded(instance);
    let alike = |said: &str| {
        let (ours, theirs) = (named.split_at_checked(OUI), said.split_at_checked(OUI));
        ours.zip(theirs).is_some_and(|(ours, theirs)| {
            ours.0.eq_ignore_ascii_case(theirs.0) && ours.1 == theirs.1
        })
    };
    // An instance-id of the full length may be the beginning only (R-ARC.3).
    let beginning = said.get(..named.len()).filter(|_| instance.len() >= FULL);
    if alike(&said) || beginning.is_some_and(alike) {
        Proof::Named
    } else {
        Proof::Contradicted
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let hex = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Who a device is on its own network, when it may be believed.
pub(super) fn identity(
    device: &DeviceRecord,
) -> Result<LocalIdentity, (UnverifiableReason, &'static str)> {
    use UnverifiableReason as Reason;
    match &device.cwmp {
        Some(cwmp) if !cwmp.admitted => {
            return Err((Reason::DeviceQuarantined, "is in quarantine"));
        }
        None if !device.is_secure() => {
            let why = "came over a channel without security, where nobody stands for it";
            return Err((Reason::Unauthenticated, why));
        }
        _ => {}
    }
    let own = said(device).ok_or((
        Reason::DeviceUnidentified,
        "has not told its OUI and serial number",
    ))?;
    if proof(device) == Proof::Contradicted {
        let why = "says another OUI or serial number than its Endpoint ID";
        return Err((Reason::DeviceUnidentified, why));
    }
    Ok(own)
}

/// What a device says it is.
pub(super) fn said(device: &DeviceRecord) -> Option<LocalIdentity> {
    let (oui, serial) = (device.oui.as_ref()?, device.serial_number.as_ref()?);
    if oui.is_empty() || serial.is_empty() {
        return None;
    }
    Some(LocalIdentity {
        oui: oui.to_ascii_uppercase(),
        serial_number: serial.clone(),
        product_class: device.product_class.clone().unwrap_or_default(),
    })
}

/// All elements match; hexadecimal digits in either case.
pub(super) fn same(row: &LocalIdentity, own: &LocalIdentity) -> bool {
    row.oui.eq_ignore_ascii_case(&own.oui)
        && row.serial_number == own.serial_number
        && row.product_class == own.product_class
}

fn differences(own: &LocalIdentity, row: &LocalIdentity) -> Vec<IdentityDifference> {
    let difference = |element: &str, device: &str, gateway: &str| IdentityDifference {
        element: element.to_owned(),
        device: device.to_owned(),
        gateway: gateway.to_owned(),
    };
    let mut all = Vec::new();
    if !row.oui.eq_ignore_ascii_case(&own.oui) {
        all.push(difference("ManufacturerOUI", &own.oui, &row.oui));
    }
    if row.product_class != own.product_class {
        let (ours, theirs) = (&own.product_class, &row.product_class);
        all.push(difference("ProductClass", ours, theirs));
    }
    all
}
