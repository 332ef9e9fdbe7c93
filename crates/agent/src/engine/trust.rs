//! Which roles a Controller has: those given to it, and those of the CA that vouches for it (Figure "Determining the
//! Role" of TR-369, R-SEC.24, R-SEC.25).

use homefleet_model::{error::PutError, path::ObjectPath, value::list_items};
use homefleet_usp::proto::msg::notify::Notification;

use super::{Engine, EngineError, Peer, boot::fact};
use crate::{
    controllers,
    local_agent::{is_true, table, text},
    notify::Notice,
    role::{self, CREDENTIALS, FULL_ACCESS, Kind, Right, Rights, TRUST},
};

impl Engine {
    /// Enters the agent's own roles, and each CA of the configuration file as a trusted credential.
    pub(super) fn enter_trust(&mut self) -> Result<(), EngineError> {
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
        Ok(())
    }

    /// What refers to no certificate any more goes; every CA of the file is there.
    fn enter_credentials(&mut self) -> Result<(), PutError> {
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
        for certificate in &self.file_cas {
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
                ("AllowedUses", "MTP-and-USP"),
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
        let inherited = peer
            .and_then(|peer| peer.anchor)
            .map(|anchor| self.roles_of(&anchor))
            .unwrap_or_default();
        let tree = &mut self.device.tree;
        // R-SEC.21: not kept, so that it ends with the agent.
        if let Err(error) = tree.put(&controller.param("InheritedRole"), &inherited) {
            tracing::error!(%error, "the tree refused an inherited role");
        }
        if inherited.is_empty() && text(tree, controller, "AssignedRole").is_empty() {
            let untrusted = tree
                .text(&format!("{TRUST}UntrustedRole"))
                .unwrap_or_default()
                .to_owned();
            if let Err(error) = tree.put_persistent(&controller.param("AssignedRole"), &untrusted) {
                tracing::error!(%error, "the tree refused the untrusted role");
            }
        }
    }

    /// `Role` of the enabled credential of this CA.
    fn roles_of(&self, anchor: &[u8; 32]) -> String {
        let tree = &self.device.tree;
        let certificates = self.fingerprints.iter();
        let certificates: Vec<&str> = certificates
            .filter(|(_, sha256)| *sha256 == anchor)
            .map(|(row, _)| row.to_reference())
            .collect();
        let credential = tree.rows(&table(CREDENTIALS)).into_iter().find(|row| {
            is_true(tree, row, "Enable")
                && text(tree, row, "AllowedUses") == "MTP-and-USP"
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
