//! Leader election by a `Lease`: only the leader reconciles and starts ventilators.

mod election;

use std::time::Instant;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;

use self::election::{Bid, Election, LEASE, RETRY, Seen};

pub(crate) use self::election::Role;

/// The name of the lease.
const LEASE_NAME: &str = "harmony-operator";

/// A candidate that talks to the API server.
pub(crate) struct Leader {
    api: Api<Lease>,
    election: Election,
    role: watch::Sender<Role>,
}

impl Leader {
    /// A candidate for the lease in this namespace. `identity` is different for every process.
    pub(crate) fn new(client: Client, namespace: &str, identity: String) -> (Self, watch::Receiver<Role>) {
        let (role, receiver) = watch::channel(Role::Standby);
        let leader = Self {
            api: Api::namespaced(client, namespace),
            election: Election::new(identity),
            role,
        };
        (leader, receiver)
    }

    /// Looks at the lease again and again; ends when this process was deposed. The role is told as it changes, and does
    /// not outlast the time that a leader may act on its last renewal, even while the API server does not answer.
    pub(crate) async fn run(mut self) {
        loop {
            let patience = self.election.patience(Instant::now());
            // Without an answer in time the role must change all the same.
            match tokio::time::timeout(patience, self.round()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be read or written"),
                Err(_) => tracing::warn!("the API server does not answer about the lease"),
            }
            let role = self.election.role(Instant::now());
            self.role.send_if_modified(|told| {
                let changed = *told != role;
                if changed {
                    tracing::info!(?role, identity = self.election.identity(), "leader election");
                }
                *told = role;
                changed
            });
            if role == Role::Deposed {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let lease = self.api.get_opt(LEASE_NAME).await?;
        self.election.handle_seen(Instant::now(), lease.as_ref().map(seen));
        let sent = Instant::now();
        let Some(bid) = self.election.bid(sent) else {
            return Ok(());
        };
        match self.write(&bid, lease.and_then(|lease| lease.spec)).await {
            Ok(written) => self.election.handle_won(sent, seen(&written)),
            // Somebody was faster: the next look tells who.
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn write(&self, bid: &Bid, before: Option<LeaseSpec>) -> Result<Lease, Error> {
        let now = MicroTime(jiff::Timestamp::now());
        let acquired = before.and_then(|spec| spec.acquire_time).filter(|_| !bid.takes);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                resource_version: bid.version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity().to_owned()),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                acquire_time: Some(acquired.unwrap_or(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(bid.transitions),
                ..LeaseSpec::default()
            }),
        };
        match bid.version {
            None => self.api.create(&PostParams::default(), &lease).await,
            Some(_) => self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await,
        }
    }
}

/// Gives the lease back, if it is this process's, so that the next leader need not wait for it to run out.
pub(crate) async fn release(client: Client, namespace: &str, identity: &str) -> Result<(), Error> {
    let api = Api::<Lease>::namespaced(client, namespace);
    let Some(mut lease) = api.get_opt(LEASE_NAME).await? else {
        return Ok(());
    };
    match &mut lease.spec {
        Some(spec) if spec.holder_identity.as_deref() == Some(identity) => spec.holder_identity = None,
        _ => return Ok(()),
    }
    api.replace(LEASE_NAME, &PostParams::default(), &lease).await.map(drop)
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.as_ref();
    Seen {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
