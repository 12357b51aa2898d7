package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// topicsVisible bounds the wait for new topics to have leaders.
	topicsVisible     = 15 * time.Second
	topicsVisiblePoll = 100 * time.Millisecond
	// topicsPatience is how long brokers may take for what they do with all others, such as creating a topic.
	topicsPatience = 5 * time.Second

	// Records in the loop topic are taken out within moments. For an app that is stopped meanwhile they are kept for as long as in
	// their request topics, from a day to a week.
	leastLoopRetention = 24 * time.Hour
	loopRetention      = 7 * 24 * time.Hour
	// A month to look at what could not be processed, and to replay it.
	deadLetterRetention = 30 * 24 * time.Hour
)

// Needs are the topics that something needs to run.
type Needs struct {
	// Inputs are the request topics of one consumer group. They must exist, must not be compacted (but for Compactable) and must
	// have at least as many partitions as the group's own topics, or equally many where there are none yet.
	Inputs []string
	// Outputs are topics that are written to, and tailed. They must exist and must not be compacted (but for Compactable).
	Outputs []string
	// Compactable are those inputs and outputs that may be compacted all the same.
	Compactable []string
	// Table, Loop and DeadLetters are the group's own topics, "" for none. They are created where missing, with
	// as many partitions as the inputs and at least their replication.
	Table, Loop, DeadLetters string
	// Create is the number of partitions that missing inputs and outputs are created with; 0: a missing one is
	// an error. Missing inputs take the count of the inputs that exist.
	Create int

	// TableID and Partitions are those of the table that the group was seen with before: as long as it is the same topic,
	// the group keeps that count.
	TableID    string
	Partitions int
}

// Topics checks and creates topics. It is safe for concurrent use, also by several processes on one cluster.
type Topics struct {
	reader *Reader
	admin  *kadm.Client
	at     string // the brokers, for messages
}

// OpenTopics connects to the cluster, waiting up to about 10 seconds for a cluster that is just starting.
func OpenTopics(c Cluster) (*Topics, error) {
	reader, err := newReader(c, metadataTimeout)
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(reader.client)
	admin.SetTimeoutMillis(int32(topicsPatience.Milliseconds()))
	return &Topics{reader: reader, admin: admin, at: reader.at}, nil
}

// Close ends the connection.
func (t *Topics) Close() error { return t.reader.Close() }

// existing is the state of a topic that must be there.
func (t *Topics) existing(topic string) (topicState, error) {
	found, err := t.describe([]string{topic})
	if err != nil {
		return topicState{}, err
	}
	f := found[topic]
	if f.missing {
		return topicState{}, fmt.Errorf("topic %q does not exist on Kafka at %s", topic, t.at)
	}
	return f, nil
}

// Missing answers those of the topics that do not exist.
func (t *Topics) Missing(topics []string) ([]string, error) {
	found, err := t.describe(topics)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(topics), func(name string) bool { return !found[name].missing }), nil
}

// ID is what tells a topic from another one that was made under its name later; "" where the brokers do not say it.
func (t *Topics) ID(topic string) (string, error) {
	f, err := t.existing(topic)
	if err != nil {
		return "", err
	}
	return f.id, nil
}

// Unusable tells which of the inputs and outputs cannot be used as they are, and why: those that are missing and are not
// to be created, that are compacted, and inputs with fewer partitions than the group has.
func (t *Topics) Unusable(n Needs) (map[string]error, error) {
	found, err := t.survey(n)
	if err != nil {
		return nil, err
	}
	unusable := make(map[string]error)
	for _, name := range slices.Concat(n.Inputs, n.Outputs) {
		if err := n.plain("topic", name, found[name], t.at); err != nil {
			unusable[name] = err
		}
	}
	for _, name := range n.Inputs {
		if err := n.tooFew(name, found); unusable[name] == nil && err != nil {
			unusable[name] = err
		}
	}
	return unusable, nil
}

