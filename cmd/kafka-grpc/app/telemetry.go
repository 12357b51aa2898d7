package app

import (
	"context"
	"net"
	"strconv"

	"kafkagrpc/internal/telemetry"
)

// startTelemetry sets up what the OTEL_* variables and the file ask for. It ends last, with what the others did.
func (a *App) startTelemetry(ctx context.Context) error {
	file := a.c.Topology.Telemetry
	file.Stdout = file.Stdout && a.c.Stdout != nil
	t, err := telemetry.Setup(ctx, telemetry.Config{
		File: file, Name: a.c.Topology.Namespace, Service: "kafka-grpc", Instance: a.c.InstanceID, Version: a.c.Version, Scrape: a.c.Admin != nil,
		Stdout: a.c.Stdout, Log: a.c.Log,
	}, a.c.Topology.Methods)
	if err != nil {
		return err
	}
	a.telemetry = t
	t.Metrics.Loaded()
	a.onStop(func() error {
		if err := t.Stop(ctx); err != nil {
			// Its collector may be gone. That is no failure of the calls, which are all answered by now.
			a.c.Log.Warn("the last telemetry could not be sent", "error", err)
		}
		return nil
	})
	return nil
}

// mountMetrics serves the metrics on the admin address, also under the paths that the file wants.
func (a *App) mountMetrics() {
	if a.telemetry.Scraped == nil {
		return
	}
	mounted := map[string]bool{"/livez": true, "/readyz": true}
	mount := func(path string) {
		if !mounted[path] {
			mounted[path] = true
			a.admin.Handle("GET "+path, a.telemetry.Scraped)
		}
	}
	mount("/metrics")
	_, port, _ := net.SplitHostPort(a.admin.Addr().String()) // always one
	for _, p := range a.c.Topology.Telemetry.Prometheus {
		mount(p.Path)
		if p.Port != 0 && strconv.Itoa(p.Port) != port {
			a.c.Log.Warn("the metrics are on the admin address, not on the port that the file names: start with --admin-addr for that port",
				"exporter", p.Name, "port", p.Port, "admin", a.admin.Addr().String(), "path", p.Path)
		}
	}
}
