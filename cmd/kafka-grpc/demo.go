package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

const (
	demoMethod  = "grpc.examples.echo.Echo/UnaryEcho"
	demoKey     = "demo-1"
	demoTimeout = 30 * time.Second
)

func newDemoCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a call and its duplicate through an embedded Kafka",
		Long: `Starts an embedded Kafka, an echo service and kafka-grpc on the configuration of Zilla's gRPC-through-Kafka example, all in
this process and on loopback. Makes a gRPC call, repeats it with the same idempotency key, and shows the records on both
topics and the row in the table. Then it keeps running for your own calls, until Ctrl-C.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			calls := demo{topology: demoTopology, run: (*demonstration).calls, suggest: (*demonstration).suggestCalls, level: slog.LevelWarn}
			return calls.show(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), once)
		},
	}
	c.PersistentFlags().BoolVar(&once, "once", false, "exit after the demonstration, with exit code 1 if anything it claims did not happen")
	c.AddCommand(newDemoEventsCommand(&once))
	return c
}

// demo is what is shown, on a Kafka and a service of its own.
type demo struct {
	topology func(dir string, broker *embedded.Kafka, service string) (*topology.Topology, error)
	run      func(*demonstration, context.Context) error
	suggest  func(*demonstration)
	level    slog.Level // of what is logged
}

func (m demo) show(ctx context.Context, out, stderr io.Writer, once bool) (err error) {
	dir, err := os.MkdirTemp("", "kafka-grpc-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		return err
	}
	defer broker.Close()
	echo, err := embedded.StartEcho("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.Close()) }()
	t, err := m.topology(dir, broker, echo.Addr())
	if err != nil {
		return err
	}
	a, err := app.Start(ctx, app.Config{
		Topology: t, StateDir: filepath.Join(dir, "state"), CreateTopics: 1, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Views: app.Views{Mode: app.All},
		Version: versionText(), Log: newLog(stderr, m.level),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()

	show, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if err := a.WaitReady(show); err != nil {
		return err
	}
	d := &demonstration{out: out, app: a, broker: broker, echo: echo, topology: t}
	if err := m.run(d, show); err != nil {
		return fmt.Errorf("the demo failed: %w", err)
	}
	if once {
		return nil
	}
	m.suggest(d)
	return a.Wait(ctx)
}

// demoTopology is the seed's configuration on the demo's Kafka and service, with free ports where its own are taken.
func demoTopology(dir string, broker *embedded.Kafka, service string) (*topology.Topology, error) {
	password := rand.Text()
	if err := embedded.WriteSeed(dir, password); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(service)
	if err != nil {
		return nil, err
	}
	environment := map[string]string{"ECHO_SERVER_HOST": host, "ECHO_SERVER_PORT": port, "KEYSTORE_PASSWORD": password}
	t, err := topology.Load(filepath.Join(dir, "zilla.yaml"), topology.Options{
		Brokers: broker.Brokers(),
		Listen:  "127.0.0.1",
		LookupEnv: func(name string) (string, bool) {
			value, ok := environment[name]
			return value, ok
		},
	})
	if err != nil {
		return nil, err
	}
	for i := range t.Remotes {
		t.Remotes[i].Expiry = 7 * 24 * time.Hour // as long as its Kafka keeps requests: there is nothing to warn of
	}
	for i := range t.Listeners {
		probe, err := net.Listen("tcp", t.Listeners[i].Address())
		if err != nil {
			t.Listeners[i].Port = 0
			continue
		}
		if err := probe.Close(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// demonstration makes the calls and checks everything that it prints.
type demonstration struct {
	out      io.Writer
	app      *app.App
	broker   *embedded.Kafka
	echo     *embedded.Echo
	topology *topology.Topology
}

func (d *demonstration) printf(format string, args ...any) {
	// The terminal of a demo: a failed write has nobody to be told.
	_, _ = fmt.Fprintf(d.out, format, args...)
}

func (d *demonstration) calls(ctx context.Context) (err error) {
	route, address := d.topology.Listeners[0].Routes[0], d.app.Addrs()[0].String()
	d.printf("A gRPC call goes through Kafka to the service, and its reply comes back:\n\n"+
		"  gRPC client -> %s -> %s -> kafka-grpc -> echo service %s\n"+
		"              <- %s <- %s <- kafka-grpc <-\n\n",
		address, route.Topic, d.echo.Addr(), address, route.ReplyTo)

	client := grpcout.New(grpcout.Options{})
	defer func() { err = errors.Join(err, client.Close()) }()

	for _, title := range []string{"1. " + demoMethod, "2. the same call again"} {
		begun := time.Now()
		result := client.Unary(ctx, grpcout.Target{Scheme: "http", Address: address}, grpcout.Call{
			Method:   demoMethod,
			Metadata: metadata.Pairs("idempotency-key", demoKey),
			Message:  echoMessage("hi"),
		})
		took := time.Since(begun)
		if result.Status != codes.OK || len(result.Messages) != 1 || !bytes.Equal(result.Messages[0], echoMessage("hi")) {
			return fmt.Errorf("the reply is %v %q %q, not the message that was sent", result.Status, result.Message, result.Messages)
		}
		d.printf("%s  idempotency-key: %s\n   sent  {\"message\": \"hi\"}\n   reply %s in %.1f ms\n",
			title, demoKey, messageText(result.Messages[0]), float64(took.Microseconds())/1000)
	}
	if n := d.echo.CallsOf(demoKey); n != 1 {
		return fmt.Errorf("the service was called %d times, not once", n)
	}
	d.printf("   The service was called once: the second reply is the stored result.\n\n")
	for _, topic := range []string{route.Topic, route.ReplyTo} {
		records, err := recordsOf(ctx, route.Cluster, topic, 4) // each call is a message and an end, and so is each reply
		if err != nil {
			return err
		}
		d.records(topic, records)
	}
	return d.row(route)
}

// records prints the records of a topic, with the headers where they differ from the record before.
func (d *demonstration) records(topic string, records []wire.Record) {
	d.printf("Topic %s\n", topic)
	before, width := "", 22
	for _, r := range records {
		for _, h := range r.Headers {
			width = max(width, len(h.Name))
		}
	}
	for _, r := range records {
		value := "null: the end"
		if r.Value != nil {
			value = valueText(r.Value)
		}
		d.printf("  %d@%d  key %s  value %s\n", r.Partition, r.Offset, r.Key, value)
		var headers strings.Builder
		for _, h := range r.Headers {
			fmt.Fprintf(&headers, "          %-*s %s\n", width, h.Name, h.Value)
		}
		if headers.String() == before {
			d.printf("          (the same headers)\n")
		} else {
			d.printf("%s", headers.String())
		}
		before = headers.String()
	}
	d.printf("\n")
}

func (d *demonstration) row(route topology.NorthRoute) error {
	service, method, _ := strings.Cut(demoMethod, "/")
	key := route.Contract.ScopeID(demoKey, service, method, route.ReplyTo, nil)
	row, err := d.app.Processors()[0].Row(key)
	if err != nil {
		return err
	}
	if row == nil || row.State != rowpb.State_STATE_FINAL || row.Status != 0 || len(row.Messages) != 1 {
		return fmt.Errorf("the row of key %s is %v, not a final result", key, row)
	}
	d.printf("Table %s, the row of %s\n", d.topology.Remotes[0].Table, key)
	d.printf("  %-12s %s\n", "state", "final: it answers every further request of the key")
	d.printf("  %-12s %s/%s at %s, %d attempt, %d ms\n", "call", row.Service, row.Method, row.Target, row.Attempts, row.FinishedMs-row.StartedMs)
	d.printf("  %-12s %s %s\n", "result", codes.Code(row.Status), messageText(row.Messages[0]))
	d.printf("  %-12s %s %d@%d\n", "request", row.Source.Topic, row.Source.Partition, row.Source.Offset)
	d.printf("  %-12s %s\n\n", "expires", time.UnixMilli(row.ExpiresMs).Format(time.RFC3339))
	return nil
}

func (d *demonstration) suggestCalls() {
	url := d.app.AdminURL()
	d.printf("Now you, in another terminal (Ctrl-C here ends it):\n\n")
	for i, l := range d.topology.Listeners {
		security := "-plaintext"
		if l.TLS != nil {
			security = "-insecure -authority localhost"
		}
		d.printf("  grpcurl %s -H 'idempotency-key: mine' -d '{\"message\":\"hello\"}' %s %s\n",
			security, d.app.Addrs()[i], demoMethod)
	}
	d.printf("  kcat -b %s -t %s -f '%%p@%%o key %%k headers %%h\\n'\n", d.broker.Brokers()[0], d.topology.Listeners[0].Routes[0].Topic)
	d.printf("  %s keys list --admin-addr %s\n\nThe page of this instance: %s/\n\n", typed(os.Args[0]), strings.TrimPrefix(url, "http://"), url)
}

// typed is what to type for this program, which was started as arg0: go run starts one that it has built somewhere else.
func typed(arg0 string) string {
	if strings.Contains(arg0, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/kafka-grpc"
	}
	return arg0
}

// recordsOf reads a topic from its beginning until it has n records: the end of a request may come after its reply, which waits for the
// message alone.
func recordsOf(ctx context.Context, cluster *topology.Cluster, topic string, n int) (_ []wire.Record, err error) {
	reader, err := kafka.NewReader(kafka.ClusterOf(cluster, "kafka-grpc-demo"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		var records []wire.Record
		spans, err := reader.Spans(topic)
		for _, span := range spans {
			err = errors.Join(err, reader.Read(ctx, topic, span, func(r wire.Record) error {
				records = append(records, r)
				return nil
			}))
		}
		if err != nil || len(records) >= n {
			return records, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("topic %s has %d records of %d: %w", topic, len(records), n, ctx.Err())
		}
	}
}

// echoMessage is an EchoRequest, or an EchoResponse.
func echoMessage(text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
}

// valueText is the value of a record: JSON, or a message.
func valueText(value []byte) string {
	if json.Valid(value) {
		return string(value)
	}
	return fmt.Sprintf("%x = %s", value, messageText(value))
}

func messageText(message []byte) string {
	_, _, tag := protowire.ConsumeTag(message)
	if tag < 0 {
		return fmt.Sprintf("%x", message)
	}
	text, n := protowire.ConsumeString(message[tag:])
	if n < 0 {
		return fmt.Sprintf("%x", message)
	}
	return fmt.Sprintf("{\"message\": %q}", text)
}
