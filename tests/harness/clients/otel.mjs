// What an application with OpenTelemetry's own JavaScript SDK sends: address, ingest key, protocol and service are the
// arguments. The same records as otel.py and the Rust program of the claims: numbers from 0, so that nothing can be missing
// or twice.
import { SpanKind, context, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [address, key, protocol, service] = process.argv.slice(2);
const suffix = { "http/json": "http", "http/protobuf": "proto", grpc: "grpc" }[protocol];
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${suffix}`);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${suffix}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${suffix}`);

let to = (path) => ({ url: `${address}/v1/${path}`, headers: { authorization: `Bearer ${key}` }, compression: "gzip" });
if (protocol === "grpc") {
  const { Metadata } = await import("@grpc/grpc-js");
  to = () => {
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${key}`);
    return { url: address, metadata };
  };
}
const resource = resourceFromAttributes({
  "service.name": service, "service.version": "7", "service.instance.id": service,
});
// Batches of the default size, in a queue that holds them all: what the SDK itself drops when it is full is not our claim.
const batches = { maxQueueSize: 10_000 };

const logs = new LoggerProvider({
  resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(to("logs")), ...batches })],
});
const logger = logs.getLogger("claims");
const sentAt = 1_790_000_000_000;
for (let n = 0; n < 700; n++) {
  logger.emit({
    timestamp: new Date(sentAt + n),
    eventName: "page.opened",
    severityNumber: SeverityNumber.INFO,
    attributes: { "user.id": `user-${n % 7}`, n, is_even: n % 2 === 0, share: n / 8, tags: ["ü", String(n)] },
  });
}
for (let n = 0; n < 3; n++) logger.emit({ timestamp: new Date(sentAt), body: `plain line ${n}` });
await logs.shutdown();

const traces = new NodeTracerProvider({
  resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(to("traces")), batches)],
});
const tracer = traces.getTracer("claims");
for (let n = 0; n < 100; n++) {
  const served = tracer.startSpan("GET /orders/{id}", {
    kind: SpanKind.SERVER,
    attributes: { "http.route": "/orders/{id}", "http.request.method": "GET", "http.response.status_code": 200 },
  });
  const inServed = trace.setSpan(context.active(), served);
  const work = tracer.startSpan("work", {}, inServed);
  for (let k = 0; k < 3; k++) {
    const text = `SELECT * FROM orders WHERE id = ${n * 3 + k}`;
    const attributes = {
      "db.system.name": "postgresql", "db.query.text": text, "db.response.returned_rows": n * 3 + k,
    };
    tracer.startSpan("SELECT", { kind: SpanKind.CLIENT, attributes }, trace.setSpan(inServed, work)).end();
  }
  work.end();
  served.end();
}
await traces.shutdown();

const reader = new PeriodicExportingMetricReader({
  exporter: new OTLPMetricExporter(to("metrics")), exportIntervalMillis: 3_600_000,
});
const metrics = new MeterProvider({ readers: [reader], resource });
const duration = metrics.getMeter("claims").createHistogram("db.client.operation.duration", { unit: "s" });
for (let n = 0; n < 500; n++) {
  duration.record(n / 1000, { "db.system.name": "mysql", "db.query.text": "SELECT name FROM parcel WHERE id = ?" });
}
await metrics.forceFlush();
// Collects and sends once more: the same cumulative points again.
await metrics.shutdown();
console.log("sent");
