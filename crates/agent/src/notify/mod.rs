//! Subscriptions: what a controller wants to be told, and when something happened, whom it concerns.
//!
//! [`Subscriptions`] is a view of `Device.LocalAgent.Subscription.`, read again when that table changes. It
//! turns changes of the tree, events and completed commands into [`Notice`]s; sending and repeating them
//! is [`Outbox`]'s part.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use homefleet_model::{
    path::{ObjectPath, ParamPath, Path},
    tree::{Change, Resolved, Tree},
    value::list_items,
};
use homefleet_usp::proto::msg::{
    Notify,
    notify::{Event, Notification, ObjectCreation, ObjectDeletion, OperationComplete, ValueChange},
};

use crate::local_agent::{is_true, number, table, text};

mod matching;
mod outbox;
mod retry;

pub use self::retry::RetryPolicy;
pub(crate) use self::{
    matching::{View as PathView, covers},
    outbox::{Outbox, Outgoing},
};

/// Kinds of subscriptions (`NotifType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ValueChange,
    ObjectCreation,
    ObjectDeletion,
    OperationComplete,
    Event,
}

/// One enabled row of `Device.LocalAgent.Subscription.`.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) row: ObjectPath,
    /// Row of the controller that is told.
    pub(crate) recipient: ObjectPath,
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) references: Vec<Path>,
    pub(crate) retry: bool,
    /// 0: never.
    pub(crate) expiration: u32,
    pub(crate) persistent: bool,
    /// ObjectDeletion: rows that a search path named while they were there.
    known: BTreeSet<ObjectPath>,
}

/// Something to tell somebody.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    /// Row of the subscription; absent: an OnBoardRequest.
    pub(crate) subscription: Option<ObjectPath>,
    /// Row of the controller that is told.
    pub(crate) recipient: ObjectPath,
    pub(crate) retry: bool,
    pub(crate) expiration: u32,
    /// Survives a restart while it is not answered.
    pub(crate) persistent: bool,
    pub(crate) notify: Notify,
}

/// A view of the subscription table.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    active: Vec<Subscription>,
}

/// Path of the subscription table.
pub(crate) const TABLE: &str = "Device.LocalAgent.Subscription.";

impl Subscriptions {
    /// Reads the table again.
    pub(crate) fn reload(&mut self, tree: &Tree) {
        let rows = tree.rows(&table(TABLE));
        self.active = rows
            .into_iter()
            .filter_map(|row| Subscription::read(tree, row))
            .collect();
        self.remember(tree);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.active.iter()
    }

    /// Whom these changes of the tree concern. Call it once for each batch, before the table is read again.
    pub(crate) fn on_changes(&mut self, tree: &Tree, changes: &[Change]) -> Vec<Notice> {
        let mut notices = Vec::new();
        for subscription in &self.active {
            let mut view = PathView::new(tree, &subscription.references);
            for change in changes {
                if let Some(notification) = subscription.on_change(&mut view, tree, change) {
                    notices.push(subscription.notice(notification));
                }
            }
        }
        if changes
            .iter()
            .any(|change| !matches!(change, Change::ValueChanged { .. }))
        {
            self.remember(tree);
        }
        notices
    }

    /// Whom an event concerns; `only`: the one controller it is for.
    pub(crate) fn on_event(
        &self,
        tree: &Tree,
        object: &ObjectPath,
        event: &str,
        params: &BTreeMap<String, String>,
        only: Option<&ObjectPath>,
    ) -> Vec<Notice> {
        let concerned = self.active.iter().filter(|subscription| {
            subscription.kind == Kind::Event
                && only.is_none_or(|controller| *controller == subscription.recipient)
                && subscription
                    .references
                    .iter()
                    .any(|reference| covers(tree, reference, object, event))
        });
        let notification = || {
            Notification::Event(Event {
                obj_path: object.to_string(),
                event_name: event.to_owned(),
                params: params.clone().into_iter().collect(),
            })
        };
        concerned
            .map(|subscription| subscription.notice(notification()))
            .collect()
    }

    /// Whom a completed command concerns.
    pub(crate) fn on_complete(
        &self,
        tree: &Tree,
        object: &ObjectPath,
        done: &OperationComplete,
    ) -> Vec<Notice> {
        let concerned = self.active.iter().filter(|subscription| {
            let covered = |reference: &Path| covers(tree, reference, object, &done.command_name);
            subscription.kind == Kind::OperationComplete
                && subscription.references.iter().any(covered)
        });
        concerned
            .map(|subscription| subscription.notice(Notification::OperComplete(done.clone())))
            .collect()
    }

