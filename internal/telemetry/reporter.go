package telemetry

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"kafkagrpc/wire"
)

// reporter is who reports. The SDK knows one for good; as its attributes can change, they are put on what leaves the SDK. Safe for concurrent use.
type reporter struct {
	config Config
	now    atomic.Pointer[reported]
}

// reported is a reporter as it is shown.
type reported struct {
	*resource.Resource
	info prometheus.Gatherer // it as a metric
}

func newReporter(ctx context.Context, c Config) (*reporter, error) {
	r := &reporter{config: c}
	now, err := r.with(ctx, c.File.Attributes)
	if err != nil {
		return nil, err
	}
	r.now.Store(now)
	return r, nil
}

// with is the reporter with other attributes of the file: the environment has the last word.
func (r *reporter) with(ctx context.Context, attributes []wire.Field) (*reported, error) {
	own := []attribute.KeyValue{attribute.String("service.name", r.config.Service), attribute.String("service.version", r.config.Version)}
	if r.config.Instance != "" {
		own = append(own, attribute.String("service.instance.id", r.config.Instance))
	}
	for _, a := range attributes {
		own = append(own, attribute.String(a.Name, a.Value))
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(own...), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	// A provider of nothing else shows it as those of metrics would.
	info := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(info))
	if err != nil {
		return nil, err
	}
	sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(exporter))
	return &reported{about, info}, nil
}

// Gather implements prometheus.Gatherer.
func (r *reporter) Gather() ([]*dto.MetricFamily, error) { return r.now.Load().info.Gather() }

// reportedSpans says of each span who reports it as it ends.
type reportedSpans struct {
	sdktrace.SpanProcessor
	by *reporter
}

// OnEnd implements sdktrace.SpanProcessor.
func (r reportedSpans) OnEnd(s sdktrace.ReadOnlySpan) {
	r.SpanProcessor.OnEnd(reportedSpan{s, r.by.now.Load().Resource})
}

type reportedSpan struct {
	sdktrace.ReadOnlySpan
	by *resource.Resource
}

// Resource implements sdktrace.ReadOnlySpan.
func (s reportedSpan) Resource() *resource.Resource { return s.by }

// reportedMetrics says who reports them as they are sent.
type reportedMetrics struct {
	sdkmetric.Exporter
	by *reporter
}

// Export implements sdkmetric.Exporter.
func (r reportedMetrics) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	sent := *all
	sent.Resource = r.by.now.Load().Resource
	return r.Exporter.Export(ctx, &sent)
}

// Attributes lets all that is exported from then on have these attributes of the file, once use is called. An error changes nothing.
func (t *Telemetry) Attributes(ctx context.Context, all []wire.Field) (use func(), err error) {
	if t.reporter == nil {
		return func() {}, nil
	}
	next, err := t.reporter.with(ctx, all)
	if err != nil {
		return nil, err
	}
	return func() { t.reporter.now.Store(next) }, nil
}