// DeleteRetention is how long a compacted topic keeps the null record of a removed key, at least.
func (t *Topics) DeleteRetention(topic string) (time.Duration, error) {
	f, err := t.existing(topic)
	if err != nil {
		return 0, err
	}
	return f.deleteRetention, nil
}

// Endless is the retention of a topic that keeps its records for good.
const Endless = time.Duration(math.MaxInt64)

// Retention is how long a topic keeps its records at least; 0 where the brokers do not say it.
func (t *Topics) Retention(topic string) (time.Duration, error) {
	f, err := t.existing(topic)
	if err != nil {
		return 0, err
	}
	return f.retention, nil
}

// Ensure checks the topics and creates those that may be created. It answers the partition count of the group (0
// without inputs): a key's place is among so many, also where a topic has more. All problems are reported at once, and nothing is created where there is one. When it returns
// without an error, every partition of every topic has a leader.
func (t *Topics) Ensure(ctx context.Context, n Needs) (partitions int, err error) {
	found, err := t.survey(n)
	if err != nil {
		return 0, err
	}
	if err := n.check(found, t.at); err != nil {
		return 0, err
	}
	if created, err := t.create(n, found); err != nil {
		return 0, err
	} else if created {
		if found, err = t.await(ctx, n); err != nil {
			return 0, err
		}
		// Another instance may have created them at the same time, and otherwise.
		if err := n.check(found, t.at); err != nil {
			return 0, err
		}
	}
	return n.partitions(found), nil
}

// topicState is what matters of a topic.
type topicState struct {
	missing     bool
	id          string // "" where it is not known
	leaders     bool   // every partition has one
	partitions  int
	keyed       int // of a table: how many of them have keys, where that is not all
	replication int
	policy      string // cleanup.policy
	maxBytes    int    // max.message.bytes

	deleteRetention time.Duration // delete.retention.ms
	retention       time.Duration // retention.ms, Endless for none; 0 where the brokers do not say it
}

func (t topicState) compacted() bool { return strings.Contains(t.policy, "compact") }

func (t *Topics) describe(names []string) (map[string]topicState, error) {
	found := map[string]topicState{"": {missing: true}} // which franz-go refuses to ask for
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" })
	if len(names) == 0 {
		return found, nil
	}
	metadata, err := untilAnswered(func(ctx context.Context) ([]kmsg.MetadataResponseTopic, error) {
		return t.reader.metadata(ctx, renewed, names...)
	})
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s for topics %s: %w", t.at, strings.Join(names, ", "), err)
	}
	var problems []error
	var there []string
	for _, m := range metadata {
		name, err := *m.Topic, kerr.ErrorForCode(m.ErrorCode)
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			found[name] = topicState{missing: true}
			continue
		case err != nil && !errors.Is(err, kerr.LeaderNotAvailable):
			problems = append(problems, fmt.Errorf("asking Kafka at %s for topic %q: %w", t.at, name, err))
			continue
		}
		f := topicState{partitions: len(m.Partitions), leaders: err == nil}
		if m.TopicID != [16]byte{} {
			f.id = base64.RawURLEncoding.EncodeToString(m.TopicID[:]) // as Kafka writes it
		}
		for _, p := range m.Partitions {
			f.replication = max(f.replication, len(p.Replicas))
			f.leaders = f.leaders && p.Leader >= 0
		}
		found[name] = f
		there = append(there, name)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(there) == 0 {
		return found, nil
	}
	configs, err := t.reader.configs(kmsg.ConfigResourceTypeTopic, there, "cleanup.policy", "max.message.bytes", "delete.retention.ms", "retention.ms")
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s for the configuration of topics %s: %w", t.at, strings.Join(names, ", "), err)
	}
	for _, c := range configs {
		err := kerr.ErrorForCode(c.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			// Not known everywhere yet, or deleted just now.
			found[c.ResourceName] = topicState{missing: true}
			continue
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("asking Kafka at %s for the configuration of topic %q (this needs DESCRIBE_CONFIGS on it): %w",
				t.at, c.ResourceName, err))
			continue
		}
		f := found[c.ResourceName]
		for _, entry := range c.Configs {
			value := valueOf(entry)
			switch entry.Name {
			case "cleanup.policy":
				f.policy = value
			case "max.message.bytes":
				if f.maxBytes, err = strconv.Atoi(value); err != nil {
					problems = append(problems, fmt.Errorf("topic %q: max.message.bytes: %w", c.ResourceName, err))
				}
			case "delete.retention.ms":
				ms, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					problems = append(problems, fmt.Errorf("topic %q: delete.retention.ms: %w", c.ResourceName, err))
				}
				f.deleteRetention = milliseconds(ms)
			case "retention.ms":
				ms, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					problems = append(problems, fmt.Errorf("topic %q: retention.ms: %w", c.ResourceName, err))
				}
				if f.retention = milliseconds(ms); ms < 0 {
					f.retention = Endless
				}
			}
		}
		found[c.ResourceName] = f
	}
	return found, errors.Join(problems...)
}

