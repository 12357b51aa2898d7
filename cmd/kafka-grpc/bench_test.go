package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
)

// BenchmarkOneInFlight is one caller that makes one call after the other, on the embedded Kafka: what the way through
// two topics adds to a direct call.
func BenchmarkOneInFlight(b *testing.B) {
	dir := b.TempDir()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := echo.Close(); err != nil {
			b.Error(err)
		}
	}()
	t, err := demoTopology(dir, broker, echo.Addr())
	if err != nil {
		b.Fatal(err)
	}
	a, err := app.Start(b.Context(), app.Config{Topology: t, StateDir: filepath.Join(dir, "state"), CreateTopics: 4, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := a.Stop(); err != nil {
			b.Error(err)
		}
	}()
	if err := a.WaitReady(b.Context()); err != nil {
		b.Fatal(err)
	}
	client := grpcout.New(grpcout.Options{})
	defer func() {
		if err := client.Close(); err != nil {
			b.Error(err)
		}
	}()
	median := func(address string) time.Duration {
		var took []time.Duration
		for range 200 + b.N { // the first ones warm up
			begun := time.Now()
			ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
			result := client.Unary(ctx, grpcout.Target{Scheme: "http", Address: address}, grpcout.Call{Method: demoMethod, Message: echoMessage("hi")})
			cancel()
			if result.Status != codes.OK {
				b.Fatal(result.Status, result.Message)
			}
			took = append(took, time.Since(begun))
		}
		took = took[200:]
		slices.Sort(took)
		return took[len(took)/2]
	}
	b.ResetTimer()
	direct, through := median(echo.Addr()), median(a.Addrs()[0].String())
	b.ReportMetric(float64(direct.Microseconds())/1000, "direct-p50-ms")
	b.ReportMetric(float64(through.Microseconds())/1000, "through-p50-ms")
	b.ReportMetric(float64((through-direct).Microseconds())/1000, "added-p50-ms")
	b.ReportMetric(0, "ns/op") // the two together mean nothing
}
