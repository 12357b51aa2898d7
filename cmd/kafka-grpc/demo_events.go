package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

//go:embed demo_events.yaml
var demoEventsFile string

func newDemoEventsCommand(once *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "events",
		Short: "Show plain events, the calls they make, and a dead letter that is edited",
		Long: `Starts an embedded Kafka, an echo service and kafka-grpc, all in this process and on loopback, with a route that takes JSON
events from a topic. Sends an event twice and one that is wrong, shows the replies and the dead letter, and replays that
letter edited. Then it keeps running for your own events, until Ctrl-C.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			events := demo{topology: demoEventsTopology, run: (*demonstration).events, suggest: (*demonstration).suggestEvents, level: slog.LevelError} // the dead letter is none to warn of
			return events.show(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), *once)
		},
	}
}

// demoEventsTopology is a file of its own, which commands in another terminal can read as long as the demo runs.
func demoEventsTopology(dir string, broker *embedded.Kafka, service string) (*topology.Topology, error) {
	if err := embedded.WriteSeed(dir, "unused"); err != nil { // for its proto
		return nil, err
	}
	host, port, err := net.SplitHostPort(service)
	if err != nil {
		return nil, err
	}
	file := strings.NewReplacer("BROKER", broker.Brokers()[0], "ECHO", service, "HOST", host, "PORT", port).Replace(demoEventsFile)
	path := filepath.Join(dir, "events.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		return nil, err
	}
	t, err := topology.Load(path, topology.Options{})
	if err != nil {
		return nil, err
	}
	t.Remotes[0].Expiry = 7 * 24 * time.Hour // as long as its Kafka keeps events: there is nothing to warn of
	return t, nil
}

func (d *demonstration) events(ctx context.Context) error {
	remote := d.topology.Remotes[0]
	route := remote.Routes[0]
	d.printf("JSON events on a topic call a gRPC method, without knowing it:\n\n"+
		"  %s -> kafka-grpc -> %s at %s\n  %s <-\n\n", route.Topic, route.Event.Method, d.echo.Addr(), route.ReplyTo)

	d.printf("1. ann's event comes twice, and bob's has a mistake\n")
	for _, e := range []wire.Record{event("ann", "1", `{"message": "hello"}`), event("ann", "1", `{"message": "hello"}`), event("bob", "2", `{"massage": "hello"}`)} {
		e.Topic = route.Topic
		if err := send(remote, e); err != nil {
			return err
		}
	}
	events, err := recordsOf(ctx, remote.Cluster, route.Topic, 3)
	if err != nil {
		return err
	}
	d.records(route.Topic, events)
	replies, err := recordsOf(ctx, remote.Cluster, route.ReplyTo, 2)
	if err != nil {
		return err
	}
	letters, err := recordsOf(ctx, remote.Cluster, remote.Processing.DeadLetter, 1)
	if err != nil {
		return err
	}
	if n := d.echo.Calls(); n != 1 || len(replies) != 2 || len(letters) != 1 {
		return fmt.Errorf("the service was called %d times, not once; there are %d replies, not 2, and %d dead letters, not 1", n, len(replies), len(letters))
	}
	d.printf("2. The service was called once: the second reply is the stored result.\n")
	d.records(route.ReplyTo, replies)
	d.printf("3. bob's event is a dead letter, which says where the mistake is.\n")
	d.records(remote.Processing.DeadLetter, letters)
	return d.edit(ctx, remote, letters[0])
}

// edit replays a letter without its mistake, as `dead-letters replay --edit` does.
func (d *demonstration) edit(ctx context.Context, remote topology.Remote, letter wire.Record) (err error) {
	source := deadletter.Sources([]topology.Remote{remote})[0]
	reader, err := kafka.NewReader(source.Cluster)
	if err != nil {
		return err
	}
	producer, err := deadletter.NewProducer(source.Cluster, source.Inputs)
	if err != nil {
		return errors.Join(err, reader.Close())
	}
	defer func() { err = errors.Join(err, producer.Close(), reader.Close()) }()
	topic, err := deadletter.Open(ctx, reader, source.Topic, time.Time{})
	if err != nil {
		return err
	}
	at := deadletter.Position{Partition: letter.Partition, Offset: letter.Offset}
	span, err := topic.Exactly(ctx, at)
	if err != nil {
		return err
	}
	d.printf("4. It is edited and replayed. `dead-letters replay --edit %s` gives the editor\n", at)
	replay := deadletter.Replay{Topic: topic, Inputs: source.Inputs, Sender: producer, Out: d.out, Edit: func(_ context.Context, l deadletter.Letter) (deadletter.Letter, error) {
		draft, err := source.Draft(l, d.topology.Protos)
		if err != nil {
			return l, err
		}
		text, err := draft.Text()
		if err != nil {
			return l, err
		}
		d.printf("  %s\n   which makes massage message: ", strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  "))
		return draft.Read([]byte(strings.Replace(string(text), `"massage": "`, `"message": "`, 1)), time.Now())
	}}
	if _, err := replay.Run(ctx, []kafka.Span{span}); err != nil {
		return err
	}
	for _, topic := range []struct {
		name    string
		records int
	}{{remote.Routes[0].Topic, 4}, {remote.Routes[0].ReplyTo, 3}} {
		records, err := recordsOf(ctx, remote.Cluster, topic.name, topic.records)
		if err != nil {
			return err
		}
		d.records(topic.name, records[topic.records-1:])
	}
	if n := d.echo.Calls(); n != 2 {
		return fmt.Errorf("the service was called %d times, not twice", n)
	}
	return nil
}

func event(key, id, value string) wire.Record {
	return wire.Record{Key: []byte(key), Value: []byte(value), Headers: []wire.Header{{Name: "event-id", Value: []byte(id)}}}
}

// send writes a record.
func send(remote topology.Remote, r wire.Record) (err error) {
	producer, err := deadletter.NewProducer(kafka.ClusterOf(remote.Cluster, "kafka-grpc-demo"), remote.Inputs())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	sent := make(chan error, 1)
	producer.Send(r, func(_ int64, err error) { sent <- err })
	return <-sent
}

func (d *demonstration) suggestEvents() {
	program, remote := typed(os.Args[0]), d.topology.Remotes[0]
	route := remote.Routes[0]
	d.printf("Now you, in another terminal (Ctrl-C here ends it):\n\n"+
		"  echo '{\"massage\":\"mine\"}' | kcat -P -b %s -t %s -k me -H event-id=3\n"+
		"  %s dead-letters list -c %s\n"+
		"  %s dead-letters replay -c %s --edit 0@2   # the letter that the list shows\n"+
		"  kcat -b %s -t %s -f '%%k %%s\\n'\n\nThe page of this instance: %s/\n\n",
		d.broker.Brokers()[0], route.Topic, program, d.topology.File, program, d.topology.File, d.broker.Brokers()[0], route.ReplyTo, d.app.AdminURL())
}