// milliseconds is a configuration's value, at most what a Duration holds.
func milliseconds(ms int64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// create makes what is missing and reports whether it made anything.
func (t *Topics) create(n Needs, found map[string]topicState) (created bool, err error) {
	partitions, replication := n.partitions(found), 0
	if partitions == 0 {
		partitions = n.Create
	}
	loopKept := leastLoopRetention
	for _, name := range n.Inputs {
		replication = max(replication, found[name].replication)
		if loopKept = max(loopKept, found[name].retention); found[name].retention == 0 { // not known
			loopKept = loopRetention
		}
	}
	loopKept = min(loopKept, loopRetention)
	keep := func(d time.Duration) *string { ms := strconv.FormatInt(d.Milliseconds(), 10); return &ms }
	remove, compact := "delete", "compact"

	var problems []error
	add := func(name string, partitions, replication int, config map[string]*string) {
		f, known := found[name]
		if name == "" || known && !f.missing {
			return
		}
		maps.DeleteFunc(config, func(_ string, value *string) bool { return value == nil })
		factor := t.replication(replication)
		_, err := untilAnswered(func(ctx context.Context) (kadm.CreateTopicResponse, error) {
			return t.admin.CreateTopic(ctx, int32(partitions), factor, config, name)
		})
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			problems = append(problems, fmt.Errorf("creating topic %q with %d partitions on Kafka at %s: %w", name, partitions, t.at, err))
			return
		}
		found[name] = topicState{} // made, and not to be made again when it is named twice
		created = true
	}
	for _, name := range n.Inputs {
		add(name, partitions, 0, map[string]*string{"cleanup.policy": &remove})
	}
	for _, name := range n.Outputs {
		add(name, n.Create, 0, map[string]*string{"cleanup.policy": &remove})
	}
	requests, replies := largest(n.Inputs, found), largest(n.Outputs, found)
	add(n.Table, partitions, replication, map[string]*string{"cleanup.policy": &compact, "max.message.bytes": replies})
	add(n.Loop, partitions, replication, map[string]*string{"cleanup.policy": &remove, "retention.ms": keep(loopKept), "max.message.bytes": requests})
	add(n.DeadLetters, partitions, replication, map[string]*string{"cleanup.policy": &remove, "retention.ms": keep(deadLetterRetention), "max.message.bytes": requests})
	return created, errors.Join(problems...)
}

// largest is the max.message.bytes of a topic that keeps what others hold, and some more with each record; nil is the
// brokers' default, which is enough for others that have it.
func largest(of []string, found map[string]topicState) *string {
	bytes := 0
	for _, name := range of {
		bytes = max(bytes, found[name].maxBytes)
	}
	if bytes <= defaultMaxMessageBytes {
		return nil
	}
	const more = 64 << 10
	text := strconv.Itoa(min(bytes, math.MaxInt32-more) + more)
	return &text
}

