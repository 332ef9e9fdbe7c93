//! Whom the agent trusts, and which roles a Controller has: those given to it, and those of the CA that vouches for it
//! (Figures "Checking a Certificate" and "Determining the Role" of TR-369, R-SEC.24, R-SEC.25).

use std::time::{Duration, Instant};

use homefleet_model::{error::PutError, path::ObjectPath, value::list_items};
use homefleet_trust::{Basis, StoredCertificate, same_endpoint};
use homefleet_usp::proto::msg::notify::Notification;

use super::{Action, CertificateInfo, Engine, EngineError, Peer, Trusted, boot::fact};
use crate::{
    controllers,
    local_agent::{MAX_ROWS, is_true, number, table, text},
    notify::Notice,
    provider::Now,
    role::{self, CREDENTIALS, FULL_ACCESS, Kind, Right, Rights, TRUST},
};

impl Engine {
    /// Enters the agent's own roles, and each CA of the configuration file as a trusted credential.
    pub(super) fn enter_trust(&mut self, now: Now) -> Result<(), EngineError> {
        if let Err(error) =
            role::enter(&mut self.device.tree).and_then(|()| self.enter_credentials())
        {
            tracing::error!(%error, "the tree refused the agent's own roles");
        }
        if self.store.fact(fact::ROLES)?.is_none() {
            // The state is from an agent that gave every Controller full access without saying so.
            for row in self.device.tree.rows(&table(controllers::TABLE)) {
                self.assign(&row, FULL_ACCESS);
            }
            self.batch.facts.push((fact::ROLES.into(), "true".into()));
        }
        if let Some((allowed, seconds)) = self.settings.first_use {
            let wanted = format!("{allowed} {seconds}");
            if self.store.fact(fact::FIRST_USE)?.as_deref() != Some(&wanted) {
                self.batch.facts.push((fact::FIRST_USE.into(), wanted));
                self.put_trust("TOFUAllowed", &allowed.to_string());
                self.put_trust("TOFUInactivityTimer", &seconds.to_string());
            }
        }
        for row in self.device.tree.rows(&table(controllers::TABLE)) {
            let id = text(&self.device.tree, &row, "EndpointID");
            let met = self.store.fact(&format!("{}{id}", fact::MET))?;
            if met.is_some_and(|met| !met.is_empty()) {
                self.met.insert(row, now.instant);
            }
        }
        Ok(())
    }

    fn put_trust(&mut self, name: &str, value: &str) {
        let param = table(TRUST).param(name);
        if let Err(error) = self.device.tree.put_persistent(&param, value) {
            tracing::error!(name, %error, "the tree refused a value of the configuration file");
        }
    }

    /// Tells whom to accept, when that has changed.
    pub(super) fn publish_trust(&mut self) {
        let trusted = self.trust_now();
        if trusted != self.trusted {
            self.trusted = trusted.clone();
            self.actions.push_back(Action::Trust(trusted));
        }
    }

    fn trust_now(&self) -> Trusted {
        let tree = &self.device.tree;
        let certificate = |reference: &str| {
            let row: ObjectPath = format!("{reference}.").parse().ok()?;
            is_true(tree, &row, "Enable").then_some(())?;
            self.certificates.get(&row)
        };
        let mut trusted = Trusted {
            first_use: tree.text(&format!("{TRUST}TOFUAllowed")) == Some("true"),
            first_use_idle: Duration::from_secs(
                number(tree, &table(TRUST), "TOFUInactivityTimer").into(),
            ),
            ..Trusted::default()
        };
        for row in tree.rows(&table(CREDENTIALS)) {
            let Some(info) = certificate(text(tree, &row, "Credential"))
                .filter(|_| is_true(tree, &row, "Enable"))
            else {
                continue;
            };
            // The end of the MTP is the end of the Messages, or a broker, which is known by its very certificate: a CA for the
            // MTP alone lets nobody in (R-SEC.4a).
            match text(tree, &row, "AllowedUses") {
                "MTP-and-USP" => trusted.anchors.push(info.der.clone()),
                "MTP-and-broker" => trusted.brokers.push(info.der.clone()),
                _ => {}
            }
        }
        for row in tree.rows(&table(controllers::TABLE)) {
            let endpoint_id = text(tree, &row, "EndpointID").to_owned();
            for info in list_items(text(tree, &row, "Credential")).filter_map(certificate) {
                trusted.stored.push(StoredCertificate {
                    fingerprint: info.sha256,
                    endpoint_id: endpoint_id.clone(),
                });
            }
            trusted.known.push(endpoint_id);
        }
        trusted
    }

