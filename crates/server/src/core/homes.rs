//! Homes: what the core does for them, and what callers ask of them.

use std::time::Duration;

use homefleet_api as api;
use homefleet_api::{AssociationStatus, Event, Role};

use super::access::{MAX_PAGE, page};
use super::{Access, Core, CoreError, State};
use crate::clock::Millis;
use crate::home::Homes;
use crate::metrics::Sample;
use crate::store::{Batch, StoreError, TaskRecord, Write};

/// Who the server is in its own tasks.
const SELF: &str = "server";
/// How long a reading may wait for its device.
const READ_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Most that a search looks at before others get their turn.
const LOOK_AT: usize = 4096;

/// Which homes.
#[derive(Debug, Clone, Default)]
pub struct HomeQuery {
    /// Text that the gateway's Endpoint ID, label or product contains.
    pub search: Option<String>,
    /// Page size, 1 to 1000; 0 = 100.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Which associations.
#[derive(Debug, Clone, Default)]
pub struct AssociationQuery {
    /// Status.
    pub status: Option<AssociationStatus>,
    /// Page size, 1 to 1000; 0 = 100.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl Core {
    /// Takes over what the store has of homes.
    pub(super) async fn restore_homes(&self) -> Result<(), StoreError> {
        let store = &self.0.store;
        let (associations, tables) = (store.associations().await?, store.gateway_tables().await?);
        let homes = Homes::restore(self.0.config.home.clone(), self.now(), associations, tables);
        self.state().homes = homes;
        Ok(())
    }

    /// Lets homes see a change, in the same lock and write; what is to be told of them once that is on disk.
    pub(super) fn look_at_homes(
        &self,
        state: &mut State,
        now: Millis,
        batch: &mut Batch,
        tasks: &mut Vec<TaskRecord>,
    ) -> Vec<Event> {
        state.homes.look(now, &state.registry, batch, tasks);
        for wish in state.homes.drain_wishes() {
            let (device, operation) = (wish.device, wish.operation);
            if state.queue.has(&device, SELF, &operation) {
                continue;
            }
            let pushed = self
                .new_task(state, now, &device, operation, READ_WITHIN, SELF)
                .map_err(|error| error.to_string())
                .and_then(|task| {
                    let heard = state.registry.device(&device).map(|it| it.last_contact);
                    let pushed = state.queue.push(task, heard);
                    pushed.map_err(|error| error.to_string())
                });
            if let Err(problem) = pushed {
                tracing::warn!(device, problem, "an own task was not queued");
                state
                    .homes
                    .not_asked(now, &state.registry, &device, &problem);
            }
        }
        tasks.extend(state.queue.drain_changes());
        for write in state.homes.drain_writes() {
            batch.push(Write::Home(write));
        }
        let told = state.homes.drain_told();
        let events = told.iter().filter_map(|device| {
            let association = state.homes.association(device)?;
            Some(Event::Association {
                time: now.to_timestamp(),
                association: api::Association {
                    history: Vec::new(),
                    ..association
                },
            })
        });
        events.collect()
    }

    /// What `/metrics` tells of homes.
    pub(crate) fn home_samples(&self) -> Vec<Sample> {
        self.state().homes.samples()
    }

    fn device_summary(&self, state: &State, id: &str) -> Option<api::DeviceSummary> {
        let device = state.registry.device(id)?;
        let open = state.queue.open_tasks(id);
        Some(state.registry.summary(self.now(), device, open))
    }
}

impl Access {
    /// A page of homes.
    pub async fn homes(&self, query: HomeQuery) -> Result<api::HomePage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(query.limit, 100, MAX_PAGE)?;
        let search = query.search.map(|text| text.to_lowercase());
        let mut homes: Vec<api::HomeSummary> = Vec::new();
        let mut after = query.after;
        let mut claims;
        loop {
            {
                let state = self.core.state();
                claims = state.homes.counts();
                let (found, next) = state.homes.gateways(after.as_deref(), LOOK_AT);
                for id in found {
                    let Some(device) = self.core.device_summary(&state, &id) else {
                        continue;
                    };
                    if search.as_ref().is_none_or(|text| contains(&device, text)) {
                        homes.extend(state.homes.summary(&id, device));
                    }
                    if homes.len() > limit {
                        break;
                    }
                }
                after = next;
            }
            if homes.len() > limit || after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let more = homes.len() > limit;
        homes.truncate(limit);
        let last = homes.last().map(|home| home.gateway.id.clone());
        Ok(api::HomePage {
            homes,
            claims,
            next: last.filter(|_| more),
        })
    }

    /// A home.
    pub fn home(&self, gateway: &str) -> Result<api::Home, CoreError> {
        self.check(Role::Viewer)?;
        let state = self.core.state();
        let device = self.core.device_summary(&state, gateway);
        let device = device.ok_or_else(|| CoreError::no("device", gateway))?;
        let summary = state.homes.summary(gateway, device);
        let summary = summary.ok_or_else(|| CoreError::no("home", gateway))?;
        let (associations, more_members) = state.homes.members(gateway);
        let (strangers, more_strangers) = state.homes.strangers(gateway, &state.registry);
        let members = associations.into_iter().filter_map(|association| {
            let device = self.core.device_summary(&state, &association.device)?;
            Some(api::HomeMember {
                device,
                association,
            })
        });
        Ok(api::Home {
            members: members.collect(),
            strangers,
            more: more_members.saturating_add(more_strangers),
            summary,
        })
    }

    /// Reads a gateway's table now.
    pub async fn check_home(&self, gateway: &str) -> Result<api::Task, CoreError> {
        let operation = {
            let state = self.core.state();
            let device = state.registry.device(gateway);
            crate::home::read_table(device.ok_or_else(|| CoreError::no("device", gateway))?)
        };
        let new = api::NewTask {
            operation,
            expires_in: None,
        };
        self.submit(gateway, new).await
    }

    /// A page of what devices say of their gateways.
    pub async fn associations(
        &self,
        query: AssociationQuery,
    ) -> Result<api::AssociationPage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(query.limit, 100, MAX_PAGE)?;
        let mut associations: Vec<api::Association> = Vec::new();
        let mut after = query.after;
        loop {
            let wanted = limit + 1 - associations.len();
            let (found, next) = self.core.state().homes.associations(
                query.status,
                after.as_deref(),
                wanted,
                LOOK_AT,
            );
            associations.extend(found);
            after = next;
            if associations.len() > limit || after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let more = associations.len() > limit;
        associations.truncate(limit);
        let last = associations.last().map(|found| found.device.clone());
        Ok(api::AssociationPage {
            associations,
            next: last.filter(|_| more),
        })
    }

    /// What a device says of its gateway, with its history.
    pub fn association(&self, id: &str) -> Result<api::Association, CoreError> {
        self.check(Role::Viewer)?;
        let state = self.core.state();
        if state.registry.device(id).is_none() {
            return Err(CoreError::no("device", id));
        }
        let association = state.homes.association(id);
        association.ok_or_else(|| CoreError::no("association of the device", id))
    }
}

fn contains(device: &api::DeviceSummary, search: &str) -> bool {
    let fields = [
        Some(&device.id),
        device.label.as_ref(),
        device.product_class.as_ref(),
        device.serial_number.as_ref(),
        device.model_name.as_ref(),
    ];
    let mut fields = fields.into_iter().flatten();
    fields.any(|field| field.to_lowercase().contains(search))
}