    /// ObjectDeletion over a search path must know what the path named before it was gone.
    fn remember(&mut self, tree: &Tree) {
        for subscription in &mut self.active {
            if subscription.kind != Kind::ObjectDeletion {
                continue;
            }
            let searches = subscription
                .references
                .iter()
                .filter(|reference| reference.is_search());
            subscription.known = searches
                .filter_map(|reference| tree.resolve(reference).ok())
                .flatten()
                .filter_map(|item| match item {
                    Resolved::Object(row) => Some(row),
                    _ => None,
                })
                .collect();
        }
    }
}

impl Subscription {
    /// `None` when it is disabled or says nothing that could be done.
    fn read(tree: &Tree, row: ObjectPath) -> Option<Self> {
        if !is_true(tree, &row, "Enable") {
            return None;
        }
        let kind = match text(tree, &row, "NotifType") {
            "ValueChange" => Kind::ValueChange,
            "ObjectCreation" => Kind::ObjectCreation,
            "ObjectDeletion" => Kind::ObjectDeletion,
            "OperationComplete" => Kind::OperationComplete,
            "Event" => Kind::Event,
            _ => return None,
        };
        let recipient = format!("{}.", text(tree, &row, "Recipient").trim_end_matches('.'))
            .parse()
            .ok()?;
        let references = list_items(text(tree, &row, "ReferenceList"))
            .filter_map(|reference| Path::parse(reference).ok())
            .collect();
        Some(Self {
            recipient,
            id: text(tree, &row, "ID").to_owned(),
            kind,
            references,
            retry: is_true(tree, &row, "NotifRetry"),
            expiration: number(tree, &row, "NotifExpiration"),
            persistent: is_true(tree, &row, "Persistent"),
            known: BTreeSet::new(),
            row,
        })
    }

    /// Whether this subscription wants values or rows watched.
    pub(crate) fn watches(&self) -> bool {
        matches!(
            self.kind,
            Kind::ValueChange | Kind::ObjectCreation | Kind::ObjectDeletion
        )
    }

    fn on_change(
        &self,
        view: &mut PathView<'_>,
        tree: &Tree,
        change: &Change,
    ) -> Option<Notification> {
        match (self.kind, change) {
            (Kind::ValueChange, Change::ValueChanged { path, new, .. }) => {
                let allowed = tree.schema().param(path).is_some_and(|param| param.notify);
                (allowed && view.names_param(path)).then(|| value_change(path, new))
            }
            (Kind::ObjectCreation, Change::Created { path }) => {
                view.names_created(path).then(|| {
                    Notification::ObjCreation(ObjectCreation {
                        obj_path: path.to_string(),
                        unique_keys: tree.unique_keys(path).into_iter().collect(),
                    })
                })
            }
            (Kind::ObjectDeletion, Change::Deleted { path, .. }) => {
                (self.known.contains(path) || view.names_deleted(path)).then(|| {
                    Notification::ObjDeletion(ObjectDeletion {
                        obj_path: path.to_string(),
                    })
                })
            }
            _ => None,
        }
    }

    fn notice(&self, notification: Notification) -> Notice {
        Notice {
            subscription: Some(self.row.clone()),
            recipient: self.recipient.clone(),
            retry: self.retry,
            expiration: self.expiration,
            persistent: self.persistent,
            notify: Notify {
                subscription_id: self.id.clone(),
                send_resp: self.retry,
                notification: Some(notification),
            },
        }
    }
}

fn value_change(path: &ParamPath, value: &str) -> Notification {
    Notification::ValueChange(ValueChange {
        param_path: path.to_string(),
        param_value: value.to_owned(),
    })
}

/// When a row ends by its `TimeToLive`; `None`: never.
pub(crate) fn end_of_life(tree: &Tree, row: &ObjectPath) -> Option<SystemTime> {
    let seconds = number(tree, row, "TimeToLive");
    if seconds == 0 {
        return None;
    }
    let created = crate::time::parse(text(tree, row, "CreationDate"))?;
    created.checked_add(Duration::from_secs(seconds.into()))
}