    /// Whether what a peer was accepted for lets it speak as this Controller: a CA vouches for it, or its certificate is
    /// stored for this very Endpoint ID (R-SEC.8). What is stored for another may be this one's by a CA all the same: it
    /// would not have come in under this name without.
    pub(super) fn vouches(&self, controller: &ObjectPath, peer: &Peer) -> bool {
        let trusted = self.trust_now();
        let by_ca = || {
            // It may have come in before this CA was taken back: at a start all those of the file count at first.
            let mut certificates = self.certificates.values();
            let ca = certificates.find(|info| Some(info.sha256) == peer.anchor);
            ca.is_some_and(|ca| trusted.anchors.contains(&ca.der))
        };
        let by_store = || {
            let endpoint_id = text(&self.device.tree, controller, "EndpointID");
            trusted.stored.iter().any(|stored| {
                stored.fingerprint == peer.fingerprint && stored.endpoint_id == endpoint_id
            })
        };
        match peer.basis {
            Basis::TrustedCa => by_ca(),
            Basis::StoredCertificate => by_store() || by_ca(),
            Basis::FirstUse => by_store(),
            // R-SEC.26: a broker vouches for all those it lets send, while it is trusted.
            Basis::TrustedBroker => {
                let mut certificates = self.certificates.values();
                let broker = certificates.find(|info| info.sha256 == peer.fingerprint);
                broker.is_some_and(|broker| trusted.brokers.contains(&broker.der))
            }
            // An identity never rests on a cached session.
            Basis::CachedSession => false,
            // Such peers are for CMP alone.
            Basis::NotVerified => false,
        }
    }

    /// Somebody who is not in the Controller table has asked something, with a certificate that was accepted: it enters the
    /// table, so that its role can be seen and changed (Figure "Determining the Role", R-SEC.6 to R-SEC.8).
    pub(super) fn meet(&mut self, now: Now, endpoint_id: &str, peer: &Peer) -> Option<ObjectPath> {
        let tree = &self.device.tree;
        let rows = tree.rows(&table(controllers::TABLE));
        // One that is disabled stays so, and is no other one when it writes its name in another way.
        if rows
            .iter()
            .any(|row| same_endpoint(text(tree, row, "EndpointID"), endpoint_id))
        {
            return None;
        }
        if rows.len() >= MAX_ROWS {
            tracing::warn!(endpoint_id, "no room for an unknown Controller");
            return None;
        }
        self.make_room_for_unknown();
        let certificate = match peer.basis {
            Basis::TrustedCa | Basis::TrustedBroker => None,
            // Without the certificate nothing could be remembered.
            Basis::FirstUse => {
                let info = peer
                    .certificate
                    .as_deref()
                    .and_then(CertificateInfo::from_der)?;
                match self.keep_certificate(info, None) {
                    Ok(row) => Some(row),
                    Err(error) => {
                        tracing::warn!(endpoint_id, error, "not trusted on first use");
                        return None;
                    }
                }
            }
            _ => return None,
        };
        match self.enter_unknown(endpoint_id, certificate.as_ref()) {
            Ok(row) => {
                tracing::info!(endpoint_id, basis = %peer.basis, controller = %row, "met a Controller");
                let key = format!("{}{endpoint_id}", fact::MET);
                self.batch.facts.push((key, "true".into()));
                self.met.insert(row.clone(), now.instant);
                Some(row)
            }
            Err(error) => {
                tracing::warn!(endpoint_id, %error, "no room for an unknown Controller");
                None
            }
        }
    }

    fn enter_unknown(
        &mut self,
        endpoint_id: &str,
        certificate: Option<&ObjectPath>,
    ) -> Result<ObjectPath, PutError> {
        let tree = &mut self.device.tree;
        let row = tree.create_persistent(&table(controllers::TABLE))?;
        tree.put_persistent(&row.param("EndpointID"), endpoint_id)?;
        tree.put_persistent(&row.param("Enable"), "true")?;
        if let Some(certificate) = certificate {
            self.refer(&row, certificate)?;
        }
        Ok(row)
    }

    /// At the bound the Controller goes that came by itself, was given no role since, and is silent for longest.
    fn make_room_for_unknown(&mut self) {
        let tree = &self.device.tree;
        self.met.retain(|row, _| tree.exists(row));
        let mut nobody: Vec<(&ObjectPath, Instant)> = self
            .met
            .iter()
            .filter(|(row, _)| self.is_nobody(row))
            .map(|(row, heard)| (row, *heard))
            .collect();
        nobody.sort_by_key(|(row, heard)| (*heard, row.instance()));
        let bound = self.settings.limits.max_unknown_controllers.max(1);
        let surplus = (nobody.len() + 1).saturating_sub(bound);
        let gone: Vec<ObjectPath> = nobody
            .into_iter()
            .take(surplus)
            .map(|(row, _)| row.clone())
            .collect();
        for row in gone {
            self.forget_unknown(&row);
        }
    }

