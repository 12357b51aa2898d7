package main

import (
	"slices"
	"testing"
	"time"

	"kafkagrpc/cmd/kafka-grpc/app"
)

// BenchmarkViews compares calls of 64 callers with --views=all and --views=off, on the embedded Kafka. The two take turns. The CPU
// time is that of everything: callers, service, Kafka and program are one process.
func BenchmarkViews(b *testing.B) {
	modes := []app.Mode{"off", app.All}
	const rounds = 3
	rates, cpus := map[app.Mode][]float64{}, map[app.Mode][]time.Duration{}
	for range max(rounds, b.N) {
		for _, mode := range modes {
			l := load(b, app.Config{Admin: &app.Admin{Addr: "127.0.0.1:0"}, Views: app.Views{Mode: mode}})
			rates[mode], cpus[mode] = append(rates[mode], l.rate), append(cpus[mode], l.cpu)
		}
	}
	for _, mode := range modes {
		slices.Sort(rates[mode])
		slices.Sort(cpus[mode])
		b.Logf("%s: calls/s %.0f, CPU time of a call %v", mode, rates[mode], cpus[mode])
	}
	middle := len(rates["off"]) / 2
	b.ReportMetric(rates["off"][middle], "calls/s-off")
	b.ReportMetric(rates["all"][middle]/rates["off"][middle], "calls-of-off")
	b.ReportMetric(float64(cpus["off"][middle].Microseconds()), "CPU-us/call-off")
	b.ReportMetric(float64(cpus["all"][middle])/float64(cpus["off"][middle]), "CPU-of-off")
	b.ReportMetric(0, "ns/op") // it means nothing here
}
