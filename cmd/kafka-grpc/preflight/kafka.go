package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
)

// cluster tries the brokers of a cluster, and its topics where one of them answers.
func cluster(ctx context.Context, t *topology.Topology, c *topology.Cluster) []Finding {
	var all []Finding
	k := kafka.ClusterOf(c, "kafka-grpc-check")
	answered := false
	for _, b := range k.Probe() {
		f := Finding{What: "broker", Name: b.Address + " of " + c.Binding, Result: OK, Detail: "answers"}
		if !b.Named {
			f.Detail += ", found through the others"
		}
		if k.SASL != nil {
			f.Detail += ", SASL " + string(k.SASL.Mechanism)
		}
		if b.Err != nil {
			f.Result, f.Detail = Failed, b.Err.Error()
		} else {
			f.secured(b.TLS)
			answered = true
		}
		all = append(all, f)
	}
	if !answered {
		return all
	}
	topics, err := topics(t, c, k)
	if err != nil {
		topics = append(topics, Finding{"topic", "all of " + c.Binding, Failed, err.Error()})
	}
	return slices.Concat(all, topics, transactions(ctx, t, c, k))
}

// transactions tries whether remotes that need them can have them, with an id that no instance has: who has one that is tried loses it.
func transactions(ctx context.Context, t *topology.Topology, c *topology.Cluster, k kafka.Cluster) (all []Finding) {
	for _, r := range t.Remotes {
		if r.Cluster != c || !r.Processing.ExactlyOnce() {
			continue
		}
		f := Finding{"transactions", "of " + r.Binding, OK, "can be had"}
		if _, err := k.CanTransact(ctx, r.Group+"-check", r.Group, nil); err != nil {
			f.Result, f.Detail = Failed, err.Error()
		}
		all = append(all, f)
	}
	return all
}

// unreadable are the topics that calls read and this client may not.
func unreadable(k kafka.Cluster, topics []string) (all []Finding) {
	if len(topics) == 0 {
		return nil
	}
	reader, err := kafka.NewReader(k)
	if err != nil {
		return []Finding{{"topic", strings.Join(topics, ", "), Failed, err.Error()}}
	}
	for _, topic := range topics {
		if err := reader.Readable(topic); err != nil {
			all = append(all, Finding{"topic", topic, Failed, "calls cannot read it: " + err.Error()})
		}
	}
	if err := reader.Close(); err != nil {
		all = append(all, Finding{"topic", strings.Join(topics, ", "), Failed, err.Error()})
	}
	return all
}

// topics looks at what the listeners and remotes of a cluster need.
func topics(t *topology.Topology, c *topology.Cluster, k kafka.Cluster) (all []Finding, err error) {
	inspector, err := kafka.OpenTopics(k)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, inspector.Close()) }()
	// outlive tells of a topic that keeps what it holds for some time; nil: nothing does.
	inspect := func(n kafka.Needs, outlive func(topic string, retention time.Duration) string, created ...string) error {
		found, problems, err := inspector.Inspect(n)
		if err != nil {
			return err
		}
		for _, topic := range found {
			f := Finding{What: "topic", Name: topic.Name, Result: OK, Detail: fmt.Sprintf("%d partitions, records up to %d bytes", topic.Partitions, topic.MaxRecord)}
			switch {
			case topic.Partitions == 0 && slices.Contains(created, topic.Name):
				f.Detail = "does not exist; run creates it"
			case topic.Partitions == 0:
				continue // a problem
			case topic.Group > 0 && topic.Partitions > topic.Group:
				f.Detail += fmt.Sprintf(", and the group has %d: what comes in the further ones goes through the loop topic", topic.Group)
			}
			if outlive != nil && topic.Partitions > 0 {
				if text := outlive(topic.Name, topic.Retention); text != "" {
					f.Result = Warn
					f.Detail += "; it " + text
				}
			}
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
		for _, p := range problems {
			f := Finding{"topic", "of " + c.Binding, Failed, p.Error()}
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
		return nil
	}
	var north kafka.Needs
	var written, fetched []string
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			if r.Cluster != c {
				continue
			}
			north.Outputs = append(north.Outputs, r.Topic, r.ReplyTo)
			if r.Fetch == nil {
				written = append(written, r.Topic, r.ReplyTo)
			} else if !slices.Contains(fetched, r.Topic) {
				fetched = append(fetched, r.Topic)
			}
		}
	}
	north.Compactable = slices.DeleteFunc(slices.Clone(fetched), func(topic string) bool { return slices.Contains(written, topic) })
	all = append(all, unreadable(k, fetched)...)
	for _, r := range t.Remotes {
		if r.Cluster != c {
			continue
		}
		north.Outputs = slices.DeleteFunc(north.Outputs, func(topic string) bool {
			return slices.Contains(r.Inputs(), topic) || slices.Contains(r.Outputs(), topic)
		})
		own := []string{r.Table, r.Loop, r.Processing.DeadLetter}
		outlive := func(topic string, retention time.Duration) string {
			if !slices.Contains(r.Requests(), topic) {
				return ""
			}
			return r.Outlive(retention)
		}
		needs := kafka.Needs{Inputs: r.Inputs(), Outputs: r.Outputs(), Compactable: r.Compactable(), Table: own[0], Loop: own[1], DeadLetters: own[2]}
		if err := inspect(needs, outlive, own...); err != nil {
			return all, err
		}
		limits := new(kafka.Limits)
		written := append(r.Outputs(), own...)
		if err := limits.Learn(inspector, append(r.Inputs(), written...)...); err != nil {
			return all, err
		}
		problems, warnings := partition.Limits(r, limits, written)
		for _, p := range problems {
			all = append(all, Finding{"limit", "of " + r.Binding, Failed, p.Error()})
		}
		for _, w := range warnings {
			all = append(all, Finding{"limit", "of " + r.Binding, Warn, w})
		}
	}
	north.Outputs = slices.DeleteFunc(north.Outputs, func(topic string) bool { return topic == "" })
	if len(north.Outputs) > 0 {
		return all, inspect(north, nil)
	}
	return all, nil
}