    /// Whether a Controller came by itself and was given no role since. One without any assigned role is vouched for by a
    /// CA that gives it one, though after a start of the agent that shows only when it comes again.
    fn is_nobody(&self, row: &ObjectPath) -> bool {
        let tree = &self.device.tree;
        self.met.contains_key(row)
            && text(tree, row, "InheritedRole").is_empty()
            && text(tree, row, "AssignedRole") == self.untrusted_role()
    }

    /// The configuration file names a Controller of this row: whoever came first in its name is not it.
    pub(super) fn is_taken_over(&mut self, row: &ObjectPath) -> bool {
        let nobody = self.is_nobody(row);
        if nobody {
            self.forget_unknown(row);
        } else if self.met.remove(row).is_some() {
            let endpoint_id = text(&self.device.tree, row, "EndpointID");
            let key = format!("{}{endpoint_id}", fact::MET);
            self.batch.facts.push((key, String::new()));
        }
        nobody
    }

    fn forget_unknown(&mut self, row: &ObjectPath) {
        let tree = &mut self.device.tree;
        let endpoint_id = text(tree, row, "EndpointID").to_owned();
        let certificates: Vec<ObjectPath> = list_items(text(tree, row, "Credential"))
            .filter_map(|reference| format!("{reference}.").parse().ok())
            .collect();
        tracing::info!(endpoint_id, controller = %row, "forgot an unknown Controller");
        tree.remove_instance(row);
        self.met.remove(row);
        self.stats.controllers_forgotten += 1;
        let key = format!("{}{endpoint_id}", fact::MET);
        self.batch.facts.push((key, String::new()));
        for certificate in certificates {
            if !self.is_referred_to(&certificate) {
                self.forget_certificate(&certificate);
            }
        }
    }

    /// Somebody has deleted a Controller: of one that came by itself nothing stays, or its certificate would keep its room.
    pub(super) fn forget_met(&mut self, row: &ObjectPath, endpoint_id: &str) {
        if self.met.remove(row).is_none() {
            return;
        }
        let key = format!("{}{endpoint_id}", fact::MET);
        self.batch.facts.push((key, String::new()));
        let stored = self.trusted.stored.iter();
        let certificates: Vec<ObjectPath> = stored
            .filter(|stored| stored.endpoint_id == endpoint_id)
            .filter_map(|stored| self.row_of(&stored.fingerprint))
            .filter(|certificate| !self.is_referred_to(certificate))
            .collect();
        for certificate in certificates {
            self.forget_certificate(&certificate);
        }
    }

    fn untrusted_role(&self) -> String {
        let role = self.device.tree.text(&format!("{TRUST}UntrustedRole"));
        role.unwrap_or_default().to_owned()
    }

    /// What refers to no certificate any more goes; every CA of the file is there.
    pub(super) fn enter_credentials(&mut self) -> Result<(), PutError> {
        let tree = &mut self.device.tree;
        for row in tree.rows(&table(CREDENTIALS)) {
            let reference = text(tree, &row, "Credential").to_owned();
            let there = format!("{reference}.")
                .parse::<ObjectPath>()
                .is_ok_and(|certificate| tree.exists(&certificate));
            if !reference.is_empty() && !there {
                tree.remove_instance(&row);
            }
        }
        let files = self.file_cas.iter().map(|row| (row, "MTP-and-USP"));
        let brokers = self.file_brokers.iter().map(|row| (row, "MTP-and-broker"));
        for (certificate, uses) in files.chain(brokers) {
            let reference = certificate.to_reference();
            let known = tree
                .rows(&table(CREDENTIALS))
                .iter()
                .any(|row| text(tree, row, "Credential") == reference);
            if known {
                continue;
            }
            let row = tree.create_persistent(&table(CREDENTIALS))?;
            for (name, value) in [
                ("Credential", reference),
                ("AllowedUses", uses),
                ("Enable", "true"),
            ] {
                tree.put_persistent(&row.param(name), value)?;
            }
        }
        Ok(())
    }

