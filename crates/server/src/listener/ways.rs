//! The ways out: one transport over every MTP of the server.

use homefleet_net::mtp::Mtps;

use super::{failed, sent};
use crate::controller::{Parcel, Transport};
use crate::task::driver::Sending;

impl Transport for Mtps {
    fn send(&self, parcel: Parcel) -> Sending {
        let ways = self.clone();
        Box::pin(async move {
            let Parcel {
                route,
                endpoint,
                record,
                ..
            } = parcel;
            let result = if parcel.once {
                ways.send_once(&route, &endpoint, record).await
            } else {
                Mtps::send(&ways, &route, &endpoint, record).await
            };
            match result {
                Ok(()) => sent(&route),
                Err(error) => failed(&route, &error),
            }
        })
    }
}