// replication is the factor to create a topic with: the brokers' default (-1), unless that is less than wanted.
func (t *Topics) replication(wanted int) int16 {
	if wanted > t.defaultReplication() {
		return int16(wanted)
	}
	return -1
}

// defaultReplication is 1 where the brokers do not tell it, which makes the group's own topics as safe as its
// inputs at least.
func (t *Topics) defaultReplication() int {
	brokers, err := untilAnswered(t.admin.BrokerMetadata)
	if err != nil {
		return 1
	}
	configs, err := t.reader.configs(kmsg.ConfigResourceTypeBroker, []string{strconv.Itoa(int(brokers.Controller))}, "default.replication.factor")
	if err != nil || len(configs) == 0 || len(configs[0].Configs) == 0 {
		return 1
	}
	n, err := strconv.Atoi(valueOf(configs[0].Configs[0]))
	if err != nil {
		return 1
	}
	return n
}

// await waits until all topics are there and can be written to.
func (t *Topics) await(ctx context.Context, n Needs) (map[string]topicState, error) {
	ctx, cancel := context.WithTimeout(ctx, topicsVisible)
	defer cancel()
	tick := time.NewTicker(topicsVisiblePoll)
	defer tick.Stop()
	for {
		found, err := t.survey(n)
		if err != nil {
			return nil, err
		}
		late := slices.DeleteFunc(n.all(), func(name string) bool { return found[name].leaders })
		if len(late) == 0 {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the leaders of topics %s on Kafka at %s: %w", strings.Join(late, ", "), t.at, ctx.Err())
		case <-tick.C:
		}
	}
}

// all are the names of all topics, each once.
func (n Needs) all() []string {
	var names []string
	for _, name := range slices.Concat(n.Inputs, n.Outputs, []string{n.Table, n.Loop, n.DeadLetters}) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// check tells everything that is wrong with the topics that exist, and with those that are missing and are not to
// be created.
func (n Needs) check(found map[string]topicState, at string) error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	for _, name := range n.Inputs {
		add(n.plain("request topic", name, found[name], at))
	}
	for _, name := range n.Outputs {
		if !slices.Contains(n.Inputs, name) {
			add(n.plain("topic", name, found[name], at))
		}
	}
	partitions := n.partitions(found)
	table, hasTable := there(found, n.Table)
	loop, hasLoop := there(found, n.Loop)
	for _, name := range n.Inputs {
		add(n.tooFew(name, found))
	}
	if !hasTable && !hasLoop {
		add(n.unequal(found))
	}
	if hasTable && !table.compacted() {
		problem("table topic %q has cleanup.policy=%s: results would be forgotten, set it to compact", n.Table, table.policy)
	}
	if hasTable && table.partitions < partitions {
		problem("table topic %q has %d partitions, and had keys in %d", n.Table, table.partitions, partitions)
	}
	if hasLoop && loop.compacted() {
		problem("loop topic %q has cleanup.policy=%s: compaction would erase calls, set it to delete", n.Loop, loop.policy)
	}
	if hasLoop && loop.partitions < partitions {
		problem("loop topic %q has %d partitions, and table topic %q has keys in %d: add partitions to the loop topic until it has %[4]d",
			n.Loop, loop.partitions, n.Table, partitions)
	}
	if f, ok := found[n.DeadLetters]; ok && f.compacted() {
		problem("dead-letter topic %q has cleanup.policy=%s: compaction would erase dead letters, set it to delete", n.DeadLetters, f.policy)
	}
	return errors.Join(problems...)
}

// plain tells what is wrong with a topic that holds calls or replies.
func (n Needs) plain(kind, name string, f topicState, at string) error {
	switch {
	case f.missing && n.Create == 0:
		return fmt.Errorf("%s %q does not exist on Kafka at %s: create it, or run with --create-topics", kind, name, at)
	case f.compacted() && !slices.Contains(n.Compactable, name):
		return fmt.Errorf("%s %q has cleanup.policy=%s: compaction would erase calls, set it to delete", kind, name, f.policy)
	}
	return nil
}
