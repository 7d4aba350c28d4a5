"""What an application with OpenTelemetry's own Python SDK sends: address, ingest key, protocol and service are the arguments.

The same records as otel.mjs and the Rust program of the claims: numbers from 0, so that nothing can be missing or twice.
"""
import sys

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

address, key, protocol, service = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    def to(_path):
        return {"endpoint": address, "insecure": address.startswith("http:")}
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def to(path):
        return {"endpoint": f"{address}/v1/{path}"}


headers = {"authorization": f"Bearer {key}"}
resource = Resource.create({"service.name": service, "service.version": "7", "service.instance.id": service})

logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(
    BatchLogRecordProcessor(OTLPLogExporter(headers=headers, compression=Compression.Gzip, **to("logs")))
)
logger = logs.get_logger("claims")
for n in range(700):
    logger.emit(
        timestamp=1_790_000_000_000_000_000 + n * 1_000_000,
        event_name="page.opened",
        severity_number=SeverityNumber.INFO,
        attributes={"user.id": f"user-{n % 7}", "n": n, "is_even": n % 2 == 0, "share": n / 8, "tags": ["ü", str(n)]},
    )
for n in range(3):
    logger.emit(timestamp=1_790_000_000_000_000_000, body=f"plain line {n}")
logs.shutdown()

traces = TracerProvider(resource=resource)
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(headers=headers, **to("traces"))))
tracer = traces.get_tracer("claims")
for n in range(100):
    attributes = {"http.route": "/orders/{id}", "http.request.method": "GET", "http.response.status_code": 200}
    with tracer.start_as_current_span("GET /orders/{id}", kind=trace.SpanKind.SERVER, attributes=attributes):
        with tracer.start_as_current_span("work"):
            for k in range(3):
                text = f"SELECT * FROM orders WHERE id = {n * 3 + k}"
                attributes = {"db.system.name": "postgresql", "db.query.text": text, "db.response.returned_rows": n * 3 + k}
                tracer.start_span("SELECT", kind=trace.SpanKind.CLIENT, attributes=attributes).end()
traces.shutdown()

reader = PeriodicExportingMetricReader(OTLPMetricExporter(headers=headers, **to("metrics")), export_interval_millis=3_600_000)
metrics = MeterProvider(metric_readers=[reader], resource=resource)
duration = metrics.get_meter("claims").create_histogram("db.client.operation.duration", unit="s")
for n in range(500):
    duration.record(n / 1000, {"db.system.name": "mysql", "db.query.text": "SELECT name FROM parcel WHERE id = ?"})
metrics.force_flush()
# Collects and sends once more: the same cumulative points again.
metrics.shutdown()
print("sent")
