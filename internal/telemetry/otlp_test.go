package telemetry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
)

// ofCollector is a file whose telemetry goes to a collector.
const ofCollector = `name: x
vaults:
  v: {type: filesystem, options: {keys: {store: client.p12, password: %[1]q}, trust: {store: trust.p12, password: %[1]q}}}
telemetry:
  exporters:
    collector:
      type: otlp
      vault: v
      options:
        interval: 3600
        endpoint: {protocol: %[2]s, location: %[3]q}
        credentials: {headers: {authorization: "Bearer ${{env.TOKEN}}"}}
        tls: {keys: [client], trust: [authority]}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

// secured is a collector that lets in who has a certificate of its authority, and keeps the header that came with each signal.
type secured struct {
	coltrace.UnimplementedTraceServiceServer
	url string
	mu  sync.Mutex
	got map[string]string
}

func (s *secured) came(signal string, authorization ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[signal] = strings.Join(authorization, ", ")
}

// Export implements the service of traces; metricsOf that of metrics.
func (s *secured) Export(ctx context.Context, _ *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	s.came("traces", metadata.ValueFromIncomingContext(ctx, "authorization")...)
	return &coltrace.ExportTraceServiceResponse{}, nil
}

type metricsOf struct {
	colmetrics.UnimplementedMetricsServiceServer
	*secured
}

func (s metricsOf) Export(ctx context.Context, _ *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	s.came("metrics", metadata.ValueFromIncomingContext(ctx, "authorization")...)
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

func newSecured(t *testing.T, protocol string, authority *pkitest.Authority) *secured {
	s := &secured{got: map[string]string{}}
	var handler http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.came(strings.TrimPrefix(r.URL.Path, "/v1/"), r.Header.Values("authorization")...)
	})
	if protocol == "grpc" {
		server := grpc.NewServer()
		coltrace.RegisterTraceServiceServer(server, s)
		colmetrics.RegisterMetricsServiceServer(server, metricsOf{secured: s})
		handler = server
		t.Cleanup(server.Stop)
	}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// What the file says of the collector is what it sees: a certificate of the vault, and the header. A variable comes before the file.
func TestCollectorWithTLSAndAToken(t *testing.T) {
	authority := pkitest.NewAuthority(t, "authority")
	for _, protocol := range []string{"http", "grpc"} {
		for variable, want := range map[string]string{"": "Bearer the-token", "OTEL_EXPORTER_OTLP_HEADERS": "Basic abc"} {
			t.Run(protocol+" "+variable, func(t *testing.T) {
				if variable != "" {
					t.Setenv(variable, "authorization=Basic abc")
				}
				collector := newSecured(t, protocol, authority)
				dir := t.TempDir()
				pkitest.WriteKey(t, filepath.Join(dir, "client.p12"), authority.Issue(t, "client"))
				pkitest.WriteTrust(t, filepath.Join(dir, "trust.p12"), map[string]*x509.Certificate{"authority": authority.Certificate})
				file := filepath.Join(dir, "zilla.yaml")
				if err := os.WriteFile(file, fmt.Appendf(nil, ofCollector, pkitest.Password, protocol, collector.url), 0o600); err != nil {
					t.Fatal(err)
				}
				loaded, err := topology.Load(file, topology.Options{LookupEnv: func(string) (string, bool) { return "the-token", true }})
				if err != nil {
					t.Fatal(err)
				}
				set, err := telemetry.Setup(t.Context(), telemetry.Config{File: loaded.Telemetry, Service: "test", Log: slog.New(slog.DiscardHandler)}, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, span := set.Tracers.Tracer("test").Start(t.Context(), "work")
				span.End()
				set.Metrics.Rebalanced("group")
				if err := set.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				collector.mu.Lock()
				defer collector.mu.Unlock()
				for _, signal := range []string{"traces", "metrics"} {
					if got := collector.got[signal]; got != want {
						t.Errorf("%s came with %q, want %q", signal, got, want)
					}
				}
			})
		}
	}
}
