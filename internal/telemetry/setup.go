package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"kafkagrpc/topology"
)

// maxSeries bounds the series of one metric: what is above goes into one with the attribute otel.metric.overflow.
const maxSeries = 2000

// stopTimeout is what exporters get to send the rest.
const stopTimeout = 5 * time.Second

// Config is what a Telemetry is set up from, besides the OTEL_* variables of the process.
type Config struct {
	File     topology.Telemetry
	Name     string // of the file
	Service  string // service.name, unless the environment names one
	Instance string // service.instance.id
	Version  string // service.version
	Scrape   bool   // somebody may ask for Metrics
	Stdout   io.Writer
	Log      *slog.Logger
}

// Telemetry is what is set up.
type Telemetry struct {
	Tracers trace.TracerProvider // creates spans that cost nothing where no exporter takes them
	Tracing bool                 // one does
	Meters  metric.MeterProvider
	Metrics *Metrics
	Events  *Events      // nil where none are printed
	Scraped http.Handler // answers with the metrics in the formats of Prometheus; nil without Config.Scrape

	propagator propagation.TextMapPropagator
	fields     []string             // of the propagator
	reporter   *reporter            // nil where nothing is set up
	recorders  map[string]*recorder // by grpc binding, where it selects metrics
	stops      []func(context.Context) error
}

// Off is telemetry that is nowhere shown.
func Off() *Telemetry {
	t := &Telemetry{Tracers: nooptrace.NewTracerProvider(), Meters: noopmetric.NewMeterProvider()}
	t.propagate(w3c())
	t.Metrics, _ = NewMetrics(t.Meters, nil) // fails only in an SDK
	return t
}

// Setup makes the exporters. Stop must be called.
func Setup(ctx context.Context, c Config, methods topology.Methods) (_ *Telemetry, err error) {
	t := Off()
	if c.Log == nil {
		c.Log = slog.Default()
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("telemetry: %w", err)
			_ = t.Stop(ctx) // it has nothing to send
		}
	}()
	sdk := takeErrors(c.Log)
	p, err := propagatorOf(os.Getenv("OTEL_PROPAGATORS"))
	if err != nil {
		return nil, err
	}
	t.propagate(p)
	if t.reporter, err = newReporter(ctx, c); err != nil {
		return nil, err
	}
	if !disabled() {
		err = errors.Join(t.traces(ctx, c), t.metrics(ctx, c))
	}
	if err = errors.Join(err, sdk.started()); err != nil {
		return nil, err
	}
	if t.Metrics, err = NewMetrics(t.Meters, methods); err != nil {
		return nil, err
	}
	if t.recorders, err = newRecorders(t.Meters, c.Name, c.File.Recorded); err != nil {
		return nil, err
	}
	if c.File.Stdout {
		t.Events = NewEvents(c.Stdout, t.Metrics)
	}
	return t, nil
}

// Stop sends what is left, for a few seconds.
func (t *Telemetry) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	errs := []error{t.Events.Close()}
	for _, stop := range t.stops {
		errs = append(errs, stop(ctx))
	}
	t.stops = nil
	return errors.Join(errs...)
}

func disabled() bool { return strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") }

// asked tells what the environment says about a signal: whether to export it; given is false where it says nothing.
func asked(signal string) (export, given bool) {
	switch os.Getenv("OTEL_" + signal + "_EXPORTER") {
	case "none":
		return false, true
	case "":
		endpoint := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
		return endpoint, endpoint
	default:
		return true, true
	}
}

func (t *Telemetry) traces(ctx context.Context, c Config) error {
	var exporters []sdktrace.SpanExporter
	if export, given := asked("TRACES"); given {
		if !export {
			return nil
		}
		e, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return fmt.Errorf("OTEL_TRACES_EXPORTER=%q and OTEL_EXPORTER_OTLP_*: %w", os.Getenv("OTEL_TRACES_EXPORTER"), err)
		}
		exporters = append(exporters, e)
	} else {
		for _, o := range c.File.OTLP {
			if o.Traces == "" {
				continue
			}
			e, err := spanExporter(ctx, o)
			if err != nil {
				return fmt.Errorf("exporter %s: %w", o.Name, err)
			}
			exporters = append(exporters, e)
		}
	}
	if len(exporters) == 0 {
		return nil
	}
	// The sampler is that of OTEL_TRACES_SAMPLER, and the SDK's default follows the process above.
	var options []sdktrace.TracerProviderOption
	for _, e := range exporters {
		options = append(options, sdktrace.WithSpanProcessor(reportedSpans{sdktrace.NewBatchSpanProcessor(textual{e}), t.reporter}))
	}
	provider := sdktrace.NewTracerProvider(options...)
	t.Tracers, t.Tracing = sparing{provider, samplerFollows()}, true
	t.stops = append(t.stops, provider.Shutdown)
	return nil
}

func (t *Telemetry) metrics(ctx context.Context, c Config) error {
	options := []sdkmetric.Option{sdkmetric.WithCardinalityLimit(maxSeries)}
	readers, pushed := 0, false
	add := func(r sdkmetric.Reader) {
		options = append(options, sdkmetric.WithReader(r))
		readers++
	}
	if c.Scrape {
		own, process := prometheus.NewRegistry(), prometheus.NewRegistry()
		exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(own), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
		if err != nil {
			return fmt.Errorf("the exporter for /metrics: %w", err)
		}
		add(exporter)
		process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		t.Scraped = promhttp.HandlerFor(prometheus.Gatherers{withoutRuntime{own}, t.reporter, process},
			promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
	}
	export, given := asked("METRICS")
	switch {
	case given && export && os.Getenv("OTEL_METRICS_EXPORTER") == "prometheus":
		// The admin address serves it; the SDK's own server would be a second one.
	case given && export:
		e, err := metricExporterOfEnv(ctx)
		if err != nil {
			return fmt.Errorf("OTEL_METRICS_EXPORTER=%q and OTEL_EXPORTER_OTLP_*: %w", os.Getenv("OTEL_METRICS_EXPORTER"), err)
		}
		add(sdkmetric.NewPeriodicReader(reportedMetrics{e, t.reporter}))
		pushed = true
	case !given:
		for _, o := range c.File.OTLP {
			if o.Metrics == "" {
				continue
			}
			e, err := metricExporter(ctx, o)
			if err != nil {
				return fmt.Errorf("exporter %s: %w", o.Name, err)
			}
			add(sdkmetric.NewPeriodicReader(reportedMetrics{e, t.reporter}, sdkmetric.WithInterval(o.Interval)))
			pushed = true
		}
	}
	if readers == 0 {
		return nil
	}
	provider := sdkmetric.NewMeterProvider(options...)
	t.Meters = provider
	t.stops = append(t.stops, provider.Shutdown)
	if !pushed {
		return nil
	}
	return runtime.Start(runtime.WithMeterProvider(provider))
}

// withoutRuntime leaves the metrics of the Go runtime out: Prometheus has names of its own for them, which dashboards know.
type withoutRuntime struct{ prometheus.Gatherer }

func (g withoutRuntime) Gather() ([]*dto.MetricFamily, error) {
	all, err := g.Gatherer.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return strings.HasPrefix(f.GetName(), "go_") }), err
}
