//! The operator's server: metrics and health checks at an address of their own.
//!
//! It is a second server of the library, with one worker. It stops after the first, so that a drain
//! can be watched, and its connections are not in the first one's counters.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use ws_reactor::{
    Address, Config, ConnectionInfo, Handler, Message, Metric, MetricValue, Peer, Reply, Request,
    Response, Server, ServerHandle, StartError, Stats, Upgrade,
};

use crate::health::Readiness;

/// Scrapers and balancers need few connections, and must not exhaust the descriptors.
const CONNECTIONS_MAX: usize = 64;

/// How long its last connections may take to close. Nothing else is left to do then.
const DRAIN: Duration = Duration::from_millis(500);

/// The type of the text that `prometheus-client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The running operator's server.
#[derive(Debug)]
pub(crate) struct Admin {
    server: ServerHandle,
    observed: Arc<OnceLock<ServerHandle>>,
}

impl Admin {
    /// Serves at `address`. There are no metrics before [`observe`](Self::observe).
    pub(crate) fn start(
        address: Address,
        unix_mode: Option<u32>,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let observed = Arc::new(OnceLock::new());
        let config = Config { connections_max: Some(CONNECTIONS_MAX), ..Config::default() };
        let mut builder = Server::builder().bind(address).workers(1).config(config);
        if let Some(mode) = unix_mode {
            builder = builder.unix_mode(mode);
        }
        let server = builder.start(|_, _| {
            let mut registry = Registry::with_prefix("ws_reactor");
            registry.register_collector(Box::new(Counters(Arc::clone(&observed))));
            Pages { registry, readiness: readiness.clone() }
        })?;
        Ok(Self { server, observed })
    }

    /// Exports the counters of `server` from now on.
    pub(crate) fn observe(&self, server: &ServerHandle) {
        // It is called once.
        let _ = self.observed.set(server.clone());
    }

    /// Answers the requests that have arrived, and stops.
    pub(crate) fn stop(self) {
        self.server.shutdown(DRAIN);
        if let Err(error) = self.server.join() {
            log::warn!("the server of --admin failed: {error}");
        }
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> &Address {
        &self.server.local_addresses()[0]
    }
}

/// Answers the operator's requests.
struct Pages {
    registry: Registry,
    readiness: Readiness,
}

impl Pages {
    fn metrics(&self) -> Response {
        let mut body = String::new();
        match text::encode(&mut body, &self.registry) {
            Ok(()) => Response::new(200).header("Content-Type", OPENMETRICS).body(body),
            // Writing to a string does not fail.
            Err(_) => Response::text(500, "the metrics cannot be written"),
        }
    }
}

impl Handler for Pages {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        Upgrade::reject(404, "there is no WebSocket here")
    }

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        Some(match request.path() {
            "/metrics" => self.metrics(),
            path => self
                .readiness
                .answer(path)
                .unwrap_or_else(|| Response::text(404, "there are /metrics, /healthz and /readyz")),
        })
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::None
    }
}

/// The counters of the observed server, read at each scrape.
#[derive(Debug)]
struct Counters(Arc<OnceLock<ServerHandle>>);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats: Vec<Stats> =
            self.0.get().into_iter().flat_map(ServerHandle::worker_stats).collect();
        let workers: Vec<Vec<Metric<'_>>> = stats.iter().map(|it| it.iter().collect()).collect();
        let Some(first) = workers.first() else { return Ok(()) };
        let mut start = 0;
        for family in first.chunk_by(|one, next| one.name == next.name) {
            let Metric { name, help, value, .. } = family[0];
            let end = start + family.len();
            let mut encoder = encoder.encode_descriptor(name, help, None, metric_type(value))?;
            for (worker, metrics) in workers.iter().enumerate() {
                for metric in &metrics[start..end] {
                    let mut labels = vec![("worker", worker.to_string())];
                    labels.extend(metric.labels().map(|(key, value)| (key, value.to_owned())));
                    encode(encoder.encode_family(&labels)?, metric.value)?;
                }
            }
            start = end;
        }
        Ok(())
    }
}

fn metric_type(value: MetricValue<'_>) -> MetricType {
    match value {
        MetricValue::Counter(_) => MetricType::Counter,
        MetricValue::Gauge(_) => MetricType::Gauge,
        MetricValue::Histogram(_) => MetricType::Histogram,
        _ => MetricType::Unknown,
    }
}

fn encode(mut encoder: MetricEncoder<'_>, value: MetricValue<'_>) -> fmt::Result {
    match value {
        MetricValue::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        MetricValue::Gauge(value) => encoder.encode_gauge(&value),
        MetricValue::Histogram(histogram) => {
            let buckets: Vec<_> = histogram
                .buckets()
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, |it| it.as_secs_f64()), count))
                .collect();
            let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        _ => Ok(()),
    }
}
