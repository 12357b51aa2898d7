package telemetry

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

	"kafkagrpc/topology"
)

// spanExporter sends spans to a collector of the file.
func spanExporter(ctx context.Context, o topology.OTLP) (sdktrace.SpanExporter, error) {
	if o.GRPC {
		return otlptracegrpc.New(ctx, optionsOf(o, "TRACES", otlptracegrpc.WithEndpointURL(o.Traces), otlptracegrpc.WithHeaders,
			func(c *tls.Config) otlptracegrpc.Option {
				return otlptracegrpc.WithTLSCredentials(credentials.NewTLS(c))
			})...)
	}
	return otlptracehttp.New(ctx, optionsOf(o, "TRACES", otlptracehttp.WithEndpointURL(o.Traces), otlptracehttp.WithHeaders, otlptracehttp.WithTLSClientConfig)...)
}

// metricExporter sends metrics to a collector of the file.
func metricExporter(ctx context.Context, o topology.OTLP) (sdkmetric.Exporter, error) {
	if o.GRPC {
		return otlpmetricgrpc.New(ctx, optionsOf(o, "METRICS", otlpmetricgrpc.WithEndpointURL(o.Metrics), otlpmetricgrpc.WithHeaders,
			func(c *tls.Config) otlpmetricgrpc.Option {
				return otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c))
			})...)
	}
	return otlpmetrichttp.New(ctx, optionsOf(o, "METRICS", otlpmetrichttp.WithEndpointURL(o.Metrics), otlpmetrichttp.WithHeaders, otlpmetrichttp.WithTLSClientConfig)...)
}

// metricExporterOfEnv sends metrics to where the environment says. (autoexport makes readers of it, which show no exporter.)
func metricExporterOfEnv(ctx context.Context) (sdkmetric.Exporter, error) {
	switch name := os.Getenv("OTEL_METRICS_EXPORTER"); name {
	case "", "otlp":
	case "console":
		return stdoutmetric.New()
	default:
		return nil, fmt.Errorf("no exporter is called %q; take otlp, console or none", name)
	}
	switch protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); protocol {
	case "grpc":
		return otlpmetricgrpc.New(ctx)
	case "", "http/protobuf":
		return otlpmetrichttp.New(ctx)
	default:
		return nil, fmt.Errorf("no protocol of OTLP is called %q; take grpc or http/protobuf", protocol)
	}
}

// optionsOf are the options of an exporter. The variables of the SDK, which it reads by itself, come before the file's headers and certificates,
// and an option of the SDK before its variables: so what a variable says is no option.
func optionsOf[O any](o topology.OTLP, signal string, endpoint O, headers func(map[string]string) O, secured func(*tls.Config) O) []O {
	all := []O{endpoint}
	if o.Authorization != "" && !given(signal, "HEADERS") {
		all = append(all, headers(map[string]string{"authorization": string(o.Authorization)}))
	}
	if o.TLS != nil && !given(signal, "CERTIFICATE") && !given(signal, "CLIENT_CERTIFICATE") {
		all = append(all, secured(o.TLS.Clone()))
	}
	return all
}

// given reports whether the environment has a setting of OTLP, for one signal or for all.
func given(signal, setting string) bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_"+setting) != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_"+setting) != ""
}