    /// Gives a Controller without a role the one with this Alias.
    pub(super) fn assign(&mut self, controller: &ObjectPath, alias: &str) {
        let tree = &mut self.device.tree;
        if !text(tree, controller, "AssignedRole").is_empty() {
            return;
        }
        let Some(role) = role::role(tree, alias) else {
            return;
        };
        if let Err(error) = tree.put_persistent(&controller.param("AssignedRole"), &role) {
            tracing::error!(%error, "the tree refused a role");
        }
    }

    /// The roles of the Controller that has sent something: what its CA gives it now, and the untrusted role when that
    /// leaves it none.
    pub(super) fn determine_role(&mut self, controller: &ObjectPath, peer: Option<&Peer>) {
        let anchor = peer.and_then(Peer::authority);
        match anchor {
            Some(anchor) => self.vouched.insert(controller.clone(), anchor),
            None => self.vouched.remove(controller),
        };
        let inherited = anchor
            .map(|anchor| self.roles_of(&anchor))
            .unwrap_or_default();
        let untrusted = self.untrusted_role();
        let tree = &mut self.device.tree;
        // R-SEC.21: not kept, so that it ends with the agent.
        if let Err(error) = tree.put(&controller.param("InheritedRole"), &inherited) {
            tracing::error!(%error, "the tree refused an inherited role");
        }
        if inherited.is_empty()
            && text(tree, controller, "AssignedRole").is_empty()
            && let Err(error) = tree.put_persistent(&controller.param("AssignedRole"), &untrusted)
        {
            tracing::error!(%error, "the tree refused the untrusted role");
        }
    }

    /// What CAs give has changed: for those that came since the start it counts at once, since what they are told does not
    /// wait for their next request.
    pub(super) fn inherit_again(&mut self) {
        let controllers = std::mem::take(&mut self.vouched);
        for (row, anchor) in controllers {
            if !self.device.tree.exists(&row) {
                continue;
            }
            let roles = self.roles_of(&anchor);
            if let Err(error) = self.device.tree.put(&row.param("InheritedRole"), &roles) {
                tracing::error!(%error, "the tree refused an inherited role");
            }
            self.vouched.insert(row, anchor);
        }
    }

    /// `Role` of the enabled credential of this CA.
    fn roles_of(&self, anchor: &[u8; 32]) -> String {
        let tree = &self.device.tree;
        let certificates = self.certificates.iter();
        let certificates: Vec<&str> = certificates
            .filter(|(_, info)| info.sha256 == *anchor)
            .map(|(row, _)| row.to_reference())
            .collect();
        let credential = tree.rows(&table(CREDENTIALS)).into_iter().find(|row| {
            is_true(tree, row, "Enable")
                && ["MTP-and-USP", "MTP-and-broker"].contains(&text(tree, row, "AllowedUses"))
                && certificates.contains(&text(tree, row, "Credential"))
        });
        credential
            .map(|row| text(tree, &row, "Role").to_owned())
            .unwrap_or_default()
    }

    /// Whether the recipient may be told this, by its roles; takes out of it what may not be read.
    pub(super) fn may_tell(&self, rights: &Rights, notice: &mut Notice) -> bool {
        if rights.is_full() {
            return true;
        }
        let tree = &self.device.tree;
        let watchable = notice.subscription.as_ref().is_none_or(|row| {
            list_items(text(tree, row, "ReferenceList")).all(|reference| {
                homefleet_model::path::Path::parse(reference)
                    .is_ok_and(|path| rights.may_watch(&path))
            })
        });
        let allowed = |kind, path: &str| rights.allow(kind, path, Right::Notify);
        watchable
            && match &mut notice.notify.notification {
                Some(Notification::ValueChange(change)) => allowed(Kind::Param, &change.param_path),
                Some(Notification::ObjCreation(creation)) => {
                    let row: Option<ObjectPath> = creation.obj_path.parse().ok();
                    row.is_some_and(|row| {
                        rights.readable_keys(&row, &mut creation.unique_keys);
                        row.parent()
                            .is_some_and(|table| allowed(Kind::Object, table.as_str()))
                    })
                }
                Some(Notification::ObjDeletion(deletion)) => allowed(Kind::Row, &deletion.obj_path),
                Some(Notification::OperComplete(done)) => allowed(
                    Kind::CommandEvent,
                    &format!("{}{}", done.obj_path, done.command_name),
                ),
                Some(Notification::Event(event)) => allowed(
                    Kind::CommandEvent,
                    &format!("{}{}", event.obj_path, event.event_name),
                ),
                // R-NOT.5: who the agent is, to a Controller that somebody entered.
                Some(Notification::OnBoardReq(_)) | None => true,
            }
    }
}
